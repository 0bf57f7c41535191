"""Kills, stops and restarts one worker after the other while queries run, and compares every answer.

With two copies of every chunk all queries must be answered, and rightly; with more, up to one worker less than there
are copies is struck at a time (`--workers 4 --replicas 3`). Prints what happened, and how long
queries took in quiet times and while a worker was away; ends with code 1 if an answer was wrong or missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import statistics
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from backend.connection import ConnectionLost
from shard.errors import ServerError
from tests.faults.field import MARK, QUICKLY, SLOW, Field, main_of, some_query

CLIENTS = 4
SLOW_SHARE = 0.1
LONG_S = 3.0
"""Seconds that a query should take at most while a worker is away; longer ones are listed."""
FAULTS = {
    "agent killed": ("agent-worker", signal.SIGKILL),
    "agent stopped": ("agent-worker", signal.SIGSTOP),
    "agent restarted": ("agent-worker", signal.SIGTERM),
    "server killed": ("worker", signal.SIGKILL),
    "server stopped": ("worker", signal.SIGSTOP),
    "server restarted": ("worker", signal.SIGTERM),
}


@dataclass
class Tally:
    """What became of the queries, and their seconds."""

    quiet: list[float] = field(default_factory=list)
    troubled: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    faults: Counter = field(default_factory=Counter)
    long: list[str] = field(default_factory=list)


class Chaos:
    """One run on a field."""

    def __init__(self, there: Field, seed: int) -> None:
        self.field, self.rng, self.seed = there, random.Random(seed), seed
        self.tally = Tally()
        self.trouble, self.kind = 0, ""
        self.stop = asyncio.Event()

    async def run(self, count: int, pace_s: float = 1.0) -> Tally:
        """Do so many faults; a copy of everything is always there."""
        await self.field.until_well()
        asking = [asyncio.create_task(self._ask(random.Random(f"{self.seed} {n}"))) for n in range(CLIENTS)]
        try:
            for _ in range(count):
                await asyncio.sleep(self.rng.random() * pace_s)  # the moment of a fault is what is tried
                await self._fault()
        finally:
            self.stop.set()
            await asyncio.gather(*asking)
        return self.tally

    async def _fault(self) -> None:
        most = max(1, self.field.replicas - 1)
        workers = self.rng.sample(self.field.workers, self.rng.randint(1, most))
        struck = [(worker, self.rng.choice(sorted(FAULTS))) for worker in workers]
        self.trouble, self.kind = self.trouble + 1, " and ".join(kind for _, kind in struck)
        async with asyncio.TaskGroup() as group:
            for worker, kind in struck:
                group.create_task(self._strike(worker, kind))
        await self.field.until_well()
        self.trouble += 1

    async def _strike(self, worker: int, kind: str) -> None:
        name, number = FAULTS[kind]
        self.tally.faults[kind] += 1
        process = self.field.signal(f"{name}{worker}", number)
        if number is signal.SIGSTOP:
            await asyncio.sleep(self.rng.uniform(0.2, 8.0))  # so long it is away
            process.send_signal(signal.SIGCONT)
        else:
            await self._until_gone(process)

    @staticmethod
    async def _until_gone(process) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may go between the two questions
            while process.is_running() and process.status() != "zombie":
                await asyncio.sleep(0.02)

    async def _ask(self, rng: random.Random) -> None:
        while not self.stop.is_set():
            slow = rng.random() < SLOW_SHARE
            sql = SLOW if slow else some_query(rng)
            before, took = self.trouble, 0.0
            try:
                took = await self.field.compare(sql, QUICKLY if slow else None)
            except AssertionError:
                self.tally.wrong.append(sql)
            except (ServerError, ConnectionLost) as error:
                self.tally.failed.append(f"{getattr(error, 'errno', 'lost')} {error}: {sql}")
            if not slow and took:
                quiet = before == self.trouble and before % 2 == 0
                (self.tally.quiet if quiet else self.tally.troubled).append(took)
                if took > LONG_S:
                    self.tally.long.append(f"{took:.1f} s during {self.kind}: {sql}")


def p95(seconds: list[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else 0.0


def report(tally: Tally) -> str:
    """Return what happened, in lines."""
    asked = len(tally.quiet) + len(tally.troubled)
    lines = [
        f"faults: {sum(tally.faults.values())} ({', '.join(f'{n} {k}' for k, n in sorted(tally.faults.items()))})",
        f"queries: {asked} and slow ones; {len(tally.wrong)} wrong, {len(tally.failed)} failed",
        f"p95: {p95(tally.quiet):.2f} s in quiet, {p95(tally.troubled):.2f} s while a worker was away "
        f"(longest {max(tally.troubled, default=0.0):.2f} s)",
    ]
    return "\n".join(
        [
            *lines,
            *(f"long: {text}" for text in tally.long),
            *(f"WRONG {sql}" for sql in tally.wrong),
            *(f"FAILED {text}" for text in tally.failed),
        ]
    )


def _well(tally: Tally) -> bool:
    return not (tally.wrong or tally.failed) and p95(tally.troubled) <= LONG_S


async def nothing_left(there: Field) -> None:
    """Wait until no statement of a query runs on any worker, for ten seconds at most."""
    async with asyncio.timeout(10):
        while any([await there.runs(number, MARK) for number in there.workers]):
            await asyncio.sleep(0.1)


def main() -> int:
    """Run; return the exit code."""

    async def play(there: Field, _: Path, count: int, seed: int) -> Tally:
        tally = await Chaos(there, seed).run(count)
        await nothing_left(there)
        return tally

    return main_of(__doc__, play, lambda tally: (report(tally), _well(tally)))


if __name__ == "__main__":
    raise SystemExit(main())
