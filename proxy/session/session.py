"""One client's session: commands in order, each relayed home, distributed, or answered here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine

from backend.tasks import ended, to_the_end
from proxy.dynamic import executed
from proxy.home.ending import end_at_home
from proxy.home.link import HomeLink, Trapped, trap_error
from proxy.registry import Registry, RunningQuery
from proxy.session import owned, process_list
from proxy.session.attention import Attention
from proxy.session.client import ClientGone, ClientStream, Reply
from proxy.session.commands import OF_STATEMENT, RELAYED
from proxy.session.diagnostics import MOST_NOTES, QUESTIONS, Diagnostics
from proxy.session.engine import Distributed, Engine, Home, Local
from proxy.session.handshake import Response
from proxy.session.limits import RowLimits, SessionLimits, Usage
from proxy.session.login import Doorkeeper, Login
from proxy.session.prepared import PreparedText
from proxy.session.several import may_set_mode, split
from proxy.session.standing import Standing
from proxy.session.statements import OWN, PreparedStatements
from proxy.session.taskless import Taskless
from shard.catalog.naming import quote
from shard.errors import (
    INTERNAL,
    INTERRUPTED,
    PROTOCOL,
    UNKNOWN_COMMAND,
    ServerError,
    SkyError,
)
from shard.planner.lexer import LexerMode, is_blank
from shard.wire.frames import Parameter
from shard.wire.packets import PacketError
from shard.wire.protocol import Capability, Command
from shard.wire.replies import ErrEvent, ReplyKind

log = logging.getLogger("skyshard.session")

_ATTEND_AFTER_S = 0.1
"""Seconds a query may run before anyone looks whether it is still wanted: that costs more than a look-up."""
_CHANGE_S = 30.0


class Session:
    """A session from its greeting to its end."""

    def __init__(
        self,
        client: ClientStream,
        home: HomeLink,
        engine: Engine,
        registry: Registry,
        door: Doorkeeper,
        usage: Usage,
        limits: SessionLimits = SessionLimits(),  # noqa: B008 - frozen
    ) -> None:
        self.client, self.home = client, home
        self.out: Reply = client
        self._engine, self._registry, self.limits = engine, registry, limits
        self.standing = Standing(usage)
        self._login, self._door = Login(client, home, door, self._enter), door
        self.prepared = PreparedStatements(self, engine)
        self.diagnostics: Diagnostics | None = None
        self._multi = False
        self._idle = False
        self._taskless = Taskless(self, engine, registry)
        self.settings_dirty = True
        self.row_limits = RowLimits()
        self.leftovers: tuple[str, ...] = ()
        self.temporaries = self.locks = False
        self._dismissed: SkyError | None = None
        self.texts: dict[str, PreparedText] = {}
        self.mode = LexerMode()

    @property
    def id(self) -> int:
        """The connection id: the home server's thread id."""
        return self.home.thread_id

    @property
    def rests(self) -> bool:
        """Whether nothing is done for the client, and nothing has come from it."""
        return self._idle and not self._taskless.busy and self.client.wire.quiet

    @property
    def holds(self) -> bool:
        """Whether the client is in the middle of something: a transaction, temporary tables, locks, rows of a cursor."""
        return self.home.in_transaction or self.temporaries or self.locks or self.prepared.reading

    def leave(self) -> None:
        """End a session that rests."""
        self.client.wire.on_gone = None
        self.client.wire.close()

    def dismiss(self, task: asyncio.Task[None], error: SkyError) -> None:
        """End the session, which `task` serves; a statement that runs ends with an error, if that can still be said."""
        query = self._registry.queries.get(self.id)
        if self._idle and not self._taskless.busy:
            self.leave()
        elif query is None and self._dismissed is None:
            self._dismissed = error
            task.cancel()
        elif query is not None and query.reason is None:
            query.cancel(error)

    async def run(self, handshake_s: float) -> None:
        """Greet, authenticate within so many seconds, and serve commands until either side ends."""
        try:
            async with asyncio.timeout(handshake_s):
                said = await self._login.run()
            if said is not None:
                await self._serve_all(said)
        finally:
            self.standing.leave()

    async def _serve_all(self, said: Response) -> None:
        self._multi = bool(said.capabilities & Capability.MULTI_STATEMENTS)
        self.client.limit = min(self.limits.packet_bytes, self._engine.longest_packet)
        self.client.wire.patience_s = self.limits.packet_timeout_s
        self._registry.sessions.add(self.id)
        self.home.on_lost = self._home_lost
        self.client.wire.on_gone = self._client_gone
        self.client.wire.swift = self._taskless.answer
        try:
            while True:
                self._idle = True
                payload = await self.client.command()
                self._idle = False
                if not payload or payload[0] == Command.QUIT:
                    self._idle = True
                    return
                await self._command(payload)
        finally:
            self.home.on_lost = self.client.wire.on_gone = self.client.wire.swift = None
            self._taskless.end()
            self._forget_statements()
            self._registry.sessions.discard(self.id)
            if self._idle:
                self.home.leave()

    def _client_gone(self) -> None:
        if self._idle:
            self.home.leave()
        else:
            self.home.abort()

    def _enter(self, user: str) -> None:
        self.standing.enter(user, self._engine.job_of(user) if self.client.wire.private else None)
        self.client.belongs_to(self.standing.user)

    def _home_lost(self) -> None:
        """The home server has ended an idle session (its timeout, KILL): the client is told what it said."""
        if self._idle:
            self.client.wire.farewell(self.home.unasked())

    def _begin_anew(self) -> None:
        """Forget prepared statements, warnings and limits, as when the session is reset."""
        self._forget_statements()
        self.diagnostics = None
        self.row_limits = RowLimits()

    def _forget_statements(self) -> None:
        self.prepared.forget()
        self.texts.clear()

    async def _command(self, payload: bytes) -> None:
        self.client.more = False
        self._taskless.promise_no_more()
        asks = payload[0] in (Command.QUERY, Command.STMT_PREPARE, Command.STMT_EXECUTE)
        try:
            await self._serve(payload[0], payload)
        except SkyError as error:
            if asks:
                self.diagnostics = Diagnostics.of_error(error.errno, error.message)
            await self.client.error(error)
        except (PacketError, IndexError):
            await self.client.error(SkyError(PROTOCOL))
        except ClientGone:
            raise
        except asyncio.CancelledError:
            if self._dismissed is not None and not self.client.started:
                await end_at_home(self._door.pool, self.id)
                await self.client.error(self._dismissed)
            raise
        except Exception:
            number = self._registry.number()
            log.exception("query %s of session %s: internal error", number, self.id)
            fault = SkyError(INTERNAL, query_id=number)
            if asks:
                self.diagnostics = Diagnostics.of_error(fault.errno, fault.message)
            await self.client.error(fault)
        if self.home.closed:
            raise ClientGone

    async def _serve(self, code: int, payload: bytes) -> None:
        if code == Command.QUERY:
            await self._query(payload[1:])
        elif code == Command.STMT_PREPARE:
            await self.prepared.prepare(payload[1:])
        elif code in OF_STATEMENT:
            await self.prepared.serve(code, payload)
        elif code == Command.CHANGE_USER:
            await self._change_user(payload)
        elif code in RELAYED:
            await self._relayed(code, payload)
        else:
            raise SkyError(UNKNOWN_COMMAND)

    async def _relayed(self, code: int, payload: bytes) -> None:
        if code in (Command.INIT_DB, Command.RESET_CONNECTION):
            self.settings_dirty = True
        if code == Command.RESET_CONNECTION:
            self._begin_anew()
        began = time.monotonic()
        seen = await self.home.relay(payload, RELAYED[code], self.client)
        refused = any(isinstance(event, ErrEvent) for event in seen)
        if code == Command.SET_OPTION and not refused:
            self._multi = payload[1:3] == b"\0\0"
        if code == Command.PROCESS_KILL and not refused:
            self._registry.kill(int.from_bytes(payload[1:5], "little"), began)
        if code == Command.RESET_CONNECTION and not refused:
            self.temporaries = self.locks = False

    async def _change_user(self, payload: bytes) -> None:
        self.settings_dirty = True
        self._begin_anew()
        try:
            async with asyncio.timeout(_CHANGE_S):
                if not await self._login.change(payload):
                    raise ClientGone
        except SkyError as error:  # at home it may be another user's session by now, or half a dialogue
            await self.client.error(error)
            raise ClientGone from None
        except TimeoutError:
            raise ClientGone from None
        self.temporaries = self.locks = False

    # statements ----------------------------------------------------------------------------------

    async def _query(self, sql: bytes) -> None:
        if await self.taken_over(sql):
            return
        known = self._engine.shortcut(self, sql) or await self._engine.shortcut_anew(self, sql)
        if known is not None:
            await self.distributed(sql, known)
            return
        parts = await split(self, sql, self._engine.init_connect)
        if not self._multi and all(is_blank(part, self.mode) for part in parts[1:]):
            del parts[1:]
        if len(parts) == 1:
            await self._statement(parts[0])
        elif not self._multi:
            await self._engine.decide(self, sql)  # a change of a catalogue is refused, whatever else it is
            await self._home(sql)
        elif any(map(self._is_ours, parts)):
            await self._statements(parts)
        else:
            await self._home(sql)

    async def taken_over(self, sql: bytes) -> bool:
        """Go on with what the current command has begun without this task; return False if it has begun nothing."""
        flight = self._taskless.taken_over()
        if flight is None:
            return False
        await self.distributed(sql, self._engine.adopted(self, flight), query=flight.query)
        return True

    async def _statements(self, parts: list[bytes]) -> None:
        """Answer the statements of one packet until one fails."""
        left = deque(parts)
        while left:
            part = left.popleft()
            if left and is_blank(part, self.mode):  # an error, and the home server quotes what follows
                await self._statement(b";".join([part, *left]), alone=False)
                return
            if not await self._statement(part, more=bool(left), alone=False):
                return
            if may_set_mode(part) and any(b"\\" in one for one in left):  # MariaDB reads the rest only now
                left = deque(await split(self, b";".join(left), self._engine.init_connect))

    def _is_ours(self, sql: bytes) -> bool:
        """Whether a statement of several in a packet is one that the proxy may have to answer."""
        return (
            self._engine.concerns(self, sql)
            or OWN.search(sql) is not None
            or (self.diagnostics is not None and QUESTIONS.search(sql) is not None)
        )

    async def _statement(self, sql: bytes, more: bool = False, alone: bool = True) -> bool:
        """Answer one statement; return whether the next of its packet may follow."""
        self.client.more = more
        self.client.begin_reply()
        answer = self.own_answer(sql)
        if answer is not None:
            await answer
            return True
        kept = executed(sql, self.texts, self.mode) if self.texts else None
        async with self.in_database(None if kept is None else kept.under.database):
            return await self._routed(sql, more, alone)

    async def _routed(self, sql: bytes, more: bool, alone: bool) -> bool:
        """Let whoever has to answer a statement; return whether the next of its packet may follow."""
        route = await self._engine.decide(self, sql)
        if route == Home():
            route = Home(await self._engine.with_catalogue_rows(self, sql))
        if isinstance(route, Distributed):
            await self.distributed(sql, self.engine_run(route, (), False))
        elif isinstance(route, Local):
            await self.answered(route)
        elif alone:
            await self._home(sql, route)
        else:
            self.settings_dirty = True
            text = self.filled(sql if route.sql is None else route.sql)
            self.diagnostics = None
            return await self.home.relay_part(text, self.client, more)
        return True

    @contextlib.asynccontextmanager
    async def in_database(self, wanted: str | None) -> AsyncIterator[None]:
        """Have a default database for a while: a prepared statement's names mean what they did when it was prepared."""
        current = None if wanted is None else (await self._engine.settings(self)).database
        if wanted is None or current is None or current == wanted:
            yield
            return
        await self._use(wanted)
        try:
            yield
        finally:
            if not self.home.closed:
                with contextlib.suppress(ServerError):  # it has been dropped: MariaDB would be in none, too
                    await to_the_end(self._use(current))

    async def _use(self, database: str) -> None:
        self.settings_dirty = True
        await self.home.table(f"USE {quote(database)}".encode())

    async def answered(self, route: Local, binary: bool = False) -> None:
        """Answer a statement of skyshard's own."""
        await route.answer(binary)
        self.diagnostics = None if route.at_home else Diagnostics()

    def own_answer(self, sql: bytes, binary: bool = False) -> Coroutine[None, None, None] | None:
        """Return the answer to a statement that the proxy owns: KILL, SHOW PROCESSLIST, SHOW WARNINGS; or None."""
        said = owned.read(sql, self.mode)
        if isinstance(said, owned.Kill):
            return self._kill(sql, said.thread)
        if isinstance(said, owned.ShowProcesses):
            return self._list_processes(sql, said.full, binary)
        if isinstance(said, owned.ShowConditions) and self.diagnostics is not None:
            return self._show(sql, self.diagnostics.show(said), binary)
        return None

    def filled(self, sql: bytes) -> bytes:
        """Return a statement for the home server, its questions about the last statement answered."""
        filled = self.diagnostics.fill_in(sql, self.mode) if self.diagnostics is not None else None
        return sql if filled is None else filled

    async def _home(self, sql: bytes, route: Home = Home()) -> None:  # noqa: B008 - frozen
        """Let the home server answer a packet."""
        self.settings_dirty = True
        text = self.filled(sql if route.sql is None else route.sql)
        kept, self.diagnostics = self.diagnostics, None
        known = self._engine.version
        try:
            await self.home.relay(bytes((Command.QUERY,)) + text, ReplyKind.QUERY, self.client)
        except Trapped:
            if not await self._engine.refresh(known) or not await self._is_ours_now(sql):
                raise trap_error() from None
            self.diagnostics = kept
            await self._query(sql)

    async def _is_ours_now(self, sql: bytes) -> bool:
        """Whether a packet begins with a statement on tables that were published a moment ago.

        If it is still the home server's, it was a routine that read a trap, and must not run again.
        """
        first, *_ = await split(self, sql, self._engine.init_connect)
        return not isinstance(await self._engine.decide(self, first), Home)

    async def _show(self, sql: bytes, rows: list[list[bytes | None]], binary: bool = False) -> None:
        """Answer SHOW WARNINGS from what was kept, under the home server's own columns."""
        found = await self.home.table(sql)
        await self.client.table(found.columns, rows, self.home.status, binary)

    def engine_run(
        self, route: Distributed, parameters: tuple[Parameter, ...], binary: bool
    ) -> Coroutine[None, None, None]:
        """Return the work of a statement on sharded tables."""
        return self._engine.run(self, route, parameters, binary, self.home.status)

    async def distributed(
        self,
        sql: bytes,
        work: Coroutine[None, None, None],
        query: RunningQuery | None = None,
    ) -> None:
        """Run a distributed statement in this task; a kill, a limit or the client's disconnection cancels it.

        What may end it is attended to once it takes long: most look-ups are over by then. One that has begun
        already has its `query`.
        """
        limits = self.standing.limits
        if query is None:
            try:
                self.standing.begin_query()
            except SkyError as error:
                work.close()
                self._engine.refused(self, sql, error)
                raise
            query = self._registry.begin(self.id, self.standing.user, sql.decode("utf-8", "replace"))
        self.client.limit_rows(limits.result_bytes)
        query.task = asyncio.current_task()
        if query.reason is not None:  # it was killed before this task had it
            query.cancel(query.reason)
        attention = Attention(self.client, self.home, self._door.pool, self._engine.locks, self._registry)
        attending: list[asyncio.Task[None]] = []
        seconds = max(0.001, limits.statement_s - _ATTEND_AFTER_S) if limits.statement_s else 0.0
        timer = asyncio.get_running_loop().call_later(
            _ATTEND_AFTER_S,
            lambda: attending.append(asyncio.ensure_future(attention.attend(query, sql, seconds))),
        )
        try:
            await work
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and query.reason is None:
                raise
            if self.out.ended:
                log.warning("query %s: interrupted after its answer", query.query_id)
            elif not isinstance(error, asyncio.CancelledError):
                raise
            elif self.client.gone.is_set() or self.home.closed:
                raise ClientGone from None
            else:
                raise query.reason or SkyError(INTERRUPTED) from None
        finally:
            timer.cancel()
            query.settle()
            self._registry.end(query)
            self.standing.end_query()
            self.client.limit_rows(0)
            await ended(attending)
            if query.reason is not None and not self.home.closed:
                await self._meet_kill()
        self.diagnostics = (
            None if query.at_home else Diagnostics(query.found_rows, query.warnings, query.notes[:MOST_NOTES])
        )

    async def _meet_kill(self) -> None:
        """Let a KILL that found the home connection idle meet a statement of ours: it would look killed till then."""
        with contextlib.suppress(SkyError):
            await self.home.table(b"DO 0")

    # what the proxy owns -------------------------------------------------------------------------

    async def _kill(self, sql: bytes, thread: str) -> None:
        """KILL goes home, which checks that the victim may be killed; then its distributed query ends too."""
        if not thread.isdigit():
            with contextlib.suppress(ServerError):  # KILL itself says what is wrong with it
                ((value,),) = (await self.home.table(f"SELECT {thread}".encode("latin-1"))).rows
                thread = (value or b"").decode("latin-1")
        began = time.monotonic()
        await self.home.table(sql)
        if thread.isdigit():
            self._registry.kill(int(thread), began)
        await self.client.ok(self.home.status)

    async def _list_processes(self, sql: bytes, full: bool, binary: bool) -> None:
        found = await process_list.read(self.home, sql, full, self._registry)
        await self.client.table(found.columns, found.rows, self.home.status, binary)
