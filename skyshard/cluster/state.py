"""What a local cluster is, as it is kept in DIR/cluster.json."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Process(msgspec.Struct, kw_only=True):
    """One process: its command, its log, and its pid with start time while it runs."""

    name: str
    kind: str
    argv: list[str]
    pid: int = 0
    start: float = 0.0


class ClusterState(msgspec.Struct, kw_only=True):
    """Ports, sockets and processes."""

    version: int = 1
    port: int
    workers: int
    replicas: int
    sockets: dict[str, str]
    ports: dict[str, int]
    processes: list[Process] = []


def path_of(directory: Path) -> Path:
    """Return where the state is kept."""
    return directory / "cluster.json"


def read(directory: Path) -> ClusterState | None:
    """Return the state of a cluster, or None if there is none in the directory."""
    path = path_of(directory)
    return msgspec.json.decode(path.read_bytes(), type=ClusterState) if path.exists() else None


def write(directory: Path, state: ClusterState) -> None:
    """Replace the state at once."""
    path = path_of(directory)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
    temporary.replace(path)
