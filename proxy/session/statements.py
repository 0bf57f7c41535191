"""A session's prepared statements: those on sharded tables, and those that the proxy answers; the others are relayed.

Each is prepared at home as well, with the same parameters and columns, so that its number, its errors and the
reply to COM_STMT_PREPARE are the home server's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.home.link import Trapped, trap_error
from proxy.session import own_settings
from proxy.session.cursor import Cursor
from proxy.session.diagnostics import QUESTIONS
from proxy.session.engine import Distributed, Engine, Home, Local, Version
from proxy.session.prepared import Executed, Prepared
from proxy.session.under import as_prepared
from proxy.session.values import with_values
from proxy.words import words
from shard.errors import NO_CURSOR, UNKNOWN_COMMAND, UNKNOWN_STATEMENT, SkyError
from shard.wire.frames import Parameter
from shard.wire.packets import PacketError, packet
from shard.wire.protocol import Command, StatusFlag
from shard.wire.replies import EndEvent, Event, PreparedEvent, ReplyKind

if TYPE_CHECKING:
    from proxy.session.session import Session

OWN = words(b"kill", b"processlist", b"warnings", b"errors")
"""What a statement says that the proxy may have to answer whatever the catalogue has."""
_QUERY = re.compile(rb"(?i)[\s(]*(?:select|with)\b")
_MOST_AT_HOME, _MOST_BYTES = 100, 4096
"""Texts of queries that the home server has prepared and that are kept, in case their tables were just published."""
_FLAGS_AT = 5
"""Where a COM_STMT_EXECUTE says which cursor is wanted."""
_READ_ONLY_CURSOR = 1
_LAST_PREPARED = b"\xff\xff\xff\xff"
"""MariaDB's clients send COM_STMT_EXECUTE without waiting for the number that COM_STMT_PREPARE returns."""
_TOLD = {
    Command.STMT_EXECUTE: "mysqld_stmt_execute",
    Command.STMT_RESET: "mysqld_stmt_reset",
    Command.STMT_FETCH: "mysqld_stmt_fetch",
}
"""What MariaDB calls commands in their errors; the others have no reply."""
_NEVER_PREPARED = re.compile(rb"(?i)\s*(?:prepare|execute|deallocate)\b")
"""MariaDB's own error (1295) comes for these."""


class PreparedStatements:
    """The statements of one session, by the home server's numbers."""

    def __init__(self, session: Session, engine: Engine) -> None:
        self._session, self._engine = session, engine
        self._kept: dict[int, Prepared] = {}
        self._at_home: dict[int, tuple[bytes, int, Version]] = {}
        self._asked: dict[int, bytes] = {}
        self._last: int | None = None
        self._fetched: set[int] = set()  # those at home of which a client has a cursor

    @property
    def reading(self) -> bool:
        """Whether some statement has a cursor whose end the client has not met."""
        return bool(self._fetched) or any(one.cursor is not None for one in self._kept.values())

    def forget(self) -> None:
        """Forget all of them."""
        for prepared in self._kept.values():
            prepared.close_cursor()
        self._last = None
        self._kept.clear()
        self._asked.clear()
        self._at_home.clear()
        self._fetched.clear()

    def executed(self, payload: bytes) -> Executed | None:
        """Return what a COM_STMT_EXECUTE executes, if nothing about it is unusual: it may be a look-up."""
        number = self._number(payload) if len(payload) > _FLAGS_AT else None
        prepared = None if number is None else self._kept.get(number)
        if prepared is None or payload[_FLAGS_AT] or not isinstance(prepared.route, Distributed):
            return None
        if prepared.cursor is not None or prepared.long_data or prepared.overlong or prepared.renewed:
            return None
        try:
            return Executed(prepared, prepared.route, prepared.bind(payload))
        except (PacketError, IndexError):  # the task finds the same
            return None

    def _number(self, payload: bytes) -> int | None:
        """Return the number of the statement that a command names; None if that is the last one, and there is none.

        The home server's last one may be another: it is not asked to prepare what is refused here, and prepares
        statements of the proxy's own.
        """
        return self._last if payload[1:5] == _LAST_PREPARED else _statement_id(payload)

    async def serve(self, code: int, payload: bytes) -> None:
        """Carry out a command of `OF_STATEMENT`."""
        number = self._number(payload)
        if number is None:
            if code in _TOLD:
                raise SkyError(UNKNOWN_STATEMENT, id=_statement_id(payload), command=_TOLD[code])
            return
        payload = payload[:1] + number.to_bytes(4, "little") + payload[5:]
        if code == Command.STMT_EXECUTE:
            await self._execute(number, payload)
        elif code == Command.STMT_LONG_DATA:
            await self._long_data(number, payload)
        elif code == Command.STMT_CLOSE:
            closed = self._kept.pop(number, None)
            self._asked.pop(number, None)
            self._at_home.pop(number, None)
            self._fetched.discard(number)
            if number == self._last:
                self._last = None
            if closed is not None:
                closed.close_cursor()
            await self._session.home.send(packet(payload, 0))
        elif code == Command.STMT_RESET:
            if number in self._kept:
                self._kept[number].reset()
            self._fetched.discard(number)
            await self._session.home.relay(payload, ReplyKind.SIMPLE, self._session.client)
        else:
            await self._fetch(number, payload)

    async def prepare(self, sql: bytes) -> None:
        """Carry out COM_STMT_PREPARE."""
        session = self._session
        self._last, version = None, self._engine.version
        route = Home() if _NEVER_PREPARED.match(sql) else await self._engine.decide(session, sql)
        if route == Home():
            route = Home(await self._engine.with_catalogue_rows(session, sql, lasting=True))
        native = sql
        under = None if isinstance(route, Home) else await self._engine.settings(session)
        if isinstance(route, Distributed):
            native = route.native
        elif isinstance(route, Local):
            if route.check is not None:
                await route.check()
            native = sql if route.stand_in is None else route.stand_in
        elif route.sql is not None:
            native = route.sql
        seen = await session.home.relay(
            bytes((Command.STMT_PREPARE,)) + native, ReplyKind.PREPARE, session.client
        )
        for event in seen:
            if not isinstance(event, PreparedEvent):
                continue
            self._last = event.statement_id
            if under is not None and isinstance(route, Distributed | Local):
                renewed = own_settings.PATTERN.search(sql) is not None
                self._kept[event.statement_id] = Prepared(
                    sql, route, event.parameters, under, renewed=renewed
                )
            elif any(pattern.search(sql) for pattern in (OWN, QUESTIONS, own_settings.PATTERN)):
                self._asked[event.statement_id] = sql
            elif _QUERY.match(sql) and len(sql) <= _MOST_BYTES:
                self._at_home[event.statement_id] = sql, event.parameters, version
                if len(self._at_home) > _MOST_AT_HOME:
                    del self._at_home[next(iter(self._at_home))]

    async def _execute(self, number: int, payload: bytes) -> None:
        prepared, session = self._kept.get(number), self._session
        if prepared is None:
            if not await self._execute_question(number, payload):
                await self._execute_at_home(payload)
            return
        if await session.taken_over(prepared.text):
            return
        prepared.close_cursor()
        usual = not (payload[_FLAGS_AT] or prepared.long_data or prepared.renewed)
        parameters = prepared.bind(payload)
        route = prepared.route
        if (
            isinstance(route, Distributed)
            and usual
            and await self._look_up(Executed(prepared, route, parameters))
        ):
            return
        async with as_prepared(session, self._engine, prepared, parameters):
            if isinstance(route, Local):
                await self._execute_own(prepared, with_values(prepared.text, parameters, session.mode))
                return
            route = prepared.route = await self._engine.renew(session, prepared.text, route)
            if payload[_FLAGS_AT] & _READ_ONLY_CURSOR and route.has_rows:
                await self._open(prepared, route, parameters)
            else:
                await session.distributed(prepared.text, session.engine_run(route, parameters, True))

    async def _open(self, prepared: Prepared, route: Distributed, parameters: tuple[Parameter, ...]) -> None:
        """Run a statement on sharded tables whose rows are kept for its cursor."""
        session = self._session
        limits = session.standing.limits
        most, others = session.limits.cursor_bytes, self._cursor_bytes()
        cursor = Cursor(min(most, limits.result_bytes + others if limits.result_bytes else most), others)
        session.out = cursor
        try:
            await session.distributed(prepared.text, session.engine_run(route, parameters, True))
            prepared.cursor = cursor
            await cursor.open(session.client, session.home.status)
        except BaseException:
            prepared.cursor = None
            cursor.close()
            raise
        finally:
            session.out = session.client

    async def _look_up(self, executed: Executed) -> bool:
        """Answer a look-up of a known shape; return False if it is none."""
        session, engine = self._session, self._engine
        work = engine.shortcut(session, executed) or await engine.shortcut_anew(session, executed)
        if work is None:
            return False
        await session.distributed(executed.text, work)
        return True

    async def _execute_own(self, prepared: Prepared, sql: bytes) -> None:
        """Execute a statement of skyshard's own: it is decided about anew, with its values in it."""
        route = await self._engine.decide(self._session, sql)
        if not isinstance(route, Local):
            raise SkyError(UNKNOWN_COMMAND)
        await self._session.answered(route, binary=True)

    async def _execute_at_home(self, payload: bytes) -> None:
        session = self._session
        session.settings_dirty = True
        session.diagnostics = None
        try:
            seen = await session.home.relay(payload, ReplyKind.QUERY, session.client)
        except Trapped:
            if not await self._is_ours_now(_statement_id(payload)):
                raise trap_error() from None
            await self._execute(_statement_id(payload), payload)
            return
        self._follow(_statement_id(payload), seen)

    async def _is_ours_now(self, number: int) -> bool:
        """Whether a statement of the home server's is ours to answer: its tables were published as it was prepared."""
        sql, parameters, version = self._at_home.get(number, (b"", 0, (-1, 0)))
        if not sql or not await self._engine.refresh(version):
            return False
        route = await self._engine.decide(self._session, sql)
        if isinstance(route, Distributed):
            self._kept[number] = Prepared(sql, route, parameters, await self._engine.settings(self._session))
        return number in self._kept

    async def _execute_question(self, number: int, payload: bytes) -> bool:
        """Answer a prepared statement that the proxy owns, or that is about the one before; False if it is no such."""
        sql, session = self._asked.get(number), self._session
        if sql is None:
            return False
        answer = session.own_answer(sql, binary=True)
        if answer is not None:
            await answer
            return True
        filled = own_settings.fill_in(session.filled(sql), session.row_limits, session.mode)
        if filled == sql:  # what runs now is asked at every execution
            filled = await self._engine.with_catalogue_rows(session, sql) or sql
        if filled == sql:
            return False
        other = await session.home.prepare(filled)
        try:
            without_cursor = b"\0" + payload[_FLAGS_AT + 1 :]  # its statement is closed at once
            await self._execute_at_home(payload[:1] + other.to_bytes(4, "little") + without_cursor)
        finally:
            await session.home.send(packet(bytes((Command.STMT_CLOSE,)) + other.to_bytes(4, "little"), 0))
        return True

    async def _fetch(self, number: int, payload: bytes) -> None:
        prepared, session = self._kept.get(number), self._session
        if prepared is None:
            self._follow(number, await session.home.relay(payload, ReplyKind.FETCH, session.client))
        elif prepared.cursor is None:
            raise SkyError(NO_CURSOR, id=number)
        else:
            wanted = int.from_bytes(payload[5:9], "little")
            if not await prepared.cursor.fetch(session.client, wanted, session.home.status):
                prepared.close_cursor()

    def _follow(self, number: int, seen: list[Event]) -> None:
        """Note whether a statement at home has a cursor whose end is still to come."""
        said = [event.ok.status for event in seen if isinstance(event, EndEvent)]
        if not said or said[-1] & StatusFlag.LAST_ROW_SENT:
            self._fetched.discard(number)
        elif said[-1] & StatusFlag.CURSOR_EXISTS:
            self._fetched.add(number)

    async def _long_data(self, number: int, payload: bytes) -> None:
        prepared = self._kept.get(number)
        if prepared is None:
            await self._session.home.send(packet(payload, 0))
            return
        others = sum(one.long_bytes for one in self._kept.values() if one is not prepared)
        most = self._session.limits.long_data_bytes - others
        prepared.add_long_data(int.from_bytes(payload[5:7], "little"), payload[7:], most)

    def _cursor_bytes(self) -> int:
        """Return the bytes that open cursors keep."""
        return sum(one.cursor.size for one in self._kept.values() if one.cursor is not None)


def _statement_id(payload: bytes) -> int:
    if len(payload) < 5:
        raise PacketError("statement id missing")
    return int.from_bytes(payload[1:5], "little")
