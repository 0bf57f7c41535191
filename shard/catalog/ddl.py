"""CREATE TABLE statements of a catalogue: logical tables, chunk tables, overlap tables.

A table's `ddl` is the one text they are all made from: it has no database and no ENGINE clause, and the
invisible columns are in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shard.catalog.model import Column, Kind, Table
from shard.catalog.naming import CHUNK_COLUMN, INDEX_DATABASE, OWNER_COLUMN, SUB_CHUNK_COLUMN, literal, quote

CHUNK_ENGINE = "MyISAM"
LONGEST_COMMENT = 1024
"""Characters of a column's COMMENT at most."""


@dataclass(frozen=True, slots=True)
class Key:
    """An index that does not require uniqueness.

    Attributes
    ----------
    columns : tuple of (str, int or None)
        Names in order, each with the length of its prefix, if only a prefix is indexed.
    """

    columns: tuple[tuple[str, int | None], ...]

    @staticmethod
    def of(*names: str) -> Key:
        """Return an index on whole columns."""
        return Key(tuple((name, None) for name in names))


def comment(column: Column) -> str:
    """Return a column's COMMENT: description, unit and UCD."""
    facts = [column.description]
    facts += [f"unit={column.unit}"] if column.unit else []
    facts += [f"ucd={column.ucd}"] if column.ucd else []
    return _plain("; ".join(fact for fact in facts if fact))[:LONGEST_COMMENT]


def _plain(text: str) -> str:
    """Return `text` without backslashes, which COMMENT cannot take under every sql_mode: ``⧵`` for each."""
    return text.replace("\\", "\u29f5").replace("\0", "")


def invisible(columns: Sequence[Column], kind: Kind) -> tuple[str, ...]:
    """Return the invisible columns that a table gets; one that the catalogue brings itself stays its own."""
    if kind is Kind.REPLICATED:
        return ()
    made = (CHUNK_COLUMN, SUB_CHUNK_COLUMN, *((OWNER_COLUMN,) if kind is Kind.MATCH else ()))
    names = {column.name for column in columns}
    return tuple(name for name in made if name not in names)


def create(
    name: str, columns: Sequence[Column], kind: Kind, keys: Sequence[Key], description: str = ""
) -> str:
    """Return the logical table's CREATE TABLE, without database and engine.

    Parameters
    ----------
    keys : sequence of Key
        Indexes; one on the leading columns of another, or the same again, is left out.
    description : str
        The table's COMMENT.
    """
    lines = []
    for column in columns:
        text = comment(column)
        lines.append(
            f"{quote(column.name)} {column.sql_type}" + (f" COMMENT {literal(text)}" if text else "")
        )
    for extra in invisible(columns, kind):
        kind_of = "TINYINT NOT NULL DEFAULT 1" if extra == OWNER_COLUMN else "INT NOT NULL DEFAULT 0"
        lines.append(f"{quote(extra)} {kind_of} INVISIBLE")
    for number, key in enumerate(_needed(keys)):
        listed = ", ".join(quote(n) + (f"({length})" if length else "") for n, length in key.columns)
        title = key.columns[0][0] if len(key.columns) == 1 else f"key{number}"
        lines.append(f"KEY {quote(title)} ({listed})")
    options = f" COMMENT={literal(_plain(description)[:2048])}" if description else ""
    return f"CREATE TABLE {quote(name)} ({', '.join(lines)}) DEFAULT CHARSET=utf8mb4{options}"


def _needed(keys: Sequence[Key]) -> list[Key]:
    """Return the keys without those that another one begins with."""
    unique = list(dict.fromkeys(keys))
    return [
        key
        for key in unique
        if not any(key != other and other.columns[: len(key.columns)] == key.columns for other in unique)
    ]


def physical(ddl: str, logical: str, database: str, name: str, engine: str = CHUNK_ENGINE) -> str:
    """Return the CREATE TABLE of a template or replicated table with the logical table's columns."""
    body = ddl[len(f"CREATE TABLE {quote(logical)}") :]
    return f"CREATE TABLE {quote(database)}.{quote(name)}{body} ENGINE={engine}"


def union(ddl: str, logical: str, database: str, name: str, parts: Sequence[tuple[str, str]]) -> str:
    """Return the statement that makes a table of the rows of several chunk tables (database, name), if there is none."""
    made = physical(ddl, logical, database, name, "MRG_MyISAM")
    listed = ", ".join(f"{quote(base)}.{quote(table)}" for base, table in parts)
    return made.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1) + f" UNION=({listed})"


def like(database: str, name: str, template: str) -> str:
    """Return the short statement that creates a table like another one (invisible columns included)."""
    return (
        f"CREATE TABLE IF NOT EXISTS {quote(database)}.{quote(name)} LIKE {quote(database)}.{quote(template)}"
    )


def director_index(name: str, columns: Sequence[Column], key: str | None) -> str:
    """Return the CREATE TABLE of a director's index at home; key and places are all its columns.

    `TRANSACTIONAL` means a log: Aria has what a statement has filled on disk at its end, and mends it after a crash. Of a
    table without one nobody asks the system to write anything, and a loss of power can leave it empty.

    Parameters
    ----------
    name : str
        The index table's name, in `skyshard_index`.
    columns, key
        The director's.
    """
    kind = next(column.sql_type for column in columns if column.name == key)
    # Aria looks a key that can be NULL up some five times as slowly.
    if not re.search(r"(?i)\bNOT\s+NULL\b", kind):
        kind = re.sub(r"(?i)\s+NULL\s*$", "", kind) + " NOT NULL"
    covered = ", chunkId" if re.match(r"(?i)[a-z]*int\b", kind) else ""
    return (
        f"CREATE TABLE {quote(INDEX_DATABASE)}.{quote(name)} (directorKey {kind}, chunkId INT NOT NULL, "
        f"subChunkId INT NOT NULL, KEY (directorKey{covered})) "
        "ENGINE=Aria TRANSACTIONAL=1 DEFAULT CHARSET=utf8mb4"
    )


INDEX_COLUMNS = ("directorKey", "chunkId", "subChunkId")
"""Columns of a director's index, in order."""


def home_engine(table: Table) -> str:
    """Return the engine of a replicated table at home."""
    return "InnoDB" if len(table.columns) <= 1000 else "Aria"
