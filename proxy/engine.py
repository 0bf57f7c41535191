"""Decides who answers a statement, and runs distributed ones: the thread through all parts.

One query, in order: settings → check at home → plan → definitions → chunks → job → rows or merge.
"""

from __future__ import annotations

import asyncio
import logging
import time

from backend.connection import ConnectionLost
from backend.pool import Pool
from proxy import classify
from proxy.answer import Answerer
from proxy.chunks import find_chunks
from proxy.config import ProxyConfig
from proxy.execute.dispatcher import Dispatcher
from proxy.home import session_values
from proxy.home import settings as home_settings
from proxy.home.metadata import Catalogue
from proxy.home.settings import SessionSettings
from proxy.metrics import Metrics
from proxy.registry import Registry, RunningQuery
from proxy.session.client import ClientGone
from proxy.session.engine import Distributed, Home, Local, Route
from proxy.session.prepared import planner_values
from proxy.session.session import Session, text_row
from shard.errors import HOME_DOWN, INTERNAL, NOT_SUPPORTED, READ_ONLY, TIMEOUT, SkyError, not_supported
from shard.planner import explain
from shard.planner.fence import SyntaxProblem
from shard.planner.lexer import LexError, Token, tokenize
from shard.planner.plan import Plan
from shard.planner.statement import native as native_form
from shard.planner.statement import read
from shard.wire import frames
from shard.wire.packets import ColumnDefinition

log = logging.getLogger("skyshard.query")


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
        self._answerer = Answerer(config, pool, catalogue, dispatcher)
        self._mentions = classify.Mentions.of({}, -1)
        self._settings: dict[int, SessionSettings] = {}

    # deciding ------------------------------------------------------------------------------------

    def mentions(self, sql: bytes) -> bool:
        """Whether a text could be about sharded tables, or use skyshard's functions."""
        catalogue = self._catalogue
        if self._mentions.version != catalogue.version:
            self._mentions = classify.Mentions.of(catalogue.databases, catalogue.version)
        return self._mentions.pattern.search(sql) is not None

    async def decide(self, session: Session, sql: bytes) -> Route:
        """Return who answers a statement."""
        catalogue = self._catalogue
        if not self.mentions(sql):
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
            statement = read(text, settings.database, databases, settings.mode)
        except SyntaxProblem as error:
            if any(classify.sharded_names(tokens, settings.database, databases)):
                raise not_supported("this statement's syntax", "see docs/sql.md") from error
            return Home()
        if statement is not None:
            return Distributed(statement, statement.prepared().encode(*settings.encoding))
        native = native_form(text, settings.mode)
        return Home(None if native is None else native.encode(*settings.encoding))

    def _explain(self, session: Session, text: str, tokens: list[Token], settings: SessionSettings) -> Route:
        start = next((token.start for token in tokens if token.upper == "SELECT"), None)
        if start is None:
            return Home()
        statement = read(text[start:], settings.database, self._catalogue.databases, settings.mode)
        if statement is None:
            return Home()
        as_json = any(token.upper == "JSON" for token in tokens[:5])

        async def answer() -> None:
            await session.home.check(statement.prepared().encode(*settings.encoding))
            plan = statement.plan((), settings.limit)
            await self._send_explanation(session, plan, as_json)

        return Local(answer)

    async def _send_explanation(self, session: Session, plan: Plan, as_json: bool) -> None:
        extents = [await self._extent(inner) for inner in explain.scatters(plan)]
        steps = explain.describe(plan, extents)
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

    async def _extent(self, plan: Plan) -> explain.Extent:
        placement = {} if plan.never else await find_chunks(self._pool, self._catalogue, plan)
        workers = len({ids[0] for ids in placement.values()})
        total = max(1, len(self._catalogue.replicas(plan.database)))
        largest = max((self._catalogue.table_rows(db, table.name) for db, table in plan.tables), default=0)
        return explain.Extent(len(placement), workers, largest * len(placement) // total)

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
        self,
        session: Session,
        query: RunningQuery,
        statement: Distributed,
        parameters: tuple[frames.Parameter, ...],
        binary: bool,
        status: int,
        settings: SessionSettings,
    ) -> int:
        await session.home.check(statement.native)
        values = await session_values.read(session.home, statement.statement.needs)
        plan = statement.statement.plan(planner_values(parameters), settings.limit, values)
        variables = {name: value for name, value in values.items() if name.startswith("@") and name[1] != "@"}
        return await self._answerer.answer(
            self._answerer.request(session, query, plan, parameters, binary, status, settings, variables)
        )

    async def close(self) -> None:
        """Close the service connections."""
        await self._answerer.close()


def _text_column(name: str) -> bytes:
    return ColumnDefinition(b"def", b"", b"", b"", name.encode(), b"", 45, 65535, 253, 0, 0).encode()
