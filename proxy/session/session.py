"""One client's session: commands in order, each relayed home, distributed, or answered here."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import re
import time
from collections.abc import Callable, Coroutine

from backend.tasks import ended
from proxy.home.link import HomeLink, Trapped, trap_error
from proxy.quick import Flight, limited
from proxy.registry import Registry, RunningQuery
from proxy.session.attention import Attention
from proxy.session.client import ClientGone, ClientStream, Reply
from proxy.session.cursor import Cursor
from proxy.session.diagnostics import MOST_NOTES, QUESTIONS, Diagnostics
from proxy.session.engine import Distributed, Engine, Home, Local
from proxy.session.handshake import MULTI_STATEMENTS, Response
from proxy.session.limits import SessionLimits, Usage
from proxy.session.login import Doorkeeper, Login
from proxy.session.prepared import Prepared, PreparedText
from proxy.session.rows import binary_row, text_row
from shard.errors import (
    INTERNAL,
    INTERRUPTED,
    NO_CURSOR,
    PROTOCOL,
    UNKNOWN_COMMAND,
    ServerError,
    SkyError,
)
from shard.planner.lexer import LexerMode, is_blank, split_statements
from shard.wire.frames import Parameter
from shard.wire.packets import ColumnDefinition, PacketError, packet
from shard.wire.replies import ErrEvent, PreparedEvent, ReplyKind

log = logging.getLogger("skyshard.session")
DEFAULT_SHIP_LIMIT = 16 << 20
"""Bytes of a user's own table up to which it is sent to the workers (session setting skyshard_ship_limit)."""
DEFAULT_GATHER_LIMIT = 256 << 20
"""Bytes of rows that one query may bring home (session setting skyshard_gather_limit)."""

COM_QUIT, COM_INIT_DB, COM_QUERY, COM_FIELD_LIST, COM_STATISTICS, COM_PROCESS_KILL = 1, 2, 3, 4, 9, 12
COM_REFRESH, COM_PROCESS_INFO, COM_DEBUG = 7, 10, 13
COM_PING, COM_CHANGE_USER, COM_PREPARE, COM_EXECUTE, COM_LONG_DATA = 14, 17, 22, 23, 24
COM_CLOSE, COM_RESET, COM_SET_OPTION, COM_FETCH, COM_RESET_CONNECTION = 25, 26, 27, 28, 31
_SIMPLE = frozenset(
    {COM_INIT_DB, COM_REFRESH, COM_PROCESS_KILL, COM_DEBUG, COM_PING, COM_SET_OPTION, COM_RESET_CONNECTION}
)
_RELAYED = {
    COM_FIELD_LIST: ReplyKind.FIELD_LIST, COM_STATISTICS: ReplyKind.STATISTICS, COM_PROCESS_INFO: ReplyKind.QUERY,
    **dict.fromkeys(_SIMPLE, ReplyKind.SIMPLE),
}  # fmt: skip
_KILL = re.compile(
    rb"\s*(?>/\*.*?\*/\s*)*+KILL\s+(?:/\*!\d*\s*)?(?:HARD\s+|SOFT\s+)?(?P<what>QUERY\s+|CONNECTION\s+)?(?:\*/\s*)?(?P<id>\d+)\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_PROCESSLIST = re.compile(
    rb"\s*(?>/\*.*?\*/\s*)*+SHOW\s+(?:FULL\s+)?PROCESSLIST\s*\Z", re.IGNORECASE | re.DOTALL
)
_READ_ONLY_CURSOR = 1
_OF_STATEMENT = frozenset({COM_EXECUTE, COM_LONG_DATA, COM_CLOSE, COM_RESET, COM_FETCH})
_LAST_PREPARED = b"\xff\xff\xff\xff"
"""MariaDB's clients send COM_STMT_EXECUTE without waiting for the number that COM_STMT_PREPARE returns."""
_ATTEND_AFTER_S = 0.01
"""Seconds a query may run before anyone looks whether it is still wanted."""
_OWN = re.compile(rb"(?i)\b(?:kill|processlist|warnings|errors)\b")
_NEVER_PREPARED = re.compile(rb"(?i)\s*(?:prepare|execute|deallocate)\b")
"""MariaDB's own error (1295) comes for these."""
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
        self._engine, self._registry, self._usage, self._limits = engine, registry, usage, limits
        self._login, self._door = Login(client, home, door, self._enter), door
        self._prepared: dict[int, Prepared] = {}
        self._asked: dict[int, bytes] = {}
        self._last_prepared: int | None = None
        self._diagnostics: Diagnostics | None = None
        self._multi = False
        self._idle = False
        self._flight: Flight | None = None
        self._asked_now = b""
        self._counted: str | None = None
        self.user = ""
        self.settings_dirty = True
        self.gather_limit = DEFAULT_GATHER_LIMIT
        self.ship_limit = DEFAULT_SHIP_LIMIT
        self.leftovers: tuple[str, ...] = ()
        self.temporaries = False
        self.texts: dict[str, PreparedText] = {}
        self.mode = LexerMode()

    @property
    def id(self) -> int:
        """The connection id: the home server's thread id."""
        return self.home.thread_id

    async def run(self, handshake_s: float) -> None:
        """Greet, authenticate within so many seconds, and serve commands until either side ends."""
        try:
            async with asyncio.timeout(handshake_s):
                said = await self._login.run()
            if said is not None:
                await self._serve_all(said)
        finally:
            self._leave()

    async def _serve_all(self, said: Response) -> None:
        self._multi = bool(said.capabilities & MULTI_STATEMENTS)
        self.client.limit = self._limits.packet_bytes
        self._registry.sessions.add(self.id)
        self.home.on_lost = self._home_lost
        self.client.wire.on_gone = self.home.abort
        self.client.wire.swift = self._swift
        try:
            while True:
                self._idle = True
                payload = await self.client.command()
                self._idle = False
                if not payload or payload[0] == COM_QUIT:
                    return
                await self._command(payload)
        finally:
            self.home.on_lost = self.client.wire.on_gone = self.client.wire.swift = None
            self._end_flight()
            self._forget_statements()
            self._registry.sessions.discard(self.id)

    # look-ups without a task ----------------------------------------------------------------------

    def _swift(self) -> bool:
        """Begin to answer what has come while no command is served, if that needs no task; return whether it did."""
        if self._flight is not None:  # something else comes, and may have to end it
            self._flight.hand_over()
            return False
        asked = self.client.wire.whole()
        if asked is None or asked[4] != COM_QUERY or self.home.closed or not self.client.wire.ready:
            return False
        if self._usage.of(self.user).result_bytes:
            return False
        flight = self._engine.take_off(self, asked[5:], self._landed)
        if flight is None:
            return False
        try:
            self._usage.begin(self.user)
        except SkyError:
            self._registry.end(flight.query)
            flight.abandon()
            return False
        self._flight, self._asked_now = flight, asked
        flight.adopt = self.client.wire.wake
        return True

    def _landed(self, flight: Flight) -> bool:
        """Give the client the answer of a look-up; return False if the task must."""
        if not self.client.wire.ready or self.home.closed:
            return False
        query, known = flight.query, flight.known
        self._flight = None
        rows = limited(query, known, flight.answer)
        self.client.post_whole(self._asked_now, known.columns, rows, query.warnings, self.home.status)
        self._usage.end(self.user)
        self._engine.landed(self, flight)
        self._diagnostics = Diagnostics(query.rows, query.warnings, query.notes)
        return True

    def _end_flight(self) -> None:
        """End a look-up whose session ends before its task could go on with it."""
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.abandon()
            self._registry.end(flight.query)
            self._usage.end(self.user)

    def _enter(self, user: str) -> None:
        self._leave()
        self._usage.enter(user)
        self.user = self._counted = user

    def _leave(self) -> None:
        if self._counted is not None:
            self._usage.leave(self._counted)
            self._counted = None

    def _home_lost(self) -> None:
        """The home server has ended an idle session (its timeout, KILL): the client is told what it said."""
        if self._idle:
            self.client.wire.farewell(self.home.unasked())

    def _forget_statements(self) -> None:
        for prepared in self._prepared.values():
            prepared.close_cursor()
        self._prepared.clear()
        self._asked.clear()
        self.texts.clear()

    async def _command(self, payload: bytes) -> None:
        self.client.more = False
        asks = payload[0] in (COM_QUERY, COM_PREPARE, COM_EXECUTE)
        try:
            await self._serve(payload[0], payload)
        except SkyError as error:
            if asks:
                self._diagnostics = Diagnostics.of_error(error.errno, error.message)
            await self.client.error(error)
        except (PacketError, IndexError):
            await self.client.error(SkyError(PROTOCOL))
        except ClientGone:
            raise
        except Exception:
            log.exception("session %s: internal error", self.id)
            await self.client.error(SkyError(INTERNAL, query_id=self.id))
        if self.home.closed:
            raise ClientGone

    async def _serve(self, code: int, payload: bytes) -> None:
        if code in _OF_STATEMENT and payload[1:5] == _LAST_PREPARED and self._last_prepared is not None:
            payload = payload[:1] + self._last_prepared.to_bytes(4, "little") + payload[5:]
        if code == COM_QUERY:
            await self._query(payload[1:])
        elif code == COM_PREPARE:
            await self._prepare(payload[1:])
        elif code == COM_EXECUTE:
            await self._execute(payload)
        elif code == COM_LONG_DATA:
            await self._long_data(payload)
        elif code == COM_CLOSE:
            closed = self._prepared.pop(_statement_id(payload), None)
            self._asked.pop(_statement_id(payload), None)
            if closed is not None:
                closed.close_cursor()
            await self.home.send(packet(payload, 0))
        elif code == COM_RESET:
            self._reset(_statement_id(payload))
            await self.home.relay(payload, ReplyKind.SIMPLE, self.client)
        elif code == COM_FETCH:
            await self._fetch(payload)
        elif code == COM_CHANGE_USER:
            await self._change_user(payload)
        elif code in _RELAYED:
            await self._relayed(code, payload)
        else:
            raise SkyError(UNKNOWN_COMMAND)

    async def _relayed(self, code: int, payload: bytes) -> None:
        if code in (COM_INIT_DB, COM_RESET_CONNECTION):
            self.settings_dirty = True
        if code == COM_RESET_CONNECTION:
            self._forget_statements()
            self._diagnostics = None
        seen = await self.home.relay(payload, _RELAYED[code], self.client)
        refused = any(isinstance(event, ErrEvent) for event in seen)
        if code == COM_SET_OPTION and not refused:
            self._multi = payload[1:3] == b"\0\0"
        if code == COM_PROCESS_KILL and not refused:
            self._cancel(int.from_bytes(payload[1:5], "little"))

    async def _change_user(self, payload: bytes) -> None:
        self.settings_dirty = True
        self._forget_statements()
        self._diagnostics = None
        try:
            async with asyncio.timeout(_CHANGE_S):
                if not await self._login.change(payload):
                    raise ClientGone
        except TimeoutError:
            raise ClientGone from None

    # statements ----------------------------------------------------------------------------------

    async def _query(self, sql: bytes) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            await self._distributed(sql, self._engine.adopted(self, sql, flight), query=flight.query)
            return
        known = self._engine.shortcut(self, sql)
        if known is not None:
            await self._distributed(sql, known)
            return
        parts = split_statements(sql, self.mode)
        if not self._multi and all(is_blank(part, self.mode) for part in parts[1:]):
            del parts[1:]
        if len(parts) == 1:
            await self._statement(parts[0])
        elif not self._multi or not self._is_ours(sql):
            await self._home(sql)
        else:
            await self._statements(parts)

    async def _statements(self, parts: list[bytes]) -> None:
        """Answer the statements of one packet until one fails."""
        last = len(parts) - 1
        for number, part in enumerate(parts):
            if number < last and is_blank(
                part, self.mode
            ):  # an error, and the home server quotes what follows
                await self._statement(b";".join(parts[number:]), alone=False)
                return
            if not await self._statement(part, more=number < last, alone=False):
                return

    def _is_ours(self, sql: bytes) -> bool:
        """Whether a packet of several statements has one that the proxy may answer."""
        return (
            self._engine.mentions(sql)
            or _OWN.search(sql) is not None
            or (self._diagnostics is not None and QUESTIONS.search(sql) is not None)
        )

    async def _statement(self, sql: bytes, more: bool = False, alone: bool = True) -> bool:
        """Answer one statement; return whether the next of its packet may follow."""
        self.client.more = more
        self.client.begin_reply()
        answer = self._own_answer(sql)
        if answer is not None:
            await answer()
            return True
        route = await self._engine.decide(self, sql)
        if route == Home():
            route = Home(await self._engine.with_truth(self, sql))
        if isinstance(route, Distributed):
            await self._distributed(sql, self._engine_run(route, (), False))
        elif isinstance(route, Local):
            await route.answer()
            self._diagnostics = Diagnostics()
        elif alone:
            await self._home(sql, route)
        else:
            self.settings_dirty = True
            text = self._filled(sql if route.sql is None else route.sql)
            self._diagnostics = None
            return await self.home.relay_part(text, self.client, more)
        return True

    def _own_answer(self, sql: bytes) -> Callable[[], Coroutine[None, None, None]] | None:
        kill = _KILL.match(sql)
        if kill is not None:
            number = int(kill["id"])
            return lambda: self._kill(sql, number)
        if _PROCESSLIST.match(sql):
            return lambda: self._processlist(sql)
        shown = self._diagnostics.show(sql) if self._diagnostics is not None else None
        if shown is not None:
            rows = shown.rows
            return lambda: self._show(sql, rows)
        return None

    def _filled(self, sql: bytes) -> bytes:
        """Return a statement for the home server, its questions about the last statement answered."""
        filled = self._diagnostics.fill_in(sql, self.mode) if self._diagnostics is not None else None
        return sql if filled is None else filled

    async def _home(self, sql: bytes, route: Home = Home()) -> None:  # noqa: B008 - frozen
        """Let the home server answer a packet."""
        self.settings_dirty = True
        text = self._filled(sql if route.sql is None else route.sql)
        kept, self._diagnostics = self._diagnostics, None
        known = self._engine.version
        try:
            await self.home.relay(bytes((COM_QUERY,)) + text, ReplyKind.QUERY, self.client)
        except Trapped:
            if not await self._engine.refresh(known):
                raise trap_error() from None
            self._diagnostics = kept
            await self._statement(sql)  # the table was published a moment ago

    async def _show(self, sql: bytes, rows: list[list[bytes | None]], binary: bool = False) -> None:
        """Answer SHOW WARNINGS from what was kept, under the home server's own columns."""
        found = await self.home.table(sql)
        await self.client.columns(found.columns, self.home.status)
        kinds = [ColumnDefinition.decode(column).type for column in found.columns]
        for row in rows:
            await self.client.packet(binary_row(row, kinds) if binary else text_row(row))
        await self.client.end(0, self.home.status)

    def _engine_run(
        self, route: Distributed, parameters: tuple[Parameter, ...], binary: bool
    ) -> Coroutine[None, None, None]:
        return self._engine.run(self, route, parameters, binary, self.home.status)

    async def _distributed(
        self,
        sql: bytes,
        work: Coroutine[None, None, None],
        out: Reply | None = None,
        query: RunningQuery | None = None,
    ) -> None:
        """Run a distributed statement in this task; a kill, a limit or the client's disconnection cancels it.

        What may end it is attended to once it takes long: most look-ups are over by then. One that has begun
        already has its `query`.
        """
        limits = self._usage.of(self.user)
        if query is None:
            try:
                self._usage.begin(self.user)
            except SkyError:
                work.close()
                raise
            query = self._registry.begin(self.id, self.user, sql.decode("utf-8", "replace"))
        self.client.limit_rows(limits.result_bytes)
        query.task = asyncio.current_task()
        if query.reason is not None:  # it was killed before this task had it
            query.cancel(query.reason)
        attention = Attention(self.client, self.home, self._door.pool)
        attending: list[asyncio.Task[None]] = []
        timer = asyncio.get_running_loop().call_later(
            _ATTEND_AFTER_S,
            lambda: attending.append(asyncio.ensure_future(attention.attend(query, sql, limits.statement_s))),
        )
        try:
            await work
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and query.reason is None:
                raise
            if (out or self.client).ended:
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
            self._usage.end(self.user)
            self.client.limit_rows(0)
            await ended(attending)
            if query.reason is not None and not self.home.closed:
                await self._meet_kill()
        self._diagnostics = (
            None if query.at_home else Diagnostics(query.rows, query.warnings, query.notes[:MOST_NOTES])
        )

    async def _meet_kill(self) -> None:
        """Let a KILL that found the home connection idle meet a statement of ours: it would look killed till then."""
        with contextlib.suppress(ServerError, SkyError):
            await self.home.table(b"DO 0")

    # prepared statements -------------------------------------------------------------------------

    async def _prepare(self, sql: bytes) -> None:
        self._last_prepared = None
        route = Home() if _NEVER_PREPARED.match(sql) else await self._engine.decide(self, sql)
        if route == Home():
            route = Home(await self._engine.with_truth(self, sql, lasting=True))
        native = sql
        if isinstance(route, Distributed):
            native = route.native
        elif isinstance(route, Home) and route.sql is not None:
            native = route.sql
        elif isinstance(route, Local):
            raise SkyError(UNKNOWN_COMMAND)
        seen = await self.home.relay(bytes((COM_PREPARE,)) + native, ReplyKind.PREPARE, self.client)
        for event in seen:
            if isinstance(event, PreparedEvent):
                self._last_prepared = event.statement_id
            if isinstance(event, PreparedEvent) and isinstance(route, Distributed):
                self._prepared[event.statement_id] = Prepared(sql, route, event.parameters)
            elif isinstance(event, PreparedEvent) and (_OWN.search(sql) or QUESTIONS.search(sql)):
                self._asked[event.statement_id] = sql

    async def _execute(self, payload: bytes) -> None:
        prepared = self._prepared.get(_statement_id(payload))
        if prepared is None:
            if not await self._execute_question(payload):
                await self._execute_at_home(payload)
            return
        prepared.close_cursor()
        prepared.distributed = await self._engine.renew(self, prepared.text, prepared.distributed)
        parameters = prepared.bind(payload)
        if not payload[5] & _READ_ONLY_CURSOR:
            await self._distributed(prepared.text, self._engine_run(prepared.distributed, parameters, True))
            return
        limits = self._usage.of(self.user)
        cursor = Cursor(min(self._limits.cursor_bytes, limits.result_bytes or self._limits.cursor_bytes))
        aside = copy.copy(self)
        aside.out = cursor
        try:
            await self._distributed(
                prepared.text, aside._engine_run(prepared.distributed, parameters, True), cursor
            )
            prepared.cursor = cursor
            await cursor.open(self.client, self.home.status)
        except BaseException:
            prepared.cursor = None
            cursor.close()
            raise

    async def _execute_at_home(self, payload: bytes) -> None:
        self.settings_dirty = True
        self._diagnostics = None
        try:
            await self.home.relay(payload, ReplyKind.QUERY, self.client)
        except Trapped:
            raise trap_error() from None

    async def _execute_question(self, payload: bytes) -> bool:
        """Answer a prepared statement that is about the one before; return False if it is no such."""
        sql = self._asked.get(_statement_id(payload))
        if sql is None:
            return False
        kill = _KILL.match(sql)
        if kill is not None:
            await self._kill(sql, int(kill["id"]))
            return True
        shown = self._diagnostics.show(sql) if self._diagnostics is not None else None
        if shown is not None:
            await self._show(sql, shown.rows, binary=True)
            return True
        filled = self._filled(sql)
        if filled == sql:
            return False
        number = await self.home.prepare(filled)
        try:
            await self._execute_at_home(payload[:1] + number.to_bytes(4, "little") + payload[5:])
        finally:
            await self.home.send(packet(bytes((COM_CLOSE,)) + number.to_bytes(4, "little"), 0))
        return True

    async def _fetch(self, payload: bytes) -> None:
        number = _statement_id(payload)
        prepared = self._prepared.get(number)
        if prepared is None:
            await self.home.relay(payload, ReplyKind.FETCH, self.client)
        elif prepared.cursor is None:
            raise SkyError(NO_CURSOR, id=number)
        else:
            wanted = int.from_bytes(payload[5:9], "little")
            if not await prepared.cursor.fetch(self.client, wanted, self.home.status):
                prepared.close_cursor()

    def _reset(self, number: int) -> None:
        prepared = self._prepared.get(number)
        if prepared is not None:
            prepared.reset()

    async def _long_data(self, payload: bytes) -> None:
        prepared = self._prepared.get(_statement_id(payload))
        if prepared is None:
            await self.home.send(packet(payload, 0))
            return
        prepared.add_long_data(
            int.from_bytes(payload[5:7], "little"), payload[7:], self._limits.long_data_bytes
        )

    # what the proxy owns -------------------------------------------------------------------------

    def _cancel(self, number: int) -> None:
        query = self._registry.queries.get(number)
        if query is not None:
            query.cancel()

    async def _kill(self, sql: bytes, number: int) -> None:
        """KILL goes home, which checks that the victim may be killed; then its distributed query ends too."""
        await self.home.table(sql)
        self._cancel(number)
        await self.client.ok(self.home.status)

    async def _processlist(self, sql: bytes) -> None:
        """The home server's list, which shows what this user may see, with distributed queries filled in."""
        found = await self.home.table(sql)
        await self.client.columns(found.columns, self.home.status)
        for row in found.rows:
            query = self._registry.queries.get(int(row[0] or b"0"))
            if query is not None and len(row) >= 8:
                row[4], row[6] = b"Query", query.state().encode()
                row[5] = b"%d" % (time.monotonic() - query.started)
                row[7] = query.sql.encode()
                if len(row) > 8:
                    row[8] = b"%.3f" % query.percent()
            await self.client.packet(text_row(row))
        await self.client.end(0, self.home.status)


def _statement_id(payload: bytes) -> int:
    if len(payload) < 5:
        raise PacketError("statement id missing")
    return int.from_bytes(payload[1:5], "little")
