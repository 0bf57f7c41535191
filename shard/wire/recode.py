"""Makes binary rows fit the types that a client was told.

Whether MariaDB calls a computed integer INT or BIGINT depends on its plan (a temporary table on the
way), so two chunks, or the merge and one plain server, may encode the same column in 4 and in 8 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from shard.wire.packets import PacketError, packet, read_lenenc_int, same_encoding

_INTEGERS = {1: 1, 2: 2, 13: 2, 3: 4, 9: 4, 8: 8}
_FIXED = {**_INTEGERS, 4: 4, 5: 8}
_TEMPORAL = frozenset({7, 10, 11, 12})
_WHOLE = 0xFFFFFF


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
        self.needed = False
        for (kind, _), wanted in zip(have, want, strict=True):
            if same_encoding(kind, wanted):
                continue
            if kind not in _INTEGERS or wanted not in _INTEGERS:
                raise PacketError(f"a column of type {kind}, not {wanted}")
            self.needed = self.needed or _INTEGERS[kind] != _INTEGERS[wanted]

    def rows(self, block: bytes | bytearray | memoryview) -> bytes:
        """Return a block of whole row packets with the wanted types.

        Raises
        ------
        PacketError
            If a packet is cut, a row is longer than a packet, or a value does not fit.
        """
        data = bytes(block)
        if not self.needed:
            return data
        out: list[bytes] = []
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 3], "little")
            if size == _WHOLE or at + 4 + size > len(data):
                raise PacketError("a row of more than one packet cannot be recoded")
            out.append(packet(self._row(data[at + 4 : at + 4 + size]), data[at + 3]))
            at += 4 + size
        return b"".join(out)

    def _row(self, payload: bytes) -> bytes:
        at = 1 + (len(self._have) + 9) // 8
        parts = [payload[:at]]
        for index, ((kind, unsigned), wanted) in enumerate(zip(self._have, self._want, strict=True)):
            bit = index + 2
            if payload[1 + bit // 8] & (1 << bit % 8):
                continue
            end = self._end(payload, at, kind)
            value = payload[at:end]
            if kind in _INTEGERS and _INTEGERS[kind] != _INTEGERS.get(wanted, _INTEGERS[kind]):
                value = _resized(value, _INTEGERS[wanted], unsigned)
            parts.append(value)
            at = end
        if at != len(payload):
            raise PacketError("a row is not as long as its columns")
        return b"".join(parts)

    @staticmethod
    def _end(payload: bytes, at: int, kind: int) -> int:
        if kind in _FIXED:
            return at + _FIXED[kind]
        if kind in _TEMPORAL:
            return at + 1 + payload[at]
        size, start = read_lenenc_int(payload, at)
        return start + size


def _resized(value: bytes, size: int, unsigned: bool) -> bytes:
    number = int.from_bytes(value, "little", signed=not unsigned)
    try:
        return number.to_bytes(size, "little", signed=not unsigned)
    except OverflowError as error:
        raise PacketError(f"an integer of more than {size} bytes") from error


__all__ = ["Recoder"]
