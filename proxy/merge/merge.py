"""Merging at home: partials stream into a temporary table with their exact types, and one statement reads it.

The table is made from the fragment itself over shadow tables (`CREATE … AS SELECT … LIMIT 0`), so
p0…pn have the types of the partial expressions; rows come by LOAD DATA LOCAL from memory, never row
by row. LOAD DATA LOCAL implies IGNORE, so the counts are checked afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from backend.connection import RawConnection
from proxy.execute.dispatcher import RowStream
from shard.catalog.naming import SCRATCH_DATABASE, quote
from shard.planner.plan import Merge, PartialType
from shard.planner.split import MERGE_TABLE
from shard.wire import rows

_ENUM_OR_SET = 0x100 | 0x800
_NAME = f"{quote(SCRATCH_DATABASE)}.{quote(MERGE_TABLE)}"


class MergeError(Exception):
    """Rows were changed on their way into the merge table; the query must fail."""


@dataclass(slots=True)
class Loaded:
    """How many partial rows were moved."""

    rows: int = 0
    bytes: int = 0


async def create_table(connection: RawConnection, merge: Merge, encoding: tuple[str, str]) -> None:
    """Make the merge table over the shadows of `connection`."""
    await connection.run(f"DROP TEMPORARY TABLE IF EXISTS {_NAME}")
    head = f"CREATE TEMPORARY TABLE {_NAME} ENGINE=Aria TRANSACTIONAL=0 AS "
    await connection.run((head + merge.partial.text + " LIMIT 0").encode(*encoding))


async def drop_table(connection: RawConnection) -> None:
    """Drop the merge table."""
    await connection.run(f"DROP TEMPORARY TABLE IF EXISTS {_NAME}")


def load_statement(width: int, types: Sequence[PartialType]) -> str:
    """Return the LOAD DATA for partials of these types; ENUM and SET come as numbers."""
    columns, clauses = [], []
    for index in range(width):
        if index < len(types) and types[index].flags & _ENUM_OR_SET:
            columns.append(f"@p{index}")
            clauses.append(f"`p{index}` = CAST(@p{index} AS UNSIGNED)")
        else:
            columns.append(f"`p{index}`")
    text = (
        f"LOAD DATA LOCAL INFILE 'partials' INTO TABLE {_NAME} CHARACTER SET utf8mb4 "
        "FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (" + ", ".join(columns) + ")"
    )
    return text + (" SET " + ", ".join(clauses) if clauses else "")


async def load(
    connection: RawConnection, stream: RowStream, merge: Merge, types: Sequence[PartialType]
) -> Loaded:
    """Stream partial rows into the merge table and check that all arrived unchanged.

    Raises
    ------
    MergeError
        If records differ from rows sent, or any value was changed.
    """
    moved = Loaded()

    async def pieces() -> AsyncIterator[bytes]:
        async for block in stream:
            moved.rows += block.rows
            moved.bytes += len(block.data)
            yield rows.rows_to_load(block.data)

    ok = await connection.load(load_statement(merge.width, types).encode(), pieces())
    if ok.affected_rows != moved.rows or ok.warnings:
        raise MergeError(f"{moved.rows} rows sent, {ok.affected_rows} records, {ok.warnings} warnings")
    return moved
