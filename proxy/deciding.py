"""Decides who answers a statement: the home server, the agents or the proxy itself.

What a decision needs is asked here (settings, views); what it follows from is in `routes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from functools import partial

from backend.connection import ConnectionLost
from backend.pool import Pool
from proxy import (
    classify,
    dynamic,
    explaining,
    listed,
    setting,
    system_views,
    table_status,
    visible,
    writes,
)
from proxy.aside import Aside
from proxy.home import settings as home_settings
from proxy.home.metadata import Catalogue
from proxy.home.settings import SessionSettings
from proxy.home.views import HomeViews
from proxy.jobs import statements
from proxy.jobs.runner import Jobs
from proxy.memories import Memories
from proxy.registry import Registry
from proxy.route_cache import RouteCache
from proxy.routes import Router
from proxy.session import own_settings, owned
from proxy.session.engine import Distributed, Explained, Home, Local, Route, Version
from proxy.session.owned import ShowListed, ShowTableStatus
from proxy.session.session import Session
from proxy.words import Words, parts, words
from shard.errors import CATALOGUE_CHANGED, NOT_SUPPORTED, ServerError, SkyError, not_supported, too_long
from shard.planner.cutting import behind_for, inner
from shard.planner.fence import SyntaxProblem
from shard.planner.lexer import (
    MOST_TOKENS,
    LexerMode,
    LexError,
    Token,
    TokenKind,
    Tokens,
    tokenize,
    without_end,
)
from shard.planner.views import Views

log = logging.getLogger("skyshard.query")

_LAST = parts(b"row_count", b"found_rows", b"warning", b"errors", b"diagnostics", b"last_insert_id")
"""What asks for what the last statement left behind."""
_TEMPORARY = words(b"temporary", b"call", b"execute")
"""What may make a temporary table of the session, which a service connection does not see."""
_LOCKS = Words(
    rb"(?i)\b(?:(?P<freed>unlock\s+tables?|release_all_locks)|lock\s+tables?|get_lock|with\s+read\s+lock)\b",
    (b"lock",),
)
_VIEW = words(b"view")
_EXPLAINED = frozenset({"SELECT", "WITH", "VALUES", "(", "UPDATE", "DELETE", "INSERT", "REPLACE"})
"""What the statement behind EXPLAIN begins with."""
_QUERIES = frozenset({"SELECT", "WITH", "VALUES", "EXPLAIN", "DESCRIBE", "DESC", "ANALYZE"})
"""What a statement begins with that is a query, or describes one."""
VIEWS_S = 1.0
"""Seconds after which views that were made elsewhere are looked for again; those made here are known at once."""


class Decider:
    """Decides by the session's settings, the catalogue, and the views over it.

    Parameters
    ----------
    memories : Memories
        The settings of sessions, read when they may have changed.
    aside : Aside
        Where long statements are read.
    """

    def __init__(
        self,
        pool: Pool,
        catalogue: Catalogue,
        registry: Registry,
        jobs: Jobs,
        memories: Memories,
        aside: Aside,
    ) -> None:
        self._catalogue, self._aside = catalogue, aside
        self.memories = memories
        self.views = HomeViews(pool)
        self._routes = RouteCache(self.views)
        self._views_changed = True
        self._changes = 0
        self._finding = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._router = Router(catalogue)
        self._mentions = classify.Mentions.of({}, -1)
        self._system = system_views.SystemViews(pool, catalogue, registry)
        self._own_settings = setting.OwnSettings(self._of_catalogue)
        self._dynamic = dynamic.Dynamic(self._concerns, self._of_itself)
        self._about_jobs = statements.Statements(jobs, self._check)

    @property
    def settled(self) -> bool:
        """Whether all is known that decisions need: the present catalogue, and every view that was made here."""
        return not self._views_changed and self._mentions.version == self._catalogue.version

    def view_names(self) -> list[str]:
        """Return the names of the views over sharded tables, without their databases."""
        return [name for _, name in self.views.names]

    def mentions(self, sql: bytes) -> bool:
        """Whether a text could be about sharded tables, or use skyshard's functions."""
        catalogue = self._catalogue
        if self._mentions.version != catalogue.version:
            names = self.views.names | self.views.replicated
            self._mentions = classify.Mentions.of(catalogue.databases, catalogue.version, names)
        return self._mentions.pattern.search(sql) is not None

    def concerns(self, session: Session, sql: bytes) -> bool:
        """Whether a statement could be one that is not the home server's to answer."""
        return (
            self._concerns(sql)
            or system_views.may_read(sql)
            or (bool(session.texts) and dynamic.PATTERN.search(sql) is not None)
        )

    def _concerns(self, sql: bytes) -> bool:
        """Whether a text could be of those that are answered here."""
        return (
            self.mentions(sql)
            or statements.may_be(sql)
            or own_settings.PATTERN.search(sql) is not None
            or isinstance(owned.read(sql, LexerMode()), ShowTableStatus | ShowListed)
        )

    async def with_catalogue_rows(self, session: Session, sql: bytes, lasting: bool = False) -> bytes | None:
        """Return a statement on information_schema with the true rows of sharded tables in it; None if it needs none."""
        if not system_views.may_read(sql):
            return None
        return await self._system.fill(session.home, sql, await self.settings(session), lasting)

    async def decide(self, session: Session, sql: bytes) -> Route:
        """Return who answers a statement."""
        if not statements.may_be(sql) and dynamic.PATTERN.search(sql) is None:
            return await self._decide(session, sql)
        temporaries = session.temporaries
        settings = await self.settings(session)
        try:
            text = sql.decode(*settings.encoding)
            text, tokens = await self._tokens(text, settings)
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
        """Return who answers a PREPARE or EXECUTE: whoever answers its text, if that is about sharded tables."""
        found = await self._dynamic.answer(session, tokens, settings)
        if isinstance(found, Local):
            await self._tidy(session, sql)
            return found
        if found is not None:
            instead = found.encode(*settings.encoding)
            route = await self._of_itself(session, instead)
            if isinstance(route, Distributed | Local) or own_settings.PATTERN.search(instead):
                return route
        return await self._decide(session, sql)

    async def _of_itself(self, session: Session, sql: bytes) -> Route:
        """Return who answers the text that a PREPARE or EXECUTE names; none of those may be in it."""
        if not statements.may_be(sql) or dynamic.STARTS.match(sql):
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
        asked = owned.read(sql, session.mode)
        if isinstance(asked, ShowTableStatus):
            database = asked.database or (await self.settings(session)).database
            return Local(partial(table_status.answer, session, sql, database, self._catalogue))
        if isinstance(asked, ShowListed):
            known = listed.own_values(session, asked)
            return Local(partial(listed.answer, session, sql, asked, known)) if known else Home()
        if own_settings.PATTERN.search(sql) is not None:
            return await self._own_settings.answer(session, sql, await self.settings(session))
        return await self._of_catalogue(session, sql)

    async def _of_catalogue(self, session: Session, sql: bytes) -> Route:
        """Return who answers a statement that is none of skyshard's own."""
        if not self.mentions(sql):
            return Home()
        catalogue, settings = self._catalogue, await self.settings(session)
        try:
            asked = sql.decode(*settings.encoding)
            known = self._routes.get(asked, settings, catalogue.contents)
            if known is not None:
                return known
            text, tokens = await self._tokens(asked, settings)
        except LexError as error:  # the home server runs what is in front, if that is a statement
            await self._check_change(session, sql, error.before, settings)
            return Home()
        except UnicodeDecodeError:
            return Home()
        verb = classify.first_word(tokens)
        await self._check_change(session, sql, tokens, settings)
        seen = self._routes.state(catalogue.contents)
        views = await self.views.definitions(text)
        try:
            if verb in ("SELECT", "WITH", "VALUES"):
                work = partial(self._query_route, text, tokens, settings, views)
                route = await self._aside.run(len(text), work)
                self._routes.keep(asked, settings, seen, route)
                return route
            if verb == "SET" and len(tokens) > 1 and tokens[1].upper == "STATEMENT":
                under = await self._under_settings(session, text, tokens, settings, views)
                if under is not None:
                    return under
        except SkyError as error:
            if error.code is NOT_SUPPORTED and b"scisql_" not in sql and b"qserv_" not in sql:
                await session.home.check(sql)  # MariaDB's own error comes first
            raise
        return await self._otherwise(session, text, tokens, settings, views)

    async def _check_change(
        self, session: Session, sql: bytes, tokens: Tokens, settings: SessionSettings
    ) -> None:
        """Refuse what would change a catalogue."""
        published = writes.Published(self._catalogue.databases, self.views.replicated)
        work = partial(writes.refusal, tokens, settings.database, published, settings.mode)
        refused = await self._aside.run(len(sql), work)
        run = inner(tokens)
        if classify.first_word(run) in ("PREPARE", "EXECUTE") and classify.CHANGES.search(sql):
            refused = writes.dynamic(run, settings.mode, settings.database, published)
        if refused is not None:
            raise await visible.refusal(session, refused, published)

    def _query_route(self, text: str, tokens: list[Token], settings: SessionSettings, views: Views) -> Route:
        stored = self._router.stored(text, tokens, settings, views)
        return stored or self._router.select(text, tokens, settings, views)

    async def renew(self, session: Session, sql: bytes, route: Distributed) -> Distributed:
        """Return the route of a prepared statement, decided anew if the catalogue or a view has changed."""
        if not self.settled or session.leftovers:  # as before any other statement
            await self._tidy(session, sql)
            self.mentions(sql)
        same = own_settings.PATTERN.search(sql) is None and route.contents is self._catalogue.contents
        if same and (not route.views or await self.views.definitions(route.statement.text) == route.views):
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
        work = partial(self._router.change, verb, text, tokens, settings, views)
        return await self._aside.run(len(text), work)

    async def _tokens(self, text: str, settings: SessionSettings) -> tuple[str, Tokens]:
        """Return a statement and its tokens, without the semicolon it ends with.

        Raises
        ------
        SkyError
            1235 for a query on sharded tables of too many of them.
        """

        def work() -> tuple[str, Tokens]:
            tokens = tokenize(text, settings.mode, MOST_TOKENS)
            if tokens.cut:
                databases = self._catalogue.databases
                if classify.first_word(tokens) in _QUERIES and any(
                    classify.sharded_names(tokens, settings.database, databases)
                ):
                    raise too_long(MOST_TOKENS)
                tokens = tokenize(text, settings.mode)
            return without_end(text, tokens, settings.mode)

        return await self._aside.run(len(text), work)

    async def _tidy(self, session: Session, sql: bytes) -> None:
        """Drop what the statement before has left, look for new views, and note what this one may change in the session."""
        if session.leftovers and not _LAST.search(sql):
            names, session.leftovers = session.leftovers, ()
            drop = f"DROP TEMPORARY TABLE IF EXISTS {', '.join(names)}"  # some were never made
            await session.home.table(f"SET STATEMENT sql_notes=0 FOR {drop}".encode())
        if self._views_changed or self._mentions.version != self._catalogue.version:
            self._views_changed = False
            await self._find_views()
        self._views_changed = _VIEW.search(sql) is not None  # this statement may make one
        session.temporaries = session.temporaries or _TEMPORARY.search(sql) is not None
        if (found := _LOCKS.search(sql)) is not None:
            session.locks = found["freed"] is None

    @property
    def version(self) -> Version:
        """What is known of the catalogue, and of the views over it."""
        return self._catalogue.version, self._changes

    async def refresh(self, known: Version) -> bool:
        """Read the catalogue and the views over it again; return whether they are others than in version `known`."""
        await self._catalogue.refresh()
        await self._find_views()  # or the watch has found them meanwhile
        return self.version != known

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

    async def _find_views(self) -> None:
        async with self._finding:  # what an earlier look has seen must not come after a later one's
            changed = await self.views.find(self._catalogue.databases)
        if changed:
            self._changes += 1
            self._mentions = classify.Mentions.of({}, -1)

    async def settings(self, session: Session) -> SessionSettings:
        """Return a session's settings, read anew if they may have changed."""
        return (await self.memories.of(session)).settings

    async def _under_settings(
        self, session: Session, text: str, tokens: list[Token], settings: SessionSettings, views: Views
    ) -> Route | None:
        """Return who answers the SELECT of a SET STATEMENT; None if it has none."""
        at = behind_for(tokens)
        if not 0 < at < len(tokens) or classify.first_word(tokens[at:]) not in ("SELECT", "WITH", "VALUES"):
            return None
        prefix = text[: tokens[at].start].encode(*settings.encoding)
        within = (await home_settings.read(session.home, prefix)).read_as(settings)
        rest = text[tokens[at].start :]
        try:
            route = self._router.select(rest, tokenize(rest, within.mode), within, views)
        except LexError:
            return Home()
        if isinstance(route, Home):
            return Home(None if route.sql is None else prefix + route.sql)
        return (
            dataclasses.replace(route, prefix=prefix, settings=settings)
            if isinstance(route, Distributed)
            else route
        )

    async def _explain(
        self, session: Session, text: str, tokens: list[Token], settings: SessionSettings, views: Views
    ) -> Route:
        first = next((i for i, token in enumerate(tokens[:7]) if i and token.upper in _EXPLAINED), None)
        if first is None:
            return Home()
        at, verb = tokens[first].start, classify.first_word(tokens[first:])
        rest = text[at:]
        try:
            behind = tokenize(rest, settings.mode)
            if verb in ("UPDATE", "DELETE", "INSERT", "REPLACE"):
                work = partial(self._router.change, verb, rest, behind, settings, views)
            else:
                work = partial(self._router.select, rest, behind, settings, views)
            route = await self._aside.run(len(rest), work)
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

    async def close(self) -> None:
        """Stop looking for views."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
