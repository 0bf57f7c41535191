"""Cuts, delays, trickles and black holes between any two parts, at random moments of queries that are compared.

    python -m tests.faults.network --count 50 --seed 1

Between proxies and agents, and agents and their servers, nothing may be noticed: there are two copies. Where the home
server or the client is cut off, queries may end with an error that says so, or with the connection, and never with an answer
that is wrong; nobody may wait for ever. Afterwards nothing runs and nothing waits in a spool.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from backend.connection import ConnectionLost, RawConnection
from shard.errors import ServerError
from tests.faults.chaos import nothing_left
from tests.faults.field import WORKERS, Field, ask, main_of, some_query
from tests.faults.relay import FREE, Relay, Wires, some_way, wired
from tests.support.agents import until

CLIENTS = 3
PATIENCE_S = 30.0
"""Seconds after which a query whose path is open again counts as hung."""
HOME_ERRORS = frozenset({1429, 1053, 1927, 2006, 2013})
"""How a query may end while the home server cannot be reached."""


@dataclass
class Tally:
    """What became of the queries."""

    right: int = 0
    ended: int = 0  # with an error that is allowed
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    faults: Counter = field(default_factory=Counter)
    longest_s: float = 0.0


class Network:
    """One run."""

    def __init__(self, wires: Wires, seed: int, longest_s: float) -> None:
        self.wires, self.seed, self.rng = wires, seed, random.Random(seed)
        self._longest = longest_s
        self.tally = Tally()
        self._stop = asyncio.Event()
        self._ended: dict[str, float] = {"client": 0.0, "home": 0.0}  # when these paths were last bad
        self._known: dict[str, Counter] = {}

    async def run(self, count: int) -> Tally:
        """Do so many faults, one after the other."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._ask(random.Random(f"{self.seed} {number}")))
            names = self.rng.sample(sorted(self.wires.paths), len(self.wires.paths))
            for number in range(count):
                await asyncio.sleep(self.rng.random() * 0.3)  # the moment of a fault is what is tried
                await self._fault(names[number % len(names)])
            self._stop.set()
        return self.tally

    async def _fault(self, name: str) -> None:
        path, length = self.wires.paths[name], self.rng.uniform(0.2, self._longest)
        if name in self._ended:
            self._ended[name] = float("inf")
        if self.rng.random() < 0.3:
            self.tally.faults[f"{name.rstrip('123')} cut"] += 1
            path.refuse(True)
            await path.cut()
            await asyncio.sleep(length)
            path.refuse(False)
        else:
            way = some_way(self.rng)
            kind = "hole" if not way.open else "trickle" if way.piece else "delay"
            self.tally.faults[f"{name.rstrip('123')} {kind}"] += 1
            path.set(way)
            await asyncio.sleep(length)  # so long it is bad
            if not way.open and self.rng.random() < 0.5:
                await path.cut()
            path.set(FREE)
        if name in self._ended:
            self._ended[name] = time.monotonic()
        await self.wires.field.until_well()

    async def _expected(self, sql: str) -> Counter:
        if sql not in self._known:
            async with self.wires.field.twin() as twin:
                self._known[sql] = await ask(twin, sql)
        return self._known[sql]

    async def _ask(self, rng: random.Random) -> None:
        client: RawConnection | None = None
        while not self._stop.is_set():
            sql = some_query(rng)
            wanted = await self._expected(sql)
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._longest + PATIENCE_S):
                    client = client or await self._connected()
                    found = await ask(client, sql)
            except (ServerError, ConnectionLost, OSError) as error:
                number = getattr(error, "errno", None) if isinstance(error, ServerError) else None
                allowed = max(self._ended.values()) >= began
                if allowed and (number is None or number in HOME_ERRORS):
                    self.tally.ended += 1
                else:
                    self.tally.failed.append(f"{number or 'lost'} {error}: {sql}")
                if client is not None:
                    client.abort()
                    client = None
                await asyncio.sleep(0.05)
            except TimeoutError:
                self.tally.failed.append(f"hung for {time.monotonic() - began:.0f} s: {sql}")
                if client is not None:
                    client.abort()
                    client = None
            else:
                self.tally.right += 1
                if found != wanted:
                    self.tally.wrong.append(sql)
            self.tally.longest_s = max(self.tally.longest_s, time.monotonic() - began)
        if client is not None:
            await client.close()

    async def _connected(self) -> RawConnection:
        async with self.wires.field.client(self.wires.port, keep=True) as client:
            return client


def report(tally: Tally) -> str:
    """Return what happened, in lines."""
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(tally.faults.items()))
    lines = [
        f"faults: {sum(tally.faults.values())} ({listed})",
        f"queries: {tally.right} right, {tally.ended} ended while client or home server were cut off, "
        f"{len(tally.wrong)} wrong, {len(tally.failed)} failed; longest {tally.longest_s:.1f} s",
    ]
    return "\n".join(
        [*lines, *(f"WRONG {sql}" for sql in tally.wrong), *(f"FAILED {text}" for text in tally.failed)]
    )


async def all_quiet(wires: Wires) -> None:
    """Wait until nothing runs, waits or lies in a spool anywhere, for ten seconds at most."""
    inside = wires.field.inside

    async def quiet() -> bool:
        for number in range(1, WORKERS + 1):
            figures = await asyncio.to_thread(inside.figures, f"worker{number}")
            waiting = [value for name, value in figures.items() if name.startswith(BUSY)]
            assert len(waiting) >= 4, figures
            if any(waiting):
                return False
        return True

    await nothing_left(wires.field)
    await until(quiet, 10, pause=0.1)


BUSY = ("skyshard_agent_running", "skyshard_agent_queued", "skyshard_agent_spool_bytes")


async def play(there: Field, directory: Path, count: int, seed: int, longest_s: float) -> Tally:
    """Do some faults on a field."""
    async with wired(there, directory) as wires:
        tally = await Network(wires, seed, longest_s).run(count)
        await all_quiet(wires)
        paths: list[Relay] = list(wires.paths.values())
        assert all(path.passed for path in paths), "a path was never used"
    assert not any(path.connections for path in paths)
    return tally


def main() -> int:
    """Run; return the exit code."""

    async def play_long(there: Field, directory: Path, count: int, seed: int) -> Tally:
        return await play(there, directory, count, seed, 8.0)

    return main_of(__doc__, play_long, lambda tally: (report(tally), not (tally.wrong or tally.failed)))


if __name__ == "__main__":
    raise SystemExit(main())
