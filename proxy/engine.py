"""Decides who answers a statement, and runs distributed ones: the thread through all parts.

One query, in order: settings → check at home → plan → definitions → chunks → job → rows or merge.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import partial

from backend.connection import ConnectionLost
from backend.pool import Pool
from proxy import classify, dynamic, explaining, session_limits, system_views, table_status, visible, writes
from proxy.answer import Answerer
from proxy.config import ProxyConfig
from proxy.execute.admission import Admissions
from proxy.execute.dispatcher import Dispatcher
from proxy.fill import Filler
from proxy.home import own_tables, session_values
from proxy.home import settings as home_settings
from proxy.home.definitions import Shadow
from proxy.home.metadata import Catalogue, Contents
from proxy.home.own_tables import OwnTable, Shipment, shipment
from proxy.home.settings import SessionSettings
from proxy.home.views import HomeViews
from proxy.jobs import statements
from proxy.jobs.runner import Jobs
from proxy.learning import Learner
from proxy.metrics import Metrics
from proxy.quick import Flight, Quick
from proxy.registry import Registry, RunningQuery
from proxy.request import Request
from proxy.routes import Router
from proxy.session.client import ClientGone
from proxy.session.engine import Distributed, Explained, Home, Local, Route
from proxy.session.prepared import planner_values
from proxy.session.session import Session
from proxy.shapes import Known, Memory, Shapes
from shard.catalog.model import Kind, Table
from shard.errors import (
    CATALOGUE_CHANGED,
    FRAGMENT_FAILED,
    HOME_DOWN,
    INTERNAL,
    NOT_SUPPORTED,
    TIMEOUT,
    ServerError,
    SkyError,
    not_supported,
)
from shard.planner import change as changes
from shard.planner import explain
from shard.planner.constants import Value
from shard.planner.fence import SyntaxProblem
from shard.planner.lexer import LexError, Token, TokenKind, tokenize
from shard.planner.plan import Plan, Strategy
from shard.planner.statement import Statement
from shard.planner.views import Views
from shard.wire import frames

log = logging.getLogger("skyshard.query")


_LAST = re.compile(rb"(?i)row_count|found_rows|warning|errors|diagnostics|last_insert_id")
"""What asks for what the last statement left behind."""
_TEMPORARY = re.compile(rb"(?i)\b(?:temporary|call|execute)\b")
"""What may make a temporary table of the session, which a service connection does not see."""
_VIEW = re.compile(rb"(?i)\bview\b")
_EXPLAINED = frozenset({"SELECT", "WITH", "VALUES", "(", "UPDATE", "DELETE", "INSERT", "REPLACE"})
"""What the statement behind EXPLAIN begins with."""
VIEWS_S = 1.0
"""Seconds after which views that were made elsewhere are looked for again; those made here are known at once."""


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
        jobs: Jobs,
        admissions: Admissions,
    ) -> None:
        self._config, self._pool, self._catalogue = config, pool, catalogue
        self._admissions = admissions
        self._dispatcher, self._registry, self._metrics = dispatcher, registry, metrics
        self._filler = Filler(config, pool, catalogue, dispatcher)
        self._answerer = Answerer(self._filler, pool.sibling(config.service_connections))
        self._views = HomeViews(pool)
        self._views_changed = True
        self._watch: asyncio.Task[None] | None = None
        self._explainer = explaining.Explainer(pool, catalogue)
        self._router = Router(catalogue)
        self._mentions = classify.Mentions.of({}, -1)
        self._system = system_views.SystemViews(pool, catalogue, registry)
        self._memories: dict[int, Memory] = {}
        self._shapes = Shapes()
        self._quick = Quick(pool, catalogue, dispatcher)
        self._learner = Learner(self._shapes, self._filler, catalogue)
        self._dynamic = dynamic.Dynamic(self._concerns, self._of_itself)
        self._jobs, self._about_jobs = jobs, statements.Statements(jobs, self._check)

    # deciding ------------------------------------------------------------------------------------

    def mentions(self, sql: bytes) -> bool:
        """Whether a text could be about sharded tables, or use skyshard's functions."""
        catalogue = self._catalogue
        if self._mentions.version != catalogue.version:
            names = self._views.names | self._views.replicated
            self._mentions = classify.Mentions.of(catalogue.databases, catalogue.version, names)
        return self._mentions.pattern.search(sql) is not None

    def _concerns(self, sql: bytes) -> bool:
        """Whether a text could be of those that are answered here."""
        ours = (statements.PATTERN, session_limits.PATTERN, table_status.PATTERN)
        return self.mentions(sql) or any(pattern.search(sql) for pattern in ours)

    async def with_truth(self, session: Session, sql: bytes, lasting: bool = False) -> bytes | None:
        """Return a statement on information_schema with our values in it; None if it needs none."""
        if not system_views.may_read(sql):
            return None
        return await self._system.fill(session.home, sql, await self._read_settings(session), lasting)

    async def decide(self, session: Session, sql: bytes) -> Route:
        """Return who answers a statement."""
        if statements.PATTERN.search(sql) is None and dynamic.PATTERN.search(sql) is None:
            return await self._decide(session, sql)
        temporaries = session.temporaries
        settings = await self._read_settings(session)
        try:
            text = sql.decode(*settings.encoding)
            tokens = tokenize(text, settings.mode)
        except (LexError, UnicodeDecodeError):
            return await self._decide(session, sql)
        if classify.first_word(tokens) in dynamic.VERBS:
            return await self._of_text(session, sql, tokens, settings)
        found = await self._about_jobs.answer(session, text, tokens, settings)
        if isinstance(found, Local):
            await self._tidy(session, sql)
            session.temporaries = temporaries  # CALL makes none here
            return found
        if found is None:
            return await self._decide(session, sql)
        instead = found.encode(*settings.encoding)
        route = await self._decide(session, instead)
        return Home(instead) if route == Home() else route

    async def _of_text(
        self, session: Session, sql: bytes, tokens: list[Token], settings: SessionSettings
    ) -> Route:
        """Return who answers a PREPARE or EXECUTE: what is right for its text, if that is on sharded tables."""
        found = await self._dynamic.answer(session, tokens, settings)
        if isinstance(found, Local):
            await self._tidy(session, sql)
            return found
        if found is not None:
            route = await self._of_itself(session, found.encode(*settings.encoding))
            if isinstance(route, Distributed | Local):
                return route
        return await self._decide(session, sql)

    async def _of_itself(self, session: Session, sql: bytes) -> Route:
        """Return who answers the text that a PREPARE or EXECUTE names; none of those may be in it."""
        if statements.PATTERN.search(sql) is None or dynamic.STARTS.match(sql):
            return await self._decide(session, sql)
        return await self.decide(session, sql)

    async def _check(self, session: Session, sql: bytes) -> None:
        """Raise what is wrong with a query that is to run later."""
        route = await self._decide(session, sql)
        if isinstance(route, Distributed):
            if any((route.envelope, route.change, route.explained, route.prefix)):
                raise not_supported("this statement as a submitted query")
            await session.home.check(route.native)
        elif isinstance(route, Home):
            await session.home.check(sql if route.sql is None else route.sql)
        else:
            raise not_supported("this statement as a submitted query")

    async def _decide(self, session: Session, sql: bytes) -> Route:
        await self._tidy(session, sql)
        catalogue = self._catalogue
        if table_status.PATTERN.match(sql):
            settings = await self._read_settings(session)
            return Local(partial(table_status.answer, session, sql, settings.database, catalogue))
        own_setting = session_limits.PATTERN.search(sql) is not None
        if not own_setting and not self.mentions(sql):
            return Home()
        settings = await self._read_settings(session)
        if own_setting:
            said = session_limits.read(session, sql.decode(*settings.encoding))
            if said is not None:
                stand_in = session_limits.stand_in(said)
                return Local(partial(session_limits.answer, session, said), stand_in)
        try:
            text = sql.decode(*settings.encoding)
            tokens = tokenize(text, settings.mode)
        except (LexError, UnicodeDecodeError):
            return Home()
        verb = classify.first_word(tokens)
        published = writes.Published(catalogue.databases, self._views.replicated)
        refused = writes.refusal(tokens, settings.database, published)
        if verb in ("PREPARE", "EXECUTE") and classify.CHANGES.search(sql):
            refused = writes.dynamic(tokens, settings.mode, settings.database, published)
        if refused is not None:
            raise await visible.refusal(session, refused, published)
        views = await self._views.definitions(text)
        try:
            if verb in ("SELECT", "WITH", "VALUES"):
                return self._router.stored(text, tokens, settings, views) or self._router.select(
                    text, tokens, settings, views
                )
            if verb == "SET" and len(tokens) > 1 and tokens[1].upper == "STATEMENT":
                route = await self._under_settings(session, text, tokens, settings, views)
                if route is not None:
                    return route
        except SkyError as error:
            if error.code is NOT_SUPPORTED and b"scisql_" not in sql and b"qserv_" not in sql:
                await session.home.check(sql)  # MariaDB's own error comes first
            raise
        return await self._otherwise(session, text, tokens, settings, views)

    async def renew(self, session: Session, sql: bytes, route: Distributed) -> Distributed:
        """Return the route of a prepared statement, decided anew if the catalogue or a view has changed."""
        if route.contents is self._catalogue.contents and (
            not route.views or await self._views.definitions(route.statement.text) == route.views
        ):
            return route
        before = route.statement.database
        anew = await self.decide(session, sql)
        if not isinstance(anew, Distributed) or anew.statement.database != before:
            raise SkyError(CATALOGUE_CHANGED, database=before or "")
        return anew

    async def _otherwise(
        self, session: Session, text: str, tokens: list[Token], settings: SessionSettings, views: Views
    ) -> Route:
        """Return who answers a statement that is no SELECT."""
        verb = classify.first_word(tokens)
        if verb in ("EXPLAIN", "DESCRIBE", "DESC", "ANALYZE"):
            return await self._explain(session, text, tokens, settings, views)
        return self._router.change(verb, text, tokens, settings, views)

    async def _tidy(self, session: Session, sql: bytes) -> None:
        """Do what the statements before have left to do."""
        if session.leftovers and not _LAST.search(sql):
            names, session.leftovers = session.leftovers, ()
            await session.home.table(f"DROP TEMPORARY TABLE IF EXISTS {', '.join(names)}".encode())
        if self._views_changed or self._mentions.version != self._catalogue.version:
            self._views_changed = False
            await self._find_views()
        self._views_changed = _VIEW.search(sql) is not None  # this statement may make one
        session.temporaries = session.temporaries or _TEMPORARY.search(sql) is not None

    @property
    def version(self) -> int:
        """The version of the catalogue that is known."""
        return self._catalogue.version

    async def refresh(self, known: int) -> bool:
        """Read the catalogue and the views over it again; return whether they are others than in version `known`."""
        await self._catalogue.refresh()
        return await self._find_views() or self._catalogue.version != known

    def start(self) -> None:
        """Begin to look for views that others make."""
        self._watch = asyncio.create_task(self._watch_views(), name="views")

    async def _watch_views(self) -> None:
        while True:
            await asyncio.sleep(VIEWS_S)
            try:
                await self._find_views()
            except (ServerError, ConnectionLost, OSError) as error:
                log.warning("the views cannot be read: %s", type(error).__name__)

    async def _find_views(self) -> bool:
        changed = await self._views.find(self._catalogue.databases)
        if changed:
            self._mentions = classify.Mentions.of({}, -1)
        return changed

    async def _read_settings(self, session: Session) -> SessionSettings:
        return (await self._memory(session)).settings

    async def _memory(self, session: Session) -> Memory:
        if session.settings_dirty or session.id not in self._memories:
            self._memories = {
                key: value for key, value in self._memories.items() if key in self._registry.sessions
            }
            settings = await home_settings.read(session.home)
            self._memories[session.id] = self._shapes.memory(settings)
            session.mode = settings.mode
            session.settings_dirty = False
        return self._memories[session.id]

    async def _under_settings(
        self, session: Session, text: str, tokens: list[Token], settings: SessionSettings, views: Views
    ) -> Route | None:
        """Return who answers the SELECT of a SET STATEMENT; None if it has none."""
        words = [token.upper if token.kind is TokenKind.WORD else "" for token in tokens]
        at = words.index("FOR") + 1 if "FOR" in words else len(tokens)
        if at >= len(tokens) or classify.first_word(tokens[at:]) not in ("SELECT", "WITH", "VALUES"):
            return None
        prefix = text[: tokens[at].start].encode(*settings.encoding)
        inner = await home_settings.read(session.home, prefix)
        rest = text[tokens[at].start :]
        try:
            route = self._router.select(rest, tokenize(rest, inner.mode), inner, views)
        except LexError:
            return Home()
        if isinstance(route, Home):
            return Home(None if route.sql is None else prefix + route.sql)
        return dataclasses.replace(route, prefix=prefix) if isinstance(route, Distributed) else route

    async def _explain(
        self, session: Session, text: str, tokens: list[Token], settings: SessionSettings, views: Views
    ) -> Route:
        first = next((i for i, token in enumerate(tokens[:7]) if i and token.upper in _EXPLAINED), None)
        if first is None:
            return Home()
        at, verb = tokens[first].start, classify.first_word(tokens[first:])
        rest = text[at:]
        try:
            inner = tokenize(rest, settings.mode)
            if verb in ("UPDATE", "DELETE", "INSERT", "REPLACE"):
                route = self._router.change(verb, rest, inner, settings, views)
            else:
                route = self._router.select(rest, inner, settings, views)
        except (SyntaxProblem, LexError):
            return Home()  # which says what is wrong
        if isinstance(route, Home):
            return Home(None if route.sql is None else text[:at].encode(*settings.encoding) + route.sql)
        if not isinstance(route, Distributed):
            return route
        if tokens[0].upper == "ANALYZE" and (route.change is not None or route.envelope is not None):
            raise not_supported(f"ANALYZE of {verb}", "use EXPLAIN")
        await session.home.check(route.native)
        as_json = any(token.upper == "JSON" for token in tokens[:5])
        marks = sum(token.kind is TokenKind.PARAMETER for token in tokens)
        native = explaining.stand_in(as_json, marks).encode(*settings.encoding)
        return dataclasses.replace(route, native=native, explained=Explained(as_json))

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
        if statement.prefix:
            settings = await home_settings.read(session.home, statement.prefix)
        else:
            settings = await self._read_settings(session)
        work = self._run(session, query, statement, parameters, binary, status, settings)
        await self._guarded(session, query, settings.max_seconds, work)

    def shortcut(self, session: Session, sql: bytes) -> Coroutine[None, None, None] | None:
        """Return the work of a look-up whose shape is known, if nothing has changed that matters to it."""
        found = self._find(session, sql)
        return None if found is None else self._look_up(session, sql, *found)

    def take_off(self, session: Session, sql: bytes, landed: Callable[[Flight], bool]) -> Flight | None:
        """Send such a look-up to its agent, if nothing else has to be asked; its query is begun then."""
        found = self._find(session, sql)
        if found is None or found[0].settings.max_seconds:
            return None
        query = self._registry.begin(session.id, session.user, sql.decode("utf-8", "replace"))
        flight = self._quick.begin(*found, query, landed)
        if flight is None:
            self._registry.end(query)
        return flight

    def landed(self, session: Session, flight: Flight) -> None:
        """Account for a look-up that needed no task."""
        query = flight.query
        self._registry.end(query)
        self._metrics.short.inc()
        seconds = time.monotonic() - query.started
        self._account(session, query, "ok", seconds, len(flight.answer.rows), "")

    def adopted(self, session: Session, sql: bytes, flight: Flight) -> Coroutine[None, None, None]:
        """Return the work of a look-up that is on its way."""
        return self._look_up(session, sql, flight.memory, flight.known, flight.key, flight)

    def _find(self, session: Session, sql: bytes) -> tuple[Memory, Known, bytes] | None:
        memory = self._memories.get(session.id)
        if memory is None or session.settings_dirty or session.leftovers or self._views_changed:
            return None
        if self._mentions.version != self._catalogue.version:
            return None
        found = self._shapes.find(memory, self._catalogue.version, sql)
        return None if found is None else (memory, *found)

    async def _look_up(
        self,
        session: Session,
        sql: bytes,
        memory: Memory,
        known: Known,
        key: bytes,
        flight: Flight | None = None,
    ) -> None:
        query, status = self._registry.queries[session.id], session.home.status

        async def work() -> int:
            size = await self._quick.answer(session, query, memory, known, key, status, flight)
            if size is not None:
                self._metrics.short.inc()
                return size
            route = await self.decide(session, sql)
            if not isinstance(route, Distributed):
                raise SkyError(CATALOGUE_CHANGED, database=known.database)
            return await self._run(
                session, query, route, (), False, status, await self._read_settings(session)
            )

        await self._guarded(session, query, memory.settings.max_seconds, work())

    async def _guarded(
        self, session: Session, query: RunningQuery, max_seconds: float, work: Coroutine[None, None, int]
    ) -> None:
        """Run a query within its time, and account for it."""
        started = time.monotonic()
        outcome, size, said = "error", 0, ""
        try:
            async with asyncio.timeout(max_seconds or None):
                size = await work
            outcome = "ok"
        except TimeoutError as error:
            failure = SkyError(TIMEOUT)
            said = failure.message
            raise failure from error
        except ConnectionLost as error:
            failure = SkyError(HOME_DOWN)
            said = failure.message
            raise failure from error
        except (asyncio.CancelledError, ClientGone):
            # Whoever leaves with the whole answer has had it, though tables may still be tidied away.
            outcome = "ok" if session.out.ended else "cancelled"
            raise
        except SkyError as error:
            said = error.message
            raise
        except Exception as error:
            said = "internal error"
            log.exception("query %s failed", query.query_id)
            raise SkyError(INTERNAL, query_id=query.query_id) from error
        finally:
            self._account(session, query, outcome, time.monotonic() - started, size, said)

    def _account(
        self, session: Session, query: RunningQuery, outcome: str, seconds: float, size: int, said: str
    ) -> None:
        if query.user != self._pool.address.user:  # a job is noted as such
            self._jobs.note(query, seconds, outcome, size, said)
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
        session.client.like = await session.home.check(statement.native)
        parameters, around = statement.split(parameters)
        values = await session_values.read(session.home, statement.statement.needs)
        if statement.statement.tree is None and session.temporaries:
            raise not_supported("this statement's syntax in a session that may have temporary tables")
        own = await own_tables.read(session.home, statement.statement.own, session.ship_limit)
        known = None if statement.explained is not None else values
        plan = self._plan(statement, own, planner_values(parameters), settings, known)
        if statement.explained is not None:
            query.strategy = "explain"
            query.rows = await self._explainer.send(
                session, statement.contents, plan, statement.explained.as_json, binary, status
            )
            return 0
        request = Request(
            session=session,
            user=self._jobs.owner(session.id) or session.user,
            query=query,
            contents=statement.contents,
            plan=plan,
            parameters=parameters,
            binary=binary,
            status=status,
            settings=settings,
            variables={name: text for name, text in values.items() if name[0] == "@" and name[1] != "@"},
            shadows=tuple(_shadow(statement.contents, database, table) for database, table in plan.tables),
            now=settings.timestamp or f"{time.time():.6f}",
            shipments=_shipments(statement.contents, plan, own),
            envelope=statement.envelope,
            around=around,
            change=statement.change,
        )
        try:
            async with self._turn(request):
                size = await self._answerer.answer(request)
        except SkyError as error:
            with contextlib.suppress(ServerError):  # tables may be missing because they are being dropped
                await self._filler.unchanged(request, lacking=error.code is FRAGMENT_FAILED)
            raise
        if not binary and not parameters and statement.envelope is None and statement.change is None:
            views = [name for _, name in self._views.names]
            await self._learner.learn(self._memories.get(session.id), request, statement.statement, views)
        return size

    @contextlib.asynccontextmanager
    async def _turn(self, request: Request) -> AsyncIterator[None]:
        """Wait until the user may run one more query of this kind."""
        inner = [plan for plan in explain.scatters(request.plan) if not plan.never]
        if not inner or request.plan.strategy is Strategy.COUNTER:  # nothing is asked of workers
            yield
            return
        interactive = all(one.interactive for one in inner)
        lane = self._admissions.interactive if interactive else self._admissions.scans
        query, asked = request.query, time.monotonic()
        query.strategy = "waiting"
        async with lane.slot(request.user):
            self._metrics.waited.labels("interactive" if interactive else "scan").observe(
                time.monotonic() - asked
            )
            yield

    def _plan(
        self,
        route: Distributed,
        own: tuple[OwnTable, ...],
        values: Sequence[Value],
        settings: SessionSettings,
        session: Mapping[str, str] | None,
    ) -> Plan:
        statement = self._over(route.statement, own)
        if route.change is not None:
            return changes.plan(route.change, statement, values, session)
        stores = route.envelope is not None
        return statement.plan(values, None if stores else settings.limit, session, explicit=stores)

    @staticmethod
    def _over(statement: Statement, own: tuple[OwnTable, ...]) -> Statement:
        if not own:
            return statement
        heavy = frozenset((table.database, table.table.name) for table in own if table.data is None)
        return statement.over(((table.database, table.table) for table in own), heavy)

    async def close(self) -> None:
        """Stop looking for views, and close the service connections."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._answerer.close()
        await self._filler.close()


def _shadow(contents: Contents, database: str, table: Table) -> Shadow:
    if table.kind is Kind.OWN:
        return Shadow(database, table, zlib.crc32(table.ddl.encode()))
    return Shadow(database, table, contents.database(database).version)


def _shipments(contents: Contents, plan: Plan, own: tuple[OwnTable, ...]) -> dict[str, Shipment]:
    known = {(table.database, table.table.name): table for table in own}
    return {
        ship.target: shipment(known[ship.database, ship.table.name], ship, contents.database(inner.database))
        for inner in explain.scatters(plan)
        for ship in inner.ships
    }
