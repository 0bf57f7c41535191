"""A cluster on one machine: up, down, status."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from shard.errors import ServerError
from skyshard.cluster import mariadb, supervisor
from skyshard.cluster import state as states
from skyshard.errors import UserError
from skyshard.home.provision import provision, register_workers

WAIT_S = 60.0
_LONGEST_SOCKET = 100


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two commands do not work on one cluster at once."""
    with (directory / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another command works on {directory}; wait for it") from error
        yield


def free_port() -> int:
    """Return a TCP port that is free on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(f"port {port} is in use; choose another with --port") from error


def _secret(path: Path) -> str:
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_hex(24))
    return path.read_text().strip()


def _socket_path(directory: Path, name: str) -> str:
    path = directory / "run" / f"{name}.sock"
    if len(str(path)) <= _LONGEST_SOCKET:
        return str(path)
    short = Path(tempfile.gettempdir()) / (
        "skyshard-" + hashlib.sha256(str(directory).encode()).hexdigest()[:12]
    )
    short.mkdir(mode=0o700, exist_ok=True)
    return str(short / f"{name}.sock")


def _plan(directory: Path, workers: int, replicas: int, port: int, processes: int) -> states.ClusterState:
    """Lay out the processes, their sockets, ports and configuration files."""
    names = ["home", *(f"worker{number}" for number in range(1, workers + 1))]
    sockets = {name: _socket_path(directory, name) for name in names}
    ports: dict[str, int] = {}
    listed = [
        states.Process(
            name=name, kind="mariadb",
            argv=mariadb.command(directory / name / "data", sockets[name], directory / "run", name, name == "home"),
        )
        for name in names
    ]  # fmt: skip
    skyshard = [sys.executable, "-m", "skyshard.cli"]
    for name in names[1:]:
        ports[name], ports[f"{name}-http"] = free_port(), free_port()
        config = directory / "run" / f"{name}.yaml"
        config.write_text(
            f"worker: {name}\nlisten: 127.0.0.1:{ports[name]}\nhttp: 127.0.0.1:{ports[f'{name}-http']}\n"
            f"secret_file: {directory / 'secrets' / 'agents'}\nspool_dir: {directory / 'run'}\n"
            f"mariadb: {{socket: {sockets[name]}, password_file: {directory / 'secrets' / 'service'}}}\n"
        )
        listed.append(
            states.Process(
                name=f"agent-{name}", kind="agent", argv=[*skyshard, "agent", "--config", str(config)]
            )
        )
    for number in range(1, processes + 1):
        name = f"proxy{number}"
        ports[f"{name}-http"] = free_port()
        config = directory / "run" / f"{name}.yaml"
        config.write_text(
            f"listen: 127.0.0.1:{port}\nhttp: 127.0.0.1:{ports[f'{name}-http']}\n"
            f"secret_file: {directory / 'secrets' / 'agents'}\nreuse_port: {str(processes > 1).lower()}\n"
            f"home: {{socket: {sockets['home']}, password_file: {directory / 'secrets' / 'service'}}}\n"
        )
        listed.append(
            states.Process(name=name, kind="proxy", argv=[*skyshard, "proxy", "--config", str(config)])
        )
    return states.ClusterState(
        port=port, workers=workers, replicas=replicas, sockets=sockets, ports=ports, processes=listed
    )


def up(directory: Path, workers: int, replicas: int, port: int, processes: int) -> states.ClusterState:
    """Start a cluster, or what of it does not run; return when the proxy answers.

    Raises
    ------
    UserError
        What is wrong and what to do.
    """
    directory = directory.resolve()
    try:
        for name in ("", "run", "logs", "secrets"):
            (directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror}") from error
    if not 1 <= replicas <= workers:
        raise UserError("--replicas must be between 1 and the number of workers")
    with locked(directory):
        state = states.read(directory)
        if state is not None and supervisor_of(directory) is not None:
            if healthy(directory, state):
                return state
        else:
            if state is not None and state.workers != workers:
                workers = state.workers
            _check_port(port)
            password = _secret(directory / "secrets" / "service")
            _secret(directory / "secrets" / "agents")
            state = _plan(directory, workers, replicas, port, processes)
            _initialise(directory, state, password)
            states.write(directory, state)
            with (directory / "logs" / "supervisor.log").open("ab") as log:
                child = subprocess.Popen(
                    [sys.executable, "-m", "skyshard.cluster.supervisor", str(directory)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=directory,
                )  # fmt: skip
            (directory / "run" / "supervisor.pid").write_text(
                f"{child.pid} {psutil.Process(child.pid).create_time()}"
            )
            asyncio.run(_provision(directory, state))
        _wait_until(lambda: healthy(directory, state), directory)
        return state


def _initialise(directory: Path, state: states.ClusterState, password: str) -> None:
    """Make one data directory and copy it for the others."""
    names = list(state.sockets)
    template = directory / "home" / "data"
    (directory / "home").mkdir(exist_ok=True)
    mariadb.initialise(template, mariadb.account_sql(password))
    for name in names[1:]:
        target = directory / name / "data"
        if not target.exists():
            partial = directory / name / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            if any((template / other).exists() for other in ("skyshard_meta",)):
                (directory / name).mkdir(exist_ok=True)
                mariadb.initialise(target, mariadb.account_sql(password))
                continue
            shutil.copytree(template, partial)
            partial.rename(target)


async def _provision(directory: Path, state: states.ClusterState) -> None:
    deadline = time.monotonic() + WAIT_S
    address = home_address(directory, state)
    while True:
        try:
            connection = await RawConnection.open(address)
            break
        except (ConnectionLost, ServerError, OSError) as error:
            if time.monotonic() > deadline:
                raise UserError(f"the home server does not start; see {directory}/logs/home.log") from error
            await asyncio.sleep(0.05)
    try:
        await provision(connection)
        await connection.run(f"REPLACE INTO skyshard_meta.cluster VALUES ('replicas', '{state.replicas}')")
        await register_workers(
            connection,
            [
                (
                    number,
                    f"worker{number}",
                    "127.0.0.1",
                    state.ports[f"worker{number}"],
                    state.ports[f"worker{number}-http"],
                )
                for number in range(1, state.workers + 1)
            ],
        )
    finally:
        await connection.close()


def home_address(directory: Path, state: states.ClusterState) -> Address:
    """Return the home server's address for the service account."""
    password = (directory / "secrets" / "service").read_text().strip()
    return Address("skyshard", password, socket=state.sockets["home"])


def supervisor_of(directory: Path) -> psutil.Process | None:
    """Return the running supervisor, known by pid and start time."""
    path = directory / "run" / "supervisor.pid"
    if not path.exists():
        return None
    pid, start = path.read_text().split()
    try:
        process = psutil.Process(int(pid))
        if abs(process.create_time() - float(start)) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except psutil.NoSuchProcess:
        return None
    return None


def answers(port: int) -> bool:
    """Whether a MySQL server greets on a port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
            probe.settimeout(2)
            head = probe.recv(5)
            return len(head) == 5 and head[4] == 10
    except OSError:
        return False


def _http_ok(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=4) as probe:
            probe.settimeout(4)
            probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return b" 200 " in probe.recv(64)
    except OSError:
        return False


def status(directory: Path) -> list[tuple[str, bool, str]]:
    """Return (process, healthy, what it says) for every process."""
    directory = directory.resolve()
    state = states.read(directory)
    if state is None:
        raise UserError(
            f"there is no cluster in {directory}; start one with 'skyshard cluster up --dir {directory}'"
        )
    boss = supervisor_of(directory)
    out = [("supervisor", boss is not None, f"pid {boss.pid}" if boss is not None else "not running")]
    for process in state.processes:
        running = supervisor.alive(process.pid)
        ok = running
        if running and process.kind == "mariadb":
            ok = Path(state.sockets[process.name]).exists()
        elif running and process.kind == "agent":
            ok = _http_ok(state.ports[process.name.removeprefix("agent-") + "-http"])
        elif running:
            ok = answers(state.port)
        text = "not running" if not running else f"pid {process.pid}" + ("" if ok else ", does not answer")
        out.append((process.name, ok, text))
    return out


def healthy(directory: Path, state: states.ClusterState) -> bool:
    """Whether every process is healthy."""
    del state
    return all(ok for _, ok, _ in status(directory))


def _wait_until(test: object, directory: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not (callable(test) and test()):
        if time.monotonic() > deadline:
            raise UserError(f"the cluster did not become healthy in {WAIT_S:.0f} s; see {directory}/logs")
        time.sleep(0.1)


def down(directory: Path) -> None:
    """Stop what `up` started; the data stays."""
    directory = directory.resolve()
    if states.read(directory) is None:
        raise UserError(f"there is no cluster in {directory}")
    with locked(directory):
        boss = supervisor_of(directory)
        if boss is None:
            return
        boss.send_signal(signal.SIGTERM)
        try:
            boss.wait(90)
        except psutil.TimeoutExpired as error:
            raise UserError("the supervisor does not stop; see its log") from error
        (directory / "run" / "supervisor.pid").unlink(missing_ok=True)
