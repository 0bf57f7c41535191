"""How columns travel from worker to worker so that every value arrives as it is.

Rows travel as text and are loaded by LOAD DATA. Text of a FLOAT has six digits, so it travels as DOUBLE; numbers
stand for BIT, ENUM and SET; bytes are written in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shard.catalog.ddl import invisible
from shard.catalog.model import Column, Kind, Table
from shard.catalog.naming import quote

_NUMBERED = frozenset({"BIT", "ENUM", "SET"})
_BYTES = frozenset({"BINARY", "VARBINARY", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB"})


@dataclass(frozen=True, slots=True)
class Route:
    """What is selected of a table, and what is loaded: names or ``@x``, and expressions over those."""

    selected: tuple[str, ...]
    columns: tuple[str, ...]
    expressions: dict[str, str]

    @property
    def select(self) -> str:
        """What is selected, as SQL."""
        return ", ".join(self.selected)

    @property
    def digest(self) -> str:
        """An expression of 32 bits over a whole row: the same for the same values, wherever the row lies."""
        return f"CRC32(CONCAT_WS(',', {', '.join(f'CAST(QUOTE({one}) AS BINARY)' for one in self.selected)}))"


def route(table: Table) -> Route:
    """Return how the rows of a table travel, invisible columns included."""
    return _route([*table.columns, *_made(table.columns, table.kind)])


def _made(columns: Sequence[Column], kind: Kind) -> list[Column]:
    return [Column(name=name, sql_type="INT") for name in invisible(columns, kind)]


def _route(listed: Sequence[Column]) -> Route:
    from shard.catalog import types  # with Arrow, which is not for commands that only list or watch

    selected, columns, expressions = [], [], {}
    for number, column in enumerate(listed):
        name, word = quote(column.name), types.sql_type(column.sql_type).word
        variable = f"@{number}"
        if word == "FLOAT":
            selected.append(f"CAST({name} AS DOUBLE)")
            columns.append(column.name)
        elif word in _NUMBERED:
            selected.append(f"{name}+0")
            columns.append(variable)
            expressions[column.name] = f"CAST({variable} AS UNSIGNED)"
        elif word in _BYTES:
            selected.append(f"HEX({name})")
            columns.append(variable)
            expressions[column.name] = f"UNHEX({variable})"
        else:
            selected.append(name)
            columns.append(column.name)
    return Route(tuple(selected), tuple(columns), expressions)
