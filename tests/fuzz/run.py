"""Runs generated queries on a real cluster and on one plain MariaDB, and cuts failing ones down.

``python -m tests.fuzz.run --count 2000 --seed 7`` starts both servers itself; ``--only I`` repeats one
query. Exit status 1: some answers differ. What skyshard refuses (1235) is counted by reason.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from shard.errors import ServerError
from shard.wire.packets import ColumnDefinition
from skyshard.cluster.local import free_port
from tests.fuzz.compare import Answer, columns_differ, decode, difference
from tests.fuzz.generate import generate
from tests.fuzz.sources import DATABASE
from tests.fuzz.tree import Node, Query
from tests.support import handmade, twin
from tests.support.servers import LocalCluster, PlainMariaDB

REFUSED = 1235
TIMED_OUT = 1969
LOST = 2013
LIMIT_S = 20


class Server:
    """One connection that is made again when it broke."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: RawConnection | None = None

    async def ask(self, sql: str, binary: bool) -> Answer:
        """Run a query and return its answer."""
        try:
            connection = self._connection
            if connection is None or connection.closed or connection.busy:
                await self.close()
                connection = self._connection = await RawConnection.open(self._address, DATABASE)
                await connection.run(f"SET max_statement_time={LIMIT_S}")
            text = sql.encode()
            result = await (connection.execute(text, ()) if binary else connection.query(text))
            data = b"".join([block.data async for block in result.blocks()])
        except ServerError as error:
            return Answer(error.errno, str(error))
        except ConnectionLost as lost:
            return Answer(LOST, str(lost))
        columns = tuple(ColumnDefinition.decode(payload) for payload in result.columns)
        return Answer(0, "", columns, decode(data, columns, binary))

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(ConnectionLost):
                await self._connection.close()
            self._connection = None


@dataclass(slots=True)
class Failure:
    """A query that was answered differently, as generated and cut down."""

    index: int
    query: Query
    reason: str
    smallest: str = ""
    smallest_reason: str = ""
    plans: str = ""

    def __str__(self) -> str:
        return (
            f"query {self.index}: {self.reason}\n  {self.query.root.render()}\n"
            f"cut down: {self.smallest_reason}\n  {self.smallest}\n{self.plans}"
        )


@dataclass(slots=True)
class Outcome:
    """What a run found."""

    asked: int = 0
    failures: list[Failure] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    errors: Counter[int] = field(default_factory=Counter)
    slow: int = 0


class Runner:
    """Compares skyshard with its plain twin."""

    def __init__(self, sky: Address, plain: Address) -> None:
        self.sky, self.plain = Server(sky), Server(plain)

    async def close(self) -> None:
        """Close both connections."""
        await self.sky.close()
        await self.plain.close()

    async def compare(self, query: Query, binary: bool) -> tuple[str | None, Answer, Answer]:
        """Return what differs, and both answers."""
        want = await self.plain.ask(query.root.render(plain=True), binary)
        got = await self.sky.ask(query.root.render(), binary)
        if got.errno == REFUSED or TIMED_OUT in (got.errno, want.errno):
            return None, got, want
        tail = query.root.tail()
        full = None
        limited = tail is not None and tail.parts and tail.parts[-1].parts
        if limited and not tail.total and not (got.errno or want.errno):
            full = await self.plain.ask(query.root.render(plain=True, limited=False), binary)
        reason = difference(query, got, want, full)
        if reason is not None and reason.startswith("column "):
            answers = [want, *[answer async for answer in self._other_plans(query, binary)]]
            reason = columns_differ(query, got, answers) or difference(query, got, want, full, True)
        return reason, got, want

    async def _other_plans(self, query: Query, binary: bool) -> AsyncIterator[Answer]:
        """Yield plain MariaDB's answers by other plans.

        Whether it uses a temporary table, merges a derived table or turns a join around decides on lengths,
        original names and NOT NULL of some columns; all of them are as one MariaDB would answer.
        """
        root = query.root
        bare = replace(
            root, parts=tuple(p for p in root.parts if not (isinstance(p, Node) and p.kind == "tail"))
        )
        texts = [tree.render(plain=True) for tree in (root, bare)]
        texts += [
            sql.replace("SELECT ", "SELECT SQL_BUFFER_RESULT ", 1)
            for sql in texts
            if sql.startswith("SELECT ")
        ]
        for switches in (
            "derived_merge=on",
            "derived_merge=off",
            "index_merge=off,join_cache_hashed=off,outer_join_with_cache=off",
        ):
            for sql in texts:
                yield await self.plain.ask(f"SET STATEMENT optimizer_switch='{switches}' FOR {sql}", binary)

    async def run(self, seed: int, indexes: range, outcome: Outcome, cut: bool = True) -> None:
        """Ask the queries of a seed, protocols alternating."""
        for index in indexes:
            query = generate(seed, index)
            binary = index % 2 == 1
            reason, got, want = await self.compare(query, binary)
            outcome.asked += 1
            outcome.errors[want.errno] += 1
            if TIMED_OUT in (got.errno, want.errno):
                outcome.slow += 1
            if got.errno == REFUSED:
                outcome.refused[got.message] += 1
                outcome.examples.setdefault(got.message, query.root.render())
            if reason is not None:
                failure = Failure(index, query, reason)
                smallest = await self._cut(query, binary) if cut else query
                failure.smallest = smallest.root.render()
                failure.smallest_reason = (await self.compare(smallest, binary))[0] or reason
                failure.plans = await self._plans(smallest)
                outcome.failures.append(failure)
                print(f"seed {seed} {failure}", flush=True)

    async def _cut(self, query: Query, binary: bool, tries: int = 300) -> Query:
        """Return the smallest query found that is still answered differently."""
        first = await self.compare(query, binary)
        if first[0] is None:
            return query  # it was answered differently once only
        kind = _kind(first[0])
        improved = True
        while improved and tries > 0:
            improved = False
            for root in query.root.smaller():
                tries -= 1
                if tries <= 0:
                    break
                if root.kind != "query":
                    continue
                smaller = query.cut(root)
                reason, _, _ = await self.compare(smaller, binary)
                if reason is not None and _kind(reason) == kind:
                    query, improved = smaller, True
                    break
        return query

    async def _plans(self, query: Query) -> str:
        """Return both servers' EXPLAIN."""
        lines = []
        for name, server, plain in (("skyshard", self.sky, False), ("plain", self.plain, True)):
            answer = await server.ask("EXPLAIN " + query.root.render(plain), False)
            lines += [f"  {name}: {_shown(row)}" for row in answer.rows] or [
                f"  {name}: {answer.errno} {answer.message}"
            ]
        return "\n".join(lines)


def _shown(row: tuple) -> str:
    texts = (
        "NULL" if value is None else value.decode() if isinstance(value, bytes) else str(value)
        for value in row
    )
    return " | ".join(texts)[:600]


def _kind(reason: str) -> str:
    """Return the class of a difference: a cut must not turn one into another."""
    words = reason.split()
    return " ".join(words[:2]) if words[0] == "error" else "rows" if "row" in reason else words[0]


@contextlib.contextmanager
def servers() -> Iterator[tuple[Address, Address]]:
    """Start a two-worker cluster with the handmade catalogue, and its plain twin."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        directory = Path(name)
        plain = PlainMariaDB(directory / "plain")
        cluster = LocalCluster(directory / "c", free_port())
        try:
            cluster.ingest(handmade.write(directory / DATABASE))
            asyncio.run(twin.copy_database(cluster.directory, DATABASE, plain.address))
            yield cluster.address, plain.address
        finally:
            cluster.stop()
            plain.stop()


def summary(outcome: Outcome, seed: int, seconds: float) -> str:
    """Return the counts of a run."""
    lines = [
        f"seed {seed}: {outcome.asked} queries in {seconds:.0f} s, {len(outcome.failures)} differences, "
        f"{sum(outcome.refused.values())} refused, {outcome.slow} timed out; errors {dict(outcome.errors)}"
    ]
    for message, count in outcome.refused.most_common():
        lines += [f"  refused {count}: {message}", f"      e.g. {outcome.examples[message][:400]}"]
    return "\n".join(lines)


async def _run(addresses: tuple[Address, Address], options: argparse.Namespace) -> int:
    runner, outcome = Runner(*addresses), Outcome()
    started = time.monotonic()
    first = options.first if options.only is None else options.only
    count = options.count if options.only is None else 1
    await runner.run(options.seed, range(first, first + count), outcome, cut=not options.uncut)
    await runner.close()
    print(summary(outcome, options.seed, time.monotonic() - started))
    return 1 if outcome.failures else 0


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="index of the first query")
    parser.add_argument("--only", type=int, help="run this index alone")
    parser.add_argument("--uncut", action="store_true", help="do not cut failing queries down")
    parser.add_argument("--sky", help="port of a running cluster with the handmade catalogue")
    parser.add_argument("--plain", help="socket of its plain twin")
    options = parser.parse_args()
    if options.sky:
        pair = (
            Address("root", "", host="127.0.0.1", port=int(options.sky)),
            Address("root", "", socket=options.plain),
        )
        return asyncio.run(_run(pair, options))
    with servers() as addresses:
        return asyncio.run(_run(addresses, options))


if __name__ == "__main__":
    sys.exit(main())
