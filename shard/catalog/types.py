"""Which SQL type holds an Arrow type, and which Arrow type holds the values of an SQL type.

The first is for tables whose columns are inferred from Parquet files; the second is what data are checked
against before they are sent, so that a bad value is found with its file and row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

import pyarrow as pa

LONGEST_VARCHAR = 4096
"""Characters; longer text becomes LONGTEXT."""

_SIMPLE: dict[str, str] = {
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INT",
    "int64": "BIGINT",
    "uint8": "TINYINT UNSIGNED",
    "uint16": "SMALLINT UNSIGNED",
    "uint32": "INT UNSIGNED",
    "uint64": "BIGINT UNSIGNED",
    "halffloat": "FLOAT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "bool": "TINYINT(1)",
    "binary": "LONGBLOB",
    "large_binary": "LONGBLOB",
    "binary_view": "LONGBLOB",
    "date32[day]": "DATE",
    "date64[ms]": "DATE",
    "time32[s]": "TIME",
    "time32[ms]": "TIME(3)",
    "time64[us]": "TIME(6)",
    "time64[ns]": "TIME(6)",
}
_FRACTION = {"s": "", "ms": "(3)", "us": "(6)", "ns": "(6)"}
_INTEGERS = {
    "TINYINT": (pa.int8(), pa.uint8()),
    "BOOL": (pa.int8(), pa.uint8()),
    "BOOLEAN": (pa.int8(), pa.uint8()),
    "SMALLINT": (pa.int16(), pa.uint16()),
    "MEDIUMINT": (pa.int32(), pa.uint32()),
    "INT": (pa.int32(), pa.uint32()),
    "INTEGER": (pa.int32(), pa.uint32()),
    "BIGINT": (pa.int64(), pa.uint64()),
    "YEAR": (pa.uint16(), pa.uint16()),
    "BIT": (pa.uint64(), pa.uint64()),
}
_TEXTS = {"CHAR", "VARCHAR", "TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT", "JSON"}
_BYTES = {"BINARY", "VARBINARY", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB"}
_TEMPORAL = {"DATE", "TIME", "DATETIME", "TIMESTAMP"}
_TYPE = re.compile(r"^\s*([A-Za-z0-9]+)(?:\s+PRECISION)?\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?(.*)$", re.S)


class Family(Enum):
    """Families of SQL types that are checked alike."""

    INTEGER = auto()
    FLOAT = auto()
    DECIMAL = auto()
    TEXT = auto()
    BYTES = auto()
    TEMPORAL = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class SqlType:
    """What of an SQL type decides which values fit.

    Attributes
    ----------
    word : str
        The type's name in capitals.
    arrow : DataType or None
        The Arrow type with the same range; None where text goes as it is.
    length : int or None
        Characters (text) or bytes (binary) at most.
    nullable : bool
        False for NOT NULL.
    """

    word: str
    family: Family
    arrow: pa.DataType | None = None
    length: int | None = None
    nullable: bool = True

    @property
    def spelled(self) -> str:
        """Return the type's name, with the digits of a decimal, for messages."""
        if self.family is Family.DECIMAL and self.arrow is not None:
            return f"{self.word}({self.arrow.precision},{self.arrow.scale})"
        return self.word

    @property
    def can_be_key(self) -> bool:
        """Whether equality of the values is what the partitioner can decide: whole numbers and short text."""
        return (self.family is Family.INTEGER and self.word != "BIT") or self.word in ("CHAR", "VARCHAR")


def sql_type(text: str) -> SqlType:
    """Return what an SQL type as in CREATE TABLE says (`DECIMAL(10,3) UNSIGNED NOT NULL`)."""
    found = _TYPE.match(text)
    if found is None:
        return SqlType("", Family.OTHER)
    word, first, second, rest = found[1].upper(), found[2], found[3], found[4].upper()
    nullable = re.search(r"\bNOT\s+NULL\b", rest) is None
    length = int(first) if first else None
    if word in _INTEGERS:
        unsigned = "UNSIGNED" in rest or "ZEROFILL" in rest
        return SqlType(word, Family.INTEGER, _INTEGERS[word][unsigned], nullable=nullable)
    if word in ("DOUBLE", "REAL", "FLOAT"):
        single = word == "FLOAT" and (length or 0) <= 24
        return SqlType(word, Family.FLOAT, pa.float32() if single else pa.float64(), nullable=nullable)
    if word in ("DECIMAL", "NUMERIC", "DEC", "FIXED"):
        return SqlType(word, Family.DECIMAL, pa.decimal256(length or 10, int(second or 0)), nullable=nullable)
    if word in _TEXTS:
        longest = (1 if word == "CHAR" else None) if length is None else length
        return SqlType(word, Family.TEXT, length=longest if "CHAR" in word else None, nullable=nullable)
    if word in _BYTES:
        return SqlType(word, Family.BYTES, length=length if "BINARY" in word else None, nullable=nullable)
    family = Family.TEMPORAL if word in _TEMPORAL else Family.OTHER
    return SqlType(word, family, nullable=nullable)


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type, or the values of a dictionary of it, is text."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def inferred(kind: pa.DataType, longest: int = 0) -> str | None:
    """Return the SQL type that holds every value of an Arrow type, or None if there is none.

    Parameters
    ----------
    kind : DataType
        The Arrow type.
    longest : int
        Characters of the longest value, for text.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_text(kind):
        size = next((step for step in (1, 8, 16, 32, 64, 128, 255) if longest <= step), None)
        if size is None and longest <= LONGEST_VARCHAR:
            size = -(-longest // 256) * 256
        return f"VARCHAR({size})" if size else "LONGTEXT"
    if pa.types.is_decimal(kind):
        fits = kind.precision <= 65 and 0 <= kind.scale <= 38
        return f"DECIMAL({kind.precision},{kind.scale})" if fits else None
    if pa.types.is_timestamp(kind):
        return f"DATETIME{_FRACTION[kind.unit]}"
    if pa.types.is_fixed_size_binary(kind):
        return f"BINARY({kind.byte_width})" if kind.byte_width <= 255 else "LONGBLOB"
    return _SIMPLE.get(str(kind))
