"""One client's session: commands in order, each relayed home, distributed, or answered here."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine

from proxy.home.link import HomeLink, Trapped, trap_error
from proxy.registry import Registry
from proxy.session.client import ClientGone, ClientStream
from proxy.session.engine import Distributed, Engine, Home, Local
from proxy.session.prepared import Prepared
from shard.errors import INTERNAL, INTERRUPTED, PROTOCOL, UNKNOWN_COMMAND, SkyError, not_supported
from shard.planner.lexer import LexerMode, split_statements
from shard.wire.packets import STATUS_MORE_RESULTS, PacketError, lenenc_bytes, packet
from shard.wire.replies import PreparedEvent, ReplyKind

log = logging.getLogger("skyshard.session")
DEFAULT_GATHER_LIMIT = 256 << 20
"""Bytes of rows that one query may bring home (session setting skyshard_gather_limit)."""

COM_QUIT, COM_INIT_DB, COM_QUERY, COM_FIELD_LIST, COM_STATISTICS, COM_PROCESS_KILL = 1, 2, 3, 4, 9, 12
COM_PING, COM_CHANGE_USER, COM_PREPARE, COM_EXECUTE, COM_LONG_DATA = 14, 17, 22, 23, 24
COM_CLOSE, COM_RESET, COM_SET_OPTION, COM_FETCH, COM_RESET_CONNECTION = 25, 26, 27, 28, 31
_SIMPLE = frozenset(
    {COM_INIT_DB, COM_PROCESS_KILL, COM_PING, COM_RESET, COM_SET_OPTION, COM_RESET_CONNECTION}
)
_KILL = re.compile(
    rb"\s*(?:/\*.*?\*/\s*)*KILL\s+(?:/\*!\d*\s*)?(?:HARD\s+|SOFT\s+)?(?P<what>QUERY\s+|CONNECTION\s+)?(?:\*/\s*)?(?P<id>\d+)\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_PROCESSLIST = re.compile(rb"\s*SHOW\s+(?:FULL\s+)?PROCESSLIST\s*\Z", re.IGNORECASE)


class Session:
    """A session from its greeting to its end."""

    def __init__(self, client: ClientStream, home: HomeLink, engine: Engine, registry: Registry) -> None:
        self.out, self.home = client, home
        self._engine, self._registry = engine, registry
        self._prepared: dict[int, Prepared] = {}
        self.user = ""
        self.settings_dirty = True
        self.gather_limit = DEFAULT_GATHER_LIMIT
        self.mode = LexerMode()

    @property
    def id(self) -> int:
        """The connection id: the home server's thread id."""
        return self.home.thread_id

    async def run(self) -> None:
        """Greet, authenticate, and serve commands until either side ends."""
        response = await self.home.authenticate(self.out)
        if response is None:
            log.info("login refused")
            return
        self.user = response[32 : response.find(b"\0", 32)].decode("utf-8", "replace")
        self._registry.sessions.add(self.id)
        try:
            while True:
                payload = await self.out.command()
                if not payload or payload[0] == COM_QUIT:
                    return
                await self._command(payload)
        finally:
            self._registry.sessions.discard(self.id)

    async def _command(self, payload: bytes) -> None:
        try:
            await self._serve(payload[0], payload)
        except SkyError as error:
            await self.out.error(error)
        except (PacketError, IndexError):
            await self.out.error(SkyError(PROTOCOL))
        except ClientGone:
            raise
        except Exception:
            log.exception("session %s: internal error", self.id)
            await self.out.error(SkyError(INTERNAL, query_id=self.id))
        if self.home.closed:
            raise ClientGone

    async def _serve(self, code: int, payload: bytes) -> None:
        if code == COM_QUERY:
            await self._query(payload[1:])
        elif code == COM_PREPARE:
            await self._prepare(payload[1:])
        elif code == COM_EXECUTE:
            await self._execute(payload)
        elif code == COM_LONG_DATA:
            await self._long_data(payload)
        elif code == COM_CLOSE:
            self._prepared.pop(int.from_bytes(payload[1:5], "little"), None)
            await self.home.send(_command(payload))
        elif code == COM_FIELD_LIST:
            await self.home.relay(payload, ReplyKind.FIELD_LIST, self.out)
        elif code == COM_STATISTICS:
            await self.home.relay(payload, ReplyKind.STATISTICS, self.out)
        elif code == COM_FETCH:
            await self.home.relay(payload, ReplyKind.FETCH, self.out)
        elif code == COM_CHANGE_USER:
            await self._change_user(payload)
        elif code in _SIMPLE:
            if code in (COM_INIT_DB, COM_RESET_CONNECTION):
                self.settings_dirty = True
            if code == COM_RESET_CONNECTION:
                self._prepared.clear()
            await self.home.relay(payload, ReplyKind.SIMPLE, self.out)
            if code == COM_PROCESS_KILL:
                self._cancel(int.from_bytes(payload[1:5], "little"))
        else:
            raise SkyError(UNKNOWN_COMMAND)

    async def _change_user(self, payload: bytes) -> None:
        self.settings_dirty = True
        self._prepared.clear()
        await self.home.send(_command(payload))
        if not await self.home.finish_authentication(self.out):
            raise ClientGone

    # statements ----------------------------------------------------------------------------------

    async def _query(self, sql: bytes) -> None:
        parts = split_statements(sql, self.mode)
        if len(parts) == 1:
            await self._statement(parts[0], self.home.status)
            return
        routes = [await self._engine.decide(self, part) for part in parts]
        if all(isinstance(route, Home) and route.sql is None for route in routes):
            self.settings_dirty = True
            try:
                await self.home.relay(bytes((COM_QUERY,)) + sql, ReplyKind.QUERY, self.out)
            except Trapped:
                raise trap_error() from None
            return
        if any(isinstance(route, Home) for route in routes):
            raise not_supported("several statements in one packet that mix", "send them one by one")
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            await self._statement(part, self.home.status | (0 if last else STATUS_MORE_RESULTS))

    async def _statement(self, sql: bytes, status: int) -> None:
        kill = _KILL.match(sql)
        if kill is not None:
            await self._kill(sql, int(kill["id"]))
            return
        if _PROCESSLIST.match(sql):
            await self._processlist(sql)
            return
        route = await self._engine.decide(self, sql)
        if isinstance(route, Home):
            text = sql if route.sql is None else route.sql
            self.settings_dirty = True
            try:
                await self.home.relay(bytes((COM_QUERY,)) + text, ReplyKind.QUERY, self.out)
            except Trapped:
                if not await self._engine.refresh():
                    raise trap_error() from None
                await self._statement(sql, status)  # the table was published a moment ago
        elif isinstance(route, Local):
            await route.answer()
        else:
            await self._distributed(sql, self._engine.run(self, route, (), False, status))

    async def _distributed(self, sql: bytes, work: Coroutine[None, None, None]) -> None:
        """Run a distributed statement; a kill or the client's disconnection cancels it."""
        query = self._registry.begin(self.id, self.user, sql.decode("utf-8", "replace"))
        query.task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self.out.gone.wait())
        lost = asyncio.ensure_future(self.home.wait_closed())
        try:
            await asyncio.wait({query.task, gone, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not query.task.done():
                query.cancel()
                await asyncio.gather(query.task, return_exceptions=True)
                raise ClientGone
            if query.task.cancelled():
                raise query.reason or SkyError(INTERRUPTED)
            query.task.result()
        except asyncio.CancelledError:
            query.task.cancel()
            await asyncio.gather(query.task, return_exceptions=True)
            raise
        finally:
            for watcher in (gone, lost):
                watcher.cancel()
            await asyncio.gather(gone, lost, return_exceptions=True)
            self._registry.end(query)

    async def _prepare(self, sql: bytes) -> None:
        route = await self._engine.decide(self, sql)
        native = sql
        if isinstance(route, Distributed):
            native = route.native
        elif isinstance(route, Home) and route.sql is not None:
            native = route.sql
        elif isinstance(route, Local):
            raise SkyError(UNKNOWN_COMMAND)
        seen = await self.home.relay(bytes((COM_PREPARE,)) + native, ReplyKind.PREPARE, self.out)
        for event in seen:
            if isinstance(event, PreparedEvent) and isinstance(route, Distributed):
                self._prepared[event.statement_id] = Prepared(route, event.parameters)

    async def _execute(self, payload: bytes) -> None:
        prepared = self._prepared.get(int.from_bytes(payload[1:5], "little"))
        if prepared is None:
            self.settings_dirty = True
            try:
                await self.home.relay(payload, ReplyKind.QUERY, self.out)
            except Trapped:
                raise trap_error() from None
            return
        parameters = prepared.bind(payload)
        route = prepared.distributed
        await self._distributed(
            route.native, self._engine.run(self, route, parameters, True, self.home.status)
        )

    async def _long_data(self, payload: bytes) -> None:
        prepared = self._prepared.get(int.from_bytes(payload[1:5], "little"))
        if prepared is None:
            await self.home.send(_command(payload))
            return
        index = int.from_bytes(payload[5:7], "little")
        prepared.long_data[index] = prepared.long_data.get(index, b"") + payload[7:]

    # what the proxy owns -------------------------------------------------------------------------

    def _cancel(self, number: int) -> None:
        query = self._registry.queries.get(number)
        if query is not None:
            query.cancel()

    async def _kill(self, sql: bytes, number: int) -> None:
        """KILL goes home, which checks that the victim may be killed; then its distributed query ends too."""
        await self.home.table(sql)
        self._cancel(number)
        await self.out.ok(self.home.status)

    async def _processlist(self, sql: bytes) -> None:
        """The home server's list, with the state of distributed queries filled in."""
        found = await self.home.table(sql)
        await self.out.columns(found.columns, self.home.status)
        for row in found.rows:
            query = self._registry.queries.get(int(row[0] or b"0"))
            if query is not None and len(row) >= 8:
                row[4], row[6] = b"Query", query.state().encode()
                row[7] = query.sql.encode()
                if len(row) > 8:
                    row[8] = b"%.3f" % (100 * query.chunks_done / max(1, query.chunks_total))
            await self.out.packet(text_row(row))
        await self.out.end(0, self.home.status)


def _command(payload: bytes) -> bytes:
    return packet(payload, 0)


def text_row(values: list[bytes | None]) -> bytes:
    """Return a text-protocol row."""
    return b"".join(b"\xfb" if value is None else lenenc_bytes(value) for value in values)
