"""How a command reaches a cluster: by its directory, or by a URL of the home server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backend.address import Address
from skyshard.cluster import state as states
from skyshard.cluster.local import home_address
from skyshard.errors import UserError


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """The home server and the agents' secret."""

    home: Address
    secret: bytes = field(repr=False)


def from_dir(directory: Path) -> ClusterAddress:
    """Return the address of a local cluster."""
    directory = directory.resolve()
    state = states.read(directory)
    if state is None:
        raise UserError(
            f"there is no cluster in {directory}; start one with 'skyshard cluster up --dir {directory}'"
        )
    return ClusterAddress(
        home_address(directory, state), (directory / "secrets" / "agents").read_bytes().strip()
    )


def from_url(url: str, secret_file: Path) -> ClusterAddress:
    """Return the address in ``mysql://user:password@host:port/``."""
    parts = urlsplit(url)
    if parts.scheme not in ("mysql", "mariadb") or not parts.hostname:
        raise UserError(f"--home {url}: expected mysql://user@host:port/")
    address = Address(
        unquote(parts.username or "skyshard"),
        unquote(parts.password or ""),
        host=parts.hostname,
        port=parts.port or 3306,
    )
    return ClusterAddress(address, secret_file.read_bytes().strip())
