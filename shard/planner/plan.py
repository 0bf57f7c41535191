"""What a plan is: the values between planner, EXPLAIN, golden tests and execution.

A plan is made without IO. What it needs from outside comes in two further pure steps: keys to
look up in director indexes (`Restriction`), and the column types of partial results, from which
`planner.fragment` writes the final SQL of the workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from shard.catalog.model import Table
from shard.geometry.regions import Region

if TYPE_CHECKING:
    from sqlglot import exp

    from shard.planner.split import Draft


class Strategy(StrEnum):
    """How a statement is answered."""

    ROUTED = "routed"
    SCATTER = "scatter"
    SCATTER_MERGE = "scatter+merge"
    SCATTER_SORT = "scatter+sort"
    GATHER = "gather"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Sql:
    """SQL text and the parameters of its ``?`` marks, in order, by their number in the statement.

    A chunk number is written as `emit.CHUNK_MARK`.
    """

    text: str
    parameters: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Everywhere:
    """No restriction: all chunks that exist."""


@dataclass(frozen=True, slots=True)
class InRegion:
    """Chunks that touch a region (degrees)."""

    region: Region


@dataclass(frozen=True, slots=True)
class InChunks:
    """Chunks named by the user's condition on chunkId."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ByKey:
    """Chunks that the director index gives for these keys (SQL literals) of a director."""

    director: str
    keys: tuple[str, ...]


Range: TypeAlias = tuple[int | None, int | None]
"""First and last of some integers; None: there is no such end."""


@dataclass(frozen=True, slots=True)
class ByRange:
    """Chunks that the director index gives for keys in any of these ranges; all, if too many rows are in them."""

    director: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Intersection."""

    parts: tuple[Restriction, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Union."""

    parts: tuple[Restriction, ...]


Restriction: TypeAlias = Everywhere | InRegion | InChunks | ByKey | ByRange | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class PartialType:
    """Type byte and flags of one column of a partial result; `scale`: decimals of a DOUBLE that has a fixed number."""

    type: int
    flags: int
    scale: int | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """How partials become the answer.

    `partial` is the fragment over the logical tables: a temporary table made from it has the
    partials' exact types, named p0…pn. `statement` reads that table.
    """

    partial: Sql
    width: int
    statement: Sql


@dataclass(frozen=True, slots=True)
class SortKey:
    """One column that rows are sorted by: its place in the row, how it is compared (integer, number, date, datetime)."""

    column: int
    kind: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Ordered:
    """Rows that come sorted from every chunk, and need no more than to be merged.

    Attributes
    ----------
    keys : tuple of SortKey
        What they are sorted by.
    hidden : int
        Columns at the front of a row that are only sorted by.
    limit, skip : int or None, int
        Rows wanted and rows to pass over.
    draft : Draft or None
        The planner's own tree of the fragment; `planner.ordered` writes it.
    """

    keys: tuple[SortKey, ...]
    hidden: int
    limit: int | None
    skip: int
    draft: Draft | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a worker runs for one chunk.

    Attributes
    ----------
    main : Sql
        The statement whose rows are wanted.
    setup, teardown : tuple of Sql
        What is run before and after it.
    table : Sql or None
        Of a fragment that is merged: the chunk table that `main` reads, if it reads no other and nothing else of it differs between
        chunks. One statement may then read the union of several chunks' tables: its rows are merged as those of theirs.
    """

    main: Sql
    setup: tuple[Sql, ...] = ()
    teardown: tuple[Sql, ...] = ()
    table: Sql | None = None


@dataclass(frozen=True, slots=True)
class KeySplit:
    """How a user's own table is split by the director index.

    Attributes
    ----------
    column : str
        Its column that is joined with keys of the director, all of them integers.
    director : str
        Whose keys they are.
    every : bool
        Whether chunks that get no row must be asked, too: their rows stay without a partner.
    """

    column: str
    director: str
    every: bool


@dataclass(frozen=True, slots=True)
class Ship:
    """A user's own table that is sent to the workers.

    Attributes
    ----------
    database, table : str, Table
        The table.
    target : str
        Its name on the workers, in the scratch database.
    split : tuple or None
        Longitude and latitude columns and radius (degrees): every row is sent with each chunk that
        has rows within the radius; None: every row once.
    key : KeySplit or None
        Every row is sent with each chunk that its key is in; None: not so.
    """

    database: str
    table: Table
    target: str
    split: tuple[str, str, float] | None = None
    key: KeySplit | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are gathered at home before a statement runs there.

    Attributes
    ----------
    target : str
        The quoted name of the temporary table that they fill.
    plan : Plan
        How they are read: a scatter or scatter+merge.
    schema : Sql or None
        A SELECT over the logical tables whose columns give the target its types; None if the target
        is the shadow of a logical table, which exists.
    columns : tuple of str
        The target's columns in order of the rows.
    hidden : tuple of str
        Those that are invisible.
    keys : tuple of str
        Those that the statement compares: they are indexed.
    label : str
        What it is, for EXPLAIN and errors: a table's name.
    spread : tuple of str
        Columns that are a standard deviation or a variance, and nothing else.
    declared : tuple of (str, str)
        Columns that get another type than `schema` gives them.
    """

    target: str
    plan: Plan
    schema: Sql | None
    columns: tuple[str, ...]
    hidden: tuple[str, ...]
    keys: tuple[str, ...]
    label: str
    spread: tuple[str, ...] = ()
    declared: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Gather:
    """Parts to gather, and the statement to run over them."""

    parts: tuple[Part, ...]
    statement: Sql
    own: bool = False
    """Whether the statement reads users' own tables: it runs on the session's own connection."""
    draft: exp.Expression | None = field(default=None, compare=False, repr=False)
    """The planner's own tree of the statement."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement's plan.

    Attributes
    ----------
    strategy : Strategy
        How the statement is answered.
    database : str
        The catalogue database whose chunks are asked.
    native : Sql
        The whole statement with skyshard's functions made native, over the logical tables: checked
        and executed at home for errors and column definitions.
    tables : tuple of (str, Table)
        The tables it reads, sharded, replicated and users' own, each with its database's name.
    restriction : Restriction
        Which chunks can have rows that count.
    merge : Merge or None
        How the partial results of chunks become the answer; None: their rows are the answer.
    limit, skip : int or None, int
        Rows wanted and rows to pass over, for a scatter without a merge.
    interactive : bool
        It is known to ask few chunks (by key or number, or in a small circle), and does not wait behind scans.
    never : bool
        It asks no chunk: LIMIT 0 ends it before its first row, or none of its rows is of use, or the catalogue knows it.
    gather : Gather or None
        For the strategy of that name: what is brought home before the statement runs there.
    ships : tuple of Ship
        Users' own tables that its fragments read.
    keys : ByKey or None
        A list of integer keys that is part of the restriction. Each chunk is asked only for those that the director index
        has in it.
    window : tuple or None
        For SQL_CALC_FOUND_ROWS: rows to pass over and rows to send of the rows that are counted.
    offset : int
        Rows that the statement passes over, which FOUND_ROWS() counts; 0 with a window.
    counts_all : bool
        It runs at home, and FOUND_ROWS() counts all of its rows whatever its LIMIT.
    ordered : Ordered or None
        Alternative to `merge` for a query that only sorts: workers send sorted streams and the proxy merges them.
    notes : tuple of str
        Note-level warnings about the choice of strategy.
    draft : Draft or None
        The planner's own tree of the fragment; `planner.fragment` writes it.
    """

    strategy: Strategy
    database: str
    native: Sql
    tables: tuple[tuple[str, Table], ...]
    restriction: Restriction = Everywhere()
    merge: Merge | None = None
    limit: int | None = None
    skip: int = 0
    interactive: bool = False
    never: bool = False
    gather: Gather | None = None
    ships: tuple[Ship, ...] = ()
    keys: ByKey | None = None
    window: tuple[int, int | None] | None = None
    offset: int = 0
    counts_all: bool = False
    ordered: Ordered | None = None
    notes: tuple[str, ...] = ()
    draft: Draft | None = field(default=None, repr=False, compare=False)
