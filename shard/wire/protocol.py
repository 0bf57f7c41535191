"""The numbers of the MySQL protocol under their names: commands, capabilities, status flags, types and flags of columns.

All are plain integers, grouped in classes that are never made: every look-up compares some of them, and members of an
Enum are several times slower to compare and to combine. Values: MariaDB 10.11, `include/mysql_com.h` and
`field_types.h`.
"""

from __future__ import annotations

from typing import Final


class Command:
    """What the first byte of a client's packet asks for; STMT_… are about a prepared statement."""

    QUIT: Final = 1
    INIT_DB: Final = 2
    QUERY: Final = 3
    FIELD_LIST: Final = 4
    REFRESH: Final = 7
    STATISTICS: Final = 9
    PROCESS_INFO: Final = 10
    PROCESS_KILL: Final = 12
    DEBUG: Final = 13
    PING: Final = 14
    CHANGE_USER: Final = 17
    STMT_PREPARE: Final = 22
    STMT_EXECUTE: Final = 23
    STMT_LONG_DATA: Final = 24
    STMT_CLOSE: Final = 25
    STMT_RESET: Final = 26
    SET_OPTION: Final = 27
    STMT_FETCH: Final = 28
    RESET_CONNECTION: Final = 31


class Capability:
    """What client and server agree on in the handshake."""

    MYSQL: Final = 1 << 0
    """LONG_PASSWORD, once; a client that sets it is MySQL's, one of MariaDB's own does not."""
    FOUND_ROWS: Final = 1 << 1
    LONG_FLAG: Final = 1 << 2
    CONNECT_WITH_DB: Final = 1 << 3
    NO_SCHEMA: Final = 1 << 4
    COMPRESS: Final = 1 << 5
    LOCAL_FILES: Final = 1 << 7
    IGNORE_SPACE: Final = 1 << 8
    PROTOCOL_41: Final = 1 << 9
    INTERACTIVE: Final = 1 << 10
    SSL: Final = 1 << 11
    TRANSACTIONS: Final = 1 << 13
    SECURE_CONNECTION: Final = 1 << 15
    MULTI_STATEMENTS: Final = 1 << 16
    MULTI_RESULTS: Final = 1 << 17
    PS_MULTI_RESULTS: Final = 1 << 18
    PLUGIN_AUTH: Final = 1 << 19
    CONNECT_ATTRS: Final = 1 << 20
    PLUGIN_AUTH_LENENC_DATA: Final = 1 << 21
    SESSION_TRACK: Final = 1 << 23
    DEPRECATE_EOF: Final = 1 << 24


class StatusFlag:
    """What OK and EOF packets say of the session and of the reply."""

    IN_TRANSACTION: Final = 0x0001
    AUTOCOMMIT: Final = 0x0002
    MORE_RESULTS: Final = 0x0008
    CURSOR_EXISTS: Final = 0x0040
    LAST_ROW_SENT: Final = 0x0080
    NO_BACKSLASH_ESCAPES: Final = 0x0200
    IN_READ_ONLY_TRANSACTION: Final = 0x2000
    ANSI_QUOTES: Final = 0x8000


class FieldType:
    """Types of columns and parameters."""

    DECIMAL: Final = 0
    TINY: Final = 1
    SHORT: Final = 2
    LONG: Final = 3
    FLOAT: Final = 4
    DOUBLE: Final = 5
    NULL: Final = 6
    TIMESTAMP: Final = 7
    LONGLONG: Final = 8
    INT24: Final = 9
    DATE: Final = 10
    TIME: Final = 11
    DATETIME: Final = 12
    YEAR: Final = 13
    VARCHAR: Final = 15
    BIT: Final = 16
    NEW_DECIMAL: Final = 246
    ENUM: Final = 247
    SET: Final = 248
    TINY_BLOB: Final = 249
    MEDIUM_BLOB: Final = 250
    LONG_BLOB: Final = 251
    BLOB: Final = 252
    VAR_STRING: Final = 253
    STRING: Final = 254


class ColumnFlag:
    """Flags of column definitions."""

    UNSIGNED: Final = 0x0020
    ENUM: Final = 0x0100
    SET: Final = 0x0800
    NUMBERED: Final = ENUM | SET
    """Of columns whose values are texts with numbers."""


INTEGER_SIZES = {
    FieldType.TINY: 1,
    FieldType.SHORT: 2,
    FieldType.YEAR: 2,
    FieldType.LONG: 4,
    FieldType.INT24: 4,
    FieldType.LONGLONG: 8,
}
"""Integer types → bytes of their binary values."""
INTEGER_TYPES = frozenset(INTEGER_SIZES)
FIXED_SIZES = {**INTEGER_SIZES, FieldType.FLOAT: 4, FieldType.DOUBLE: 8}
"""Types whose binary values are all of one length → bytes."""
DECIMAL_TYPES = frozenset({FieldType.DECIMAL, FieldType.NEW_DECIMAL})
REAL_FORMATS = {FieldType.FLOAT: "<f", FieldType.DOUBLE: "<d"}
"""Floating-point types → how `struct` reads their binary values."""
MOMENT_TYPES = frozenset({FieldType.TIMESTAMP, FieldType.DATE, FieldType.DATETIME})
TEMPORAL_TYPES = MOMENT_TYPES | {FieldType.TIME}
"""A byte with the length is the first of their binary values."""
BLOB_TYPES = frozenset({FieldType.TINY_BLOB, FieldType.MEDIUM_BLOB, FieldType.LONG_BLOB, FieldType.BLOB})
STRING_TYPES = frozenset({FieldType.VARCHAR, FieldType.VAR_STRING, FieldType.STRING})
TEXT_TYPES = BLOB_TYPES | STRING_TYPES | {FieldType.ENUM, FieldType.SET}
"""Texts, ENUMs and BLOBs: values of all of them are encoded alike."""
NOT_FIXED = 31
"""The decimals of a DOUBLE that is written with all of its digits."""
BINARY_CHARSET = 63
"""The collation number of bytes that are no text, and of numbers."""
