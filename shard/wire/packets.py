"""MySQL packets as values: length-encoded items, column definitions, OK, ERR and EOF.

Layouts are those of the MySQL client/server protocol as MariaDB 10.11 speaks it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from shard.wire.protocol import INTEGER_TYPES, TEXT_TYPES, FieldType, StatusFlag

MAX_PAYLOAD = 0xFFFFFF
"""Bytes; a payload this long is continued in the next packet."""


def same_encoding(first: int, second: int, binary: bool = True) -> bool:
    """Whether values of two column types have the same encoding, in binary rows or in text rows.

    Which of the text types a computed column has, and which integer type, depends on the plan that a
    server picks.
    """
    if first == second or FieldType.NULL in (first, second):
        return True
    if first in TEXT_TYPES and second in TEXT_TYPES:
        return True
    return not binary and first in INTEGER_TYPES and second in INTEGER_TYPES


class PacketError(ValueError):
    """A packet is shorter than its layout."""


def lenenc_int(value: int) -> bytes:
    """Return a length-encoded integer."""
    if value < 0xFB:
        return bytes((value,))
    if value <= 0xFFFF:
        return b"\xfc" + value.to_bytes(2, "little")
    if value <= 0xFFFFFF:
        return b"\xfd" + value.to_bytes(3, "little")
    return b"\xfe" + value.to_bytes(8, "little")


def lenenc_bytes(value: bytes) -> bytes:
    """Return a length-encoded string."""
    return lenenc_int(len(value)) + value


def read_lenenc_int(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """Return (value, next offset) of a length-encoded integer.

    Raises
    ------
    PacketError
        If the bytes end first, or stand for NULL or an error.
    """
    if at >= len(data):
        raise PacketError("length-encoded integer missing")
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if size is None or at + 1 + size > len(data):
        raise PacketError("length-encoded integer cut short")
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def read_lenenc_bytes(data: bytes | bytearray | memoryview, at: int) -> tuple[bytes, int]:
    """Return (value, next offset) of a length-encoded string."""
    length, at = read_lenenc_int(data, at)
    if at + length > len(data):
        raise PacketError("length-encoded string cut short")
    return bytes(data[at : at + length]), at + length


def packet(payload: bytes, seq: int) -> bytes:
    """Return a payload as packets, cut at 16 MiB - 1 bytes, numbered from `seq`."""
    if len(payload) < MAX_PAYLOAD:
        return len(payload).to_bytes(3, "little") + bytes((seq & 255,)) + payload
    out = bytearray()
    for start in range(0, len(payload) + 1, MAX_PAYLOAD):
        piece = payload[start : start + MAX_PAYLOAD]
        out += len(piece).to_bytes(3, "little") + bytes((seq & 255,)) + piece
        seq += 1
    return bytes(out)


def packet_count(payload_length: int) -> int:
    """Return how many packets a payload of that many bytes takes."""
    return payload_length // MAX_PAYLOAD + 1


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column definition (Protocol::ColumnDefinition41)."""

    catalog: bytes
    schema: bytes
    table: bytes
    org_table: bytes
    name: bytes
    org_name: bytes
    charset: int
    length: int
    type: int
    flags: int
    decimals: int

    @staticmethod
    def decode(payload: bytes) -> ColumnDefinition:
        """Return the definition in a payload.

        Raises
        ------
        PacketError
            If the payload is cut short.
        """
        texts, at = [], 0
        for _ in range(6):
            text, at = read_lenenc_bytes(payload, at)
            texts.append(text)
        if len(payload) - at > 13:  # MariaDB's extended metadata
            _, at = read_lenenc_bytes(payload, at)
        _, at = read_lenenc_int(payload, at)
        if at + 10 > len(payload):
            raise PacketError("column definition cut short")
        catalog, schema, table, org_table, name, org_name = texts
        return ColumnDefinition(
            catalog,
            schema,
            table,
            org_table,
            name,
            org_name,
            charset=int.from_bytes(payload[at : at + 2], "little"),
            length=int.from_bytes(payload[at + 2 : at + 6], "little"),
            type=payload[at + 6],
            flags=int.from_bytes(payload[at + 7 : at + 9], "little"),
            decimals=payload[at + 9],
        )

    def encode(self) -> bytes:
        """Return the payload."""
        head = b"".join(
            lenenc_bytes(text)
            for text in (self.catalog, self.schema, self.table, self.org_table, self.name, self.org_name)
        )
        return (
            head + b"\x0c" + self.charset.to_bytes(2, "little") + self.length.to_bytes(4, "little")
            + bytes((self.type,)) + self.flags.to_bytes(2, "little") + bytes((self.decimals,)) + b"\0\0"
        )  # fmt: skip

    def renamed(self, name: bytes) -> ColumnDefinition:
        """Return the definition with another name."""
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class Ok:
    """An OK packet."""

    affected_rows: int = 0
    last_insert_id: int = 0
    status: int = StatusFlag.AUTOCOMMIT
    warnings: int = 0
    info: bytes = b""

    @staticmethod
    def decode(payload: bytes) -> Ok:
        """Return the packet in a payload whose first byte is 0x00 or 0xFE."""
        affected, at = read_lenenc_int(payload, 1)
        insert_id, at = read_lenenc_int(payload, at)
        if at + 4 > len(payload):
            raise PacketError("OK packet cut short")
        status = int.from_bytes(payload[at : at + 2], "little")
        warnings = int.from_bytes(payload[at + 2 : at + 4], "little")
        return Ok(affected, insert_id, status, warnings, bytes(payload[at + 4 :]))

    def encode(self, header: int = 0) -> bytes:
        """Return the payload; `header` 0xFE makes it an OK that ends rows (DEPRECATE_EOF)."""
        return (
            bytes((header,)) + lenenc_int(self.affected_rows) + lenenc_int(self.last_insert_id)
            + self.status.to_bytes(2, "little") + self.warnings.to_bytes(2, "little") + self.info
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Eof:
    """An EOF packet."""

    warnings: int = 0
    status: int = StatusFlag.AUTOCOMMIT

    @staticmethod
    def decode(payload: bytes) -> Eof:
        """Return the packet in a payload of five bytes."""
        if len(payload) < 5:
            raise PacketError("EOF packet cut short")
        return Eof(int.from_bytes(payload[1:3], "little"), int.from_bytes(payload[3:5], "little"))

    def encode(self) -> bytes:
        """Return the payload."""
        return b"\xfe" + self.warnings.to_bytes(2, "little") + self.status.to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Err:
    """An ERR packet."""

    errno: int
    sqlstate: str
    message: str

    @staticmethod
    def decode(payload: bytes) -> Err:
        """Return the packet in a payload whose first byte is 0xFF."""
        if len(payload) < 3:
            raise PacketError("ERR packet cut short")
        errno = int.from_bytes(payload[1:3], "little")
        text = bytes(payload[3:])
        state = "HY000"
        if text[:1] == b"#":
            state, text = text[1:6].decode("ascii", "replace"), text[6:]
        return Err(errno, state, text.decode("utf-8", "replace"))

    def encode(self) -> bytes:
        """Return the payload."""
        return (
            b"\xff" + self.errno.to_bytes(2, "little") + b"#" + self.sqlstate.encode() + self.message.encode()
        )
