"""Makes binary rows fit the types that a client was told.

Whether MariaDB calls a computed integer INT or BIGINT depends on its plan (a temporary table on the
way), so two chunks, or the merge and one plain server, may encode the same column in 4 and in 8 bytes.
A row of 16 MiB and more is rewritten packet by packet, and never put together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from shard.wire.packets import MAX_PAYLOAD, PacketError, packet, read_lenenc_int, same_encoding
from shard.wire.protocol import FIXED_SIZES, INTEGER_SIZES, TEMPORAL_TYPES

_WIDTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}


class Recoder:
    """Rewrites binary rows of some types to others.

    Parameters
    ----------
    have : sequence of (type byte, is unsigned)
        The rows' columns.
    want : sequence of int
        Type bytes that they shall have.

    Raises
    ------
    PacketError
        If types differ by more than the width of an integer.
    """

    def __init__(self, have: Sequence[tuple[int, bool]], want: Sequence[int]) -> None:
        if len(have) != len(want):
            raise PacketError("another number of columns")
        self._have, self._want = have, want
        self._long: _LongRow | None = None
        self.needed = False
        for (kind, _), wanted in zip(have, want, strict=True):
            if same_encoding(kind, wanted):
                continue
            if kind not in INTEGER_SIZES or wanted not in INTEGER_SIZES:
                raise PacketError(f"a column of type {kind}, not {wanted}")
            self.needed = self.needed or INTEGER_SIZES[kind] != INTEGER_SIZES[wanted]

    def rows(self, block: bytes | bytearray | memoryview) -> bytes:
        """Return a block of row packets with the wanted types; it may begin and end within a long row.

        Of a row that goes on, all that fills packets is returned, which may be nothing yet.

        Raises
        ------
        PacketError
            If a packet is cut, or a value does not fit.
        """
        data = bytes(block)
        if not self.needed:
            return data
        out: list[bytes] = []
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 3], "little")
            end = at + 4 + size
            if end > len(data):
                raise PacketError("a packet is cut")
            if size == MAX_PAYLOAD or self._long is not None:
                out += self._part(memoryview(data)[at + 4 : end])
            else:
                out.append(packet(self._row(data[at + 4 : end]), data[at + 3]))
            at = end
        return b"".join(out)

    def _part(self, payload: memoryview) -> list[bytes]:
        """Return what a packet of a long row completes."""
        if self._long is None:
            self._long = _LongRow(self._have, self._want, payload)
        else:
            self._long.add(payload)
        if len(payload) == MAX_PAYLOAD:
            return self._long.packets()
        row, self._long = self._long, None
        return [*row.packets(), row.last()]

    def _row(self, payload: bytes) -> bytes:
        at = 1 + (len(self._have) + 9) // 8
        parts = [payload[:at]]
        for index, ((kind, unsigned), wanted) in enumerate(zip(self._have, self._want, strict=True)):
            bit = index + 2
            if payload[1 + bit // 8] & (1 << bit % 8):
                continue
            end = self._end(payload, at, kind)
            value = payload[at:end]
            if kind in INTEGER_SIZES and INTEGER_SIZES[kind] != INTEGER_SIZES.get(
                wanted, INTEGER_SIZES[kind]
            ):
                value = _resized(value, INTEGER_SIZES[wanted], unsigned)
            parts.append(value)
            at = end
        if at != len(payload):
            raise PacketError("a row is not as long as its columns")
        return b"".join(parts)

    @staticmethod
    def _end(payload: bytes, at: int, kind: int) -> int:
        if kind in FIXED_SIZES:
            return at + FIXED_SIZES[kind]
        if kind in TEMPORAL_TYPES:
            return at + 1 + payload[at]
        size, start = read_lenenc_int(payload, at)
        return start + size


class _LongRow:
    """A row of several packets, which cut its values anywhere; the first holds all NULL bits."""

    def __init__(self, have: Sequence[tuple[int, bool]], want: Sequence[int], payload: memoryview) -> None:
        at = 1 + (len(have) + 9) // 8
        self._out = bytearray(payload[:at])
        self._columns = deque(
            (kind, unsigned, wanted)
            for bit, ((kind, unsigned), wanted) in enumerate(zip(have, want, strict=True), 2)
            if not payload[1 + bit // 8] & (1 << bit % 8)
        )
        self._head = b""  # what has come of the next value: all of a number, the length of a text
        self._left = 0  # bytes of the current text that are still to come
        self.add(payload[at:])

    def add(self, payload: memoryview) -> None:
        """Take the next packet's payload."""
        at = 0
        while at < len(payload):
            if self._left:
                end = min(at + self._left, len(payload))
                self._out += payload[at:end]
                self._left -= end - at
            elif not self._columns:
                raise PacketError("a row is not as long as its columns")
            else:
                end = at + _head_size(self._columns[0][0], self._head) - len(self._head)
                self._head += payload[at:end]
                end = min(end, len(payload))
                if len(self._head) == _head_size(self._columns[0][0], self._head):
                    self._begin(*self._columns.popleft())
            at = end

    def _begin(self, kind: int, unsigned: bool, wanted: int) -> None:
        head, self._head = self._head, b""
        if kind in INTEGER_SIZES and INTEGER_SIZES[kind] != INTEGER_SIZES.get(wanted, INTEGER_SIZES[kind]):
            self._out += _resized(head, INTEGER_SIZES[wanted], unsigned)
            return
        self._out += head
        if kind in TEMPORAL_TYPES:
            self._left = head[0]
        elif kind not in FIXED_SIZES:
            self._left, _ = read_lenenc_int(head, 0)

    def packets(self) -> list[bytes]:
        """Return the full packets that are there."""
        out = []
        while len(self._out) >= MAX_PAYLOAD:
            out += [MAX_PAYLOAD.to_bytes(3, "little") + b"\0", bytes(self._out[:MAX_PAYLOAD])]
            del self._out[:MAX_PAYLOAD]
        return out

    def last(self) -> bytes:
        """Return the last packet, which may be empty."""
        if self._columns or self._head or self._left:
            raise PacketError("a row is not as long as its columns")
        return packet(bytes(self._out), 0)


def _head_size(kind: int, head: bytes) -> int:
    """Return the bytes of a whole number, or of the length before a text, of which `head` is known."""
    if kind in FIXED_SIZES:
        return FIXED_SIZES[kind]
    return 1 + _WIDTHS.get(head[0], 0) if head and kind not in TEMPORAL_TYPES else 1


def _resized(value: bytes, size: int, unsigned: bool) -> bytes:
    number = int.from_bytes(value, "little", signed=not unsigned)
    try:
        return number.to_bytes(size, "little", signed=not unsigned)
    except OverflowError as error:
        raise PacketError(f"an integer of more than {size} bytes") from error


__all__ = ["Recoder"]
