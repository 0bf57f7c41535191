"""Replies as events: bytes in, values out, no socket.

The same scanner serves agents and service connections (which want rows) and sessions (which want
to know where a relayed reply ends). Replies: OK, ERR, LOCAL INFILE request, result sets (with both
EOF styles), several results, COM_STMT_PREPARE's, COM_FIELD_LIST's and COM_STATISTICS's. Commands that were
sent together have their replies read by one scanner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from shard.wire import rows
from shard.wire.packets import MAX_PAYLOAD, Eof, Err, Ok, PacketError, read_lenenc_int
from shard.wire.protocol import StatusFlag


class ReplyKind(Enum):
    """What kind of reply a command has."""

    QUERY = "query"
    PREPARE = "prepare"
    FIELD_LIST = "field list"
    STATISTICS = "statistics"
    SIMPLE = "simple"
    FETCH = "fetch"


@dataclass(frozen=True, slots=True)
class OkEvent:
    """A statement without rows has succeeded (an OK packet)."""

    ok: Ok


@dataclass(frozen=True, slots=True)
class ErrEvent:
    """The reply ends with an error."""

    err: Err


@dataclass(frozen=True, slots=True)
class LocalInfile:
    """The server asks for a file; the reply goes on after it was sent."""

    filename: bytes


@dataclass(frozen=True, slots=True)
class ColumnsEvent:
    """Raw payloads of the column definitions of a result set."""

    definitions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RowsEvent:
    """Whole row packets of a result set.

    Attributes
    ----------
    block : bytes
        The packets, headers included.
    rows : int
        How many rows end in it.
    whole : bool
        It ends where a row ends; False only within a row longer than 16 MiB.
    """

    block: bytes
    rows: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class EndEvent:
    """A result set, or the whole reply, has ended."""

    ok: Ok
    more_results: bool


@dataclass(frozen=True, slots=True)
class PreparedEvent:
    """Header of a COM_STMT_PREPARE reply."""

    statement_id: int
    columns: int
    parameters: int


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """The server says how far it is (MariaDB's progress reports); the reply goes on."""


Event = OkEvent | ErrEvent | LocalInfile | ColumnsEvent | RowsEvent | EndEvent | PreparedEvent | ProgressEvent

PROGRESS = b"\xff\xff"
"""The error number that makes an ERR packet a progress report."""


class _State(Enum):
    """What the next packet of a reply is."""

    HEAD = "head"
    COLUMNS = "columns"
    COLUMNS_EOF = "columns_eof"
    ROWS = "rows"
    SECTIONS = "sections"
    FIELDS = "fields"


# Names of the module are found faster than members of the class.
_HEAD, _COLUMNS, _COLUMNS_EOF, _ROWS, _SECTIONS, _FIELDS = _State
_FIRST = {ReplyKind.FIELD_LIST: _FIELDS, ReplyKind.FETCH: _ROWS}
"""States in which replies begin, other than `_HEAD`."""


class ReplyScanner:
    """Finds the parts of one command's reply, or of the replies of several that were sent together.

    Parameters
    ----------
    kind : ReplyKind
        What kind of reply it is.
    then : iterable of ReplyKind
        What kinds of replies follow it.

    Attributes
    ----------
    done : bool
        The last reply has ended; later bytes are not its own.
    consumed : int
        Bytes of the last `feed` that belong to the replies.
    """

    def __init__(self, kind: ReplyKind, deprecate_eof: bool, then: Iterable[ReplyKind] = ()) -> None:
        self.kind = kind
        self._then = deque(then)
        self.deprecate_eof = deprecate_eof
        self.done = False
        self.consumed = 0
        self._buffer = bytearray()
        self._at = 0
        self._state = _FIRST.get(kind, _HEAD)
        self._continued = False
        self._held: list[bytes] = []
        self._definitions: list[bytes] = []
        self._wanted = 0
        self._sections: list[int] = []

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Add received bytes and return what they complete.

        Raises
        ------
        PacketError
            If the bytes are no reply of this kind.
        """
        if self.done:
            self.consumed = 0
            return []
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        kept = len(self._buffer)
        self._buffer += data
        events: list[Event] = []
        while not self.done:
            if self._state is _ROWS:
                if not self._rows(events):
                    break
                continue
            payload = self._payload()
            if payload is None:
                break
            self._step(payload, events)
        self.consumed = self._at - kept if self.done else len(data)
        return events

    @property
    def cut(self) -> bool:
        """Whether more bytes must follow: those so far end within a packet, or between the packets of one payload."""
        return not self.done and (self._at < len(self._buffer) or self._continued or bool(self._held))

    @property
    def between(self) -> bool:
        """Whether nothing of the next reply has come, and there is one."""
        return (
            not self.done and self._at == len(self._buffer) and self._state == _FIRST.get(self.kind, "head")
        )

    def passed(self, replies: int) -> None:
        """Note that so many replies, which begin where this one stands `between` two, are read by somebody else."""
        for _ in range(replies):
            self._ended()

    def _ended(self) -> None:
        """Go on to the next reply, if one follows."""
        if not self._then:
            self.done = True
            return
        self.kind = self._then.popleft()
        self._state = _FIRST.get(self.kind, _HEAD)

    def _payload(self) -> bytes | None:
        while True:
            if len(self._buffer) - self._at < 4:
                return None
            length = int.from_bytes(self._buffer[self._at : self._at + 3], "little")
            end = self._at + 4 + length
            if len(self._buffer) < end:
                return None
            piece = bytes(self._buffer[self._at + 4 : end])
            self._at = end
            if length == MAX_PAYLOAD:
                self._held.append(piece)
                continue
            if self._held:
                piece, self._held = b"".join([*self._held, piece]), []
            return piece

    def _rows(self, events: list[Event]) -> bool:
        stop, found, self._continued, terminator = rows.scan(
            self._buffer, self._at, len(self._buffer), self._continued
        )
        if stop > self._at:
            with memoryview(self._buffer) as view:
                events.append(RowsEvent(bytes(view[self._at : stop]), found, not self._continued))
            self._at = stop
        if not terminator:
            return False
        payload = self._payload()
        if payload is None:
            raise PacketError("terminator cut short")
        if payload[0] == 0xFF:
            self._error(payload, events)
        else:
            self._end(payload, events)
        return True

    def _end(self, payload: bytes, events: list[Event]) -> None:
        if self.deprecate_eof and len(payload) >= 7:
            ok = Ok.decode(payload)
        else:
            eof = Eof.decode(payload)
            ok = Ok(0, 0, eof.status, eof.warnings)
        more = bool(ok.status & StatusFlag.MORE_RESULTS) and self.kind is ReplyKind.QUERY
        events.append(EndEvent(ok, more))
        self._state = _HEAD
        if not more:
            self._ended()

    def _error(self, payload: bytes, events: list[Event]) -> None:
        if payload[1:3] == PROGRESS:
            events.append(ProgressEvent())
            return
        events.append(ErrEvent(Err.decode(payload)))
        self._ended()

    def _step(self, payload: bytes, events: list[Event]) -> None:
        if not payload and self.kind is not ReplyKind.STATISTICS:
            raise PacketError("empty packet")
        if self._state is _COLUMNS:
            self._column(payload, events)
        elif self._state is _HEAD:
            self._head(payload, events)
        elif self._state is _COLUMNS_EOF:
            self._columns_end(payload, events)
        elif self._state is _SECTIONS:
            self._section(payload, events)
        elif self._state is _FIELDS:
            self._field(payload, events)
        else:
            raise PacketError(f"unexpected packet in state {self._state.value}")

    def _head(self, payload: bytes, events: list[Event]) -> None:
        if self.kind is ReplyKind.STATISTICS:
            events.append(OkEvent(Ok(info=payload)))
            self._ended()
            return
        first = payload[0]
        if first == 0xFF:
            self._error(payload, events)
        elif self.kind is ReplyKind.PREPARE:
            self._prepared(payload, events)
        elif first == 0x00:
            ok = Ok.decode(payload)
            events.append(OkEvent(ok))
            if self.kind is not ReplyKind.QUERY or not ok.status & StatusFlag.MORE_RESULTS:
                self._ended()
        elif self.kind is ReplyKind.SIMPLE:
            if first != 0xFE:
                raise PacketError("neither OK nor ERR")
            self._end(payload, events)  # COM_SET_OPTION and COM_DEBUG are answered by EOF
        elif first == 0xFB:
            events.append(LocalInfile(payload[1:]))
        else:
            self._wanted, end = read_lenenc_int(payload, 0)
            if end != len(payload):  # MariaDB's metadata caching would add a byte; it is not negotiated
                raise PacketError("bytes after the column count")
            self._definitions = []
            self._state = _COLUMNS

    def _column(self, payload: bytes, events: list[Event]) -> None:
        if payload[0] == 0xFF:  # no definition begins so; a server that gives up does
            self._error(payload, events)
            return
        self._definitions.append(payload)
        if len(self._definitions) == self._wanted:
            if self.deprecate_eof:
                events.append(ColumnsEvent(tuple(self._definitions)))
                self._state = _ROWS
            else:
                self._state = _COLUMNS_EOF

    def _columns_end(self, payload: bytes, events: list[Event]) -> None:
        if payload[0] != 0xFE:
            raise PacketError("definitions without their EOF")
        eof = Eof.decode(payload)
        events.append(ColumnsEvent(tuple(self._definitions)))
        self._state = _ROWS
        if eof.status & StatusFlag.CURSOR_EXISTS:  # rows come by COM_STMT_FETCH
            events.append(EndEvent(Ok(0, 0, eof.status, eof.warnings), more_results=False))
            self._ended()

    def _prepared(self, payload: bytes, events: list[Event]) -> None:
        if len(payload) < 12:
            raise PacketError("PREPARE reply cut short")
        columns = int.from_bytes(payload[5:7], "little")
        parameters = int.from_bytes(payload[7:9], "little")
        events.append(PreparedEvent(int.from_bytes(payload[1:5], "little"), columns, parameters))
        eof = 0 if self.deprecate_eof else 1
        self._sections = [count + eof for count in (parameters, columns) if count]
        self._wanted, self._definitions = columns, []
        self._state = _SECTIONS
        if not self._sections:
            self._ended()

    def _section(self, payload: bytes, events: list[Event]) -> None:
        if len(self._sections) == 1 and len(self._definitions) < self._wanted:
            self._definitions.append(payload)
        self._sections[0] -= 1
        if self._sections[0] == 0:
            self._sections.pop(0)
        if self._sections:
            return
        if self._wanted:
            events.append(ColumnsEvent(tuple(self._definitions)))
        self._ended()

    def _field(self, payload: bytes, events: list[Event]) -> None:
        if payload[0] == 0xFF:
            self._error(payload, events)
        elif payload[0] == 0xFE and len(payload) < 9:
            self._end(payload, events)
