"""Whether the processes of a local cluster run and answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from shard.errors import ServerError
from skyshard.cluster.state import ClusterState, Process

PROBE_S = 4.0
"""Seconds a process has for an answer."""

_SAME_START_S = 0.02
_START_FIELD = 22
"""Of /proc/PID/stat, see proc(5)."""


@dataclass(frozen=True, slots=True)
class Health:
    """One process: its name, whether it is healthy, and a text for people."""

    name: str
    healthy: bool
    text: str


def server_address(directory: Path, state: ClusterState, name: str = "home") -> Address:
    """Return the service account's address on a MariaDB server of the cluster."""
    password = (directory / "secrets" / "service").read_text().strip()
    return Address("skyshard", password, socket=state.sockets[name])


def started(pid: int) -> float:
    """Return when a process started, in seconds after the machine did: a clock that is set does not move it.

    Raises
    ------
    psutil.NoSuchProcess
        If there is none with that id.
    """
    if not sys.platform.startswith("linux"):
        return psutil.Process(pid).create_time()
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError as error:
        raise psutil.NoSuchProcess(pid) from error
    after_name = text.rpartition(b")")[2].split()
    return int(after_name[_START_FIELD - 3]) / os.sysconf("SC_CLK_TCK")


def process_of(pid: int, start: float) -> psutil.Process | None:
    """Return the running process with that id if it is the one that `started` then."""
    if not pid:
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if abs(started(pid) - start) < _SAME_START_S and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def note_supervisor(directory: Path, pid: int) -> None:
    """Record who the cluster's supervisor is."""
    (directory / "run" / "supervisor.pid").write_text(f"{pid} {started(pid)}")


def supervisor_of(directory: Path) -> psutil.Process | None:
    """Return the cluster's running supervisor."""
    try:
        pid, start = (directory / "run" / "supervisor.pid").read_text().split()
        return process_of(int(pid), float(start))
    except (OSError, ValueError):
        return None


async def mariadb_answers(address: Address) -> bool:
    """Whether a MariaDB server answers a query."""
    with contextlib.suppress(ConnectionLost, ServerError, OSError, TimeoutError):
        async with asyncio.timeout(PROBE_S):
            connection = await RawConnection.open(address)
            try:
                await connection.run("SELECT 1")
            finally:
                await connection.close()
            return True
    return False


def greets(port: int) -> bool:
    """Whether a MySQL server greets on a port of loopback (protocol version 10)."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=PROBE_S) as probe,
    ):
        head = b""
        while len(head) < 5 and (more := probe.recv(5 - len(head))):
            head += more
        return len(head) == 5 and head[4] == 10
    return False


def http_ok(port: int) -> bool:
    """Whether /healthz on a port of loopback says 200."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=PROBE_S) as probe,
    ):
        probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        head = b""
        while b"\r\n" not in head and (more := probe.recv(256)):
            head += more
        return head.split(b" ", 2)[1:2] == [b"200"]
    return False


async def answers(directory: Path, state: ClusterState, process: Process) -> bool:
    """Whether a process does its work."""
    if process.kind == "mariadb":
        return await mariadb_answers(server_address(directory, state, process.name))
    if process.kind == "repair":  # what it does is seen in `skyshard worker list`
        return True
    http = state.ports[process.name.removeprefix("agent-") + "-http"]
    if not await asyncio.to_thread(http_ok, http):
        return False
    return process.kind == "agent" or await asyncio.to_thread(greets, state.port)


def _where(state: ClusterState, process: Process) -> str:
    if process.kind == "mariadb":
        return state.sockets[process.name]
    if process.kind == "repair":
        return f"after {state.auto_repair_after:g} s"
    worker = process.name.removeprefix("agent-")
    port = state.port if process.kind == "proxy" else state.ports[worker]
    return f"127.0.0.1:{port}, http 127.0.0.1:{state.ports[worker + '-http']}"


async def _one(directory: Path, state: ClusterState, process: Process) -> Health:
    if process_of(process.pid, process.start) is None:
        return Health(process.name, False, "does not run")
    text = f"pid {process.pid}, {_where(state, process)}"
    if process.restarts:
        text += f", restarted {process.restarts} times"
    healthy = await answers(directory, state, process)
    return Health(process.name, healthy, text if healthy else text + ", does not answer")


async def check(directory: Path, state: ClusterState) -> list[Health]:
    """Return the health of the supervisor and of every process it owns."""
    boss = supervisor_of(directory)
    own = Health("supervisor", boss is not None, f"pid {boss.pid}" if boss is not None else "does not run")
    return [own, *await asyncio.gather(*(_one(directory, state, process) for process in state.processes))]
