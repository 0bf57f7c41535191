"""Owns the processes of a local cluster: starts them, restarts what dies, stops all at the end.

`cluster up` starts it detached, in a session of its own; `cluster down` ends it with SIGTERM. Its children
get SIGTERM from the kernel if it is killed itself, so that nothing is left without an owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from backend.connection import RawConnection
from skyshard.cluster import health
from skyshard.cluster import state as states
from skyshard.home.provision import provision, register_workers, set_replicas

log = logging.getLogger("skyshard.supervisor")

STOP_S = {"repair": 15.0, "proxy": 15.0, "agent": 15.0, "mariadb": 90.0}
"""Seconds a process of each kind has for a clean end; in the order in which they are stopped."""

FIRST_BACKOFF_S, LONGEST_BACKOFF_S, STEADY_S = 0.5, 4.0, 10.0
_PR_SET_PDEATHSIG = 1


def backoff(failures: int) -> float:
    """Return the pause in seconds before a start after so many quick failures in a row (at least 1)."""
    return min(FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 10), LONGEST_BACKOFF_S)


def _before(nice: int) -> Callable[[], None]:
    """Return what a child runs before its program starts: it gives way, and ends with its parent (Linux)."""
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None

    def prepare() -> None:
        os.nice(nice)
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))

    return prepare


class Supervisor:
    """Runs the processes in cluster.json."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state = states.require(directory)
        self._stop = {kind: asyncio.Event() for kind in STOP_S}
        self._prepared = asyncio.Event()

    async def run(self) -> int:
        """Start everything and keep it up until SIGTERM; then stop repair, proxies, agents, servers, in this order.

        Returns
        -------
        int
            The exit code: 1 if the home server could not be set up.
        """
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        keepers: dict[str, list[asyncio.Task[None]]] = {kind: [] for kind in STOP_S}
        for process in self._state.processes:
            keepers[process.kind].append(asyncio.create_task(self._keep(process), name=process.name))
        failed = await self._prepare(stopping)
        await stopping.wait()
        log.info("stopping")
        for kind, tasks in keepers.items():
            self._stop[kind].set()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, BaseException):
                    log.error("a keeper failed", exc_info=result)
        log.info("stopped")
        return int(failed)

    async def _prepare(self, stopping: asyncio.Event) -> bool:
        """Set the home server up; proxies wait for it. Return whether it failed."""
        address = health.server_address(self._directory, self._state)
        while not stopping.is_set() and not await health.mariadb_answers(address):
            await _first(asyncio.sleep(0.05), stopping)
        if stopping.is_set():
            return False
        try:
            connection = await RawConnection.open(address)
            try:
                await self._provision(connection)
            finally:
                await connection.close()
        except Exception:
            log.exception("the home server cannot be set up")
            stopping.set()
            return True
        self._prepared.set()
        return False

    async def _provision(self, connection: RawConnection) -> None:
        ports = self._state.ports
        await provision(connection)
        await set_replicas(connection, self._state.replicas)
        workers = [(number, f"worker{number}") for number in range(1, self._state.workers + 1)]
        await register_workers(
            connection,
            [(number, name, "127.0.0.1", ports[name], ports[f"{name}-http"]) for number, name in workers],
        )

    async def _keep(self, process: states.Process) -> None:
        """Run one process, again and again, until its kind is to stop."""
        stop = self._stop[process.kind]
        failures = 0
        while await self._ready(process, stop):
            began = time.monotonic()
            child = await self._start(process)
            if await _first(child.wait(), stop):
                await _end(child, process)
                self._note(process, 0)
                return
            failures = failures + 1 if time.monotonic() - began < STEADY_S else 1
            self._note(process, 0)
            pause = backoff(failures)
            log.warning(
                "%s ended with code %s; it is started again in %.1f s", process.name, child.returncode, pause
            )
            process.restarts += 1
            await _first(asyncio.sleep(pause), stop)

    async def _ready(self, process: states.Process, stop: asyncio.Event) -> bool:
        """Wait until the MariaDB server that a process needs answers; False when it is to stop."""
        name = {"agent": process.name.removeprefix("agent-"), "proxy": "home", "repair": "home"}.get(
            process.kind
        )
        while name is not None and not stop.is_set():
            if await health.mariadb_answers(health.server_address(self._directory, self._state, name)):
                break
            await _first(asyncio.sleep(0.1), stop)
        if process.kind in ("proxy", "repair"):
            await _first(self._prepared.wait(), stop)
        return not stop.is_set()

    async def _start(self, process: states.Process) -> asyncio.subprocess.Process:
        with (self._directory / "logs" / f"{process.name}.log").open("ab") as sink:
            child = await asyncio.create_subprocess_exec(
                *process.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                preexec_fn=_before(process.nice),
            )
        self._note(process, child.pid)
        log.info("%s started, pid %d", process.name, child.pid)
        return child

    def _note(self, process: states.Process, pid: int) -> None:
        process.pid, process.start = pid, 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            process.start = health.started(pid) if pid else 0.0
        states.write(self._directory, self._state)


async def _first(work: Awaitable[object], stop: asyncio.Event) -> bool:
    """Wait for `work` or for `stop`; return whether it is to stop."""
    waiting = [asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return stop.is_set()


async def _end(child: asyncio.subprocess.Process, process: states.Process) -> None:
    """End a child: by its signals, and SIGKILL when it takes too long."""
    patience_s = STOP_S[process.kind]
    with contextlib.suppress(ProcessLookupError):
        for number in process.ending:
            child.send_signal(number)
    try:
        await asyncio.wait_for(child.wait(), patience_s)
    except TimeoutError:
        log.exception("pid %d does not stop in %.0f s and is killed", child.pid, patience_s)
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def main(directory: Path) -> int:
    """Run the supervisor of the cluster in a directory; return the exit code.

    This process only forks, records who the supervisor is and ends, so that the supervisor is nobody's
    child: whoever called `up` need not wait for it and sees no zombie.
    """
    pid = os.fork()
    if pid:
        health.note_supervisor(directory, pid)
        os._exit(0)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return asyncio.run(Supervisor(directory).run())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
