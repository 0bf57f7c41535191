"""Values of prepared statements as SQL literals, for statements that the proxy carries out from their text."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from shard.errors import not_supported
from shard.planner.lexer import LexerMode, LexError, TokenKind, tokenize
from shard.wire.frames import Parameter
from shard.wire.packets import read_lenenc_bytes
from shard.wire.protocol import DECIMAL_TYPES, INTEGER_TYPES, REAL_FORMATS, STRING_TYPES

_DIGITS = frozenset(b"+-.0123456789")


def with_values(sql: bytes, parameters: Sequence[Parameter], mode: LexerMode) -> bytes:
    """Return a statement with literals in place of its ``?``.

    Raises
    ------
    SkyError
        NOT_SUPPORTED, for a value that has no literal of its type.
    """
    if not parameters:
        return sql
    text = sql.decode("latin-1")
    try:
        marks = [token for token in tokenize(text, mode) if token.kind is TokenKind.PARAMETER]
    except LexError:
        return sql
    out, done = "", 0
    for mark, parameter in zip(marks, parameters, strict=True):
        out += text[done : mark.start] + literal_of(parameter)
        done = mark.start + 1
    return (out + text[done:]).encode("latin-1")


def literal_of(parameter: Parameter) -> str:
    """Return a literal with a parameter's value and type; texts must be UTF-8."""
    kind, value = parameter.type, parameter.value
    if value is None:
        return "NULL"
    if kind in INTEGER_TYPES:
        number = int.from_bytes(value, "little", signed=not parameter.unsigned)
        return f"({number})" if number < 0 else str(number)
    if kind in REAL_FORMATS:
        (real,) = struct.unpack(REAL_FORMATS[kind], value)
        text = repr(real)
        return f"({text if 'e' in text else text + 'e0'})"
    data, _ = read_lenenc_bytes(value, 0) if kind in STRING_TYPES | DECIMAL_TYPES else (b"", 0)
    if kind in DECIMAL_TYPES and data and _DIGITS.issuperset(data):
        return f"({data.decode('ascii')})"
    if kind in STRING_TYPES:
        return f"_utf8mb4 X'{data.hex()}'"
    raise not_supported("a parameter of this type in this statement", "write the value itself")
