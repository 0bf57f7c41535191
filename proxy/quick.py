"""The short way of a look-up by key whose shape is known: one frame to one agent, one write to the client.

What is not as expected (two chunks, another type, a lost worker, an error) is left to the ordinary way,
which begins anew: nothing has been sent by then.
"""

from __future__ import annotations

import time

import msgspec

from backend.agent_link import AgentLink, LinkLost
from backend.pool import Pool
from proxy.execute.dispatcher import Dispatcher, scrubbed
from proxy.home.director_index import KnownKeys, lookup
from proxy.home.metadata import Catalogue
from proxy.registry import RunningQuery
from proxy.session.session import Session
from proxy.shapes import Known, Memory, allow, allowed
from shard.errors import SkyError
from shard.planner.plan import Strategy
from shard.wire import frames, rows
from shard.wire.packets import same_encoding

_MOST_BYTES = 1 << 20
"""A longer answer takes the ordinary way, which streams."""


class Quick:
    """Answers statements of known shapes."""

    def __init__(self, pool: Pool, catalogue: Catalogue, dispatcher: Dispatcher) -> None:
        self._pool, self._catalogue, self._dispatcher = pool, catalogue, dispatcher
        self._keys = KnownKeys()

    async def answer(
        self, session: Session, query: RunningQuery, memory: Memory, known: Known, key: bytes, status: int
    ) -> int | None:
        """Write the whole answer; return the bytes that the worker sent, or None if nothing was written."""
        if not allowed(memory, known):
            asked = time.monotonic()
            await session.home.check(key.join(known.prepared))
            allow(memory, known, asked)
        contents = self._catalogue.contents
        database = contents.databases.get(known.database)
        if database is None or database.version != known.version:
            return None
        state = database.version, database.revision
        chunks = self._keys.get(known.database, state, known.director, key)
        looked_up = chunks is None
        if chunks is None:
            more = contents.indexes.get((known.database, known.director), ())
            found = await lookup(self._pool, known.database, known.director, (key.decode(),), more)
            chunks = tuple(found)
        query.strategy = Strategy.ROUTED.value
        replicas = contents.replicas.get(known.database, {})
        there = [chunk for chunk in chunks if chunk in replicas]
        if len(there) > 1 or (not there and not known.answers_empty):
            return None
        answer = _Answer()
        if there:
            query.chunks_total = 1
            chunk = there[0]
            changed = contents.states.get(known.database, {}).get(chunk, 0)
            if not await self._ask(answer, known, key, query, chunk, changed, replicas[chunk]):
                return None
            query.chunks_done = 1
        if not self._catalogue.holds({known.database: known.version}):
            return None
        if looked_up:
            self._keys.keep(known.database, state, known.director, key, chunks)
        await _write(session, query, known, answer, status)
        return len(answer.rows)

    async def _ask(
        self,
        answer: _Answer,
        known: Known,
        key: bytes,
        query: RunningQuery,
        chunk: int,
        state: int,
        holders: tuple[int, ...],
    ) -> bool:
        """Run the fragment on one worker, if possible on one that answers; return whether its answer is complete."""
        workers = self._catalogue.workers
        suspects = self._dispatcher.health.suspects()
        there = [holder for holder in holders if holder in workers]
        holder = next((one for one in there if one not in suspects), there[0] if there else None)
        if holder is None:
            return False
        segments = tuple(key.join(pieces) for pieces in known.main)
        job = msgspec.structs.replace(
            known.job,
            query_id=query.query_id,
            main=frames.Template(segments),
            chunks=[chunk],
            states={chunk: state} if state else {},
        )
        agents = self._dispatcher.agents
        health = self._dispatcher.health
        try:
            link = await agents.get(holder)
        except SkyError:
            health.doubt(holder)
            return False

        def suspected(worker: int) -> None:
            if worker == holder:
                link.abort()

        health.watch(suspected)
        try:
            await link.send(job)
            complete = await answer.read(link, known, chunk, agents.silence_s)
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


class _Answer:
    """What a worker says, as far as it is what was expected."""

    def __init__(self) -> None:
        self.rows = b""
        self.count = self.warnings = 0
        self.notes: tuple[frames.Note, ...] = ()

    async def read(self, link: AgentLink, known: Known, chunk: int, silence_s: float) -> bool:
        """Read a job's answer; return whether it is whole, with the types that the statement has at home."""
        header, body = await link.receive(silence_s)
        if not isinstance(header, frames.Whole) or header.chunk != chunk or len(body) > _MOST_BYTES:
            return False
        self.rows, self.count = body, header.rows
        self.warnings, self.notes = header.warnings, header.notes
        return _fits(header.columns, known.kinds)


def _fits(columns: tuple[frames.ColumnType, ...], kinds: tuple[int, ...]) -> bool:
    return len(columns) == len(kinds) and all(
        column.type == kind or same_encoding(kind, column.type, False)
        for column, kind in zip(columns, kinds, strict=True)
    )


async def _write(session: Session, query: RunningQuery, known: Known, answer: _Answer, status: int) -> None:
    data, count = answer.rows, answer.count
    if known.limit is not None and count > known.limit:
        data, count = data[: rows.take(data, known.limit)], known.limit
    query.rows = count
    tables = known.chunk_tables
    query.notes += [frames.Note(n.level, n.code, scrubbed(n.message, tables)) for n in answer.notes]
    query.warnings = min(65535, answer.warnings)
    await session.client.whole(known.columns, data, query.warnings, status)
