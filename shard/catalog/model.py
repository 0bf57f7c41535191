"""What a published catalogue is, as immutable values.

The same structs are read from a catalogue file by ingest, stored as JSON in the metadata at
home, and read by the planner. They hold no connection and no path.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """The four kinds of catalogue table, and users' own tables, which stand beside them in queries."""

    DIRECTOR = "director"
    DEPENDENT = "dependent"
    MATCH = "match"
    REPLICATED = "replicated"
    OWN = "own"


class Partitioning(msgspec.Struct, frozen=True, kw_only=True):
    """The chunk grid of a database: counts, and the overlap in degrees."""

    stripes: int
    sub_stripes: int
    overlap_deg: float = 0.0


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column: its name and its SQL type as in CREATE TABLE (`DOUBLE NOT NULL`)."""

    name: str
    sql_type: str
    unit: str = ""
    ucd: str = ""
    description: str = ""


def whole_name(name: str, state: int) -> str:
    """Return the name on workers of a replicated table in a state."""
    return f"{name}${state}" if state else name


class MatchSide(msgspec.Struct, frozen=True, kw_only=True):
    """One director of a match table and the match table's columns that lead to it."""

    table: str
    foreign_key: str
    longitude: str | None = None
    latitude: str | None = None


class Table(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """One table of a database.

    `longitude`/`latitude` name this table's own position columns in degrees (for a dependent: the
    *director* row's position). `director`, `director_key` are a dependent's. `sides` are a match
    table's two directors, in order. `ddl` is the full CREATE TABLE of the logical table at home,
    invisible columns included, without a database name and without an ENGINE clause.
    `key_spans_chunks`: some key of this director stands in two chunks, or some row of this dependent in
    another chunk than its director, so that equality of keys does not mean the same chunk.
    `null_keys`: some row's key to its director is NULL; such rows lie anywhere, and still are one group.
    `wide_pairs`: pairs of this match table whose second partner is outside the first's chunk and overlap.
    `state`: the commit whose number is behind the name that a replicated table has on workers; 0: none.
    `changed`: the database's revision in which rows of a replicated table last came or went; it only grows.
    `is_view`: a user's own table is a view, which may read others.
    """

    name: str
    kind: Kind
    columns: tuple[Column, ...] = ()
    key: str | None = None
    longitude: str | None = None
    latitude: str | None = None
    director: str | None = None
    director_key: str | None = None
    sides: tuple[MatchSide, ...] = ()
    ddl: str = ""
    rows: int = 0
    key_spans_chunks: bool = False
    null_keys: bool = False
    wide_pairs: int = 0
    state: int = 0
    changed: int = 0
    is_view: bool = False

    @property
    def stored(self) -> str:
        """The name on workers: a replicated table's is another one for each state, ``Filter$17``."""
        return whole_name(self.name, self.state)

    @property
    def is_sharded(self) -> bool:
        """Whether the table is split by chunk (all kinds but replicated and users' own)."""
        return self.kind not in (Kind.REPLICATED, Kind.OWN)


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """A published database: partitioning and tables.

    `version` changes whenever the database is replaced, `revision` whenever rows are added or taken away. A plan made in
    a revision before `oldest` cannot be run any more: tables that it names hold other rows by now.
    """

    name: str
    partitioning: Partitioning
    tables: tuple[Table, ...]
    version: int = 0
    revision: int = 0
    oldest: int = 0

    def table(self, name: str) -> Table | None:
        """Return the table of that name (case-sensitive, as MariaDB on Linux), or None."""
        return next((table for table in self.tables if table.name == name), None)


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as the proxy sees it: its number, its name, and its agent's address."""

    worker_id: int
    name: str
    host: str
    port: int
    state: str = "active"
