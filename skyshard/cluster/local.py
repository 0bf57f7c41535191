"""A cluster on one machine: up, down, status."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from backend.address import Address
from skyshard.cluster import health, layout
from skyshard.cluster import state as states
from skyshard.cluster.layout import free_port
from skyshard.errors import UserError

__all__ = ["Wish", "down", "free_port", "home_address", "status", "up"]

START_S = 90.0
"""Seconds until every process must be healthy after a start."""

STOP_S = 120.0
LOCK_S = 120.0
DEFAULT_PORT, DEFAULT_WORKERS = 4040, 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asks for; None means: as it is, or the default for a new cluster."""

    workers: int | None = None
    replicas: int | None = None
    port: int | None = None
    proxies: int | None = None
    tls: str | None = None
    agent_tls: bool | None = None
    auto_repair_after: float | None = None


def home_address(directory: Path, state: states.ClusterState) -> Address:
    """Return the home server's address for the service account."""
    return health.server_address(directory, state)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two commands do not work on one cluster at once."""
    with (directory / "lock").open("w") as handle:
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"another command works on {directory}; try again when it has ended"
                    ) from error
                time.sleep(0.1)
        yield


def up(directory: Path, wish: Wish, say: Callable[[str], None] = lambda _: None) -> states.ClusterState:
    """Start a cluster, or what of it does not run; return when every process is healthy.

    Parameters
    ----------
    directory : Path
        Where everything of the cluster is.
    wish : Wish
        What is asked for.
    say : callable
        Takes one line of progress.

    Raises
    ------
    UserError
        What is wrong and what to do.
    """
    directory = directory.absolute()
    layout.make_directories(directory)
    with _locked(directory):
        state = states.read(directory)
        boss = health.supervisor_of(directory)
        if state is not None and boss is not None:
            _refuse_changes(directory, state, wish)
            _wait(directory, state, say)
            return states.require(directory)
        if state is not None:
            _end_leftovers(directory, state)
        state = _planned(directory, state, wish)
        layout.make_data(directory, state, say)
        states.write(directory, state)
        _launch(directory)
        try:
            _wait(directory, state, say)
        except BaseException:
            _stop_supervisor(directory)
            raise
        return states.require(directory)


def _on(value: bool | None) -> str | None:
    return None if value is None else "on" if value else "off"


def _refuse_changes(directory: Path, state: states.ClusterState, wish: Wish) -> None:
    asked = {
        "--port": (wish.port, state.port),
        "--workers": (wish.workers, state.workers),
        "--replicas": (wish.replicas, state.replicas),
        "--processes": (wish.proxies, state.proxies),
        "--tls": (wish.tls, state.tls),
        "--agent-tls": (_on(wish.agent_tls), _on(state.agent_tls)),
        "--auto-repair-after": (wish.auto_repair_after, state.auto_repair_after),
    }
    for option, (wanted, has) in asked.items():
        if wanted is not None and wanted != has:
            raise UserError(
                f"the cluster in {directory} runs with {option} {has}; to change it, first run "
                f"'skyshard cluster down --dir {directory}'"
            )


def _planned(directory: Path, old: states.ClusterState | None, wish: Wish) -> states.ClusterState:
    """Return the layout for a start: what is asked for, else what the cluster had, else the defaults."""
    had = old or states.ClusterState(
        port=DEFAULT_PORT, workers=DEFAULT_WORKERS, replicas=1, proxies=1, sockets={}, ports={}
    )
    workers = had.workers if wish.workers is None else wish.workers
    replicas = had.replicas if wish.replicas is None else wish.replicas
    port = had.port if wish.port is None else wish.port
    proxies = had.proxies if wish.proxies is None else wish.proxies
    tls = had.tls if wish.tls is None else wish.tls
    agent_tls = had.agent_tls if wish.agent_tls is None else wish.agent_tls
    repair_s = had.auto_repair_after if wish.auto_repair_after is None else wish.auto_repair_after
    if old is not None and workers < old.workers:
        raise UserError(
            f"the cluster in {directory} has {old.workers} workers; they hold data and cannot be fewer"
        )
    if not 1 <= replicas <= workers:
        raise UserError(
            f"--replicas {replicas}: every copy of a chunk needs its own worker, and there are {workers}"
        )
    if not layout.is_free(port):
        raise UserError(f"port {port} is in use on 127.0.0.1; choose another with --port")
    for name in ("service", "agents"):
        layout.secret(directory, name)
    return layout.plan(directory, workers, replicas, port, proxies, tls, agent_tls, repair_s)


def _launch(directory: Path) -> None:
    """Start the supervisor, detached, with this installation's packages."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with (directory / "logs" / "supervisor.log").open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-m", "skyshard.cluster.supervisor", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            umask=0o077,
            check=False,
        )
    if done.returncode:
        code = done.returncode
        raise UserError(f"the supervisor did not start, code {code}. {_last_words(directory, 'supervisor')}")


def _stop_supervisor(directory: Path) -> None:
    """End the supervisor and wait until it is gone.

    Raises
    ------
    UserError
        If it does not stop.
    """
    boss = health.supervisor_of(directory)
    if boss is not None:
        with suppress(psutil.NoSuchProcess):
            boss.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while health.supervisor_of(directory) is not None:
        if time.monotonic() > deadline:
            raise UserError(f"the supervisor does not stop. {_last_words(directory, 'supervisor')}")
        time.sleep(0.05)
    (directory / "run" / "supervisor.pid").unlink(missing_ok=True)


def _wait(directory: Path, state: states.ClusterState, say: Callable[[str], None]) -> None:
    """Wait until every process is healthy.

    Raises
    ------
    UserError
        If that takes too long or the supervisor ends; the text names the log to read and quotes its end.
    """
    deadline = time.monotonic() + START_S
    said = ""
    while True:
        ill = [found.name for found in asyncio.run(health.check(directory, states.read(directory) or state))
               if not found.healthy]  # fmt: skip
        if not ill:
            return
        text = "waiting for " + ", ".join(ill)
        if text != said:
            say(text)
            said = text
        if health.supervisor_of(directory) is None:
            raise UserError(f"the cluster's supervisor has ended. {_last_words(directory, 'supervisor')}")
        if time.monotonic() > deadline:
            name = ill[0]
            raise UserError(
                f"{name} did not become healthy in {START_S:.0f} s. {_last_words(directory, name)}"
            )
        time.sleep(0.1)


def _last_words(directory: Path, name: str) -> str:
    path = directory / "logs" / f"{name}.log"
    lines: list[str] = []
    with suppress(OSError):
        lines = path.read_text(errors="replace").splitlines()[-5:]
    return f"The end of {path}:\n" + "\n".join(lines)


def _end_leftovers(directory: Path, state: states.ClusterState) -> None:
    """End processes of a cluster whose supervisor was killed, each known by its pid and start time."""
    left: list[psutil.Process] = []
    for item in state.processes:
        if (found := health.process_of(item.pid, item.start)) is None:
            continue
        left.append(found)
        with suppress(psutil.NoSuchProcess):
            for number in item.ending:
                found.send_signal(number)
    _, stubborn = psutil.wait_procs(left, timeout=STOP_S)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _, left = psutil.wait_procs(stubborn, timeout=10)
    if left:
        raise UserError(f"processes of the cluster in {directory} cannot be ended: {[p.pid for p in left]}")


def status(directory: Path) -> list[health.Health]:
    """Return the health of every process of a cluster."""
    directory = directory.absolute()
    return asyncio.run(health.check(directory, states.require(directory)))


def down(directory: Path) -> bool:
    """Stop what `up` started; the data stays. Return whether anything ran."""
    directory = directory.absolute()
    state = states.require(directory)
    with _locked(directory):
        boss = health.supervisor_of(directory)
        running = boss is not None or any(health.process_of(item.pid, item.start) for item in state.processes)
        _stop_supervisor(directory)
        _end_leftovers(directory, states.require(directory))
    return running
