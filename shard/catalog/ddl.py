"""CREATE TABLE statements of a catalogue: logical tables, chunk tables, overlap tables."""

from __future__ import annotations

from collections.abc import Sequence

from shard.catalog.model import Column, Kind
from shard.catalog.naming import CHUNK_COLUMN, OWNER_COLUMN, SUB_CHUNK_COLUMN, literal, quote

CHUNK_ENGINE = "MyISAM"


def comment(column: Column) -> str:
    """Return a column's COMMENT: description, unit and UCD."""
    facts = [column.description]
    facts += [f"unit={column.unit}"] if column.unit else []
    facts += [f"ucd={column.ucd}"] if column.ucd else []
    return "; ".join(fact for fact in facts if fact)[:1024]


def create(name: str, columns: Sequence[Column], kind: Kind, keys: Sequence[str]) -> str:
    """Return the logical table's CREATE TABLE, without database and engine.

    Parameters
    ----------
    keys : sequence of str
        Columns that get an index.
    """
    lines = []
    for column in columns:
        text = comment(column)
        lines.append(
            f"{quote(column.name)} {column.sql_type}" + (f" COMMENT {literal(text)}" if text else "")
        )
    if kind is not Kind.REPLICATED:
        lines += [f"{quote(n)} INT NOT NULL DEFAULT 0 INVISIBLE" for n in (CHUNK_COLUMN, SUB_CHUNK_COLUMN)]
    if kind is Kind.MATCH:
        lines.append(f"{quote(OWNER_COLUMN)} TINYINT NOT NULL DEFAULT 1 INVISIBLE")
    lines += [f"KEY {quote(key)} ({quote(key)})" for key in dict.fromkeys(keys)]
    return f"CREATE TABLE {quote(name)} ({', '.join(lines)}) DEFAULT CHARSET=utf8mb4"


def physical(ddl: str, logical: str, database: str, name: str, engine: str = CHUNK_ENGINE) -> str:
    """Return the CREATE TABLE of a chunk, overlap or replicated table with the logical table's columns."""
    body = ddl[len(f"CREATE TABLE {quote(logical)}") :]
    return f"CREATE TABLE {quote(database)}.{quote(name)}{body} ENGINE={engine}"
