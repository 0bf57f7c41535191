"""Puts generated queries to skyshard and to plain MariaDB, and cuts down those that are answered differently.

Several lanes work at once, each with connections of its own. What one MariaDB itself decides by the plan it
picks (digits past the scale of a quotient, lengths and origins of computed columns) must be as in one of
the plain server's plans for the same rows; a definition that only its empty tables give is a known
divergence (`divergences.py`).
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass, field, replace

from backend.address import Address
from tests.fuzz import divergences
from tests.fuzz.compare import Answer, Shape, difference, unequal, unlike
from tests.fuzz.generate import generate
from tests.fuzz.partitions import Partition, partition
from tests.fuzz.refusals import REFUSED, known
from tests.fuzz.servers import BARE, EMPTY, Server, empty_twins
from tests.fuzz.sources import DATABASE
from tests.fuzz.tree import Node, Query

INTERNAL = 1105
TIMED_OUT = 1969
LANES = 3
EVERY = 10
"""One partition is asked for so many queries."""
SWITCHES = (
    "derived_merge=on",
    "derived_merge=off",
    "index_merge=off,join_cache_hashed=off,outer_join_with_cache=off",
    "materialization=off",
    "exists_to_in=off",
)
_ORIGINS = frozenset({"table", "org_table", "org_name"})
_NOT_NULL = 1 | 4096


@dataclass(slots=True)
class Failure:
    """A query that was answered differently, as generated and cut down."""

    index: int
    query: str
    reason: str
    smallest: str = ""
    smallest_reason: str = ""
    plans: str = ""

    def __str__(self) -> str:
        return (
            f"query {self.index}: {self.reason}\n  {self.query}\n"
            f"cut down: {self.smallest_reason}\n  {self.smallest}\n{self.plans}"
        )


@dataclass(slots=True)
class Outcome:
    """What a run found."""

    asked: int = 0
    partitions: int = 0
    failures: list[Failure] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    errors: Counter[int] = field(default_factory=Counter)
    diverged: Counter[str] = field(default_factory=Counter)
    slow: int = 0

    def summary(self, seed: int, seconds: float) -> str:
        """Return the counts of a run."""
        lines = [
            f"seed {seed}: {self.asked} queries and {self.partitions} partitions in {seconds:.0f} s, "
            f"{len(self.failures)} differences, {self.errors[INTERNAL]} internal errors, "
            f"{sum(self.refused.values())} refused, {self.slow} timed out, "
            f"{sum(self.diverged.values())} known divergences {dict(self.diverged)}; errors {dict(self.errors)}"
        ]
        for message, count in self.refused.most_common():
            lines += [f"  refused {count}: {message}", f"      e.g. {self.examples[message][:400]}"]
        return "\n".join(lines)


@dataclass(slots=True)
class Compared:
    """What came of one query: what differs or is refused without notice, both answers, and what diverges as is known."""

    reason: str | None
    got: Answer
    want: Answer
    diverged: str | None = None


class Lane:
    """Connections to skyshard and to its plain twin."""

    def __init__(self, sky: Address, plain: Address) -> None:
        self.sky, self.plain = Server(sky), Server(plain)
        self.empties = {name: Server(plain, name) for name in (EMPTY, BARE)}
        self._known = divergences.names()

    async def close(self) -> None:
        """Close all connections."""
        for server in (self.sky, self.plain, *self.empties.values()):
            await server.close()

    async def compare(self, query: Query, binary: bool) -> Compared:
        """Ask both servers, and say what differs."""
        got, want = await asyncio.gather(
            self.sky.ask(query.root.render(), binary), self.plain.ask(query.root.render(plain=True), binary)
        )
        if (failed := _failed(got, want)) is not None or TIMED_OUT in (got.errno, want.errno):
            return Compared(failed, got, want)
        if got.errno == REFUSED:
            return Compared(None, got, want)
        tail = query.root.tail()
        full = None
        limited = tail is not None and tail.parts and tail.parts[-1].parts
        if limited and not tail.total and not (got.errno or want.errno):
            full = await self.plain.ask(query.root.render(plain=True, limited=False), binary)
        reason = difference(query, got, want, full)
        if got.errno or want.errno or len(got.columns) != len(want.columns):
            return Compared(reason, got, want)
        odd = unlike(got, [want])
        if reason is None and odd is None:
            return Compared(None, got, want)
        answers = [want, *await self.other_plans(query, binary)]
        if reason is not None and any(difference(query, got, answer, full) is None for answer in answers):
            reason = None
        if reason is not None and not binary and query.approx:
            # Sums that MariaDB shows with few decimals may be rounded the other way: their digits decide.
            shown = difference(replace(query, shown=True), got, want, full) is None
            if shown and (await self.compare(query, True)).reason is None:
                reason = None
        diverged = None
        if reason is not None:
            diverged = self._of_values(query, got, want, full)
            if diverged is None:
                return Compared(reason, got, want)
        odd = unlike(got, answers)
        if odd is None:
            return Compared(None, got, want, diverged)
        return await self._diverged(query, binary, odd, Compared(None, got, want), answers)

    def _of_values(self, query: Query, got: Answer, want: Answer, full: Answer | None) -> str | None:
        """Return the known divergence that makes rows differ, or None."""
        looser = {divergences.LAST_DIGIT: replace(query, stored=True)}
        if "AVG(" in query.root.render():
            looser[divergences.SCALE] = replace(query, scaled=True)
        return next(
            (
                name
                for name, other in looser.items()
                if name in self._known and difference(other, got, want, full) is None
            ),
            None,
        )

    async def _diverged(
        self, query: Query, binary: bool, odd: tuple[Shape, Shape], compared: Compared, answers: list[Answer]
    ) -> Compared:
        """Say whether a column is defined as only empty tables have it, in a way that is known."""
        empty = await self.other_plans(query, binary, empty=True)
        differs = unequal(*odd)
        alike = unlike(compared.got, [*answers, *empty]) is None
        if self._known.issuperset(differs) and (alike or _of_plans(*odd)):
            compared.diverged = ", ".join(differs)
        else:
            emptied = ", as of empty tables" if alike else ""
            compared.reason = f"column {odd[0]}, not {odd[1]}: {', '.join(differs)}{emptied}"
        return compared

    async def other_plans(self, query: Query, binary: bool, empty: bool = False) -> list[Answer]:
        """Return plain MariaDB's answers by other plans.

        Whether it uses a temporary table, merges a derived table or turns a join around decides on some
        digits, lengths, original names and NOT NULL; all of them are as one MariaDB would answer.
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
        answers = []
        for switches in SWITCHES:
            for sql in texts:
                text = f"SET STATEMENT optimizer_switch='{switches}' FOR {sql}"
                if not empty:
                    answers.append(await self.plain.ask(text, binary))
                for name, server in self.empties.items() if empty else ():
                    answer = await server.ask(text.replace(f"{DATABASE}.", f"{name}."), binary)
                    answers.append(replace(answer, columns=tuple(map(_of_twin, answer.columns))))
        return [answer for answer in answers if not answer.errno]

    async def partition(self, asked: Partition) -> str | None:
        """Ask skyshard for a query and its parts, and say what differs.

        Where the plain server's parts are not the whole either (it loses rows whose comparison of two rows
        is NULL), every piece must at least be as the plain server has it.
        """
        texts = [asked.whole.root.render(), *asked.parts]
        got = [await self.sky.ask(text, True) for text in texts]
        if any(answer.errno == REFUSED for answer in got):
            plain = [asked.whole.root.render(plain=True), *asked.plain_parts]
            want = [await self.plain.ask(text, True) for text in plain]
            pairs = zip(got, want, strict=True)
            return next((found for pair in pairs if (found := _failed(*pair)) is not None), None)
        failed = next((found for answer in got if (found := _failed(answer)) is not None), None)
        if failed is not None or any(answer.errno in (REFUSED, TIMED_OUT) for answer in got):
            return failed
        reason = asked.difference(got[0], got[1:])
        if reason is None:
            return None
        plain = [asked.whole.root.render(plain=True), *asked.plain_parts]
        want = [await self.plain.ask(text, True) for text in plain]
        if asked.difference(want[0], want[1:]) is None:
            return reason
        differences = [difference(asked.whole, *pair) for pair in zip(got, want, strict=True)]
        return next((found for found in differences if found is not None), None)

    async def cut(self, query: Query, binary: bool, tries: int = 300) -> Query:
        """Return the smallest query found that is still answered differently."""
        first = (await self.compare(query, binary)).reason
        if first is None:
            return query  # it was answered differently once only
        kind = _kind(first)
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
                reason = (await self.compare(smaller, binary)).reason
                if reason is not None and _kind(reason) == kind:
                    query, improved = smaller, True
                    break
        return query

    async def plans(self, query: Query) -> str:
        """Return both servers' EXPLAIN."""
        lines = []
        for name, server, plain in (("skyshard", self.sky, False), ("plain", self.plain, True)):
            answer = await server.ask("EXPLAIN " + query.root.render(plain), False)
            lines += [f"  {name}: {_shown(row)}" for row in answer.rows] or [
                f"  {name}: {answer.errno} {answer.message}"
            ]
        return "\n".join(lines)


class Runner:
    """Compares skyshard with its plain twin, in several lanes."""

    def __init__(self, sky: Address, plain: Address, lanes: int = LANES) -> None:
        self._plain = plain
        self.lanes = [Lane(sky, plain) for _ in range(lanes)]

    async def __aenter__(self) -> Runner:
        await empty_twins(self._plain)
        return self

    async def __aexit__(self, *_: object) -> None:
        for lane in self.lanes:
            await lane.close()

    async def run(self, seed: int, indexes: range, outcome: Outcome, cut: bool = True) -> None:
        """Ask the queries of a seed, protocols alternating, and a partition now and then."""
        waiting = iter(indexes)

        async def work(lane: Lane) -> None:
            for index in waiting:
                await self._query(lane, seed, index, outcome, cut)
                if index % EVERY == 0:
                    await self._partition(lane, seed, index, outcome)

        async with asyncio.TaskGroup() as group:
            for lane in self.lanes:
                group.create_task(work(lane))

    async def _query(self, lane: Lane, seed: int, index: int, outcome: Outcome, cut: bool) -> None:
        query, binary = generate(seed, index), index % 2 == 1
        compared = await lane.compare(query, binary)
        got, want = compared.got, compared.want
        outcome.asked += 1
        if outcome.asked % 1000 == 0:
            print(f"{outcome.asked} asked, {len(outcome.failures)} differences", file=sys.stderr, flush=True)
        outcome.errors[INTERNAL if got.errno == INTERNAL else want.errno] += 1
        if TIMED_OUT in (got.errno, want.errno):
            outcome.slow += 1
        if got.errno == REFUSED != want.errno:
            outcome.refused[got.message] += 1
            outcome.examples.setdefault(got.message, query.root.render())
        if compared.diverged is not None:
            outcome.diverged[compared.diverged] += 1
        if compared.reason is not None:
            smallest = await lane.cut(query, binary) if cut else query
            again = (await lane.compare(smallest, binary)).reason or compared.reason
            plans = await lane.plans(smallest)
            failure = Failure(
                index, query.root.render(), compared.reason, smallest.root.render(), again, plans
            )
            outcome.failures.append(failure)
            print(f"seed {seed} {failure}", flush=True)

    async def _partition(self, lane: Lane, seed: int, index: int, outcome: Outcome) -> None:
        asked = partition(seed, index)
        outcome.partitions += 1
        reason = await lane.partition(asked)
        if reason is not None:
            plans = await lane.plans(asked.whole)
            parts = "\n  ".join(asked.parts)
            failure = Failure(index, f"{asked.whole.root.render()}\n  {parts}", reason, "", "", plans)
            outcome.failures.append(failure)
            print(f"seed {seed} partition of {failure}", flush=True)


def _failed(got: Answer, want: Answer | None = None) -> str | None:
    """Say what is wrong with an error of skyshard's, whatever plain MariaDB answers: a refusal must be a listed one."""
    if got.errno == INTERNAL:
        return f"internal error: {got.message}"
    own = want is not None and want.errno == REFUSED  # MariaDB refuses it, too
    return (
        f"refused: {got.message}" if got.errno == REFUSED and not own and got.message not in known() else None
    )


def _of_plans(ours: Shape, other: Shape) -> bool:
    """Whether two definitions differ in origin, NOT NULL and a text's decimals (0, or 39 for none) alone.

    A function of skyshard's is written otherwise for the plain server, whose plans over empty tables are
    then others too.
    """
    free = dict.fromkeys(_ORIGINS, "")
    pair = [one._replace(flags=one.flags & ~_NOT_NULL, **free) for one in (ours, other)]
    if {ours.decimals, other.decimals} == {0, 39}:
        pair = [one._replace(decimals=0) for one in pair]
    return pair[0] == pair[1]


def _of_twin(column):
    """Return a column of the database without rows as that of the one with them."""
    named = column.schema in (EMPTY.encode(), BARE.encode())
    return replace(column, schema=DATABASE.encode()) if named else column


def _shown(row: tuple) -> str:
    texts = (
        "NULL" if value is None else value.decode() if isinstance(value, bytes) else str(value)
        for value in row
    )
    return " | ".join(texts)[:600]


def _kind(reason: str) -> str:
    """Return the class of a difference: a cut must not turn one into another."""
    words = reason.split()
    if words[0] == "column":
        return reason[reason.rindex("): ") :]
    return " ".join(words[:2]) if words[0] == "error" else "rows" if "row" in reason else words[0]
