"""The short way of a look-up by key whose shape is known: one frame to one agent, one write to the client.

What is not as expected (two chunks, another type, a lost worker, an error) is left to the ordinary way,
which begins anew: nothing has been sent by then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from backend.agent_link import AgentLink, LinkLost
from backend.connection import ConnectionLost, RawConnection, Small
from backend.pool import Pool
from proxy.execute.dispatcher import Dispatcher
from proxy.execute.work import scrubbed
from proxy.home.director_index import KnownKeys, chunks_of, lookup, question
from proxy.home.metadata import Catalogue, CatalogueSnapshot
from proxy.registry import RunningQuery
from proxy.shapes import LookUp, LookUpShape, allow, allowed
from shard.errors import SkyError
from shard.planner.plan import Strategy
from shard.wire import frames, rows
from shard.wire.packets import PacketError, same_encoding

if TYPE_CHECKING:
    from proxy.session.session import Session

AFTER_S = 0.1
"""Seconds after which a flight is handed over: more than look-ups take beside a hundred others."""
_MOST_BYTES = 1 << 20
"""A longer answer takes the ordinary way, which streams."""


@dataclass(frozen=True, slots=True)
class Place:
    """The catalogue a look-up is answered from, the state of its database, and its chunks if they are known."""

    contents: CatalogueSnapshot
    state: tuple[int, int]
    chunks: tuple[int, ...] | None


class Quick:
    """Answers statements of known shapes."""

    def __init__(self, pool: Pool, catalogue: Catalogue, dispatcher: Dispatcher) -> None:
        self._pool, self._catalogue, self._dispatcher = pool, catalogue, dispatcher
        self._keys = KnownKeys()

    def begin(self, look_up: LookUp, query: RunningQuery, landed: Callable[[Flight], bool]) -> Flight | None:
        """Begin a look-up; None if that needs a task: privileges must be checked, or a connection opened."""
        leave = allowed(look_up.memory, look_up.shape)
        place = None if leave is None else self._place(look_up.shape, look_up.key)
        if leave is None or place is None:
            return None
        asking = self._pool.lend() if place.chunks is None else None
        if place.chunks is None and asking is None:
            return None
        query.strategy, query.chunks_total = Strategy.ROUTED.value, 1
        flight = Flight(self, place, look_up, leave.home_columns, query, landed)
        if asking is not None:
            return flight if flight.ask(asking) else None
        return flight if self.send(flight, place.chunks or ()) else None

    def _place(self, shape: LookUpShape, key: bytes) -> Place | None:
        """Return where a key is to be looked for; None if the shape is of another version of the database."""
        contents = self._catalogue.contents
        database = contents.databases.get(shape.database)
        if database is None or database.version != shape.version:
            return None
        state = database.version, database.revision
        return Place(contents, state, self._keys.get(shape.database, state, shape.director, key))

    def send(self, flight: Flight, chunks: Sequence[int]) -> bool:
        """Send a flight to the agent of its chunk; return False if there is not just one chunk, or no connection is idle."""
        contents, name = flight.place.contents, flight.shape.database
        there = _existing(contents, name, chunks)
        holder = self._holder(contents, name, there[0]) if len(there) == 1 else None
        link = None if holder is None else self._dispatcher.agents.idle(holder)
        if holder is None or link is None:
            flight.stop()
            return False
        job = _job(flight.look_up, flight.query, contents, there[0])
        link.post(b"".join(frames.encode(job)))
        flight.fly(there[0], holder, link)
        return True

    def asked(self, flight: Flight, connection: RawConnection, found: Small) -> bool:
        """Take the answer of the director index; return whether the flight is on its way to an agent."""
        self._pool.take_back(connection)
        flight.looked_up = tuple(chunks_of(rows.split(found.block.data)))
        return self.send(flight, flight.looked_up)

    def landed(self, flight: Flight, header: frames.Header, body: bytes | bytearray) -> bool:
        """Take the answer of a look-up; return False if it is not what was expected, or the catalogue has changed."""
        shape, answer = flight.shape, flight.answer
        if not answer.take(header, body, shape, flight.chunk):
            return False
        if answer.warnings or not self._catalogue.holds({shape.database: shape.version}):
            return False
        flight.query.chunks_done = 1
        if flight.looked_up is not None:
            state, key = flight.place.state, flight.look_up.key
            self._keys.keep(shape.database, state, shape.director, key, flight.looked_up)
        return True

    def give_back(self, flight: Flight) -> None:
        """Keep a flight's connection for the next."""
        if flight.link is not None:
            self._dispatcher.agents.put(flight.holder, flight.link)

    def _holder(self, contents: CatalogueSnapshot, database: str, chunk: int) -> int | None:
        """Return a worker that has a good copy and answers; None if there is none: the ordinary way waits for one."""
        holders = contents.replicas[database][chunk]
        workers, suspects = self._catalogue.workers, self._dispatcher.health.suspects()
        bad = self._dispatcher.copies.bad(database, contents.version, {chunk: holders})
        good = (one for one in holders if one in workers and one not in suspects and (chunk, one) not in bad)
        return next(good, None)

    async def answer(
        self,
        session: Session,
        query: RunningQuery,
        look_up: LookUp,
        status: int,
        flight: Flight | None = None,
    ) -> int | None:
        """Write the whole answer; return the bytes that the worker sent, or None if nothing was written.

        A flight that has not landed by itself is waited for.
        """
        if flight is not None and flight.link is not None:
            return await self._finish(session, flight, flight.link, status)
        shape, key = look_up.shape, look_up.key
        await self._allow(session, look_up)
        place = self._place(shape, key)
        if place is None:
            return None
        contents, chunks = place.contents, place.chunks
        looked_up = chunks is None
        if chunks is None:
            more = contents.indexes.get((shape.database, shape.director), ())
            found = await lookup(self._pool, shape.database, shape.director, (key.decode(),), more)
            chunks = tuple(found)
        query.strategy = Strategy.ROUTED.value
        there = _existing(contents, shape.database, chunks)
        if len(there) > 1 or (not there and not shape.answers_empty):
            return None
        answer = _Answer()
        if there:
            query.chunks_total = 1
            chunk = there[0]
            holder = self._holder(contents, shape.database, chunk)
            if holder is None or not await self._ask(answer, look_up, query, contents, chunk, holder):
                return None
            query.chunks_done = 1
        size = await self._give(session, query, shape, answer, status)
        if size is not None and looked_up:
            self._keys.keep(shape.database, place.state, shape.director, key, chunks)
        return size

    async def _allow(self, session: Session, look_up: LookUp) -> None:
        """Let the home server check names and privileges, unless it has done so a moment ago."""
        memory, shape = look_up.memory, look_up.shape
        leave = allowed(memory, shape)
        if leave is None:
            asked = time.monotonic()
            home_columns = await session.home.check(look_up.key.join(shape.prepared))
            leave = allow(memory, shape, asked, home_columns)
        session.client.home_columns = leave.home_columns

    async def _finish(self, session: Session, flight: Flight, link: AgentLink, status: int) -> int | None:
        answer = _Answer()
        shape, query = flight.shape, flight.query
        if not await self._read(answer, shape, flight.chunk, flight.holder, link):
            return None
        query.chunks_done = 1
        session.client.home_columns = flight.home_columns
        return await self._give(session, query, shape, answer, status)

    async def _give(
        self, session: Session, query: RunningQuery, shape: LookUpShape, answer: _Answer, status: int
    ) -> int | None:
        """Write an answer, and return its bytes; None, and nothing written, if the database is another by now."""
        if not self._catalogue.holds({shape.database: shape.version}):
            return None
        data = limited(query, shape, answer)
        await session.client.whole(shape.columns, data, query.warnings, status)
        return len(answer.rows)

    async def _ask(
        self,
        answer: _Answer,
        look_up: LookUp,
        query: RunningQuery,
        contents: CatalogueSnapshot,
        chunk: int,
        holder: int,
    ) -> bool:
        """Run the fragment on one worker; return whether its answer is complete."""
        try:
            link = await self._dispatcher.agents.get(holder)
        except SkyError:
            self._dispatcher.health.doubt(holder)
            return False
        job = _job(look_up, query, contents, chunk)
        return await self._read(answer, look_up.shape, chunk, holder, link, job)

    async def _read(
        self,
        answer: _Answer,
        shape: LookUpShape,
        chunk: int,
        holder: int,
        link: AgentLink,
        job: frames.Job | None = None,
    ) -> bool:
        """Read the answer to a job, which is sent before unless it is None; return whether it is complete."""
        agents, health = self._dispatcher.agents, self._dispatcher.health

        def suspected(worker: int) -> None:
            if worker == holder:
                link.abort()

        health.watch(suspected)
        try:
            if job is not None:
                await link.send(job)
            complete = await answer.read(link, shape, chunk, agents.silence_s)
        except LinkLost:
            health.doubt(holder)
            complete = False
        except BaseException:
            link.abort()
            raise
        finally:
            health.unwatch(suspected)
        if complete:
            agents.put(holder, link)
        else:
            link.abort()
        return complete


class Flight:
    """A look-up on its way without a task: sent when its statement came, answered when its rows come.

    What is not as expected, and what takes longer than `AFTER_S`, is handed over to the session's task.

    Parameters
    ----------
    landed : callable
        Called when the answer is there; returns whether the client has it, else the session's task is to go on.

    Attributes
    ----------
    home_columns : tuple of bytes
        Its columns as the home server defines them for the client.
    link : AgentLink or None
        Where it runs; None while the director index is asked for its chunk.
    looked_up : tuple of int or None
        What the index said.
    """

    def __init__(
        self,
        quick: Quick,
        place: Place,
        look_up: LookUp,
        home_columns: tuple[bytes, ...],
        query: RunningQuery,
        landed: Callable[[Flight], bool],
    ) -> None:
        self.look_up, self.shape, self.query = look_up, look_up.shape, query
        self.place, self.home_columns = place, home_columns
        self.link: AgentLink | None = None
        self.looked_up: tuple[int, ...] | None = None
        self.chunk = self.holder = -1
        self.answer = _Answer()
        self.adopt: Callable[[], None] = lambda: None
        self._asking: RawConnection | None = None
        self._quick, self._landed = quick, landed
        self._timer = asyncio.get_running_loop().call_later(AFTER_S, self.hand_over)

    def ask(self, connection: RawConnection) -> bool:
        """Ask the director index for the chunk; return False if the connection is lost."""
        shape = self.shape
        try:
            more = self.place.contents.indexes.get((shape.database, shape.director), ())
            asked = question(shape.database, shape.director, (self.look_up.key.decode(),), more)
            connection.begin(asked.encode())
        except ConnectionLost:
            connection.abort()
            self.stop()
            return False
        self._asking, connection.wire.first = connection, self._indexed
        return True

    def _indexed(self, data: bytes) -> bool:
        connection = self._asking
        if connection is None:
            return False
        try:
            found = connection.ended_by(data)
        except (ConnectionLost, PacketError):
            found = None
        if found is None:  # the task asks again
            self.hand_over()
            return True
        self._asking = connection.wire.first = None
        if not self._quick.asked(self, connection, found):
            self.hand_over()
        return True

    def fly(self, chunk: int, holder: int, link: AgentLink) -> None:
        """Wait for the answer of an agent."""
        self.chunk, self.holder, self.link = chunk, holder, link
        link.wire.first = self._replied

    def _replied(self, data: bytes) -> bool:
        link = self.link
        if link is None:
            return False
        try:
            found = link.arrived(data)
        except LinkLost:  # the task finds the same
            self.hand_over()
            return True
        if found is None:
            return True
        if self.query.reason is not None or not self._quick.landed(self, *found) or not self._landed(self):
            link.unread(found)
            self.hand_over()
            return True
        self.stop()
        self._quick.give_back(self)
        return True

    def stop(self) -> None:
        """Wait for nothing any more; what runs at an agent goes on."""
        self._timer.cancel()
        if self._asking is not None:
            self._asking.wire.first = None
            self._asking.abort()
            self._asking = None
        if self.link is not None:
            self.link.wire.first = None

    def hand_over(self) -> None:
        """Let the session's task go on; if it has no agent yet, from the beginning."""
        self.stop()
        self.adopt()

    def abandon(self) -> None:
        """End what runs: nobody wants the answer."""
        self.stop()
        if self.link is not None:
            self.link.abort()


def _existing(contents: CatalogueSnapshot, database: str, chunks: Sequence[int]) -> list[int]:
    """Return those of some chunks that have rows: the director index may still have others."""
    replicas = contents.replicas.get(database, {})
    return [chunk for chunk in chunks if chunk in replicas]


def _job(look_up: LookUp, query: RunningQuery, contents: CatalogueSnapshot, chunk: int) -> frames.Job:
    shape, key = look_up.shape, look_up.key
    state = contents.states.get(shape.database, {}).get(chunk, 0)
    segments = tuple([key.join(pieces) for pieces in shape.main])
    main = frames.Template(segments, shape.job.main.parameters)
    return msgspec.structs.replace(
        shape.job,
        query_id=query.query_id,
        user=query.user,
        main=main,
        parameters=look_up.parameters,
        chunks=[chunk],
        states={chunk: state} if state else {},
    )


class _Answer:
    """A worker's whole answer to a look-up, and whether it is what was expected."""

    def __init__(self) -> None:
        self.rows: bytes | bytearray = b""
        self.count = self.warnings = 0
        self.notes: tuple[frames.Note, ...] = ()

    async def read(self, link: AgentLink, shape: LookUpShape, chunk: int, silence_s: float) -> bool:
        """Read a job's answer; return whether it is whole, with the types that the statement has at home."""
        return self.take(*await link.receive(silence_s), shape, chunk)

    def take(self, header: frames.Header, body: bytes | bytearray, shape: LookUpShape, chunk: int) -> bool:
        """Take a frame; return whether it is the whole answer, with the types that the statement has at home."""
        if not isinstance(header, frames.Whole) or header.chunk != chunk or len(body) > _MOST_BYTES:
            return False
        if shape.offset and not header.rows:
            return False  # how many have been passed over is not known
        self.rows, self.count = body, header.rows
        self.warnings, self.notes = header.warnings, header.notes
        return _fits(header.columns, shape.kinds, shape.job.binary)


def _fits(columns: tuple[frames.ColumnType, ...], kinds: tuple[int, ...], binary: bool) -> bool:
    return len(columns) == len(kinds) and all(
        column.type == kind or same_encoding(kind, column.type, binary)
        for column, kind in zip(columns, kinds, strict=True)
    )


def limited(query: RunningQuery, shape: LookUpShape, answer: _Answer) -> bytes | bytearray:
    """Return the rows that the client gets, and note in the query how many, and their warnings."""
    data, count = answer.rows, answer.count
    if shape.limit is not None and count > shape.limit:
        data, count = data[: rows.take(data, shape.limit)], shape.limit
    query.rows, query.passed_over = count, shape.offset if count else 0
    tables = shape.chunk_tables
    query.notes += [frames.Note(n.level, n.code, scrubbed(n.message, tables)) for n in answer.notes]
    query.warnings = min(65535, answer.warnings)
    return data
