"""What a local cluster is, as it is kept in DIR/cluster.json."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec

from skyshard.errors import UserError


class Process(msgspec.Struct, kw_only=True):
    """One process: its command, its pid and start (`health.started`) while it runs, and its restarts.

    `nice` is by how much it gives way to others.
    """

    name: str
    kind: str
    argv: list[str]
    pid: int = 0
    start: float = 0.0
    restarts: int = 0
    nice: int = 0

    @property
    def ending(self) -> tuple[signal.Signals, ...]:
        """The signals that end it: after SIGTERM alone a proxy or agent would let what it does come to its end."""
        return (signal.SIGTERM, signal.SIGINT) if self.kind in ("proxy", "agent") else (signal.SIGTERM,)


class ClusterState(msgspec.Struct, kw_only=True):
    """Ports, sockets and processes.

    `sockets` are the MariaDB servers' by name; `ports` are the agents' data ports by worker name, and the
    HTTP ports by process (``worker1-http``, ``proxy1-http``). `tls` is clients': on, off or required;
    `agent_tls` is whether agents and their callers use it. `auto_repair_after` are the seconds after which copies
    that are missing are made again by themselves; 0: never.
    """

    version: int = 1
    port: int
    workers: int
    replicas: int
    proxies: int = 1
    tls: str = "on"
    agent_tls: bool = False
    auto_repair_after: float = 0.0
    sockets: dict[str, str]
    ports: dict[str, int]
    processes: list[Process] = []


def path_of(directory: Path) -> Path:
    """Return where the state is kept."""
    return directory / "cluster.json"


def read(directory: Path) -> ClusterState | None:
    """Return the state of a cluster, or None if there is none in the directory.

    Raises
    ------
    UserError
        If the file is there but is not a cluster's.
    """
    try:
        return msgspec.json.decode(path_of(directory).read_bytes(), type=ClusterState)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot read {path_of(directory)}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UserError(f"{path_of(directory)} is not a cluster's state: {error}") from error


def require(directory: Path) -> ClusterState:
    """Return the state of the cluster in a directory.

    Raises
    ------
    UserError
        If there is none.
    """
    state = read(directory)
    if state is None:
        raise UserError(
            f"there is no cluster in {directory}; start one with 'skyshard cluster up --dir {directory}'"
        )
    return state


def write(directory: Path, state: ClusterState) -> None:
    """Replace the state at once."""
    path = path_of(directory)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
    temporary.replace(path)
