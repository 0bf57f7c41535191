"""The queries' part of the benchmark: every contestant is asked the same in turn, and the answers are compared.

Plain MariaDB's answer is the right one. Where it takes longer than a query may, and for near neighbours and the
cross-match by place it does, the right number is counted in this process (`answers.pairs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from benchmarks.answers import Answer, Judge
from benchmarks.contest import PLAIN, SKYSHARD, SPIDERS
from benchmarks.queries import Query, text
from benchmarks.usage import Usage
from shard.errors import ServerError
from shard.wire import rows

SHORT_TIMES = 20
"""How many times as often short queries are asked."""


@dataclass(slots=True)
class Taken:
    """What one contestant took for one query, in seconds, and whether its answers were right."""

    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    """Processor seconds of all counted runs, by kind of process."""
    error: str = ""
    too_long: float = 0.0
    """Seconds after which it was given up; 0: it was not."""
    wrong: bool = False
    unchecked: bool = False

    @property
    def median(self) -> float:
        """Median of the whole time."""
        return statistics.median(self.whole)

    @property
    def answered(self) -> bool:
        """Whether there are figures."""
        return bool(self.whole) and not self.error and not self.too_long


async def ask(connection: RawConnection, sql: str, binary: bool) -> tuple[float, float, Answer]:
    """Return seconds to the end and to the first row, and the answer."""
    started = time.perf_counter()
    result = await (connection.execute(sql.encode(), ()) if binary else connection.query(sql.encode()))
    first, kept = 0.0, []
    async for block in result.blocks():
        first = first or time.perf_counter() - started
        kept.append(block.data)
    whole = time.perf_counter() - started
    return whole, first or whole, Answer(result.columns, tuple(map(bytes, kept)), binary)


class Contest:
    """The contestants' connections.

    Parameters
    ----------
    addresses : mapping
        Name of a contestant → where it listens; the plain server first.
    keys : int
        How many keys the director has.
    servers : sequence of Address
        MariaDB servers on which statements of a query that took too long may still run.
    expected : mapping
        Name of a query that counts → the number, for want of the plain server's answer.
    patience : float
        Seconds that a contestant has for one query.
    """

    def __init__(
        self,
        addresses: Mapping[str, Address],
        keys: int,
        usage: Usage,
        servers: Sequence[Address],
        expected: Mapping[str, int],
        patience: float,
    ) -> None:
        self._addresses, self._keys, self._usage = addresses, keys, usage
        self._servers, self._expected, self._patience = servers, expected, patience
        self._open: dict[str, RawConnection] = {}

    async def start(self) -> None:
        """Connect to all."""
        for name in self._addresses:
            self._open[name] = await self._connect(name)

    async def _connect(self, name: str) -> RawConnection:
        connection = await RawConnection.open(self._addresses[name])
        if name in SPIDERS:
            await connection.run(f"SET SESSION spider_direct_aggregate={SPIDERS.index(name)}")
        return connection

    async def close(self) -> None:
        """Disconnect."""
        for connection in self._open.values():
            await connection.close()

    async def measure(self, query: Query, repeats: int) -> dict[str, Taken]:
        """Ask all the same, in turn."""
        taken = {name: Taken() for name in self._addresses}
        judge, times = Judge(query.ordered), repeats * SHORT_TIMES if query.short else repeats
        names = list(taken)
        for seed in range(-1, times):  # the first is not counted
            found: dict[str, Answer] = {}
            for name in names[seed % len(names) :] + names[: seed % len(names)]:  # each begins in turn
                if not (taken[name].error or taken[name].too_long):
                    answer = await self._once(query, seed, name, taken[name])
                    found |= {} if answer is None else {name: answer}
            for name, answer in found.items():
                right = self._right(judge, query, answer, found.get(PLAIN))
                taken[name].wrong |= right is False
                taken[name].unchecked |= right is None
        return taken

    async def _once(self, query: Query, seed: int, name: str, mine: Taken) -> Answer | None:
        sql = text(query, seed, self._keys, name != SKYSHARD)
        before = self._usage.seconds()
        try:
            async with asyncio.timeout(self._patience):
                whole, first, answer = await ask(self._open[name], sql, query.binary)
        except TimeoutError:
            mine.too_long = self._patience
        except (ServerError, ConnectionLost) as error:
            mine.error = str(error)
            print(f"{name}: {query.name}: {mine.error}", file=sys.stderr)
        else:
            if seed >= 0:
                mine.used += self._usage.seconds() - before
                mine.whole.append(whole)
                mine.first.append(first)
            return answer
        self._open[name].abort()
        await self._quiet()
        self._open[name] = await self._connect(name)
        return None

    async def _quiet(self) -> None:
        """End what still runs at the servers for a query that was given up."""
        async with asyncio.timeout(120):
            for server in self._servers:
                connection = await RawConnection.open(server)
                while listed := await connection.fetch(
                    "SELECT ID FROM information_schema.PROCESSLIST "
                    "WHERE ID <> CONNECTION_ID() AND COMMAND IN ('Query', 'Execute')"
                ):
                    for (number,) in listed:
                        with contextlib.suppress(ServerError):  # it has ended by itself
                            await connection.run(f"KILL {int(number or b'')}")
                    await asyncio.sleep(0.1)
                await connection.close()

    def _right(self, judge: Judge, query: Query, answer: Answer, wanted: Answer | None) -> bool | None:
        """Whether an answer is right; None: nobody knows."""
        if query.name in self._expected:
            counted = [row for block in answer.blocks for row in rows.split(block)]
            return counted == [[str(self._expected[query.name]).encode()]]
        return None if wanted is None else judge.equal(answer, wanted)
