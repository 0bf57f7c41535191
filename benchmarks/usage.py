"""Processor seconds and memory of the benchmark's processes, by their kind."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import psutil

from tests.support.servers import Inside, PlainMariaDB

CLIENT, PLAIN, SPIDER = "client", "plain", "Spider's head"
PROXY, AGENTS, WORKERS, HOME = "proxy", "agents", "workers", "home"
_NAMES = {"agent-worker": AGENTS, "worker": WORKERS}


class Usage:
    """The processes, and what each kind of them has used so far."""

    def __init__(
        self, inside: Inside, plain: PlainMariaDB | None = None, head: PlainMariaDB | None = None
    ) -> None:
        self._processes: dict[str, list[psutil.Process]] = {CLIENT: [psutil.Process()]}
        for process in inside.state.processes:
            name = process.name.rstrip("0123456789")
            self._processes.setdefault(_NAMES.get(name, name), []).append(psutil.Process(process.pid))
        for kind, server in ((PLAIN, plain), (SPIDER, head)):
            if server is not None and server.process is not None:
                self._processes[kind] = [psutil.Process(server.process.pid)]

    def seconds(self) -> Counter[str]:
        """Return processor seconds used so far by kind of process."""
        used: Counter[str] = Counter()
        for kind, processes in self._processes.items():
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    used[kind] += sum(process.cpu_times()[:2])
        return used

    def peaks(self) -> dict[str, list[float]]:
        """Return the most memory that each process has had, in MB, by kind."""
        return {
            kind: [peak_mb(process.pid) for process in processes]
            for kind, processes in self._processes.items()
        }


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has had resident, in 10⁶ bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def family_peak_mb(pid: int) -> float:
    """Return the most of a process and of those that it has started, each for itself."""
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return max(map(peak_mb, family))
