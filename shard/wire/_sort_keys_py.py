"""The pure-Python twin of the compiled sort keys, for where no compiler is.

Same class, same results, same tests as `_sort_keys.pyx`; `shard.wire.sorting` chooses.
"""

from __future__ import annotations

from collections.abc import Sequence

from shard.wire._rows_py import CUT, MAX_PAYLOAD, SHORT, field

SIGNED, UNSIGNED, NUMBER, FIXED, DOUBLE, MOMENT = range(6)
_SIZES = {1: 1, 2: 2, 13: 2, 3: 4, 9: 4, 4: 4, 8: 8, 5: 8}
_TEMPORAL = frozenset({7, 10, 11, 12})
_STRANGE = "a value of a sort key cannot be read"

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
                    raise ValueError(CUT)
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
            value, at = field(payload, at)
            fields.append(value)
            if index + 1 == self._hidden:
                begin = at
        return fields, begin

    def _binary(self, payload: bytes) -> tuple[list[bytes | None], int]:
        at = 1 + (len(self._types) + 9) // 8
        begin = at
        if at > len(payload) or payload[0]:
            raise ValueError(SHORT)
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


def _binary_value(payload: bytes, at: int, kind: int) -> tuple[bytes, int]:
    if kind in _SIZES:
        size = _SIZES[kind]
    elif kind in _TEMPORAL:
        if at >= len(payload):
            raise ValueError(SHORT)
        size, at = payload[at], at + 1
    else:
        value, at = field(payload, at)
        if value is None:
            raise ValueError(_STRANGE)
        return value, at
    if at + size > len(payload):
        raise ValueError(SHORT)
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


__all__ = ["DOUBLE", "FIXED", "MOMENT", "NUMBER", "SIGNED", "UNSIGNED", "Key", "Keyer"]
