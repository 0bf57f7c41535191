"""Runs the plan of a distributed statement and writes its answer to the client.

One method a strategy. All of them get the same things: what the client asked for (`Request`) and how
its session is set; all of them end with the columns of the statement as the home server defines them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from backend.conditions import conditions
from backend.connection import RawConnection
from backend.pool import Pool
from backend.row_blocks import Cutter
from proxy.chunks import Placement
from proxy.execute.dispatcher import RowStream
from proxy.execute.sorted_stream import SortedStream
from proxy.execute.work import Work
from proxy.fill import MANY_BYTES, RESULT, WITHOUT_LATERAL, Filler
from proxy.home.definitions import ShadowPool, under_their_names
from proxy.home.desk import SessionDesk
from proxy.home.replicated import MOST_AT_HOME, ReplicatedAtHome
from proxy.merge import merge as merging
from proxy.request import Request
from proxy.session.rows import text_row
from shard.errors import INTERNAL, SPOOL_FULL, SkyError
from shard.planner import digits, planner
from shard.planner.envelope import Envelope
from shard.planner.headers import aliases
from shard.planner.plan import Fragment, Gather, Merge, Ordered, Sql, Strategy
from shard.wire import rows
from shard.wire.frames import Note
from shard.wire.packets import ColumnDefinition, PacketError, same_encoding
from shard.wire.protocol import INTEGER_TYPES, NOT_FIXED, ColumnFlag, FieldType
from shard.wire.recode import Recoder
from shard.wire.replies import ColumnsEvent, EndEvent, RowsEvent

log = logging.getLogger("skyshard.query")
_JOINS_AT_HOME = (
    "SET SESSION join_cache_level=8, join_buffer_size=33554432, "
    f"optimizer_switch='join_cache_hashed=on,{WITHOUT_LATERAL}'"
)
_JOINS_BEFORE = (
    f"SET SESSION join_cache_level=DEFAULT, join_buffer_size=DEFAULT, optimizer_switch='{WITHOUT_LATERAL}'"
)

_FOUND = b"SELECT FOUND_ROWS()"


class Sink:
    """Rows on their way to the client, counted; of a query with SQL_CALC_FOUND_ROWS only some are sent."""

    def __init__(self, request: Request) -> None:
        self._out, self._query, self._status = request.session.out, request.query, request.status
        self._plan, self._window = request.plan, request.plan.window
        self._notes = (*request.plan.notes, *request.query.remarks)
        self._seen = 0
        self._within = False

    async def rows(self, data: bytes | bytearray, count: int, more: bool = False) -> None:
        """Send row packets; `count` rows end in them, and `more` says that they are a piece of a row that goes on."""
        if not data:  # what was made of a piece fills no packet yet
            return
        if self._window is None:
            self._query.rows += count
            await self._out.rows(data, more)
            return
        skip, most = self._window
        first, self._seen = self._seen, self._seen + count
        last = self._seen + (1 if more else 0)
        stop = last if most is None else skip + most
        piece = self._within or more
        self._within = more
        if piece:  # of a long row, which comes alone
            if skip <= first < stop:
                await self._out.rows(data, more)
        elif first < stop and last > skip:
            start = rows.take(data, skip - first) if first < skip else 0
            end = rows.take(data, stop - first) if last > stop else len(data)
            await self._out.rows(data[start:end])
        self._query.rows = self._seen

    def passed_over(self, found: bytes | None) -> int:
        """Return how many rows were not sent of those that FOUND_ROWS() counts at home; 0 if it was not asked."""
        return 0 if found is None else int(found) - self._query.rows

    @property
    def asks(self) -> bool:
        """Whether only the server that has run the statement knows what FOUND_ROWS() is."""
        return self._plan.counts_all or (self._plan.offset > 0 and not self._query.rows)

    async def end(self, warnings: int, passed_over: int = 0) -> None:
        """End the result set; the plan's remarks are added to the warnings as notes.

        `passed_over` is how many rows it had that were not sent, where OFFSET does not say so.
        """
        self._query.passed_over = max(passed_over, self._plan.offset if self._query.rows else 0)
        self._query.notes[:0] = [Note("Note", 1105, text) for text in self._notes]
        self._query.warnings = min(65535, warnings + len(self._notes))
        await self._out.end(self._query.warnings, self._status)


class Answerer:
    """Answers distributed statements."""

    def __init__(self, filler: Filler, service: Pool) -> None:
        self._filler = filler
        self._shadows = ShadowPool(service)
        self._replicated = ReplicatedAtHome(service.sibling(MOST_AT_HOME))

    async def close(self) -> None:
        """Close the service connections."""
        await self._shadows.close()
        await self._replicated.close()

    async def answer(self, request: Request) -> int:
        """Write the whole answer; return the bytes that workers sent."""
        plan = request.plan
        request.query.strategy = plan.strategy.value
        if request.change is not None:
            return await self._change(request)
        columns = await self._filler.columns(request, plan.native)
        if plan.strategy is Strategy.COUNTER and request.envelope is None:
            return await self._counter(request, columns)
        if request.envelope is not None:
            return await self._store(request, request.envelope, columns)
        if plan.gather is not None and request.settings.same_results:
            encoding = request.settings.encoding
            columns = under_their_names(columns, aliases(plan.gather.draft), encoding)
        if request.cursor is not None:
            request.cursor.shown = await self._filler.columns(request, plan.native, cursor=True)
        if plan.never:
            return await self._nothing(request, columns)
        if plan.gather is not None:
            gathered = self._own if plan.gather.own else self._gather
            return await gathered(request, plan.gather, columns)
        placement = await self._filler.placement(request, plan)
        request.query.chunks_total = len(placement.chunks)
        if plan.merge is None:
            return await self._scatter(request, columns, placement)
        whole = planner.whole(plan) if len(placement.chunks) == 1 else None
        if whole is not None:
            size = await self._one_chunk(request, columns, placement, whole)
            if size is not None:
                return size
        request.query.chunks_done = 0  # of what has not come to an answer
        if plan.ordered is not None:
            size = await self._streams(request, columns, placement, plan.ordered)
            if size is not None:
                return size
            request.query.chunks_done, request.query.strategy = 0, Strategy.SCATTER_MERGE.value
        return await self._merge(request, plan.merge, columns, placement)

    # strategies ----------------------------------------------------------------------------------

    async def _counter(self, request: Request, columns: tuple[bytes, ...]) -> int:
        """Answer COUNT(*) of a whole table from the catalogue."""
        database, table = request.plan.tables[0]
        count = request.contents.table_rows(database, table.name)
        out = request.session.out
        await out.columns(columns, request.status)
        if request.binary:
            await out.packet(b"\0\0" + count.to_bytes(8, "little"))
        else:
            await out.packet(text_row([str(count).encode()]))
        request.query.rows = 1
        await out.end(0, request.status)
        return 0

    @staticmethod
    async def _nothing(request: Request, columns: tuple[bytes, ...]) -> int:
        """Answer a query that has no rows, whatever the chunks hold."""
        await request.session.out.columns(columns, request.status)
        await Sink(request).end(0)
        return 0

    async def _scatter(self, request: Request, columns: tuple[bytes, ...], placement: Placement) -> int:
        """Forward rows as chunks commit."""
        work = self._filler.forwarded_work(request, placement, _kinds(columns))
        size = await self._forward(request, columns, work, skip=request.plan.skip)
        if size is None:
            log.error("query %s: column types at home are not those of a worker", request.query.query_id)
            raise SkyError(INTERNAL, query_id=request.query.query_id)
        return size

    async def _forward(
        self,
        request: Request,
        columns: tuple[bytes, ...],
        work: Work,
        kind: type[RowStream] = RowStream,
        skip: int = 0,
    ) -> int | None:
        """Forward a stream's rows but for the first `skip`.

        None, and nothing sent, if their types differ, or there are none and workers have passed over some.
        """
        out, query, sink, left = request.session.out, request.query, Sink(request), skip
        async with self._filler.dispatcher.run(work, kind) as stream:
            async for block in stream:
                if not out.started:
                    if not _fits(columns, stream, request.binary):
                        log.info("query %s: a worker's column types are %s", query.query_id, stream.columns)
                        return None
                    await out.columns(columns, request.status)
                data, count = block.data, block.rows
                if left:
                    dropped = min(left, count)
                    data, count = b"" if block.more else data[rows.take(data, dropped) :], count - dropped
                    left -= dropped
                if data:
                    await sink.rows(data, count, block.more)
        await self._filler.unchanged(request)
        await self._replicated.check(request)
        if not out.started:
            if request.plan.offset > skip:
                return None
            await out.columns(columns, request.status)
        query.notes += stream.notes
        await sink.end(stream.warnings, skip - left)
        return stream.bytes

    async def _streams(
        self,
        request: Request,
        columns: tuple[bytes, ...],
        placement: Placement,
        ordered: Ordered,
    ) -> int | None:
        """Answer by sorted streams; None, and nothing sent, if that cannot be or a worker has no room for them."""
        work = self._filler.sorted_work(request, placement, _kinds(columns), ordered)
        try:
            return await self._forward(request, columns, work, SortedStream, ordered.skip)
        except SkyError as error:
            if error.code is not SPOOL_FULL or request.session.out.started:
                raise
            request.query.remarks.append(f"sorted at home: {error.message}")
            return None

    async def _one_chunk(
        self,
        request: Request,
        columns: tuple[bytes, ...],
        placement: Placement,
        whole: Fragment,
    ) -> int | None:
        """Forward the answer of the one chunk that has all rows; None, and nothing sent, if its types differ."""
        work = self._filler.forwarded_work(request, placement, _kinds(columns), whole)
        return await self._forward(request, columns, work)

    async def _merge(
        self, request: Request, merge: Merge, columns: tuple[bytes, ...], placement: Placement
    ) -> int:
        """Load partials into the merge table at home and send what its statement reads."""
        plan = request.plan
        types = await self._filler.types(request, plan, merge)
        async with self._lease(request) as desk:
            moved, warnings = await self._filler.partials(desk, request, plan, merge, types, placement)
            await self._filler.unchanged(request)
            decimals = [NOT_FIXED] * len(columns) if request.binary else _decimals(columns)
            statement = planner.merged(plan, decimals, _integers(columns))
            if moved >= MANY_BYTES:
                statement = planner.sorting(statement)
            await self._send(desk.connection, request, statement, columns, warnings)
            desk.connection.defer(f"DROP TEMPORARY TABLE {merging.MERGE_NAME}")
        return moved

    async def _gather(self, request: Request, gather: Gather, columns: tuple[bytes, ...]) -> int:
        """Fill temporary tables at home and run the statement over them."""
        async with self._lease(request) as desk:
            precise = _precise(request, gather, columns)
            moved, warnings = await self._filler.parts(desk, request, gather, precise is not None)
            await self._filler.unchanged(request)
            statement = precise or gather.statement
            # A hash join loses NULL <=> NULL.
            desk.connection.defer(_JOINS_BEFORE if "<=>" in statement.text else _JOINS_AT_HOME)
            await self._send(desk.connection, request, statement, columns, warnings)
            desk.connection.defer(_JOINS_BEFORE)
            for part in gather.parts:
                drop = f"DROP TEMPORARY TABLE IF EXISTS {part.target}"
                desk.connection.defer(drop.encode(*request.settings.encoding))
                if part.schema is None:
                    for shadow in request.shadows_at_home():
                        self._shadows.forget(desk.connection, shadow.database, shadow.table.name)
        return moved

    async def _own(self, request: Request, gather: Gather, columns: tuple[bytes, ...]) -> int:
        """Fill temporary tables of the session and run the statement over them and its own tables."""
        desk = self._filler.desk(request)
        request.session.leftovers = tuple(part.target for part in gather.parts)
        precise = _precise(request, gather, columns)
        moved, warnings = await self._filler.parts(desk, request, gather, precise is not None)
        await self._filler.unchanged(request)
        await self._relay(desk, request, precise or gather.statement, columns, warnings)
        return moved

    async def _store(self, request: Request, envelope: Envelope, columns: tuple[bytes, ...]) -> int:
        """Put the rows into a temporary table of the session and let the statement around them read it."""
        session, plan = request.session, request.plan
        desk = self._filler.desk(request)
        names = tuple(ColumnDefinition.decode(item).name.decode() for item in columns)
        parts = () if plan.gather is None else tuple(part.target for part in plan.gather.parts)
        session.leftovers = (RESULT, merging.MERGE_NAME, *parts)
        moved = await self._filler.result(desk, request, names)
        await self._filler.unchanged(request)
        await self._replicated.check(request)
        text = envelope.over(RESULT).encode(*request.settings.encoding)
        request.query.at_home = session.settings_dirty = True
        await session.home.run(text, session.client, request.around if request.binary else None)
        return moved

    async def _change(self, request: Request) -> int:
        """Fill temporary tables of the session and let the change run over them and its own tables."""
        session, gather = request.session, request.plan.gather
        if gather is None:
            raise TypeError("a change gathers what it reads")
        session.leftovers = tuple(part.target for part in gather.parts)
        moved, _ = await self._filler.parts(self._filler.desk(request), request, gather)
        await self._filler.unchanged(request)
        text = gather.statement.text.encode(*request.settings.encoding)
        async with self._replicated.kept(request):
            request.query.at_home = session.settings_dirty = True
            await session.home.run(
                text, session.client, request.picked(gather.statement) if request.binary else None
            )
        return moved

    async def _relay(
        self, desk: SessionDesk, request: Request, statement: Sql, columns: tuple[bytes, ...], warnings: int
    ) -> None:
        """Run a statement on the session's own connection and send its rows."""
        query, out, sink = request.query, request.session.out, Sink(request)
        text = statement.text.encode(*request.settings.encoding)
        recoder: Recoder | None = None
        cutter = Cutter(pieces=True)  # no error may be sent within a long row
        request.session.settings_dirty = True  # by the user's own functions
        asked = desk.home.stream(text, request.picked(statement) if request.binary else None)
        async with aclosing(asked) as stream:  # whatever happens, the reply is read to its end here
            async for event in stream:
                if isinstance(event, ColumnsEvent):
                    recoder = _recoder(columns, event.definitions, request.binary, query.query_id)
                    await out.columns(columns, request.status)
                elif isinstance(event, RowsEvent):
                    for block in cutter.feed(event):
                        data = block.data if recoder is None else recoder.rows(block.data)
                        await sink.rows(data, block.rows, block.more)
                elif isinstance(event, EndEvent):
                    warnings += event.ok.warnings
        found = (await desk.home.table(_FOUND)).rows[0][0] if sink.asks else None
        await self._replicated.check(request)
        await sink.end(warnings, sink.passed_over(found))

    @asynccontextmanager
    async def _lease(self, request: Request) -> AsyncIterator[merging.ServiceDesk]:
        """Lend a service connection with the session's settings and variables, and shadows of the sharded tables."""
        settings, values = request.settings, request.home_values()
        async with self._shadows.lease(
            request.shadows_at_home(), values, settings.database, request.variables
        ) as connection:
            yield merging.ServiceDesk(connection, settings.encoding, request.parameters, values)

    async def _send(
        self,
        connection: RawConnection,
        request: Request,
        statement: Sql,
        columns: tuple[bytes, ...],
        warnings: int,
    ) -> None:
        """Run a statement at home and send its rows."""
        text = statement.text.encode(*request.settings.encoding)
        query, out, sink = request.query, request.session.out, Sink(request)
        if request.binary:
            result = await connection.execute(text, request.picked(statement))
        else:
            result = await connection.query(text)
        recoder = _recoder(columns, result.columns, request.binary, query.query_id)
        await out.columns(columns, request.status)
        async for block in result.blocks(pieces=True):
            data = block.data if recoder is None else recoder.rows(block.data)
            await sink.rows(data, block.rows, block.more)
        found = (await connection.fetch(_FOUND))[0][0] if sink.asks else None
        if result.end is not None and result.end.warnings:
            warnings += result.end.warnings
            query.notes += await conditions(connection)
        await self._replicated.check(request)
        await sink.end(warnings, sink.passed_over(found))


def _precise(request: Request, gather: Gather, columns: tuple[bytes, ...]) -> Sql | None:
    """Return a gather's statement over values with all digits, None if they must be rounded."""
    return digits.gathered(gather, _decimals(columns), request.binary)


def _decimals(columns: tuple[bytes, ...]) -> list[int]:
    """Return the decimals that DOUBLE columns are written with; 31 where all are, or the type is another."""
    found = map(ColumnDefinition.decode, columns)
    return [column.decimals if column.type == FieldType.DOUBLE else NOT_FIXED for column in found]


def _integers(columns: tuple[bytes, ...]) -> list[str]:
    """Return SIGNED or UNSIGNED for columns of integers, and "" for others."""
    found = map(ColumnDefinition.decode, columns)
    return [
        ("UNSIGNED" if column.flags & ColumnFlag.UNSIGNED else "SIGNED")
        if column.type in INTEGER_TYPES
        else ""
        for column in found
    ]


def _kinds(columns: tuple[bytes, ...]) -> tuple[int, ...]:
    """Return the type bytes of column definitions."""
    return tuple(ColumnDefinition.decode(payload).type for payload in columns)


def _fits(columns: tuple[bytes, ...], stream: RowStream, binary: bool) -> bool:
    """Whether workers send the types that the statement has at home."""
    got = [column.type for column in stream.columns or ()]
    return stream.columns is not None and _compatible(_kinds(columns), got, binary)


def _recoder(
    columns: tuple[bytes, ...], merged: tuple[bytes, ...], binary: bool, query_id: int
) -> Recoder | None:
    """Return what makes binary rows at home fit the statement's columns, if they do not; check the types."""
    wanted = _kinds(columns)
    got = [ColumnDefinition.decode(payload) for payload in merged]
    kinds = [column.type for column in got]
    if not binary and _compatible(wanted, kinds, binary):
        return None
    if binary:
        with contextlib.suppress(PacketError):
            recoder = Recoder(
                [(column.type, bool(column.flags & ColumnFlag.UNSIGNED)) for column in got], wanted
            )
            return recoder if recoder.needed else None
    log.error("query %s: column types %s at home, %s merged", query_id, wanted, kinds)
    raise SkyError(INTERNAL, query_id=query_id)


def _compatible(wanted: Sequence[int], got: Sequence[int], binary: bool) -> bool:
    """Whether rows of types `got` can be sent under definitions of types `wanted`."""
    return len(wanted) == len(got) and all(
        same_encoding(want, have, binary) for want, have in zip(wanted, got, strict=True)
    )


__all__ = ["Answerer"]
