"""Owns the processes of a local cluster: starts them, restarts what dies, stops all at the end.

`cluster up` starts it in a session of its own; `cluster down` ends it with SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import psutil

from skyshard.cluster import state as states

_ORDER = {"mariadb": 0, "agent": 1, "proxy": 2}
_BACKOFF_S = 1.0


class Supervisor:
    """Runs the processes in cluster.json."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        found = states.read(directory)
        if found is None:
            raise FileNotFoundError(directory)
        self._state = found
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Start everything and keep it up until SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        keepers = []
        for process in sorted(self._state.processes, key=lambda item: _ORDER[item.kind]):
            keepers.append(asyncio.create_task(self._keep(process), name=process.name))
        await self._stopping.wait()
        for kind in ("proxy", "agent", "mariadb"):
            await self._stop(kind)
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        for process in self._state.processes:
            process.pid = 0
        states.write(self._directory, self._state)

    async def _keep(self, process: states.Process) -> None:
        while not self._stopping.is_set():
            if process.kind != "mariadb":
                await self._wait_for_sockets()
            with (self._directory / "logs" / f"{process.name}.log").open("ab") as log:
                child = await asyncio.create_subprocess_exec(
                    *process.argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
                )
            self._running[process.name] = child
            process.pid, process.start = child.pid, time.time()
            states.write(self._directory, self._state)
            await child.wait()
            if not self._stopping.is_set():
                await asyncio.sleep(_BACKOFF_S)

    async def _wait_for_sockets(self) -> None:
        while not all(Path(path).exists() for path in self._state.sockets.values()):  # noqa: ASYNC240 - local stat
            await asyncio.sleep(0.05)

    async def _stop(self, kind: str) -> None:
        children = [
            (process, self._running[process.name])
            for process in self._state.processes
            if process.kind == kind and process.name in self._running
        ]
        for _, child in children:
            if child.returncode is None:
                child.terminate()
        for _, child in children:
            try:
                await asyncio.wait_for(child.wait(), 60 if kind == "mariadb" else 10)
            except TimeoutError:
                child.kill()
                await child.wait()


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return bool(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    asyncio.run(Supervisor(Path(sys.argv[1])).run())
