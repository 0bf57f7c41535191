"""The pure-Python twin of the compiled row-packet scanner, for where no compiler is.

Same functions, same results, same tests as `_rows.pyx`; `shard.wire.rows` chooses.
"""

from __future__ import annotations

MAX_PAYLOAD = 0xFFFFFF
CUT = "block ends within a packet or a row"
SHORT = "field runs past its row"


def scan(
    buffer: bytes | bytearray | memoryview, start: int, end: int, continued: bool
) -> tuple[int, int, bool, bool]:
    """Walk whole row packets.

    Parameters
    ----------
    buffer : bytes-like
        Received bytes.
    start, end : int
        Where to begin, and where the received bytes end.
    continued : bool
        Whether the packet at `start` continues a payload (its first byte then means nothing).

    Returns
    -------
    stop, rows, continued, terminator
        Where the walk stopped (an incomplete packet, or the terminator: 0xFE shorter than 16 MiB - 1, or
        ERR 0xFF), how many rows ended before it, whether the next packet continues one, and whether
        the terminator stands at `stop`, whole.
    """
    rows = 0
    while start + 4 <= end:
        length = buffer[start] | buffer[start + 1] << 8 | buffer[start + 2] << 16
        if start + 4 + length > end:
            break
        if not continued and 0 < length < MAX_PAYLOAD and buffer[start + 4] >= 0xFE:
            return start, rows, False, True
        continued = length == MAX_PAYLOAD
        if not continued:
            rows += 1
        start += 4 + length
    return start, rows, continued, False


def renumber(block: bytearray, seq: int) -> int:
    """Rewrite the sequence byte of every packet in place; return the next number.

    Raises
    ------
    ValueError
        If the block ends within a packet.
    """
    at, end = 0, len(block)
    while at + 4 <= end:
        length = block[at] | block[at + 1] << 8 | block[at + 2] << 16
        block[at + 3] = seq & 255
        seq = (seq + 1) & 255
        at += 4 + length
    if at != end:
        raise ValueError(CUT)
    return seq


def count(block: bytes | bytearray | memoryview) -> int:
    """Return how many rows end in a block of whole packets.

    Raises
    ------
    ValueError
        If the block ends within a packet.
    """
    at, end, rows = 0, len(block), 0
    while at + 4 <= end:
        length = block[at] | block[at + 1] << 8 | block[at + 2] << 16
        rows += length != MAX_PAYLOAD
        at += 4 + length
    if at != end:
        raise ValueError(CUT)
    return rows


def take(block: bytes | bytearray | memoryview, rows: int) -> int:
    """Return the offset in bytes after the first `rows` rows, or the block's end if it has fewer.

    Raises
    ------
    ValueError
        If the block ends within a packet.
    """
    at, end = 0, len(block)
    while rows > 0 and at + 4 <= end:
        length = block[at] | block[at + 1] << 8 | block[at + 2] << 16
        rows -= length != MAX_PAYLOAD
        at += 4 + length
    if at > end or (rows > 0 and at != end):
        raise ValueError(CUT)
    return at


def _payloads(block: bytes | bytearray | memoryview) -> list[bytes]:
    at, end, out = 0, len(block), []
    held: list[bytes] = []
    while at < end:
        length = block[at] | block[at + 1] << 8 | block[at + 2] << 16 if at + 4 <= end else end
        if at + 4 + length > end:
            raise ValueError(CUT)
        held.append(bytes(block[at + 4 : at + 4 + length]))
        at += 4 + length
        if length != MAX_PAYLOAD:
            out.append(b"".join(held))
            held = []
    if held:
        raise ValueError(CUT)
    return out


_WIDTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}


def field(payload: bytes, at: int) -> tuple[bytes | None, int]:
    """Return a text field (None is NULL) and where the next one begins.

    Raises
    ------
    ValueError
        If it runs past its row.
    """
    if at >= len(payload):
        raise ValueError(SHORT)
    first, at = payload[at], at + 1
    if first == 0xFB:
        return None, at
    if first == 0xFF:
        raise ValueError("no field begins with 0xFF")
    size = first
    if first > 0xFB:
        width = _WIDTHS[first]
        if at + width > len(payload):
            raise ValueError(SHORT)
        size, at = int.from_bytes(payload[at : at + width], "little"), at + width
    if at + size > len(payload):
        raise ValueError(SHORT)
    return payload[at : at + size], at + size


def _fields(payload: bytes) -> list[bytes | None]:
    at, fields = 0, []
    while at < len(payload):
        value, at = field(payload, at)
        fields.append(value)
    return fields


def split(block: bytes | bytearray | memoryview) -> list[list[bytes | None]]:
    """Return the fields of text-protocol rows; None is NULL.

    Raises
    ------
    ValueError
        If the block does not end where a row ends, or a field runs past its row.
    """
    return [_fields(payload) for payload in _payloads(block)]


def rows_to_load(block: bytes | bytearray | memoryview) -> bytes:
    r"""Return text-protocol rows as LOAD DATA text: tabs, newlines, backslash escapes, ``\N``.

    Raises
    ------
    ValueError
        If the block does not end where a row ends, or a field runs past its row.
    """
    lines = []
    for fields in split(block):
        parts = []
        for value in fields:
            if value is None:
                parts.append(b"\\N")
            else:
                text = value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n")
                parts.append(text.replace(b"\0", b"\\0"))
        lines.append(b"\t".join(parts) + b"\n")
    return b"".join(lines)


def small_reply(
    buffer: bytes | bytearray | memoryview, deprecate_eof: bool
) -> tuple[bytes, bytes, int, bytes] | None:
    """Return the parts of a whole reply with rows: column tails, rows, their number, the payload of the end.

    The tail of a column is the last 13 bytes of its definition. None for any other reply, one with rows of 16 MiB,
    or one that is not here to its end; `shard.wire.replies` reads these.
    """
    data = bytes(buffer)
    if len(data) < 5 or data[:3] != b"\x01\0\0" or not 0 < data[4] <= 250:
        return None
    at, tails = 5, []
    for _ in range(data[4]):
        length = int.from_bytes(data[at : at + 3], "little")
        payload = data[at + 4 : at + 4 + length]
        if not 13 <= length < 0xFFFFFF or len(payload) < length or payload[0] == 0xFF:
            return None
        tails.append(payload[-13:])
        at += 4 + length
    if not deprecate_eof:
        if data[at : at + 3] != b"\x05\0\0" or data[at + 4 : at + 5] != b"\xfe" or len(data) < at + 9:
            return None
        at += 9
    start, number = at, 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 3], "little")
        payload = data[at + 4 : at + 4 + length]
        if length in (0, 0xFFFFFF) or len(payload) < length:
            return None
        if payload[0] >= 0xFE:
            if payload[0] == 0xFF or at + 4 + length != len(data):
                return None
            return b"".join(tails), data[start:at], number, payload
        number += 1
        at += 4 + length
    return None


def prepared_reply(
    buffer: bytes | bytearray | memoryview, deprecate_eof: bool
) -> tuple[int, int, int] | None:
    """Return the parts of a whole reply to COM_STMT_PREPARE: statement id, number of parameters, where it ends.

    None for any other reply, or one that is not here to its end; `shard.wire.replies` reads these.
    """
    data = bytes(buffer)
    if len(data) < 16 or not 12 <= int.from_bytes(data[:3], "little") < 0xFFFFFF or data[4] != 0:
        return None
    columns, parameters = int.from_bytes(data[9:11], "little"), int.from_bytes(data[11:13], "little")
    eof = 0 if deprecate_eof else 1
    at = 4 + int.from_bytes(data[:3], "little")
    for _ in range(sum(count + eof for count in (parameters, columns) if count)):
        if at + 4 > len(data):
            return None
        length = int.from_bytes(data[at : at + 3], "little")
        if length == 0xFFFFFF:
            return None
        at += 4 + length
    if at > len(data):
        return None
    return int.from_bytes(data[5:9], "little"), parameters, at
