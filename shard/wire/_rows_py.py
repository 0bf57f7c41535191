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


def _reply(data: bytes, at: int, deprecate_eof: bool) -> tuple[bytes, int, int, int, int] | None:
    """Return (tails, start of the rows, their number, start of the last packet, end) of a small reply, if it is here."""
    if len(data) < at + 5 or data[at : at + 3] != b"\x01\0\0" or not 0 < data[at + 4] <= 250:
        return None
    columns, tails = data[at + 4], []
    at += 5
    for _ in range(columns):
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
        if length in (0, 0xFFFFFF) or len(payload) < length or payload[0] == 0xFF:
            return None
        if payload[0] == 0xFE:
            return b"".join(tails), start, number, at, at + 4 + length
        number += 1
        at += 4 + length
    return None


def small_reply(
    buffer: bytes | bytearray | memoryview, deprecate_eof: bool
) -> tuple[bytes, bytes, int, bytes] | None:
    """Return the parts of a whole reply with rows: column tails, rows, their number, the payload of the end.

    The tail of a column is the last 13 bytes of its definition. None for any other reply, one with rows of 16 MiB,
    or one that is not here to its end; `shard.wire.replies` reads these.
    """
    data = bytes(buffer)
    found = _reply(data, 0, deprecate_eof)
    if found is None or found[-1] != len(data):
        return None
    tails, start, number, last, _ = found
    return tails, data[start:last], number, data[last + 4 :]


def small_replies(
    buffer: bytes | bytearray | memoryview, deprecate_eof: bool, most: int
) -> tuple[bytes, bytes, int, int, tuple[tuple[int, int], ...], int] | None:
    """Return what replies with rows that follow one another have together.

    They are whole, small (see `small_reply`) and of the same columns; what is behind the last such one is left.

    Parameters
    ----------
    most : int
        How many replies to take.

    Returns
    -------
    tuple or None
        Column tails; the rows of all; their number; the number of replies; which of these (from 0) ended with
        warnings, and with how many; the bytes they take. None if the first is no such reply.
    """
    data = bytes(buffer)
    first, at, count, rows = b"", 0, 0, 0
    blocks: list[bytes] = []
    warned: list[tuple[int, int]] = []
    while count < most and (found := _reply(data, at, deprecate_eof)) is not None:
        tails, start, number, last, end = found
        warnings = _warnings(data[last + 4 : end], deprecate_eof)
        if warnings is None or (count and tails != first):
            break
        if warnings:
            warned.append((count, warnings))
        first = tails
        blocks.append(data[start:last])
        rows, count, at = rows + number, count + 1, end
    return (first, b"".join(blocks), rows, count, tuple(warned), at) if count else None


def _warnings(payload: bytes, deprecate_eof: bool) -> int | None:
    """Return with how many warnings a reply ends; None if it is unusual: more results, affected rows."""
    if deprecate_eof:
        if len(payload) < 7 or payload[1] >= 251 or payload[2] >= 251:
            return None
        status, warnings = payload[3:5], payload[5:7]
    else:
        if len(payload) != 5:
            return None
        warnings, status = payload[1:3], payload[3:5]
    return None if int.from_bytes(status, "little") & 8 else int.from_bytes(warnings, "little")


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
