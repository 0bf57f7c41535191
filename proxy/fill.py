"""Brings rows together: runs the work of a plan on the workers and fills tables at a desk at home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from backend.connection import RowBlock
from backend.pool import Pool
from proxy.chunks import Placement, place
from proxy.config import ProxyConfig
from proxy.execute.dispatcher import Dispatcher
from proxy.execute.work import Work
from proxy.home.definitions import Definitions, ShadowPool
from proxy.home.desk import SessionDesk
from proxy.home.metadata import Catalogue
from proxy.merge import merge as merging
from proxy.request import Request
from shard.catalog.naming import META_DATABASE, SCRATCH_DATABASE, literal, quote
from shard.errors import CATALOGUE_CHANGED, GATHER_LIMIT, LIMIT_EXCEEDED, SkyError
from shard.planner import planner
from shard.planner.chunk_tables import LENIENT
from shard.planner.fragment import lists, template
from shard.planner.plan import (
    Fragment,
    Gather,
    Merge,
    Ordered,
    Part,
    PartialType,
    Plan,
    SortKey,
    Sql,
    Strategy,
)
from shard.wire import frames
from shard.wire.packets import ColumnDefinition
from shard.wire.protocol import NOT_FIXED, FieldType

_UNREFUSED = LENIENT.replace("=", "=CONCAT('ALLOW_INVALID_DATES,', ", 1).replace(" FOR ", ") FOR ")
WITHOUT_LATERAL = "split_materialized=off"
"""An optimizer_switch: grouped derived tables are not filled once for each joined row, by which MariaDB loses rows of semijoins."""
MANY_BYTES = 16 << 20
"""Of partials from here on, the home server sorts them into groups."""
RESULT = f"{quote(SCRATCH_DATABASE)}.{quote('result')}"
"""The table of the session that holds the rows of a query whose statement stores them."""


@dataclass(frozen=True, slots=True)
class Types:
    """What must be known of a merge before it runs: types of the partials, and its final statement.

    `rounded` are the partials that are DOUBLE with a fixed number of decimals: index → decimals.
    """

    partial: list[PartialType]
    statement: Sql
    rounded: Mapping[int, int]


class Filler:
    """Has workers run plans, and fills tables at home with their rows."""

    def __init__(self, config: ProxyConfig, pool: Pool, catalogue: Catalogue, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self._config, self._pool, self._catalogue = config, pool, catalogue
        # Column definitions come from empty tables alone.
        self._shadow_pool = ShadowPool(pool.sibling(config.service_connections))
        self._definitions = Definitions(self._shadow_pool)

    async def close(self) -> None:
        """Close the service connections."""
        await self._shadow_pool.close()

    async def columns(self, request: Request, sql: Sql, cursor: bool = False) -> tuple[bytes, ...]:
        """Return the column definitions that the home server gives a statement over the logical tables, or its cursor."""
        settings = request.settings
        return await self._definitions.of(
            sql,
            settings.encoding,
            request.shadows,
            settings.values,
            settings.database,
            request.picked(sql),
            request.variables,
            cursor,
        )

    async def unchanged(self, request: Request, lacking: bool = False) -> None:
        """Fail the query if its database was, or is being, replaced or consolidated while it ran.

        One that found tables `lacking` may have done so because rows were taken back or consolidated meanwhile.
        """
        readable = request.contents.is_readable_in(self._catalogue.contents)
        if readable and self._catalogue.holds(request.catalogue()) and not lacking:
            return
        for name, version in request.catalogue().items():
            async with self._pool.lease() as connection:
                found = await connection.fetch(
                    f"SELECT version, state, revision, oldest FROM {quote(META_DATABASE)}.`databases` WHERE name = {literal(name)}"
                )
            known = request.contents.databases.get(name)
            revision = known.revision if known else 0
            wanted = [str(version).encode(), b"published", str(revision).encode()]
            told = 3 if lacking else 2
            if not found or found[0][:told] != wanted[:told] or revision < int(found[0][3] or b"0"):
                raise SkyError(CATALOGUE_CHANGED, database=name)

    async def placement(self, request: Request, plan: Plan) -> Placement:
        """Return the chunks that a plan must ask, and who holds them."""
        if plan.never:
            return Placement({})
        found = await place(self._pool, request.contents, self._catalogue.workers, plan)
        chunks = found.chunks
        for ship in plan.ships:
            reached = request.shipment(plan, ship).chunks
            if reached is not None:
                chunks = {chunk: ids for chunk, ids in chunks.items() if chunk in reached}
        return Placement(chunks, found.keys)

    async def types(self, request: Request, plan: Plan, merge: Merge) -> Types:
        """Return what must be known before the partials of a plan with a merge can be read."""
        partial = [ColumnDefinition.decode(item) for item in await self.columns(request, merge.partial)]
        types = planner.shipped(plan, [_travels(kind) for kind in partial])
        return Types(types, merge.statement, _rounded(partial))

    async def _part_types(self, request: Request, part: Part) -> Types:
        if part.plan.merge is not None:
            return await self.types(request, part.plan, part.plan.merge)
        schema = part.schema if part.schema is not None else part.plan.native
        kinds = [ColumnDefinition.decode(item) for item in await self.columns(request, schema)]
        types = planner.shipped(part.plan, [_travels(kind) for kind in kinds])
        return Types(types, schema, _rounded(kinds))

    async def parts(
        self, desk: merging.Desk, request: Request, gather: Gather, digits: bool = False
    ) -> tuple[int, int]:
        """Fill the tables of a gather; return (bytes moved, warnings of the workers).

        Their deviations keep all `digits`, or have those that MariaDB writes.
        """
        prepared = [await self._part_types(request, part) for part in gather.parts]
        placements = [await self.placement(request, part.plan) for part in gather.parts]
        request.query.chunks_total = sum(len(placement.chunks) for placement in placements)
        moved = warnings = 0
        for part, types, placement in zip(gather.parts, prepared, placements, strict=True):
            moved, warned = await self._part(desk, request, gather, part, types, placement, moved, digits)
            warnings += warned
        return moved, warnings

    async def _part(
        self,
        desk: merging.Desk,
        request: Request,
        gather: Gather,
        part: Part,
        types: Types,
        placement: Placement,
        moved: int,
        digits: bool,
    ) -> tuple[int, int]:
        """Make and fill one gathered table; return (bytes moved in all, warnings of the workers)."""
        limit, total = request.gather_limit, moved
        if part.schema is not None:
            shape = [ColumnDefinition.decode(item) for item in await self.columns(request, part.schema)]
            wide = {
                part.columns[index]: NOT_FIXED if digits and part.columns[index] in part.spread else scale
                for index, scale in _rounded(shape).items()
            }
            await desk.make(merging.part_table(part, part.schema, gather.statement, wide))
        else:  # the shadow of a logical table is filled
            await desk.run(Sql(f"DELETE FROM {part.target}"))

        def watch(size: int) -> None:
            nonlocal total
            total += size
            if total > limit:
                raise SkyError(GATHER_LIMIT, moved=total, label=part.label, limit=limit)

        size, warnings = await self._rows(desk, request, part, types, placement, watch)
        return moved + size, warnings

    async def _rows(
        self,
        desk: merging.Desk,
        request: Request,
        part: Part,
        types: Types,
        placement: Placement,
        watch: Callable[[int], None],
    ) -> tuple[int, int]:
        """Fill a table that exists with the rows of a plan; return (bytes moved, warnings of the workers)."""
        plan = part.plan
        if plan.merge is not None:
            size, warnings = await self.partials(desk, request, plan, plan.merge, types, placement)
            statement = types.statement if size < MANY_BYTES else planner.sorting(types.statement)
            await self._fill(desk, part, statement)
            await desk.run(Sql(f"DROP TEMPORARY TABLE {merging.MERGE_NAME}"))
            return size, warnings
        if plan.never:
            return 0, 0
        work = self.partial_work(request, plan, placement, types.partial)
        async with self.dispatcher.run(work) as stream:
            blocks: AsyncIterator[RowBlock] = merging.cut(aiter(stream), plan.skip)
            loaded = await merging.load(desk, blocks, merging.Target.of_part(part), types.partial, watch)
        request.query.notes += stream.notes
        return loaded.bytes, stream.warnings

    async def result(self, desk: SessionDesk, request: Request, names: tuple[str, ...]) -> int:
        """Make and fill the table of a query's rows; return the bytes moved.

        The table has the columns that CREATE TABLE … SELECT would give it; if their names are not
        unique (which INSERT allows), they are p0, p1, ….
        """
        plan = request.plan
        shape, columns = plan.native, names
        if len({name.lower() for name in names}) < len(names) and request.stores_into_columns:
            columns = tuple(f"p{index}" for index in range(len(names)))
            listed = ", ".join(columns)
            shape = Sql(f"WITH rows_of ({listed}) AS ({shape.text}) SELECT * FROM rows_of", shape.parameters)
        await desk.make(merging.Making(RESULT, "", shape))
        part = Part(RESULT, plan, None, columns, (), (), "the result")
        if plan.strategy is Strategy.COUNTER:
            database, table = plan.tables[0]
            count = request.contents.table_rows(database, table.name)
            await desk.run(Sql(f"INSERT INTO {RESULT} VALUES ({count})"))
            return 0
        if plan.never:
            return 0
        if plan.gather is not None:
            moved, _ = await self.parts(desk, request, plan.gather)
            await self._fill(desk, part, plan.gather.statement)
            return moved
        types = await self._part_types(request, part)
        placement = await self.placement(request, plan)
        request.query.chunks_total = len(placement.chunks)
        most = request.session.standing.limits.result_bytes

        def watch(moved: int) -> None:
            if most and moved > most:
                raise SkyError(
                    LIMIT_EXCEEDED, limit="bytes of rows", value=moved, setting="limits.result_bytes"
                )

        moved, _ = await self._rows(desk, request, part, types, placement, watch)
        return moved

    def desk(self, request: Request) -> SessionDesk:
        """Return the session's own connection as the place where rows are put together."""
        settings = request.settings
        return SessionDesk(
            request.session.home,
            self._shadow_pool,
            request.shadows,
            settings.values,
            settings.database,
            request.variables,
            settings.encoding,
            settings.charset,
            request.parameters,
        )

    async def partials(
        self,
        desk: merging.Desk,
        request: Request,
        plan: Plan,
        merge: Merge,
        types: Types,
        placement: Placement,
    ) -> tuple[int, int]:
        """Fill the merge table; return (bytes moved, warnings of the workers)."""
        await desk.make(merging.merge_table(merge, tuple(types.rounded)))
        work = self.partial_work(request, plan, placement, types.partial)
        async with self.dispatcher.run(work) as stream:
            loaded = await merging.load(desk, aiter(stream), merging.Target.of(merge), types.partial)
        request.query.notes += stream.notes
        return loaded.bytes, stream.warnings

    @staticmethod
    async def _fill(desk: merging.Desk, part: Part, statement: Sql) -> None:
        """Fill a part from a statement over other tables at home; no value may be refused."""
        head = f"INSERT INTO {part.target} ({', '.join(map(quote, part.columns))}) "
        await desk.run(Sql(_UNREFUSED + head + statement.text, statement.parameters))

    def forwarded_work(
        self,
        request: Request,
        placement: Placement,
        wanted: tuple[int, ...],
        fragment: Fragment | None = None,
    ) -> Work:
        """Return the work whose rows go to the client as they are.

        Parameters
        ----------
        wanted : tuple of int
            Type bytes that binary rows must have.
        fragment : Fragment or None
            What each chunk is asked; None: what the plan says.
        """
        plan = request.plan
        asked = planner.fragment(plan) if fragment is None else fragment
        limit = _row_limit(plan) if plan.merge is None else None
        return self._work(request, plan, placement, asked, limit, wanted=wanted)

    def sorted_work(
        self, request: Request, placement: Placement, wanted: tuple[int, ...], ordered: Ordered
    ) -> Work:
        """Return the work whose rows come sorted from each worker and go to the client merged."""
        asked = planner.ordered(ordered)
        work = self._work(request, request.plan, placement, asked, _row_limit(ordered), wanted=wanted)
        job = msgspec.structs.replace(
            work.job, order=tuple(map(_sort_key, ordered.keys)), hidden=ordered.hidden, table=None
        )
        return replace(work, job=job)

    def partial_work(
        self, request: Request, plan: Plan, placement: Placement, types: Sequence[PartialType]
    ) -> Work:
        """Return the work whose rows, of these types, fill a table at home: they are text."""
        limit = _row_limit(plan) if plan.merge is None else None
        asked = planner.fragment(plan, types)
        return self._work(request, plan, placement, asked, limit, forwarded=False)

    def _work(
        self,
        request: Request,
        plan: Plan,
        placement: Placement,
        fragment: Fragment,
        limit: int | None,
        forwarded: bool = True,
        wanted: tuple[int, ...] = (),
    ) -> Work:
        settings, query = request.settings, request.query
        job = frames.Job(
            query_id=query.query_id,
            database=plan.database,
            main=_template(fragment.main, settings.encoding),
            table=None if fragment.table is None else _template(fragment.table, settings.encoding),
            setup=tuple(_template(item, settings.encoding) for item in fragment.setup),
            teardown=tuple(_template(item, settings.encoding) for item in fragment.teardown),
            chunks=[],
            interactive=plan.interactive,
            user=request.user,
            settings=_settings(request, forwarded, in_memory=bool(fragment.setup)),
            binary=forwarded and (request.binary or bool(fragment.main.parameters)),
            parameters=request.parameters,
            wanted=wanted,
            row_limit=limit,
            shipped=tuple(request.shipment(plan, ship).frame for ship in plan.ships),
            charset=settings.charset,
            commit_bytes=self._config.chunk_commit_bytes,
        )
        before = query.chunks_done

        def progress(done: int) -> None:
            query.chunks_done = before + done

        return Work(
            query.query_id,
            job,
            placement.chunks,
            limit,
            progress,
            states=request.contents.states.get(plan.database, {}),
            version=request.contents.version,
            keys=placement.keys,
            lines=tuple(request.shipment(plan, ship).lines for ship in plan.ships),
        )


def _settings(request: Request, forwarded: bool, in_memory: bool) -> dict[str, str]:
    """Return the settings under which workers run a fragment; `in_memory`: it makes tables of its own."""
    values = {
        **request.settings.values,
        "timestamp": request.now,
        "sql_select_limit": "DEFAULT",
        "optimizer_switch": f"'{WITHOUT_LATERAL}'",
    }
    if not forwarded:
        values["character_set_results"] = "'utf8mb4'"
    if in_memory:
        values[frames.ENGINE_SETTING] = frames.IN_MEMORY
    return values


def _travels(column: ColumnDefinition) -> PartialType:
    fixed = column.type == FieldType.DOUBLE and column.decimals < NOT_FIXED
    return PartialType(column.type, column.flags, column.decimals if fixed else None)


def _rounded(columns: Sequence[ColumnDefinition]) -> dict[int, int]:
    return {
        index: column.decimals
        for index, column in enumerate(columns)
        if column.type == FieldType.DOUBLE and column.decimals < NOT_FIXED
    }


def _row_limit(wanted: Plan | Ordered) -> int | None:
    """Return how many rows are wanted of every worker, if its rows need no merge but that of sorted streams."""
    return None if wanted.limit is None else wanted.limit + wanted.skip


def _sort_key(key: SortKey) -> frames.SortKey:
    return frames.SortKey(key.column, key.kind, key.descending)


def _template(sql: Sql, encoding: tuple[str, str]) -> frames.Template:
    segments, parameters = template(sql)
    return frames.Template(tuple(segment.encode(*encoding) for segment in segments), parameters, lists(sql))
