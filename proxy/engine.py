"""Decides who answers a statement, and runs distributed ones: the thread through all parts.

One query, in order: settings → check at home → plan → definitions → chunks → job → rows or merge.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from backend.connection import ConnectionLost
from backend.pool import Pool
from proxy import classify
from proxy.chunks import find_chunks
from proxy.config import ProxyConfig
from proxy.execute.dispatcher import Dispatcher, RowStream, Work
from proxy.home import settings as home_settings
from proxy.home.definitions import Definitions, Shadow, ShadowPool
from proxy.home.metadata import Catalogue
from proxy.home.settings import SessionSettings
from proxy.merge import merge as merging
from proxy.metrics import Metrics
from proxy.registry import Registry, RunningQuery
from proxy.session.client import ClientGone
from proxy.session.engine import Distributed, Home, Local, Route
from proxy.session.prepared import planner_values
from proxy.session.session import Session, text_row
from shard.errors import HOME_DOWN, INTERNAL, NOT_SUPPORTED, READ_ONLY, TIMEOUT, SkyError, not_supported
from shard.planner import explain, planner
from shard.planner.fence import SyntaxProblem
from shard.planner.fragment import template
from shard.planner.lexer import LexError, Token, tokenize
from shard.planner.plan import PartialType, Plan, Sql
from shard.wire import frames, rows
from shard.wire.packets import ColumnDefinition

log = logging.getLogger("skyshard.query")
_TEXT_FAMILY = frozenset({15, 247, 248, 249, 250, 251, 252, 253, 254})
_INTEGERS = frozenset({1, 2, 3, 8, 9})


class Engine:
    """Answers statements on sharded tables."""

    def __init__(
        self,
        config: ProxyConfig,
        pool: Pool,
        catalogue: Catalogue,
        dispatcher: Dispatcher,
        registry: Registry,
        metrics: Metrics,
    ) -> None:
        self._config, self._pool, self._catalogue = config, pool, catalogue
        self._dispatcher, self._registry, self._metrics = dispatcher, registry, metrics
        self._shadows = ShadowPool(Pool(pool.address, config.service_connections))
        self._definitions = Definitions(self._shadows)
        self._mentions = classify.Mentions.of({}, -1)
        self._settings: dict[int, SessionSettings] = {}

    # deciding ------------------------------------------------------------------------------------

    async def decide(self, session: Session, sql: bytes) -> Route:
        """Return who answers a statement."""
        catalogue = self._catalogue
        if self._mentions.version != catalogue.version:
            self._mentions = classify.Mentions.of(catalogue.databases, catalogue.version)
        if not self._mentions.pattern.search(sql):
            return Home()
        settings = await self._read_settings(session)
        try:
            text = sql.decode(*settings.encoding)
            tokens = tokenize(text, settings.mode)
        except (LexError, UnicodeDecodeError):
            return Home()
        target = classify.write_target(tokens, settings.database, catalogue.databases)
        if target is not None:
            raise SkyError(READ_ONLY, verb=target[0], table=target[1])
        verb = classify.first_word(tokens)
        if verb in ("PREPARE", "EXECUTE") and classify.CHANGES.search(sql):
            raise SkyError(READ_ONLY, verb=f"{verb} of a change", table="…")
        if verb in ("SELECT", "WITH", "VALUES"):
            try:
                return self._select(text, tokens, settings)
            except SkyError as error:
                if error.code is NOT_SUPPORTED and b"scisql_" not in sql and b"qserv_" not in sql:
                    await session.home.check(sql)  # MariaDB's own error comes first
                raise
        if verb in ("EXPLAIN", "DESCRIBE", "DESC", "ANALYZE"):
            return self._explain(session, text, tokens, settings)
        if verb in ("INSERT", "REPLACE", "CREATE", "SET", "DO", "UPDATE", "DELETE") and verb != "CREATE":
            if any(classify.sharded_names(tokens, settings.database, catalogue.databases)):
                raise not_supported(f"{verb} that reads")
        elif verb == "CREATE" and any(token.upper == "SELECT" for token in tokens):
            makes_table = any(token.upper == "TABLE" for token in tokens[:5])
            if makes_table and any(classify.sharded_names(tokens, settings.database, catalogue.databases)):
                raise not_supported("CREATE … SELECT")
        return Home()

    async def refresh(self) -> bool:
        """Read the catalogue again; return whether it has changed."""
        before = self._catalogue.version
        await self._catalogue.refresh()
        return self._catalogue.version != before

    async def _read_settings(self, session: Session) -> SessionSettings:
        if session.settings_dirty or session.id not in self._settings:
            self._settings = {
                key: value for key, value in self._settings.items() if key in self._registry.sessions
            }
            self._settings[session.id] = await home_settings.read(session.home)
            session.mode = self._settings[session.id].mode
            session.settings_dirty = False
        return self._settings[session.id]

    def _select(self, text: str, tokens: list[Token], settings: SessionSettings) -> Route:
        databases = self._catalogue.databases
        try:
            statement = planner.read(text, settings.database, databases, settings.mode)
        except SyntaxProblem as error:
            if any(classify.sharded_names(tokens, settings.database, databases)):
                raise not_supported("this statement's syntax", "see docs/sql.md") from error
            return Home()
        if statement is not None:
            return Distributed(statement, statement.prepared().encode(*settings.encoding))
        native = planner.native(text, settings.mode)
        return Home(None if native is None else native.encode(*settings.encoding))

    def _explain(self, session: Session, text: str, tokens: list[Token], settings: SessionSettings) -> Route:
        start = next((token.start for token in tokens if token.upper == "SELECT"), None)
        if start is None:
            return Home()
        statement = planner.read(text[start:], settings.database, self._catalogue.databases, settings.mode)
        if statement is None:
            return Home()
        as_json = any(token.upper == "JSON" for token in tokens[:5])

        async def answer() -> None:
            await session.home.check(statement.prepared().encode(*settings.encoding))
            plan = statement.plan((), settings.limit)
            await self._send_explanation(session, plan, as_json)

        return Local(answer)

    async def _send_explanation(self, session: Session, plan: Plan, as_json: bool) -> None:
        placement = await find_chunks(self._pool, self._catalogue, plan)
        workers = len({ids[0] for ids in placement.values()})
        total = max(1, len(self._catalogue.replicas(plan.database)))
        largest = max((self._catalogue.table_rows(db, table.name) for db, table in plan.tables), default=0)
        steps = explain.describe(plan, len(placement), workers, largest * len(placement) // total)
        out = session.out
        names = ("EXPLAIN",) if as_json else explain.COLUMNS
        await out.columns([_text_column(name) for name in names])
        if as_json:
            await out.packet(text_row([explain.as_json(steps).encode()]))
        else:
            for step in steps:
                values = [getattr(step, name) for name in explain.COLUMNS]
                await out.packet(
                    text_row([None if value is None else str(value).encode() for value in values])
                )
        await out.end()

    # running -------------------------------------------------------------------------------------

    async def run(
        self,
        session: Session,
        statement: Distributed,
        parameters: tuple[frames.Parameter, ...],
        binary: bool,
        status: int,
    ) -> None:
        """Write a distributed statement's whole answer to the client."""
        query = self._registry.queries[session.id]
        settings = await self._read_settings(session)
        started = time.monotonic()
        outcome, size = "error", 0
        try:
            async with asyncio.timeout(settings.max_seconds or None):
                size = await self._run(session, query, statement, parameters, binary, status, settings)
            outcome = "ok"
        except TimeoutError as error:
            raise SkyError(TIMEOUT) from error
        except ConnectionLost as error:
            raise SkyError(HOME_DOWN) from error
        except (asyncio.CancelledError, ClientGone):
            outcome = "cancelled"
            raise
        except SkyError:
            raise
        except Exception as error:
            log.exception("query %s failed", query.query_id)
            raise SkyError(INTERNAL, query_id=query.query_id) from error
        finally:
            seconds = time.monotonic() - started
            self._metrics.query_done(query.strategy, outcome, seconds, query.rows, size, query.chunks_done)
            log.info(
                "query=%s session=%s user=%s strategy=%s chunks=%s/%s rows=%s bytes=%s ms=%.1f outcome=%s",
                query.query_id, session.id, query.user, query.strategy, query.chunks_done, query.chunks_total,
                query.rows, size, seconds * 1e3, outcome,
            )  # fmt: skip

    async def _run(
        self, session: Session, query: RunningQuery, statement: Distributed, parameters: tuple[frames.Parameter, ...],
        binary: bool, status: int, settings: SessionSettings,
    ) -> int:  # fmt: skip
        await session.home.check(statement.native)
        plan = statement.statement.plan(planner_values(parameters), settings.limit)
        query.strategy = plan.strategy.value
        shadows = [
            Shadow(database, table, self._catalogue.databases[database].version)
            for database, table in plan.tables
        ]
        columns = await self._definitions.of(
            plan.native,
            settings.encoding,
            shadows,
            settings.values,
            settings.database,
            _pick(plan.native, parameters),
        )
        placement = {} if plan.never else await find_chunks(self._pool, self._catalogue, plan)
        query.chunks_total = len(placement)
        if plan.merge is None:
            return await self._scatter(
                session, query, plan, columns, placement, parameters, binary, status, settings
            )
        return await self._merge(
            session, query, plan, columns, placement, parameters, binary, status, settings, shadows
        )

    def _work(
        self, query: RunningQuery, plan: Plan, placement: dict[int, tuple[int, ...]],
        parameters: tuple[frames.Parameter, ...], binary: bool, settings: SessionSettings, types: Sequence[PartialType],
    ) -> Work:  # fmt: skip
        """Return the job for the workers."""
        fragment = planner.fragment(plan, types)
        values = {**settings.values, "timestamp": f"{time.time():.6f}", "sql_select_limit": "DEFAULT"}
        if plan.merge is not None:
            values["character_set_results"] = "'utf8mb4'"
        limit = None if plan.limit is None else plan.limit + plan.skip
        job = frames.Job(
            query_id=query.query_id,
            database=plan.database,
            main=_template(fragment.main, settings.encoding),
            setup=tuple(_template(item, settings.encoding) for item in fragment.setup),
            teardown=tuple(_template(item, settings.encoding) for item in fragment.teardown),
            chunks=[],
            interactive=plan.interactive,
            settings=values,
            binary=(binary or bool(fragment.main.parameters)) if plan.merge is None else False,
            parameters=parameters,
            row_limit=limit if plan.merge is None else None,
            commit_bytes=self._config.chunk_commit_bytes,
        )

        def progress(done: int) -> None:
            query.chunks_done = done

        return Work(query.query_id, job, placement, limit if plan.merge is None else None, progress)

    async def _scatter(
        self, session: Session, query: RunningQuery, plan: Plan, columns: tuple[bytes, ...],
        placement: dict[int, tuple[int, ...]], parameters: tuple[frames.Parameter, ...], binary: bool, status: int,
        settings: SessionSettings,
    ) -> int:  # fmt: skip
        """Forward rows as chunks commit."""
        out = session.out
        work = self._work(query, plan, placement, parameters, binary, settings, ())
        skip = plan.skip
        async with self._dispatcher.run(work) as stream:
            async for block in stream:
                data, count = block.data, block.rows
                if not query.rows and not out.started:
                    _same_types(columns, stream, binary, query.query_id)
                    await out.columns(columns, status)
                if skip:
                    dropped = min(skip, count)
                    skip -= dropped
                    data, count = data[rows.take(data, dropped) :], count - dropped
                if count:
                    query.rows += count
                    await out.rows(data)
            warnings = stream.warnings
        if not out.started:
            await out.columns(columns, status)
        await out.end(warnings, status)
        return stream.bytes

    async def _merge(
        self, session: Session, query: RunningQuery, plan: Plan, columns: tuple[bytes, ...],
        placement: dict[int, tuple[int, ...]], parameters: tuple[frames.Parameter, ...], binary: bool, status: int,
        settings: SessionSettings, shadows: list[Shadow],
    ) -> int:  # fmt: skip
        """Load partials into the merge table at home and send what its statement reads."""
        merge = plan.merge
        if merge is None:
            raise TypeError("no merge in this plan")
        if parameters and (merge.partial.parameters or merge.statement.parameters):
            raise not_supported("a prepared statement with parameters that is merged", "write the values")
        partial = await self._definitions.of(
            merge.partial, settings.encoding, shadows, settings.values, settings.database
        )
        kinds = [ColumnDefinition.decode(payload) for payload in partial]
        types = [PartialType(kind.type, kind.flags) for kind in kinds]
        work = self._work(query, plan, placement, parameters, False, settings, types)
        async with self._shadows.lease(shadows, settings.values, settings.database) as connection:
            await merging.create_table(connection, merge, settings.encoding)
            await connection.run("SET SESSION sql_mode='', character_set_client=utf8mb4")
            async with self._dispatcher.run(work) as stream:
                moved = await merging.load(connection, stream, merge, types)
            await connection.run(home_settings_statement(settings))
            text = merge.statement.text.encode(*settings.encoding)
            result = await (connection.execute(text, ()) if binary else connection.query(text))
            _check_merged(columns, result.columns, binary, query.query_id)
            await session.out.columns(columns, status)
            async for block in result.blocks():
                query.rows += block.rows
                await session.out.rows(block.data)
            warnings = (result.end.warnings if result.end is not None else 0) + stream.warnings
            await merging.drop_table(connection)
        await session.out.end(min(65535, warnings), status)
        return moved.bytes

    async def close(self) -> None:
        """Close the service connections."""
        await self._shadows.close()


def home_settings_statement(settings: SessionSettings) -> str:
    """Return the SET that gives a service connection the session's settings again."""
    from proxy.home.definitions import set_statement

    return set_statement(settings.values)


def _pick(sql: Sql, parameters: tuple[frames.Parameter, ...]) -> list[frames.Parameter]:
    return [parameters[index] for index in sql.parameters] if parameters else []


def _template(sql: Sql, encoding: tuple[str, str]) -> frames.Template:
    segments, parameters = template(sql)
    return frames.Template(tuple(segment.encode(*encoding) for segment in segments), parameters)


def _text_column(name: str) -> bytes:
    return ColumnDefinition(b"def", b"", b"", b"", name.encode(), b"", 45, 65535, 253, 0, 0).encode()


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
