"""How a command reaches a cluster: by its directory, or by a URL of the home server."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from backend.address import Address
from backend.agent_tls import BadTlsFiles, TlsFiles
from backend.connection import ConnectionLost
from shard.errors import SkyError
from skyshard.cluster import health, layout
from skyshard.cluster import state as states
from skyshard.cluster.certificate import CALLER
from skyshard.errors import NotNow, UserError

PASSWORD = "SKYSHARD_HOME_PASSWORD"  # noqa: S105 - the variable's name
_EXPECTED = "expected mysql://user@host:port/ or mysql://user@localhost/?socket=PATH"


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """The home server, the agents' secret, and how connections to agents are encrypted (None: they are not)."""

    home: Address
    secret: bytes = field(repr=False)
    tls: ssl.SSLContext | None = None


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
        health.server_address(directory, state),
        layout.secret(directory, "agents").encode(),
        tls_of(layout.agent_tls_dir(directory)) if state.agent_tls else None,
    )


def address_of(url: str, password_file: Path | None = None) -> Address:
    """Return the address in ``mysql://user@host:port/``; the user is `skyshard` if none is given.

    ``mysql://user@localhost/?socket=PATH`` is a unix socket. The password stands in a file or, without one, in the
    environment (`SKYSHARD_HOME_PASSWORD`): others can see command lines.

    Raises
    ------
    UserError
        If the URL is not of that form or the password cannot be read.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or 3306
    except ValueError as error:
        raise UserError(f"--home: the port is not a number; {_EXPECTED}") from error
    if parts.scheme not in ("mysql", "mariadb") or not parts.hostname:
        raise UserError(f"--home: {_EXPECTED}")
    if parts.password:
        raise UserError(
            f"--home: others can see a password here; use --password-file, or {PASSWORD} in the environment"
        )
    user = unquote(parts.username or "skyshard")
    password = os.environ.get(PASSWORD, "") if password_file is None else read_secret(password_file)
    socket = parse_qs(parts.query).get("socket")
    if socket:
        return Address(user, password, socket=socket[0])
    return Address(user, password, host=parts.hostname, port=port)


def read_secret(path: Path) -> str:
    """Return the text of a file with a secret.

    Raises
    ------
    UserError
        If it cannot be read or is empty.
    """
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise UserError(f"cannot read the secret file {path}: {error.strerror}") from error
    if not text:
        raise UserError(f"the secret file {path} is empty")
    return text


def tls_of(directory: Path) -> ssl.SSLContext:
    """Return the context for connections to agents with the files that `skyshard certificates` made.

    Raises
    ------
    UserError
        If they cannot be used.
    """
    files = TlsFiles(*(str(directory / name) for name in ("ca.crt", f"{CALLER}.crt", f"{CALLER}.key")))
    try:
        return files.for_caller()
    except BadTlsFiles as error:
        raise UserError(str(error)) from error


def from_url(
    url: str, secret_file: Path, password_file: Path | None = None, tls: Path | None = None
) -> ClusterAddress:
    """Return the address of a cluster by its home server's URL (see `address_of`).

    Raises
    ------
    UserError
        If the URL is wrong, or a secret or a certificate cannot be read.
    """
    server = address_of(url, password_file)
    secret = read_secret(secret_file).encode()
    return ClusterAddress(server, secret, None if tls is None else tls_of(tls))


def from_options(
    directory: Path | None,
    home: str | None,
    secret_file: Path | None,
    password_file: Path | None,
    agent_tls: Path | None = None,
) -> ClusterAddress:
    """Return the address that a command's options give.

    Raises
    ------
    UserError
        If they do not say where the cluster is.
    """
    if directory is not None:
        return from_dir(directory)
    if home is not None and secret_file is not None:
        return from_url(home, secret_file, password_file, agent_tls)
    raise UserError("say where the cluster is: --dir DIR, or --home URL with --secret-file FILE")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn errors of servers, and groups of them, into the one that says what is wrong."""
    try:
        yield
    except (ConnectionLost, ExceptionGroup) as error:
        raise mistake(error) from error


def mistake(error: Exception) -> Exception:
    """Return the first error of a group that says what is wrong; others are bugs and stay as they are."""
    if isinstance(error, ConnectionLost):
        return NotNow("the home server cannot be reached")
    if isinstance(error, ExceptionGroup):
        found = (mistake(inner) for inner in error.exceptions)
        return next((one for one in found if isinstance(one, (UserError, SkyError))), error)
    return error
