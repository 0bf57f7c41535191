"""Merging at home: partials stream into a temporary table with their exact types, and one statement reads it.

The table is made from the fragment itself over shadow tables (`CREATE … AS SELECT … LIMIT 0`), so
p0…pn have the types of the partial expressions; rows come by LOAD DATA LOCAL from memory, never row
by row. LOAD DATA LOCAL implies IGNORE, so the counts are checked afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from backend.connection import RawConnection, RowBlock
from shard.catalog.naming import SCRATCH_DATABASE, quote
from shard.planner.plan import Merge, Part, PartialType, Sql
from shard.planner.split import MERGE_TABLE
from shard.wire import rows
from shard.wire.frames import Note, Parameter

_ENUM_OR_SET = 0x100 | 0x800
_NAME = f"{quote(SCRATCH_DATABASE)}.{quote(MERGE_TABLE)}"


class MergeError(Exception):
    """Rows were changed on their way into the merge table; the query must fail."""


@dataclass(slots=True)
class Loaded:
    """How many partial rows were moved."""

    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A temporary table that rows are loaded into: quoted name, and columns in order of the rows."""

    name: str
    columns: tuple[str, ...]

    @staticmethod
    def of(merge: Merge) -> Target:
        """Return the merge table's."""
        return Target(_NAME, tuple(f"p{index}" for index in range(merge.width)))

    @staticmethod
    def of_part(part: Part) -> Target:
        """Return a gathered part's."""
        return Target(part.target, part.columns)


async def create_table(
    connection: RawConnection, merge: Merge, encoding: tuple[str, str], parameters: Sequence[Parameter]
) -> None:
    """Make the merge table over the shadows of `connection`."""
    await connection.run(f"DROP TEMPORARY TABLE IF EXISTS {_NAME}")
    head = f"CREATE TEMPORARY TABLE {_NAME} ENGINE=Aria TRANSACTIONAL=0 AS "
    await run_with(connection, head + merge.partial.text + " LIMIT 0", merge.partial, encoding, parameters)


async def create_part(
    connection: RawConnection, part: Part, encoding: tuple[str, str], parameters: Sequence[Parameter]
) -> None:
    """Make the table of a gathered part, with its types, invisible columns and indexes."""
    if part.schema is None:  # the shadow of a logical table is filled
        await connection.run(f"DELETE FROM {part.target}")
        return
    await connection.run(f"DROP TEMPORARY TABLE IF EXISTS {part.target}")
    declared = [f"{quote(name)} INT INVISIBLE" for name in part.hidden]
    declared += [f"KEY ({quote(name)})" for name in part.keys[:16]]
    body = f" ({', '.join(declared)})" if declared else ""
    head = f"CREATE TEMPORARY TABLE {part.target}{body} ENGINE=Aria TRANSACTIONAL=0 AS "
    await run_with(connection, head + part.schema.text + " LIMIT 0", part.schema, encoding, parameters)


async def run_with(
    connection: RawConnection, text: str, sql: Sql, encoding: tuple[str, str], parameters: Sequence[Parameter]
) -> None:
    """Run a statement that has the parameters of `sql`, if there are any."""
    if sql.parameters:
        picked = [parameters[index] for index in sql.parameters]
        result = await connection.execute(text.encode(*encoding), picked)
        await result.drain()
    else:
        await connection.run(text.encode(*encoding))


async def drop_table(connection: RawConnection) -> None:
    """Drop the merge table."""
    await connection.run(f"DROP TEMPORARY TABLE IF EXISTS {_NAME}")


async def notes(connection: RawConnection) -> list[Note]:
    """Return the conditions of the statement that has just run."""
    found = await connection.fetch("SHOW WARNINGS")
    texts = [[(value or b"").decode("utf-8", "replace") for value in row] for row in found]
    return [Note(level, int(code), message) for level, code, message in texts]


def load_statement(target: Target, types: Sequence[PartialType]) -> str:
    """Return the LOAD DATA for rows of these types; ENUM and SET come as numbers."""
    columns, clauses = [], []
    for index, name in enumerate(target.columns):
        if index < len(types) and types[index].flags & _ENUM_OR_SET:
            columns.append(f"@p{index}")
            clauses.append(f"{quote(name)} = CAST(@p{index} AS UNSIGNED)")
        else:
            columns.append(quote(name))
    text = (
        f"LOAD DATA LOCAL INFILE 'partials' INTO TABLE {target.name} CHARACTER SET utf8mb4 "
        "FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (" + ", ".join(columns) + ")"
    )
    return text + (" SET " + ", ".join(clauses) if clauses else "")


async def load(
    connection: RawConnection,
    blocks: AsyncIterator[RowBlock],
    target: Target,
    types: Sequence[PartialType],
    watch: Callable[[int], None] = lambda _: None,
) -> Loaded:
    """Stream rows into a table and check that all arrived unchanged.

    Parameters
    ----------
    blocks : iterator of RowBlock
        Text rows.
    watch : callable
        Told of the bytes of every piece; may raise.

    Raises
    ------
    MergeError
        If records differ from rows sent, or any value was changed.
    """
    moved = Loaded()

    async def pieces() -> AsyncIterator[bytes]:
        async for block in blocks:
            moved.rows += block.rows
            moved.bytes += len(block.data)
            watch(len(block.data))
            yield rows.rows_to_load(block.data)

    ok = await connection.load(load_statement(target, types).encode(), pieces())
    if ok.affected_rows != moved.rows or ok.warnings:
        raise MergeError(f"{moved.rows} rows sent, {ok.affected_rows} records, {ok.warnings} warnings")
    return moved


async def cut(blocks: AsyncIterator[RowBlock], skip: int) -> AsyncIterator[RowBlock]:
    """Pass blocks on without their first `skip` rows."""
    async for block in blocks:
        if skip >= block.rows:
            skip -= block.rows
            continue
        if skip:
            yield RowBlock(block.data[rows.take(block.data, skip) :], block.rows - skip)
            skip = 0
        else:
            yield block
