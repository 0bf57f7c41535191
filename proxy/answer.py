"""Runs the plan of a distributed statement and writes its answer to the client.

One method a strategy. All of them get the same things: what the client asked for (`Request`) and how
its session is set; all of them end with the columns of the statement as the home server defines them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from backend.connection import RawConnection, RowBlock
from backend.pool import Pool
from proxy.chunks import find_chunks
from proxy.config import ProxyConfig
from proxy.execute.dispatcher import Dispatcher, RowStream, Work
from proxy.home.definitions import Definitions, Shadow, ShadowPool, set_statement
from proxy.home.metadata import Catalogue
from proxy.home.settings import SessionSettings
from proxy.merge import merge as merging
from proxy.registry import RunningQuery
from proxy.session.session import Session, text_row
from shard.catalog.naming import META_DATABASE, literal, quote
from shard.errors import CATALOGUE_CHANGED, GATHER_LIMIT, INTERNAL, SkyError
from shard.planner import planner
from shard.planner.fragment import template
from shard.planner.plan import Part, PartialType, Plan, Sql, Strategy
from shard.wire import frames, rows
from shard.wire.packets import ColumnDefinition

log = logging.getLogger("skyshard.query")
_TEXT_FAMILY = frozenset({15, 247, 248, 249, 250, 251, 252, 253, 254})
_INTEGERS = frozenset({1, 2, 3, 8, 9})
_LONGLONG = 8
_JOINS_AT_HOME = (
    "SET SESSION join_cache_level=8, join_buffer_size=33554432, optimizer_switch='join_cache_hashed=on'"
)
_JOINS_BEFORE = "SET SESSION join_cache_level=DEFAULT, join_buffer_size=DEFAULT"


@dataclass(frozen=True, slots=True)
class Request:
    """A distributed statement on its way: who asked, how, and what was planned."""

    session: Session
    query: RunningQuery
    plan: Plan
    parameters: tuple[frames.Parameter, ...]
    binary: bool
    status: int
    settings: SessionSettings
    variables: Mapping[str, str]
    shadows: tuple[Shadow, ...]
    now: str

    def sharded(self) -> tuple[Shadow, ...]:
        """Return the shadows of sharded tables."""
        return tuple(shadow for shadow in self.shadows if shadow.table.is_sharded)

    def picked(self, sql: Sql) -> list[frames.Parameter]:
        """Return the parameters of `sql`, in its order."""
        return [self.parameters[index] for index in sql.parameters] if self.parameters else []

    def home_values(self) -> dict[str, str]:
        """Return the session's settings for a statement that runs at home: the same now for all pieces."""
        return {**self.settings.values, "timestamp": self.now}


@dataclass(frozen=True, slots=True)
class _Types:
    """What must be known of a merge before it runs: types of the partials, and its final statement."""

    partial: list[PartialType]
    statement: Sql


class Answerer:
    """Answers distributed statements."""

    def __init__(
        self,
        config: ProxyConfig,
        pool: Pool,
        catalogue: Catalogue,
        dispatcher: Dispatcher,
    ) -> None:
        self._config, self._pool, self._catalogue, self._dispatcher = config, pool, catalogue, dispatcher
        # Column definitions come from empty tables alone; what runs at home reads replicated tables' rows.
        self._empty = ShadowPool(Pool(pool.address, config.service_connections))
        self._shadows = ShadowPool(Pool(pool.address, config.service_connections))
        self._definitions = Definitions(self._empty)

    async def close(self) -> None:
        """Close the service connections."""
        await self._empty.close()
        await self._shadows.close()

    def request(
        self,
        session: Session,
        query: RunningQuery,
        plan: Plan,
        parameters: tuple[frames.Parameter, ...],
        binary: bool,
        status: int,
        settings: SessionSettings,
        variables: Mapping[str, str],
    ) -> Request:
        """Return a request for a plan, over the catalogue as it is now."""
        shadows = tuple(
            Shadow(database, table, self._catalogue.databases[database].version)
            for database, table in plan.tables
        )
        now = f"{time.time():.6f}"
        return Request(session, query, plan, parameters, binary, status, settings, variables, shadows, now)

    async def answer(self, request: Request) -> int:
        """Write the whole answer; return the bytes that workers sent."""
        plan = request.plan
        request.query.strategy = plan.strategy.value
        columns = await self._columns(request, plan.native)
        if plan.strategy is Strategy.COUNTER:
            return await self._counter(request, columns)
        if plan.gather is not None:
            return await self._gather(request, columns)
        placement = {} if plan.never else await find_chunks(self._pool, self._catalogue, plan)
        request.query.chunks_total = len(placement)
        if plan.merge is None:
            return await self._scatter(request, columns, placement)
        return await self._merge(request, columns, placement)

    async def _columns(self, request: Request, sql: Sql) -> tuple[bytes, ...]:
        settings = request.settings
        return await self._definitions.of(
            sql,
            settings.encoding,
            request.shadows,
            settings.values,
            settings.database,
            request.picked(sql),
            request.variables,
        )

    async def _unchanged(self, request: Request) -> None:
        """Fail the query if its database was, or is being, replaced while it ran."""
        for name in {shadow.database for shadow in request.shadows}:
            version = next(shadow.version for shadow in request.shadows if shadow.database == name)
            async with self._pool.lease() as connection:
                found = await connection.fetch(
                    f"SELECT version, state FROM {quote(META_DATABASE)}.`databases` WHERE name = {literal(name)}"
                )
            if not found or found[0] != [str(version).encode(), b"published"]:
                raise SkyError(CATALOGUE_CHANGED, database=name)

    # strategies ----------------------------------------------------------------------------------

    async def _counter(self, request: Request, columns: tuple[bytes, ...]) -> int:
        """Answer COUNT(*) of a whole table from the catalogue."""
        database, table = request.plan.tables[0]
        count = self._catalogue.table_rows(database, table.name)
        out = request.session.out
        await out.columns(columns, request.status)
        if request.binary:
            await out.packet(b"\0\0" + count.to_bytes(8, "little"))
        else:
            await out.packet(text_row([str(count).encode()]))
        request.query.rows = 1
        await out.end(0, request.status)
        return 0

    async def _scatter(
        self, request: Request, columns: tuple[bytes, ...], placement: Mapping[int, tuple[int, ...]]
    ) -> int:
        """Forward rows as chunks commit."""
        out, query, plan = request.session.out, request.query, request.plan
        skip = plan.skip
        async with self._dispatcher.run(self._work(request, plan, placement, ())) as stream:
            async for block in stream:
                data, count = block.data, block.rows
                if not out.started:
                    _same_types(columns, stream, request.binary, query.query_id)
                    await out.columns(columns, request.status)
                if skip:
                    dropped = min(skip, count)
                    skip -= dropped
                    data, count = b"" if block.more else data[rows.take(data, dropped) :], count - dropped
                if data:
                    query.rows += count
                    await out.rows(data, block.more)
            warnings = query.warnings = stream.warnings
            query.notes += stream.notes
        await self._unchanged(request)
        if not out.started:
            await out.columns(columns, request.status)
        await out.end(warnings, request.status)
        return stream.bytes

    async def _merge(
        self, request: Request, columns: tuple[bytes, ...], placement: Mapping[int, tuple[int, ...]]
    ) -> int:
        """Load partials into the merge table at home and send what its statement reads."""
        settings = request.settings
        types = await self._types(request, request.plan)
        async with self._shadows.lease(
            request.sharded(), request.home_values(), settings.database, request.variables
        ) as connection:
            moved, warnings = await self._partials(connection, request, request.plan, types, placement)
            await self._unchanged(request)
            await self._send(connection, request, types.statement, columns, warnings)
            await merging.drop_table(connection)
        return moved

    async def _gather(self, request: Request, columns: tuple[bytes, ...]) -> int:
        """Fill temporary tables at home and run the statement over them."""
        gather = request.plan.gather
        if gather is None:
            raise TypeError("no gather in this plan")
        prepared = [await self._part_types(request, part) for part in gather.parts]
        placements = [await find_chunks(self._pool, self._catalogue, part.plan) for part in gather.parts]
        request.query.chunks_total = sum(map(len, placements))
        moved = warnings = 0
        async with self._shadows.lease(
            request.sharded(), request.home_values(), request.settings.database, request.variables
        ) as connection:
            for part, types, placement in zip(gather.parts, prepared, placements, strict=True):
                moved, warned = await self._part(connection, request, part, types, placement, moved)
                warnings += warned
            await self._unchanged(request)
            await connection.run(_JOINS_AT_HOME)
            await self._send(connection, request, gather.statement, columns, warnings)
            await connection.run(_JOINS_BEFORE)
            for part in gather.parts:
                await connection.run(f"DROP TEMPORARY TABLE IF EXISTS {part.target}")
                if part.schema is None:
                    for shadow in request.sharded():
                        self._shadows.forget(connection, shadow.database, shadow.table.name)
        return moved

    # pieces --------------------------------------------------------------------------------------

    async def _types(self, request: Request, plan: Plan) -> _Types:
        """Return what must be known before a plan's partials can be read."""
        merge = plan.merge
        if merge is None:
            raise TypeError("no merge in this plan")
        partial = [ColumnDefinition.decode(item) for item in await self._columns(request, merge.partial)]
        statement = merge.statement
        if merge.probes is not None:
            probes = await self._columns(request, merge.probes)
            statement = planner.merged(plan, [ColumnDefinition.decode(item).decimals for item in probes])
        return _Types([PartialType(kind.type, kind.flags) for kind in partial], statement)

    async def _part_types(self, request: Request, part: Part) -> _Types:
        if part.plan.merge is not None:
            return await self._types(request, part.plan)
        schema = part.schema if part.schema is not None else part.plan.native
        kinds = [ColumnDefinition.decode(item) for item in await self._columns(request, schema)]
        return _Types([PartialType(kind.type, kind.flags) for kind in kinds], schema)

    async def _partials(
        self,
        connection: RawConnection,
        request: Request,
        plan: Plan,
        types: _Types,
        placement: Mapping[int, tuple[int, ...]],
    ) -> tuple[int, int]:
        """Fill the merge table; return (bytes moved, warnings of the workers)."""
        merge = plan.merge
        if merge is None:
            raise TypeError("no merge in this plan")
        settings = request.settings
        await merging.create_table(connection, merge, settings.encoding, request.parameters)
        await connection.run("SET SESSION sql_mode='', character_set_client=utf8mb4")
        async with self._dispatcher.run(self._work(request, plan, placement, types.partial)) as stream:
            loaded = await merging.load(
                connection, stream.whole_rows(), merging.Target.of(merge), types.partial
            )
        await connection.run(set_statement(request.home_values()))
        request.query.notes += stream.notes
        return loaded.bytes, stream.warnings

    async def _part(
        self,
        connection: RawConnection,
        request: Request,
        part: Part,
        types: _Types,
        placement: Mapping[int, tuple[int, ...]],
        moved: int,
    ) -> tuple[int, int]:
        """Fill one gathered table; return (bytes moved in all, warnings of the workers)."""
        settings, plan = request.settings, part.plan
        limit = request.session.gather_limit
        await merging.create_part(connection, part, settings.encoding, request.parameters)
        if plan.merge is not None:
            size, warnings = await self._partials(connection, request, plan, types, placement)
            head = f"INSERT INTO {part.target} ({', '.join(map(quote, part.columns))}) "
            await connection.run("SET SESSION sql_mode=CONCAT(@@sql_mode, ',ALLOW_INVALID_DATES')")
            await merging.run_with(
                connection,
                head + types.statement.text,
                types.statement,
                settings.encoding,
                request.parameters,
            )
            await connection.run(set_statement(request.home_values()))
            await merging.drop_table(connection)
            return moved + size, warnings
        total = moved

        def watch(size: int) -> None:
            nonlocal total
            total += size
            if total > limit:
                raise SkyError(GATHER_LIMIT, moved=total, label=part.label, limit=limit)

        if plan.never:
            return moved, 0
        await connection.run("SET SESSION sql_mode='', character_set_client=utf8mb4")
        async with self._dispatcher.run(self._work(request, plan, placement, types.partial, False)) as stream:
            blocks: AsyncIterator[RowBlock] = merging.cut(stream.whole_rows(), plan.skip)
            await merging.load(connection, blocks, merging.Target.of_part(part), types.partial, watch)
        await connection.run(set_statement(request.home_values()))
        request.query.notes += stream.notes
        return total, stream.warnings

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
        query, out = request.query, request.session.out
        if request.binary:
            result = await connection.execute(text, request.picked(statement))
        else:
            result = await connection.query(text)
        _check_merged(columns, result.columns, request.binary, query.query_id)
        await out.columns(columns, request.status)
        async for block in result.blocks(pieces=True):
            query.rows += block.rows
            await out.rows(block.data, block.more)
        if result.end is not None and result.end.warnings:
            warnings += result.end.warnings
            query.notes += await merging.notes(connection)
        query.warnings = min(65535, warnings)
        await out.end(query.warnings, request.status)

    def _work(
        self,
        request: Request,
        plan: Plan,
        placement: Mapping[int, tuple[int, ...]],
        types: Sequence[PartialType],
        forwarded: bool | None = None,
    ) -> Work:
        """Return the job for the workers; rows that are not forwarded to the client are text."""
        fragment = planner.fragment(plan, types)
        if forwarded is None:
            forwarded = plan.merge is None
        settings, query = request.settings, request.query
        values = {**settings.values, "timestamp": request.now, "sql_select_limit": "DEFAULT"}
        if not forwarded:
            values["character_set_results"] = "'utf8mb4'"
        limit = None if plan.limit is None or plan.merge is not None else plan.limit + plan.skip
        job = frames.Job(
            query_id=query.query_id,
            database=plan.database,
            main=_template(fragment.main, settings.encoding),
            setup=tuple(_template(item, settings.encoding) for item in fragment.setup),
            teardown=tuple(_template(item, settings.encoding) for item in fragment.teardown),
            chunks=[],
            interactive=plan.interactive,
            settings=values,
            binary=forwarded and (request.binary or bool(fragment.main.parameters)),
            parameters=request.parameters,
            row_limit=limit,
            commit_bytes=self._config.chunk_commit_bytes,
        )
        before = query.chunks_done

        def progress(done: int) -> None:
            query.chunks_done = before + done

        return Work(query.query_id, job, dict(placement), limit, progress)


def _template(sql: Sql, encoding: tuple[str, str]) -> frames.Template:
    segments, parameters = template(sql)
    return frames.Template(tuple(segment.encode(*encoding) for segment in segments), parameters)


def _same_types(columns: tuple[bytes, ...], stream: RowStream, binary: bool, query_id: int) -> None:
    """Fail the query if workers send other types than the statement has at home."""
    if stream.columns is None:
        raise SkyError(INTERNAL, query_id=query_id)
    wanted = [ColumnDefinition.decode(payload).type for payload in columns]
    got = [column.type for column in stream.columns]
    if not _compatible(wanted, got, binary):
        log.error("query %s: column types %s at home, %s at a worker", query_id, wanted, got)
        raise SkyError(INTERNAL, query_id=query_id)


def _check_merged(columns: tuple[bytes, ...], merged: tuple[bytes, ...], binary: bool, query_id: int) -> None:
    wanted = [ColumnDefinition.decode(payload).type for payload in columns]
    got = [ColumnDefinition.decode(payload).type for payload in merged]
    if not _compatible(wanted, got, binary):
        log.error("query %s: column types %s at home, %s merged", query_id, wanted, got)
        raise SkyError(INTERNAL, query_id=query_id)


def _compatible(wanted: list[int], got: list[int], binary: bool) -> bool:
    """Whether rows of types `got` can be sent under definitions of types `wanted`."""
    if len(wanted) != len(got):
        return False
    for want, have in zip(wanted, got, strict=True):
        if want == have or (want in _TEXT_FAMILY and have in _TEXT_FAMILY) or 6 in (want, have):
            continue
        if not binary and want in _INTEGERS and have in _INTEGERS:
            continue
        return False
    return True


__all__ = ["Answerer", "Request"]
