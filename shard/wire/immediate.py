"""A prepared statement's text and binary parameters as one text statement: EXECUTE IMMEDIATE … USING.

Its rows come in the text protocol, which LOAD DATA can take; the parameters keep the types that
COM_STMT_EXECUTE gives them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from shard.wire.frames import Parameter
from shard.wire.packets import read_lenenc_int
from shard.wire.protocol import BLOB_TYPES, DECIMAL_TYPES, MOMENT_TYPES, REAL_FORMATS, FieldType

_SIGNED = {
    FieldType.TINY: "b",
    FieldType.SHORT: "h",
    FieldType.LONG: "i",
    FieldType.LONGLONG: "q",
    FieldType.INT24: "i",
}


def immediate(sql: bytes, parameters: Sequence[Parameter], charset: str = "utf8mb4") -> bytes:
    """Return the statement.

    Parameters
    ----------
    sql : bytes
        Text with ``?`` marks, in `charset`.
    parameters : sequence of Parameter
        As many as there are marks.
    charset : str
        MariaDB's name of the character set of the text and of text parameters.
    """
    text = f"EXECUTE IMMEDIATE CONVERT(X'{sql.hex()}' USING {charset})"
    if parameters:
        text += " USING " + ", ".join(_argument(parameter, charset) for parameter in parameters)
    return text.encode("ascii")


def _argument(parameter: Parameter, charset: str) -> str:
    """Return a parameter as an expression for USING.

    MariaDB takes a positive number there for a digit shorter than it is, and cuts it off where it stores it
    beside a DECIMAL (``IF(a, 0.1, ?)`` with 300 is 99.9 in a GROUP BY); a sum is as long as it must be.
    """
    text = literal(parameter, charset)
    if parameter.type not in _SIGNED or not text.isdigit():
        return text
    return f"CAST({text} AS UNSIGNED)" if parameter.unsigned else f"{text}+0"


def literal(parameter: Parameter, charset: str = "utf8mb4") -> str:
    """Return a parameter as an SQL literal of its type."""
    value, kind = parameter.value, parameter.type
    if value is None:
        return "NULL"
    if kind in _SIGNED:
        code = _SIGNED[kind].upper() if parameter.unsigned else _SIGNED[kind]
        return str(struct.unpack(f"<{code}", value)[0])
    if kind == FieldType.YEAR:
        return str(int.from_bytes(value, "little"))
    if kind in REAL_FORMATS:
        number = repr(struct.unpack(REAL_FORMATS[kind], value)[0])
        return number if "e" in number else f"{number}e0"
    if kind in MOMENT_TYPES:
        return _timestamp(value, kind)
    if kind == FieldType.TIME:
        return _duration(value)
    length, start = read_lenenc_int(value, 0)
    content = value[start : start + length]
    if kind in DECIMAL_TYPES:
        digits = content.decode("ascii")
        if not digits.strip("+-").replace(".", "", 1).isdigit():
            raise ValueError("a DECIMAL parameter is no number")
        return digits if "." in digits else f"{digits}."  # without a point it would be an integer
    if kind in BLOB_TYPES:
        return f"X'{content.hex()}'"
    return f"_{charset} X'{content.hex()}'"


def _timestamp(value: bytes, kind: int) -> str:
    parts = value[1:].ljust(11, b"\0")
    year, month, day, hour, minute, second, micro = struct.unpack("<HBBBBBI", parts[:11])
    date = f"{year:04}-{month:02}-{day:02}"
    if kind == FieldType.DATE:
        return f"DATE'{date}'"
    fraction = f".{micro:06}" if micro else ""
    return f"TIMESTAMP'{date} {hour:02}:{minute:02}:{second:02}{fraction}'"


def _duration(value: bytes) -> str:
    parts = value[1:].ljust(12, b"\0")
    negative, days, hour, minute, second, micro = struct.unpack("<BIBBBI", parts[:12])
    fraction = f".{micro:06}" if micro else ""
    return f"TIME'{'-' if negative else ''}{days * 24 + hour:02}:{minute:02}:{second:02}{fraction}'"


__all__ = ["immediate", "literal"]
