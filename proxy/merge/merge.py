"""Merging at home: partials stream into a temporary table with their exact types, and one statement reads it.

The table is made from the fragment itself over shadow tables (`CREATE … AS SELECT … LIMIT 0`), so
p0…pn have the types of the partial expressions; rows come by LOAD DATA LOCAL from memory, never row
by row. LOAD DATA LOCAL implies IGNORE, so the counts are checked afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from backend.connection import RawConnection, RowBlock
from proxy.home.definitions import set_statement
from shard.catalog.naming import SCRATCH_DATABASE, quote
from shard.errors import UNFIT, SkyError
from shard.planner.chunk_tables import LENIENT
from shard.planner.partials import MERGE_TABLE
from shard.planner.plan import Merge, Part, PartialType, Sql
from shard.wire import rows
from shard.wire.frames import Parameter
from shard.wire.loading import LoadText
from shard.wire.packets import Ok
from shard.wire.protocol import NOT_FIXED, ColumnFlag, FieldType

PLAINLY = "SET SESSION sql_mode='', time_zone='+00:00', character_set_client=utf8mb4"
"""Makes a session read statements of ours, and take rows as they are."""
PLAIN = ("sql_mode", "time_zone", "character_set_client")
"""What it changes."""
_MOMENT = "IF({0} = 0, TIMESTAMP'0000-00-00 00:00:00', FROM_UNIXTIME(CAST({0} AS DECIMAL(20, 6))))"
"""A TIMESTAMP of its seconds since 1970, of which a zero one has none."""
ARIA = "Aria TRANSACTIONAL=0"
MERGE_NAME = f"{quote(SCRATCH_DATABASE)}.{quote(MERGE_TABLE)}"


class MergeError(Exception):
    """Rows were lost on their way into the merge table; the query must fail."""


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
        return Target(MERGE_NAME, tuple(f"p{index}" for index in range(merge.width)))

    @staticmethod
    def of_part(part: Part) -> Target:
        """Return a gathered part's."""
        return Target(part.target, part.columns)


@dataclass(frozen=True, slots=True)
class Making:
    """A temporary table to make: its quoted name, and the statement whose columns it gets."""

    name: str
    head: str
    sql: Sql
    engine: str = ARIA

    @property
    def text(self) -> str:
        """The CREATE statement."""
        return f"{LENIENT}CREATE OR REPLACE TEMPORARY TABLE {self.name}{self.head} ENGINE={self.engine} AS {self.sql.text}"


def merge_table(merge: Merge, rounded: Sequence[int] = ()) -> Making:
    """Return how the merge table is made.

    Parameters
    ----------
    rounded : sequence of int
        Columns that MariaDB would make DOUBLE with a fixed number of decimals, where large values do not
        fit and others change in their last digit; they are DOUBLE without.
    """
    partial = Sql(f"{merge.partial.text} LIMIT 0", merge.partial.parameters)
    declared = ", ".join(f"{quote(f'p{index}')} DOUBLE" for index in rounded)
    return Making(MERGE_NAME, f" ({declared})" if declared else "", partial, _engine(merge.statement))


def _engine(statement: Sql) -> str:
    """Return the engine of a temporary table that `statement` reads.

    MariaDB takes an Aria table of one row for a constant, and forgets the OFFSET of a SELECT DISTINCT of
    constants; InnoDB's number of rows is never certain.
    """
    words = statement.text.upper()
    return "InnoDB" if "DISTINCT" in words and "OFFSET" in words else ARIA


def part_table(part: Part, schema: Sql, statement: Sql, rounded: Mapping[str, int]) -> Making:
    """Return how a gathered part's table, which `statement` reads, is made: invisible columns, indexes.

    Parameters
    ----------
    rounded : mapping
        Columns that MariaDB would make DOUBLE with a fixed number of decimals: those that they are given, with
        room for all values, or 31, with all digits.
    """
    declared = [f"{quote(name)} INT INVISIBLE" for name in part.hidden]
    declared += [
        f"{quote(name)} DOUBLE" + ("" if scale >= NOT_FIXED else f"(53,{scale})")
        for name, scale in rounded.items()
    ]
    declared += [f"{quote(name)} {kind}" for name, kind in part.declared if name in part.columns]
    declared += [f"KEY ({quote(name)})" for name in part.keys[:16]]
    head = f" ({', '.join(declared)})" if declared else ""
    return Making(part.target, head, Sql(f"{schema.text} LIMIT 0", schema.parameters), _engine(statement))


class Desk(Protocol):
    """A connection at home where rows are put together."""

    async def make(self, making: Making) -> None:
        """Make a temporary table, in place of an older one."""

    async def run(self, sql: Sql) -> None:
        """Run a statement, with the query's parameters; no rows."""

    async def load(self, sql: bytes, pieces: AsyncIterator[bytes]) -> Ok:
        """Run LOAD DATA LOCAL."""


class ServiceDesk:
    """A service connection, on which empty shadows stand for the sharded tables."""

    def __init__(
        self,
        connection: RawConnection,
        encoding: tuple[str, str],
        parameters: Sequence[Parameter],
        settings: Mapping[str, str],
    ) -> None:
        self.connection, self._encoding, self._parameters = connection, encoding, parameters
        self._settings = settings

    async def make(self, making: Making) -> None:
        """Make a temporary table from its statement over the shadows; without parameters, with the next statement."""
        if making.sql.parameters:
            await self.run(Sql(making.text, making.sql.parameters))
        else:
            self.connection.defer(making.text.encode(*self._encoding))

    async def run(self, sql: Sql) -> None:
        """Run a statement; no rows."""
        text = sql.text.encode(*self._encoding)
        if sql.parameters:
            result = await self.connection.execute(text, [self._parameters[i] for i in sql.parameters])
            await result.drain()
        else:
            await self.connection.run(text)

    async def load(self, sql: bytes, pieces: AsyncIterator[bytes]) -> Ok:
        """Run LOAD DATA LOCAL."""
        self.connection.defer(PLAINLY)
        ok = await self.connection.load(sql, pieces)
        self.connection.defer(set_statement({name: self._settings[name] for name in PLAIN}))
        return ok


def load_statement(target: Target, types: Sequence[PartialType]) -> str:
    """Return the LOAD DATA for rows of these types; BIT, ENUM and SET come as numbers, TIMESTAMP as seconds since 1970."""
    columns, clauses = [], []
    for index, name in enumerate(target.columns):
        kind = types[index] if index < len(types) else None
        value = None
        if kind is not None and (kind.type == FieldType.BIT or kind.flags & ColumnFlag.NUMBERED):
            value = f"CAST(@p{index} AS UNSIGNED)"
        elif kind is not None and kind.type == FieldType.TIMESTAMP:
            value = _MOMENT.format(f"@p{index}")
        columns.append(quote(name) if value is None else f"@p{index}")
        if value is not None:
            clauses.append(f"{quote(name)} = {value}")
    text = (
        f"LOAD DATA LOCAL INFILE 'partials' INTO TABLE {target.name} CHARACTER SET utf8mb4 "
        "FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (" + ", ".join(columns) + ")"
    )
    return text + (" SET " + ", ".join(clauses) if clauses else "")


async def load(
    desk: Desk,
    blocks: AsyncIterator[RowBlock],
    target: Target,
    types: Sequence[PartialType],
    watch: Callable[[int], None] = lambda _: None,
) -> Loaded:
    """Stream rows into a table and check that all arrived unchanged.

    Parameters
    ----------
    blocks : iterator of RowBlock
        Text rows; long ones may come in pieces.
    watch : callable
        Told of the bytes of every piece; may raise.

    Raises
    ------
    MergeError
        If records differ from rows sent.
    SkyError
        UNFIT if a value was changed: MariaDB says of some expressions that they are shorter than they are.
    """
    moved, text = Loaded(), LoadText()

    async def pieces() -> AsyncIterator[bytes]:
        async for block in blocks:
            moved.rows += block.rows
            moved.bytes += len(block.data)
            watch(len(block.data))
            for piece in text.feed(block.data, block.more):
                yield piece

    ok = await desk.load(load_statement(target, types).encode(), pieces())
    if ok.affected_rows != moved.rows:
        raise MergeError(f"{moved.rows} rows sent, {ok.affected_rows} records")
    if ok.warnings:
        raise SkyError(UNFIT, warnings=ok.warnings)
    return moved


async def cut(blocks: AsyncIterator[RowBlock], skip: int) -> AsyncIterator[RowBlock]:
    """Pass blocks on without their first `skip` rows; a piece of a long row, which comes alone, is of none or of one."""
    async for block in blocks:
        if not skip:
            yield block
        elif block.more or block.rows <= skip:
            skip -= block.rows
        else:
            yield RowBlock(block.data[rows.take(block.data, skip) :], block.rows - skip)
            skip = 0
