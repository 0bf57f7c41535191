"""Answers of a MariaDB server as they are read: column definitions, blocks of whole rows, an end.

Reading pauses when nobody takes the blocks, so memory stays bounded whatever an answer's size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from backend.row_blocks import Cutter, RowBlock, Several
from shard.errors import ServerError, not_supported
from shard.wire import rows
from shard.wire.packets import Err, Ok, PacketError
from shard.wire.protocol import StatusFlag
from shard.wire.replies import (
    ColumnsEvent,
    EndEvent,
    ErrEvent,
    Event,
    OkEvent,
    PreparedEvent,
    ReplyScanner,
    RowsEvent,
)  # fmt: skip

if TYPE_CHECKING:
    from backend.connection import RawConnection

BLOCK_BYTES = 256 << 10
"""A block is handed out past this size, or when the server pauses."""
PATIENCE_S = 0.002
"""A server that takes longer has paused."""


class Result:
    """One statement's answer: `columns` and blocks, or `ok`.

    Attributes
    ----------
    columns : tuple of bytes
        Payloads of the column definitions; empty when there are no rows.
    ok : Ok or None
        The answer of a statement without rows.
    end : Ok or None
        How the answer ended, once all of it has been read.
    """

    def __init__(
        self,
        connection: RawConnection,
        scanner: ReplyScanner,
        prepared: int | None = None,
        events: deque[Event] | None = None,
    ) -> None:
        self._connection = connection
        self._scanner = scanner
        self._events: deque[Event] = deque() if events is None else events
        self._prepared = prepared
        self.columns: tuple[bytes, ...] = ()
        self.ok: Ok | None = None
        self.end: Ok | None = None

    async def _next(self) -> Event:
        while not self._events:
            if self._scanner.done:
                raise self._connection.desynchronised("reply without an end")
            self._events.extend(await self._connection.receive(self._scanner))
        return self._events.popleft()

    async def open(self) -> Result:
        """Read up to the columns or the OK."""
        while True:
            event = await self._next()
            if isinstance(event, OkEvent):
                if not event.ok.status & StatusFlag.MORE_RESULTS:
                    self.ok = self.end = event.ok
                    self._finish()
                    return self
            elif isinstance(event, EndEvent):  # COM_SET_OPTION and its like
                self.ok = self.end = event.ok
                self._finish()
                return self
            elif isinstance(event, ColumnsEvent):
                self.columns = event.definitions
                return self
            elif isinstance(event, ErrEvent):
                raise self._failed(event.err)
            else:
                raise self._connection.desynchronised("unexpected reply")

    def _finish(self) -> None:
        self._connection.finished()
        if self._prepared is not None:
            self._connection.close_statement(self._prepared)

    def _failed(self, err: Err) -> ServerError:
        self._finish()
        return ServerError(err.errno, err.sqlstate, err.message)

    async def blocks(self, pieces: bool = False) -> AsyncIterator[RowBlock]:
        """Yield the rows; after the last block `end` is set.

        Parameters
        ----------
        pieces : bool
            Whether rows of 16 MiB and more may come in several blocks. If not, every block ends where a
            row ends, however long it gets.

        Raises
        ------
        ServerError
            If the statement fails in the middle.
        SkyError
            If the statement has a second result set.
        ConnectionLost
            If the server goes away.
        """
        held: list[bytes | bytearray] = []
        size = count = 0
        cutter, within = Cutter(pieces), False
        while self.end is None:
            ready = size and not self._events
            if ready and (size >= BLOCK_BYTES or not await self._connection.wire.wait(PATIENCE_S)):
                yield RowBlock(b"".join(held), count)
                held, size, count = [], 0, 0
            event = await self._next()
            if isinstance(event, RowsEvent):
                for part in cutter.feed(event):
                    if within or part.more:  # a piece of a long row
                        if size:
                            yield RowBlock(b"".join(held), count)
                            held, size, count = [], 0, 0
                        yield part
                    else:
                        held.append(part.data)
                        size += len(part.data)
                        count += part.rows
                    within = part.more
            elif isinstance(event, EndEvent):
                self.end = event.ok if not event.more_results else await self._last()
                self._finish()
            elif isinstance(event, ErrEvent):
                raise self._failed(event.err)
            else:
                raise self._connection.desynchronised("unexpected packet among rows")
        if size:
            yield RowBlock(b"".join(held), count)

    async def _last(self) -> Ok:
        """Read what follows the rows of a CALL: OKs, but no more rows."""
        while True:
            event = await self._next()
            if isinstance(event, ErrEvent):
                raise self._failed(event.err)
            if not isinstance(event, OkEvent):
                self._connection.abort()
                raise not_supported("a statement with several result sets")
            if not event.ok.status & StatusFlag.MORE_RESULTS:
                return event.ok

    async def drain(self) -> Ok:
        """Read and forget what is left; return how the answer ended."""
        async for _ in self.blocks():
            pass
        if self.end is None:
            raise self._connection.desynchronised("reply without an end")
        return self.end


class Replies:
    """Replies of statements that were sent together, in their order; each is read to its end before the next.

    Parameters
    ----------
    binary : bool
        The statements were prepared and executed; `closed` says that they were closed as well.
    events : iterable of Event
        What has been read already.
    """

    def __init__(
        self,
        connection: RawConnection,
        scanner: ReplyScanner,
        binary: bool,
        closed: bool = False,
        events: Iterable[Event] = (),
    ) -> None:
        self._connection, self._scanner, self._binary = connection, scanner, binary
        self._closed = closed
        self._events: deque[Event] = deque(events)

    async def next(self, parameters: int = 0) -> Result:
        """Return the next statement's result.

        Parameters
        ----------
        parameters : int
            How many it was given, if it was prepared.

        Raises
        ------
        ServerError
            If the server refused it. Those behind it run nevertheless.
        PacketError
            If it wants another number of parameters; the connection is closed.
        """
        prepared = None
        if self._binary:
            number = await self._prepared(parameters)
            prepared = None if self._closed else number
        return await Result(self._connection, self._scanner, prepared, self._events).open()

    async def small(self, most: int) -> Several | None:
        """Return those of the next `most` replies that have come whole, if they are small and of the same columns.

        None: the next reply is to be read by `next`; what has come of it is kept.

        Raises
        ------
        ConnectionLost
            If the server goes away.
        """
        if self._binary or self._events or not self._scanner.between:
            return None
        data = await self._connection.wire.take()
        found = rows.small_replies(data, self._scanner.deprecate_eof, most)
        used = 0 if found is None else found[-1]
        if found is not None:
            self._scanner.passed(found[3])
            self._connection.finished(found[3])
        if used < len(data):
            self._events.extend(self._connection.scan(self._scanner, data[used:]))
        return None if found is None else Several(found[0], RowBlock(found[1], found[2]), found[3], found[4])

    async def soon(self, seconds: float = PATIENCE_S) -> bool:
        """Wait for more of the replies; return whether there is something to read."""
        return bool(self._events) or await self._connection.wire.wait(seconds)

    async def _prepared(self, parameters: int) -> int:
        first = await self.event()
        self._connection.finished()
        if isinstance(first, ErrEvent):
            if not isinstance(await self.event(), ErrEvent):  # there is nothing to execute
                raise self._connection.desynchronised("a refused statement was executed")
            self._connection.finished()
            raise ServerError(first.err.errno, first.err.sqlstate, first.err.message)
        if not isinstance(first, PreparedEvent):
            raise self._connection.desynchronised("no PREPARE reply")
        if first.columns:
            await self.event()
        if first.parameters != parameters:
            self._connection.abort()
            raise PacketError(f"{first.parameters} parameters wanted, {parameters} given")
        return first.statement_id

    async def event(self) -> Event:
        """Return the next part of the replies."""
        while not self._events:
            self._events.extend(await self._connection.receive(self._scanner))
        return self._events.popleft()
