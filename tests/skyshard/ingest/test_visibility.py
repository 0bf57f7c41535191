"""Every query sees one state of a catalogue, whatever is committed, undone and consolidated while it runs.

Each answer here tells every row of some tables, and each state of the catalogue has other answers, so that rows of half a
commit (some chunks, some tables, some copies, some proxies) give an answer that belongs to no state. That this is noticed
is tested as well.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backend.address import Address
from backend.connection import RawConnection
from shard.errors import ServerError
from skyshard.ingest import steps
from tests.skyshard.conftest import Lab, ask
from tests.support.servers import ExtraProxy
from tests.support.sky import Sky, signature, written

ALL = ("Star", "Ref", "Visit", "Pair", "Band")
PARTS = (Sky(0, 60), Sky(60, 30), Sky(90, 25))
GRACE_S = 3
CHANGED = 1412
LOST = 1158
"""The end of a query of which a chunk's rows were on their way to the client already."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An answer, and between which moments the query ran."""

    began: float
    ended: float
    sql: str
    answer: tuple[str, ...]


class Watch(threading.Thread):
    """Asks the same queries again and again on one connection, and keeps every answer."""

    def __init__(
        self, address: Address, database: str, queries: Sequence[str], grace_s: int = GRACE_S
    ) -> None:
        super().__init__(daemon=True)
        self._grace_s = grace_s
        self._address, self._database, self._queries = address, database, queries
        self._stop_asked = threading.Event()
        self.sightings: list[Sighting] = []
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._loop())
        except BaseException as error:  # a query that fails is as wrong as a mixed answer
            self.failed = error

    async def _loop(self) -> None:
        connection = await RawConnection.open(self._address, self._database)
        while not self._stop_asked.is_set():
            for sql in self._queries:
                began = time.monotonic()
                try:
                    (row,) = await connection.fetch(sql)
                except ServerError as error:
                    if error.errno != CHANGED or time.monotonic() - began < self._grace_s:
                        raise
                    continue  # it took longer than it was promised
                answer = tuple((value or b"NULL").decode() for value in row)
                self.sightings.append(Sighting(began, time.monotonic(), sql, answer))
        await connection.close()

    def until(self, moment: float) -> None:
        """Wait until all queries have been asked after a moment."""
        deadline = time.monotonic() + 60
        while {one.sql for one in self.sightings[-50:] if one.began >= moment} != set(self._queries):
            assert self.failed is None
            assert time.monotonic() < deadline
            self._stop_asked.wait(0.05)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(60)


@dataclass(slots=True)
class State:
    """What a catalogue has from some moment on (it begins to between two moments) until the next state."""

    answers: dict[str, tuple[str, ...]]
    asked: float
    sure: float


def wrong(states: Sequence[State], sightings: Sequence[Sighting]) -> list[Sighting]:
    """Return the answers that belong to no state that was there while the query ran."""
    ends = [state.sure for state in states[1:]] + [float("inf")]
    return [
        one
        for one in sightings
        if not any(
            state.answers[one.sql] == one.answer
            for state, end in zip(states, ends, strict=True)
            if state.asked <= one.ended and one.began <= end
        )
    ]


class Slow:
    """A long result of which the client has read only the beginning, so that some chunks wait to be asked.

    Agents put at most 256 MiB of a job aside (`spool_job_bytes`), and there are two.
    """

    def __init__(self, address: Address, database: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(RawConnection.open(address, database))
        self._result = self._loop.run_until_complete(
            self._connection.query(b"SELECT id, REPEAT('x', 6000000) FROM Visit")
        )
        self._blocks = self._result.blocks()
        self._rows = self._loop.run_until_complete(anext(self._blocks)).rows

    def rows(self) -> int:
        """Read the rest; return the number of all rows."""

        async def rest() -> int:
            found = self._rows
            try:
                async for block in self._blocks:
                    found += block.rows
            finally:
                await self._connection.close()
                await asyncio.sleep(0)  # the transport ends in the next turn of the loop
            return found

        try:
            return self._loop.run_until_complete(rest())
        finally:
            self._loop.close()


@pytest.fixture
def proxies(lab: Lab, tmp_path: Path) -> Iterator[tuple[Address, Address]]:
    """Two proxies, each of which learns of a commit by itself."""
    other = ExtraProxy(lab.cluster, tmp_path / "proxy")
    yield lab.cluster.address, Address("root", "", host="127.0.0.1", port=other.port)
    other.stop()


def step(lab: Lab, *arguments: str) -> dict[str, Any]:
    done = lab.command("ingest", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


class Life:
    """Changes a catalogue step by step, and notes which state it was in when."""

    def __init__(self, lab: Lab, name: str, directory: Path) -> None:
        self._lab, self._name, self._directory = lab, name, directory
        self._skies = [PARTS[0]]
        self._opened: list[str] = []
        now = time.monotonic()
        self.states = [State(signature(*self._skies), now, now)]

    def load(self, sky: Sky) -> None:
        """Do everything but the commit; nothing of it is visible."""
        catalog = written(self._directory / str(len(self.states)), self._name, sky, ALL[:4])
        number = str(step(self._lab, "register", str(catalog))["id"])
        assert {file["state"] for file in step(self._lab, "load", number)["files"]} == {"loaded"}
        assert step(self._lab, "check", number)["state"] == "open"
        self._opened.append(number)
        self._next = [*self._skies, sky]

    def _change(self, skies: list[Sky], *arguments: str) -> None:
        asked = time.monotonic()
        self._skies = skies
        self.states.append(State(signature(*skies), asked, float("inf")))
        step(self._lab, *arguments)
        self.states[-1].sure = time.monotonic()

    def publish(self) -> None:
        self._change(self._next, "publish", self._opened[-1])

    def undo(self, grace_s: int) -> None:
        self._change(self._skies[:-1], "--undo", self._opened.pop(), "--grace", str(grace_s))

    def seen_by(self, watches: Sequence[Watch]) -> None:
        """Wait until everybody has seen the present state."""
        for watch in watches:
            watch.until(self.states[-1].sure)

    @property
    def answers(self) -> dict[str, tuple[str, ...]]:
        return self.states[-1].answers


@pytest.mark.timeout(300)
def test_every_query_sees_one_state(
    lab: Lab, tmp_path: Path, proxies: tuple[Address, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        steps, "NOTICE_S", 3.0
    )  # a machine that is held up must not hold up a proxy for longer
    name = "one_state"
    lab.publish(written(tmp_path / "first", name, PARTS[0], ALL), "--replicas", "2")
    life = Life(lab, name, tmp_path)
    queries = list(life.answers)
    watches = [
        Watch(address, name, queries[turn:] + queries[:turn]) for turn in (0, 2) for address in proxies
    ]
    try:
        for watch in watches:
            watch.start()
        life.load(PARTS[1])
        first = Slow(proxies[0], name)
        life.publish()
        for address in proxies:  # the command has returned: nobody sees less
            assert {sql: ask(address, sql, name)[0] for sql in queries} == life.answers
        assert first.rows() == len(PARTS[0].visit)  # it began before the commit
        life.seen_by(watches)
        life.load(PARTS[2])
        life.publish()
        life.seen_by(watches)
        second = Slow(proxies[1], name)
        life.undo(GRACE_S)
        with pytest.raises(ServerError) as gone:
            second.rows()  # it began with rows that are gone
        assert gone.value.errno in (CHANGED, LOST)
        life.seen_by(watches)
        life.undo(GRACE_S)
        life.seen_by(watches)
        life.load(PARTS[2])
        life.publish()
        life.seen_by(watches)
    finally:
        for watch in watches:
            watch.stop()
    for watch in watches:
        assert watch.failed is None
        assert wrong(life.states, watch.sightings) == []
        seen = [one.answer for one in watch.sightings if one.sql == queries[0]]
        assert {state.answers[queries[0]] for state in life.states} == set(seen)  # all of them came by
    for state in life.states[1:]:  # and at each change queries were on their way
        assert any(
            one.began <= state.sure and state.asked <= one.ended
            for watch in watches
            for one in watch.sightings
        )
    lab.drop(name)
    assert lab.traces(name) == []


def test_rows_of_half_a_commit_would_be_noticed(
    lab: Lab, tmp_path: Path, proxies: tuple[Address, Address]
) -> None:
    """The states of half the chunks are taken back by hand, which no command does."""
    name = "half_state"
    lab.publish(written(tmp_path / "first", name, PARTS[0], ALL))
    life = Life(lab, name, tmp_path)
    life.load(PARTS[1])
    life.publish()
    queries = [sql for sql in life.answers if "WHERE" in sql or "JOIN" in sql or "SUM" in sql]
    chunks = [int(row[0] or 0) for row in lab.home(
        f"SELECT chunk_id FROM skyshard_meta.chunk_states JOIN skyshard_meta.`databases` USING (db_id) "
        f"WHERE name = '{name}' ORDER BY chunk_id"
    )]  # fmt: skip
    lab.home(
        f"DELETE FROM skyshard_meta.chunk_states WHERE chunk_id IN ({', '.join(map(str, chunks[::2]))}) AND db_id = "
        f"(SELECT db_id FROM skyshard_meta.`databases` WHERE name = '{name}')"
    )
    lab.home("UPDATE skyshard_meta.cluster SET value = value + 1 WHERE name = 'catalogue_version'")
    watch = Watch(proxies[0], name, queries)
    watch.start()
    deadline = time.monotonic() + 30
    while not wrong(life.states, watch.sightings):
        assert watch.failed is None
        assert time.monotonic() < deadline
    watch.stop()
    assert len({one.sql for one in wrong(life.states, watch.sightings)}) >= 2
    lab.drop(name)


def test_what_began_before_a_consolidation_ends_rightly_or_with_an_error(
    lab: Lab, tmp_path: Path, proxies: tuple[Address, Address]
) -> None:
    """A chunk's first tables get all rows then: who still reads them as they were must not answer with both."""
    name = "consolidated_below"
    lab.publish(written(tmp_path / "first", name, PARTS[0], ALL))
    before = Slow(proxies[0], name)
    lab.publish(written(tmp_path / "more", name, PARTS[1], ALL[:4]), "--append")
    after = Slow(proxies[1], name)
    quick = signature(*PARTS[:2])
    watch = Watch(proxies[1], name, list(quick), grace_s=0)
    watch.start()
    assert lab.command("ingest", "--consolidate", name, "--grace", "5").exit_code == 0
    watch.stop()
    assert watch.failed is None
    assert len(watch.sightings) > len(quick)
    assert all(one.answer == quick[one.sql] for one in watch.sightings)
    for slow in (before, after):
        with pytest.raises(ServerError) as changed:
            slow.rows()
        assert changed.value.errno in (CHANGED, LOST)
    lab.drop(name)
    assert lab.traces(name) == []
