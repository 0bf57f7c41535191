"""The pure-Python twin of the compiled sort keys and merge, for where no compiler is.

Same classes, same results, same tests as `_sorting.pyx`; `shard.wire.sorting` chooses.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

from shard.wire import _rows_py as rows

MAX_PAYLOAD = rows.MAX_PAYLOAD
SIGNED, UNSIGNED, NUMBER, FIXED, DOUBLE, MOMENT = range(6)
_SIZES = {1: 1, 2: 2, 13: 2, 3: 4, 9: 4, 4: 4, 8: 8, 5: 8}
_TEMPORAL = frozenset({7, 10, 11, 12})
_STRANGE = "a value of a sort key cannot be read"
_SHORT = "field runs past its row"
_CUT = "block ends within a packet or a row"

Key = tuple[int, int, int, bool]
"""Column in the row, kind of value, width of the key in bytes, whether the greatest comes first."""


class Keyer:
    """Puts sort keys in front of rows: bytes that compare as the values do.

    A key is, for every column that is sorted by, a byte that is 0 for NULL, and the value: whole numbers and
    doubles in eight bytes that begin with the most significant, numbers in decimal text as class, exponent and
    digits, times as their text or parts. All of it is inverted where the greatest comes first.

    Parameters
    ----------
    keys : sequence of (int, int, int, bool)
        See `Key`.
    hidden : int
        Columns at the front of a row that are only sorted by: they are cut off.
    types : bytes
        For binary rows: the type bytes of all columns. Empty: the rows are text.
    """

    def __init__(self, keys: Sequence[Key], hidden: int, types: bytes = b"") -> None:
        self._keys, self._hidden, self._types = tuple(keys), hidden, types
        self._read = max([hidden, *(column + 1 for column, *_ in keys)])
        if types and self._read > len(types):
            raise ValueError("a sort key outside of the columns")
        if any(width < 2 or column < 0 for column, _, width, _ in keys):
            raise ValueError("no such sort key")
        self.width = sum(width for _, _, width, _ in keys)

    def keyed(self, block: bytes | bytearray | memoryview) -> bytes:
        """Return a block of whole rows with each row's key before its first packet, and hidden columns cut off.

        Raises
        ------
        ValueError
            If the block does not end where a row ends, or a value is none of its column's kind.
        """
        out: list[bytes] = []
        at, data = 0, bytes(block)
        while at < len(data):
            begin, length, pieces = at, MAX_PAYLOAD, []
            while length == MAX_PAYLOAD:
                length = int.from_bytes(data[at : at + 3], "little")
                if at + 4 + length > len(data):
                    raise ValueError(_CUT)
                pieces.append(data[at + 4 : at + 4 + length])
                at += 4 + length
            payload = b"".join(pieces)
            fields, start = self._binary(payload) if self._types else self._text(payload)
            out.append(
                b"".join(_part(fields[column], k, w, d, bool(self._types)) for column, k, w, d in self._keys)
            )
            if not self._hidden:
                out.append(data[begin:at])
                continue
            out += _packets((self._head(payload) if self._types else b"") + payload[start:])
        return b"".join(out)

    def _text(self, payload: bytes) -> tuple[list[bytes | None], int]:
        fields: list[bytes | None] = []
        at = begin = 0
        for index in range(self._read):
            value, at = _field(payload, at)
            fields.append(value)
            if index + 1 == self._hidden:
                begin = at
        return fields, begin

    def _binary(self, payload: bytes) -> tuple[list[bytes | None], int]:
        at = 1 + (len(self._types) + 9) // 8
        begin = at
        if at > len(payload) or payload[0]:
            raise ValueError(_SHORT)
        fields: list[bytes | None] = []
        for index in range(self._read):
            if payload[1 + (index + 2) // 8] & 1 << (index + 2) % 8:
                fields.append(None)
            else:
                value, at = _binary_value(payload, at, self._types[index])
                fields.append(value)
            if index + 1 == self._hidden:
                begin = at
        return fields, begin

    def _head(self, payload: bytes) -> bytes:
        visible = len(self._types) - self._hidden
        head = bytearray(1 + (visible + 9) // 8)
        for index in range(visible):
            bit = index + self._hidden + 2
            if payload[1 + bit // 8] & 1 << bit % 8:
                head[1 + (index + 2) // 8] |= 1 << (index + 2) % 8
        return bytes(head)


def _packets(payload: bytes) -> list[bytes]:
    out, at = [], 0
    while True:
        piece = payload[at : at + MAX_PAYLOAD]
        out += [len(piece).to_bytes(4, "little"), piece]
        at += len(piece)
        if len(piece) < MAX_PAYLOAD:
            return out


def _field(payload: bytes, at: int) -> tuple[bytes | None, int]:
    if at >= len(payload):
        raise ValueError(_SHORT)
    first, at = payload[at], at + 1
    if first == 0xFB:
        return None, at
    if first == 0xFF:
        raise ValueError("no field begins with 0xFF")
    size = first
    if first > 0xFB:
        width = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
        if at + width > len(payload):
            raise ValueError(_SHORT)
        size, at = int.from_bytes(payload[at : at + width], "little"), at + width
    if at + size > len(payload):
        raise ValueError(_SHORT)
    return payload[at : at + size], at + size


def _binary_value(payload: bytes, at: int, kind: int) -> tuple[bytes, int]:
    if kind in _SIZES:
        size = _SIZES[kind]
    elif kind in _TEMPORAL:
        if at >= len(payload):
            raise ValueError(_SHORT)
        size, at = payload[at], at + 1
    else:
        value, at = _field(payload, at)
        if value is None:
            raise ValueError(_STRANGE)
        return value, at
    if at + size > len(payload):
        raise ValueError(_SHORT)
    return payload[at : at + size], at + size


def _part(value: bytes | None, kind: int, width: int, descending: bool, binary: bool) -> bytes:
    """Return one column's part of a key."""
    if value is None:
        part = b""
    elif kind == NUMBER:
        part = _number(value)
    elif kind == DOUBLE:
        part = b"\1" + _double(value)
    elif kind == MOMENT:
        part = b"\1" + _moment(value)
    elif kind == FIXED:
        if len(value) > width - 1:
            raise ValueError(_STRANGE)
        part = b"\1" + value
    else:
        part = b"\1" + _whole_number(value, kind == SIGNED, binary)
    part = part.ljust(width, b"\0")
    return bytes(byte ^ 255 for byte in part) if descending else part


def _whole_number(value: bytes, is_signed: bool, binary: bool) -> bytes:
    if binary:
        number = int.from_bytes(value, "little", signed=is_signed)
    else:
        digits = value[1:] if value[:1] == b"-" and is_signed else value
        if not digits or digits.strip(b"0123456789"):
            raise ValueError(_STRANGE)
        number = int(value)
    number += 1 << 63 if is_signed else 0
    if not 0 <= number < 1 << 64:
        raise ValueError(_STRANGE)
    return number.to_bytes(8, "big")


def _number(value: bytes) -> bytes:
    mantissa, e, exponent = value.lower().partition(b"e")
    negative, mantissa = mantissa[:1] == b"-", mantissa.removeprefix(b"-")
    whole, _, fraction = mantissa.partition(b".")
    bare = exponent[1:] if exponent[:1] in (b"-", b"+") else exponent
    if not whole + fraction or (whole + fraction).strip(b"0123456789"):
        raise ValueError(_STRANGE)
    if e and (not bare or len(bare) > 4 or bare.strip(b"0123456789")):
        raise ValueError(_STRANGE)
    digits = (whole + fraction).lstrip(b"0")
    if not digits:
        return b"\2"
    if digits[19:].strip(b"0"):
        raise ValueError(_STRANGE)
    point = len(digits) - len(fraction) + int(exponent or b"0") + 16384
    if not 0 < point < 32768:
        raise ValueError(_STRANGE)
    part = point.to_bytes(2, "big") + int(digits[:19].ljust(19, b"0")).to_bytes(8, "big")
    return b"\1" + bytes(byte ^ 255 for byte in part) if negative else b"\3" + part


def _double(value: bytes) -> bytes:
    bits = int.from_bytes(value, "little")
    if bits == 1 << 63:
        bits = 0
    bits = bits ^ (1 << 64) - 1 if bits >> 63 else bits | 1 << 63
    return bits.to_bytes(8, "big")


def _moment(value: bytes) -> bytes:
    if len(value) not in (0, 4, 7, 11):
        raise ValueError(_STRANGE)
    return value[1::-1] + value[2:7] + value[:6:-1] if value else b""


class _Source:
    """One stream of a merge."""

    __slots__ = ("at", "begun", "data", "ended", "last", "pending", "waits")

    def __init__(self) -> None:
        self.pending: deque[bytes | bytearray | memoryview] = deque()
        self.data: bytes | bytearray | memoryview = b""
        self.at = 0
        self.last = b""
        self.waits, self.ended, self.begun = True, False, False


class Merger:
    """Merges sorted streams of keyed rows, block by block.

    A stream is fed in buffers that end behind a packet. As soon as one that has not ended has nothing left, no row
    moves until it is fed: any of them may be next. Rows with the same key come in the order of their streams.

    Parameters
    ----------
    width : int
        Bytes of a key.
    keep : bool
        Whether keys stay in front of the rows.

    Attributes
    ----------
    consumed : int
        Bytes of the rows that were moved so far, keys included.
    """

    def __init__(self, width: int, keep: bool) -> None:
        if width < 8:
            raise ValueError("no such sort key")
        self._width, self._keep = width, keep
        self._sources: list[_Source] = []
        self._heap: list[tuple[bytes, int]] = []
        self._within, self._first = -1, False
        self.consumed = 0

    def add(self) -> int:
        """Return the number of a new stream; it waits to be fed."""
        self._sources.append(_Source())
        return len(self._sources) - 1

    def feed(self, number: int, data: bytes | bytearray | memoryview) -> None:
        """Add a buffer to a stream; it must not be changed afterwards.

        Raises
        ------
        ValueError
            If the rows are not sorted (then, or when they are taken).
        """
        source = self._sources[number]
        if source.ended:
            raise ValueError("the source has ended")
        if not len(data):
            return
        source.pending.append(data)
        if source.waits:
            source.waits = False
            self._open(number)

    def end(self, number: int) -> None:
        """Say that nothing more of a stream will come."""
        source = self._sources[number]
        source.ended = True
        if source.waits and self._within == number:
            raise ValueError("a stream ends within a row")
        source.waits = False

    def drop(self, number: int) -> None:
        """Forget a stream and what is left of it."""
        source = self._sources[number]
        source.pending.clear()
        source.data, source.at, source.waits, source.ended = b"", 0, False, True
        self._heap = [item for item in self._heap if item[1] != number]
        heapq.heapify(self._heap)
        if self._within == number:
            self._within = -1

    def waits(self, number: int) -> bool:
        """Whether a stream must be fed before any row can move."""
        return self._sources[number].waits

    def begun(self, number: int) -> bool:
        """Whether anything of a stream has been taken."""
        return self._sources[number].begun

    def left(self, number: int) -> int:
        """Return how many bytes of a stream were fed and have not been taken."""
        source = self._sources[number]
        return sum(map(len, source.pending)) + len(source.data) - source.at

    @property
    def done(self) -> bool:
        """Whether all streams have ended and all of them is taken."""
        return self._within < 0 and all(
            source.ended and not source.pending and source.at == len(source.data) for source in self._sources
        )

    def _open(self, number: int) -> None:
        source = self._sources[number]
        source.data, source.at = source.pending.popleft(), 0
        if self._within != number:
            self._arrive(number)
            heapq.heappush(self._heap, (source.last, number))

    def _arrive(self, number: int) -> None:
        """Note the key of the row that a stream has come to."""
        source = self._sources[number]
        if len(source.data) - source.at < self._width + 4:
            raise ValueError(_CUT)
        key = bytes(source.data[source.at : source.at + self._width])
        if key < source.last:
            raise ValueError("a stream is not sorted")
        source.last = key

    def _length(self, source: _Source, before: int) -> int:
        """Return the length of the packet that a stream has come to, `before` bytes of key aside."""
        start = source.at + before
        length = int.from_bytes(source.data[start : start + 3], "little")
        if start + 4 + length > len(source.data):
            raise ValueError(_CUT)
        return length

    def _step(self, number: int, size: int) -> None:
        """Go behind a row that has been moved."""
        source = self._sources[number]
        source.at += size
        source.begun = True
        self.consumed += size

    def _go_on(self, number: int) -> bool:
        """Put the stream at the head of the heap at its new place there; return whether rows can move."""
        source = self._sources[number]
        heapq.heappop(self._heap)
        if source.at < len(source.data):
            self._arrive(number)
            heapq.heappush(self._heap, (source.last, number))
        elif source.pending:
            self._open(number)
        elif not source.ended:
            source.waits = True
            return False
        return bool(self._heap)

    def take(self, size: int, most: int = -1) -> tuple[bytearray, int, bool]:
        """Return the next rows, as many as can be said and have room.

        Parameters
        ----------
        size : int
            Bytes; a longer row comes alone.
        most : int
            Rows at most; -1 is any number.

        Returns
        -------
        block, rows, more
            Packets, how many rows end in them, and whether the last goes on: of a row of several packets one comes
            at a time, and nothing else with it. Empty if a stream must be fed, or if there is nothing left.

        Raises
        ------
        ValueError
            If a stream is not sorted, or cut within a packet.
        """
        if self._within >= 0:
            return self._piece()
        out, count = bytearray(), 0
        if any(source.waits for source in self._sources) or most == 0:
            return out, 0, False
        while self._heap and count != most:
            number = self._heap[0][1]
            source = self._sources[number]
            if source.at == len(source.data):  # behind a row of several packets
                if not self._go_on(number):
                    break
                continue
            length = self._length(source, self._width)
            if length == MAX_PAYLOAD:
                if out:
                    break
                self._within, self._first = number, True
                return self._piece()
            drop = 0 if self._keep else self._width
            whole = self._width + 4 + length
            if out and len(out) + whole - drop > size:
                break
            out += source.data[source.at + drop : source.at + whole]
            count += 1
            self._step(number, whole)
            if not self._go_on(number):
                break
        return out, count, False

    def _piece(self) -> tuple[bytearray, int, bool]:
        """Return the next packet of the row of several packets that is being moved."""
        number = self._within
        source = self._sources[number]
        if source.waits:
            return bytearray(), 0, False
        if source.at == len(source.data):
            if not source.pending:
                if source.ended:
                    raise ValueError(_CUT)
                source.waits = True
                return bytearray(), 0, False
            self._open(number)
        before = self._width if self._first else 0
        length = self._length(source, before)
        drop = 0 if self._keep else before
        out = bytearray(source.data[source.at + drop : source.at + before + 4 + length])
        self._step(number, before + 4 + length)
        self._first = False
        more = length == MAX_PAYLOAD
        if not more:
            self._within = -1
            if source.at < len(source.data):
                heapq.heappop(self._heap)
                self._arrive(number)
                heapq.heappush(self._heap, (source.last, number))
        return out, 0 if more else 1, more


__all__ = ["DOUBLE", "FIXED", "MOMENT", "NUMBER", "SIGNED", "UNSIGNED", "Key", "Keyer", "Merger"]
