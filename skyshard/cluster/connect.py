"""How a command reaches a cluster: by its directory, or by a URL of the home server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backend.address import Address
from skyshard.cluster import health, layout
from skyshard.cluster import state as states
from skyshard.errors import UserError

_EXPECTED = "expected mysql://user:password@host:port/"


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """The home server and the agents' secret."""

    home: Address
    secret: bytes = field(repr=False)


def from_dir(directory: Path) -> ClusterAddress:
    """Return the address of a local cluster.

    Raises
    ------
    UserError
        If there is none in the directory.
    """
    directory = directory.absolute()
    state = states.require(directory)
    return ClusterAddress(
        health.server_address(directory, state), layout.secret(directory, "agents").encode()
    )


def from_url(url: str, secret_file: Path) -> ClusterAddress:
    """Return the address in ``mysql://user:password@host:port/``; the user is `skyshard` if none is given.

    Raises
    ------
    UserError
        If the URL is not of that form or the secret cannot be read.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or 3306
    except ValueError as error:
        raise UserError(f"--home: the port is not a number; {_EXPECTED}") from error
    if parts.scheme not in ("mysql", "mariadb") or not parts.hostname:
        raise UserError(f"--home: {_EXPECTED}")
    try:
        secret = secret_file.read_bytes().strip()
    except OSError as error:
        raise UserError(f"cannot read the secret file {secret_file}: {error.strerror}") from error
    user, password = unquote(parts.username or "skyshard"), unquote(parts.password or "")
    return ClusterAddress(Address(user, password, host=parts.hostname, port=port), secret)
