"""Runs distributed statements: the thread through all parts.

One query, in order: settings → check at home → plan → definitions → chunks → job → rows or merge.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import partial

from backend.connection import ConnectionLost
from backend.pool import Pool
from proxy import explaining
from proxy.answer import Answerer
from proxy.aside import Aside
from proxy.config import ProxyConfig
from proxy.deciding import Decider
from proxy.execute.admission import Admissions
from proxy.execute.dispatcher import Dispatcher
from proxy.fill import Filler
from proxy.home import own_tables, session_values
from proxy.home import settings as home_settings
from proxy.home.definitions import Shadow
from proxy.home.metadata import Catalogue, CatalogueSnapshot
from proxy.home.own_tables import OwnTable
from proxy.home.settings import SessionSettings
from proxy.home.watch_locks import WatchLocks
from proxy.jobs.accounts import Lent
from proxy.jobs.runner import Jobs
from proxy.learning import Learner
from proxy.memories import Memories
from proxy.metrics import Metrics
from proxy.quick import Flight, Quick
from proxy.registry import Registry, RunningQuery
from proxy.request import Request
from proxy.session.client import ClientGone
from proxy.session.engine import Distributed, Route, Version
from proxy.session.prepared import Executed, planner_values
from proxy.session.session import Session
from proxy.shapes import LookUp, Shapes
from shard.catalog.model import Kind, Table
from shard.errors import (
    CATALOGUE_CHANGED,
    FRAGMENT_FAILED,
    HOME_DOWN,
    INTERNAL,
    TIMEOUT,
    TOO_DEEP,
    ErrorCode,
    ServerError,
    SkyError,
    not_supported,
)
from shard.planner import change as changes
from shard.planner import explain
from shard.planner.constants import Value
from shard.planner.lexer import opening_word
from shard.planner.plan import Plan, Strategy
from shard.planner.statement import Statement
from shard.wire import frames

log = logging.getLogger("skyshard.query")

_NOTED = frozenset({"SELECT", "WITH", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE", "SUBMIT"})
"""What a statement begins with whose refusal is noted."""
_TOLD_AS: Mapping[type[Exception], ErrorCode] = {
    TimeoutError: TIMEOUT,
    ConnectionLost: HOME_DOWN,
    RecursionError: TOO_DEEP,  # what could be read may yet be too deep to be written
}
"""What may end a query from outside, and the error that its client gets."""


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
        self._jobs = jobs
        self._filler = Filler(config, pool, catalogue, dispatcher)
        self._answerer = Answerer(self._filler, pool.sibling(config.service_connections))
        self._explainer = explaining.Explainer(pool, catalogue)
        self._shapes = Shapes()
        self._memories = Memories(registry, self._shapes)
        self._aside = Aside()
        self.locks = WatchLocks(pool)
        self._decider = Decider(pool, catalogue, registry, jobs, self._memories, self._aside)
        self._quick = Quick(pool, catalogue, dispatcher)
        self._learner = Learner(self._shapes, self._filler, catalogue)

    @property
    def version(self) -> Version:
        """What is known of the catalogue, and of the views over it."""
        return self._decider.version

    @property
    def init_connect(self) -> bool:
        """Whether the home server begins users' sessions with statements of its own."""
        return self._catalogue.init_connect

    @property
    def longest_packet(self) -> int:
        """Bytes of the longest command that the home server takes."""
        return self._catalogue.longest_packet

    def start(self) -> None:
        """Begin to look for views that others make."""
        self._decider.start()

    def job_of(self, name: str) -> Lent | None:
        """Return what was lent to a job that logs in by this name; None if none does."""
        return self._jobs.lent(name)

    async def settings(self, session: Session) -> SessionSettings:
        """Return a session's settings, read anew if they may have changed."""
        return await self._decider.settings(session)

    def concerns(self, session: Session, sql: bytes) -> bool:
        """Whether a statement could be one that is not the home server's to answer."""
        return self._decider.concerns(session, sql)

    async def refresh(self, known: Version) -> bool:
        """Read the catalogue and the views over it again; return whether they are others than in version `known`."""
        return await self._decider.refresh(known)

    async def with_catalogue_rows(self, session: Session, sql: bytes, lasting: bool = False) -> bytes | None:
        """Return a statement on information_schema with the true rows of sharded tables in it; None if it needs none."""
        return await self._decider.with_catalogue_rows(session, sql, lasting)

    async def renew(self, session: Session, sql: bytes, route: Distributed) -> Distributed:
        """Return the route of a prepared statement, decided anew if what it was decided from has changed."""
        return await self._decider.renew(session, sql, route)

    async def decide(self, session: Session, sql: bytes) -> Route:
        """Return who answers a statement."""
        try:
            return await self._decider.decide(session, sql)
        except SkyError as error:
            self.refused(session, sql, error)
            raise

    def refused(self, session: Session, sql: bytes, error: SkyError) -> None:
        """Note a query that was refused before it began; other statements may have passwords in them."""
        if session.standing.job is None and opening_word(sql) in _NOTED:
            query = RunningQuery(0, session.id, session.standing.user, sql.decode("utf-8", "replace"))
            self._jobs.note(query, 0.0, "error", 0, error.message)

    async def close(self) -> None:
        """Stop looking for views, and close connections."""
        await self._decider.close()
        self._aside.close()
        await self.locks.close()
        await self._answerer.close()
        await self._filler.close()

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
        settings = await self._decider.settings(session)
        if statement.prefix:
            settings = (await home_settings.read(session.home, statement.prefix)).read_as(settings)
        work = self._run(session, query, statement, parameters, binary, status, settings)
        await self._guarded(session, query, settings.max_seconds, work)

    def shortcut(self, session: Session, asked: bytes | Executed) -> Coroutine[None, None, None] | None:
        """Return the work of a look-up whose shape is known, if nothing has changed that matters to it."""
        found = self._find(session, asked)
        return None if found is None else self._look_up(session, found)

    async def shortcut_anew(
        self, session: Session, asked: bytes | Executed
    ) -> Coroutine[None, None, None] | None:
        """Like `shortcut`, but first re-reads the session's settings, which may have changed."""
        if not session.settings_dirty or session.leftovers or not self._shapes.may_know(asked):
            return None
        if not self._decider.settled or (isinstance(asked, bytes) and not self._decider.mentions(asked)):
            return None
        await self._memories.for_look_up(session, self._shapes.likely(self._catalogue.version, asked))
        return self.shortcut(session, asked)

    def take_off(
        self, session: Session, asked: bytes | Executed, landed: Callable[[Flight], bool]
    ) -> Flight | None:
        """Begin a look-up without a task; None, and nothing begun, if it is none or something else must be asked first."""
        found = self._find(session, asked)
        if found is None or found.memory.settings.max_seconds:
            return None
        sql = asked if isinstance(asked, bytes) else asked.text
        query = self._registry.begin(session.id, session.standing.user, sql.decode("utf-8", "replace"))
        flight = self._quick.begin(found, query, landed)
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

    def adopted(self, session: Session, flight: Flight) -> Coroutine[None, None, None]:
        """Return the work of a look-up that is on its way."""
        return self._look_up(session, flight.look_up, flight)

    def _find(self, session: Session, asked: bytes | Executed) -> LookUp | None:
        memory = self._memories.known(session)
        if memory is None or session.leftovers or not self._decider.settled:
            return None
        return self._shapes.find(memory, self._catalogue.version, asked)

    async def _look_up(self, session: Session, look_up: LookUp, flight: Flight | None = None) -> None:
        query, status = self._registry.queries[session.id], session.home.status

        async def work() -> int:
            size = await self._quick.answer(session, query, look_up, status, flight)
            if size is not None:
                self._metrics.short.inc()
                return size
            route, parameters = await self._anew(session, look_up)
            settings, binary = await self._decider.settings(session), look_up.shape.job.binary
            return await self._run(session, query, route, parameters, binary, status, settings)

        await self._guarded(session, query, look_up.memory.settings.max_seconds, work())

    async def _anew(
        self, session: Session, look_up: LookUp
    ) -> tuple[Distributed, tuple[frames.Parameter, ...]]:
        """Return how a look-up is answered in the ordinary way."""
        asked = look_up.asked
        if not isinstance(asked, bytes):
            route = asked.prepared.route = await self.renew(session, asked.text, asked.route)
            return route, asked.parameters
        decided = await self._decider.decide(session, asked)  # a refusal is noted as this query's end
        if not isinstance(decided, Distributed):
            raise SkyError(CATALOGUE_CHANGED, database=look_up.shape.database)
        return decided, ()

    async def _guarded(
        self, session: Session, query: RunningQuery, max_seconds: float, work: Coroutine[None, None, int]
    ) -> None:
        """Run a query within its time, and account for it."""
        started = time.monotonic()
        outcome, size, said = "error", 0, ""
        try:
            if max_seconds:
                query.deadline = started + max_seconds
                async with asyncio.timeout(max_seconds):
                    size = await work
            else:
                size = await work
            outcome = "ok"
        except (asyncio.CancelledError, ClientGone):
            # Whoever leaves with the whole answer has had it, though tables may still be tidied away.
            outcome = "ok" if session.out.ended else "cancelled"
            raise
        except SkyError as error:
            said = error.message
            if error.code is INTERNAL:
                log.exception("query %s of session %s: internal error", query.query_id, session.id)
            raise
        except tuple(_TOLD_AS) as error:
            failure = SkyError(next(code for kind, code in _TOLD_AS.items() if isinstance(error, kind)))
            said = failure.message
            raise failure from error
        except Exception as error:
            said = "internal error"
            log.exception("query %s of session %s: internal error", query.query_id, session.id)
            raise SkyError(INTERNAL, query_id=query.query_id) from error
        finally:
            self._account(session, query, outcome, time.monotonic() - started, size, said)

    def _account(
        self, session: Session, query: RunningQuery, outcome: str, seconds: float, size: int, said: str
    ) -> None:
        if session.standing.job is None:  # a job is noted as such
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
        session.client.home_columns = await session.home.check(statement.native)
        parameters, around = statement.split(parameters)
        values = await session_values.read(session.home, statement.statement.needs)
        if statement.statement.tree is None and session.temporaries:
            raise not_supported(
                "this statement's syntax in a session that may have temporary tables", "open a new connection"
            )
        limits = statement.limits or session.row_limits
        own = await own_tables.read(session.home, statement.statement.own, limits.ship)
        plan = await self._aside.run(
            len(statement.statement.text),
            partial(self._plan, statement, own, planner_values(parameters), settings, values),
        )
        if statement.explained is not None:
            query.strategy = "explain"
            query.rows = await self._explainer.send(
                session, statement.contents, plan, statement.explained.as_json, binary, status
            )
            return 0
        request = Request(
            session=session,
            user=session.standing.user,
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
            shipments=await own_tables.shipments(self._pool, statement.contents, explain.scatters(plan), own),
            envelope=statement.envelope,
            around=around,
            change=statement.change,
            gather_limit=limits.gather,
        )
        try:
            async with self._turn(request):
                size = await self._answerer.answer(request)
        except SkyError as error:
            with contextlib.suppress(ServerError):  # tables may be missing because they are being dropped
                await self._filler.unchanged(request, lacking=error.code is FRAGMENT_FAILED)
            raise
        await self._learner.learn(
            self._memories.known(session), request, statement, self._decider.view_names()
        )
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
        session: Mapping[str, str],
    ) -> Plan:
        statement = self._over(route.statement, own)
        known = session if route.explained is None else None  # in what is shown, they stay expressions
        if route.change is not None:
            return changes.plan(route.change, statement, values, known)
        stores = route.envelope is not None
        limit = None if stores else settings.limit
        return statement.plan(values, limit, known, explicit=stores, shown=session)

    @staticmethod
    def _over(statement: Statement, own: tuple[OwnTable, ...]) -> Statement:
        if not own:
            return statement
        heavy = frozenset((table.database, table.table.name) for table in own if table.data is None)
        return statement.over(((table.database, table.table) for table in own), heavy)


def _shadow(contents: CatalogueSnapshot, database: str, table: Table) -> Shadow:
    if table.kind is Kind.OWN:
        return Shadow(database, table, zlib.crc32(table.ddl.encode()))
    return Shadow(database, table, contents.database(database).version)
