"""Reads the user's own tables for a query with sharded ones: their shape, and the rows of small ones.

Everything is read on the session's own connection, so that privileges, temporary tables and open
transactions are the session's. The home server holds the tables; workers get copies of small ones.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend.pool import Pool
from proxy.home.definitions import show_create
from proxy.home.director_index import Places, places
from proxy.home.link import HomeLink
from proxy.home.metadata import CatalogueSnapshot
from proxy.merge.merge import Target, load_statement
from shard.catalog.model import Column, Database, Kind, Table
from shard.catalog.naming import SCRATCH_DATABASE, quote
from shard.errors import SHIP_TYPE, STATEMENT_TOO_LONG, SkyError
from shard.geometry.chunker import ChunkGrid
from shard.planner.nested import SPLIT_COLUMN
from shard.planner.plan import PartialType, Plan, Ship
from shard.wire import frames, rows
from shard.wire.packets import ColumnDefinition
from shard.wire.protocol import ColumnFlag, FieldType

_BYTES_A_COLUMN = 2
_CHARSET = re.compile(r"(?i)\bDEFAULT CHARSET=(\w+)(?: COLLATE=(\w+))?")
_DROPPED = ("CONSTRAINT ", "FULLTEXT KEY", "SPATIAL KEY", "PERIOD FOR")
_PRIMARY = re.compile(r"(?m)^  PRIMARY KEY")
_UNIQUE = re.compile(r"(?m)^  UNIQUE KEY")
_NULL = b"\\N"
_HASHED = re.compile(r"  UNIQUE KEY .* USING HASH$")
_COUNTING = re.compile(r"  (`(?:[^`]|``)+`) .*\bAUTO_INCREMENT\b")
_SHAPE = f"{quote(SCRATCH_DATABASE)}.{quote('own_shape')}"

MOST_SPLIT_BYTES = 256 << 20
"""Bytes of a user's own table with its rows repeated for every chunk that they go to."""
_CHUNK_BYTES = 8


@dataclass(frozen=True, slots=True)
class OwnTable:
    """A user's own table.

    Attributes
    ----------
    database, table : str, Table
        As the planner sees it.
    names : tuple of str
        Columns of `data`: all that are stored.
    types : tuple of PartialType
        Their types as they travel.
    data : bytes or None
        All rows as text row packets, or None if they are more than the limit.
    """

    database: str
    table: Table
    names: tuple[str, ...]
    types: tuple[PartialType, ...]
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Shipment:
    """What is sent to the workers for one `Ship`.

    Attributes
    ----------
    frame : frames.Shipped
        The table; without its rows, if every chunk has its own.
    chunks : frozenset of int or None
        Those that its rows reach; None if all must be asked.
    lines : mapping or None
        Chunk → its rows as they are loaded; None if every worker gets all.
    """

    frame: frames.Shipped
    chunks: frozenset[int] | None
    lines: Mapping[int, bytes] | None


async def read(
    home: HomeLink, wanted: Sequence[tuple[str | None, str]], ship_limit: int
) -> tuple[OwnTable, ...]:
    """Return the user's own tables.

    Raises
    ------
    ServerError
        MariaDB's own error for a table that does not exist or may not be read.
    """
    return tuple([await _table(home, database, name, ship_limit) for database, name in wanted if database])


async def _table(home: HomeLink, database: str, name: str, ship_limit: int) -> OwnTable:
    full = f"{quote(database)}.{quote(name)}"
    listed = await home.table(f"SHOW FULL COLUMNS FROM {full}".encode())
    columns: list[Column] = []
    stored: list[tuple[str, str]] = []
    for row in listed.rows:
        column, kind, extra = ((row[index] or b"").decode() for index in (0, 1, 6))
        if "INVISIBLE" not in extra.upper():
            generated = "generated " if "GENERATED" in extra.upper() else ""  # its values are not sent
            columns.append(Column(name=column, sql_type=generated + kind))
        if "GENERATED" not in extra.upper():
            stored.append((column, kind.lower()))
    ddl, is_view = await _ddl(home, database, name)
    table = Table(name=name, kind=Kind.OWN, columns=tuple(columns), ddl=ddl, is_view=is_view)
    items = ", ".join(_travelling(column, kind, full) for column, kind in stored)
    most = ship_limit // (_BYTES_A_COLUMN * len(stored)) + 1
    found = await home.block(
        f"SET STATEMENT character_set_results=utf8mb4 FOR SELECT {items} FROM {full} LIMIT {most}".encode(),
        ship_limit,
    )
    kept = found.data if found.rows < most else None
    types = [ColumnDefinition.decode(item) for item in found.columns]
    partial = [_partial_type(kind, item.type) for (_, kind), item in zip(stored, types, strict=True)]
    return OwnTable(database, table, tuple(column for column, _ in stored), tuple(partial), kept)


def _partial_type(kind: str, travels_as: int) -> PartialType:
    """Return what a column of a type is to LOAD DATA."""
    if kind.startswith("timestamp"):
        return PartialType(FieldType.TIMESTAMP, 0)
    return PartialType(travels_as, ColumnFlag.ENUM if kind.startswith(("enum", "set", "bit")) else 0)


def _travelling(column: str, kind: str, table: str) -> str:
    """Return the SELECT item whose text is the column's exact value."""
    if kind.startswith("float"):
        return f"CAST({quote(column)} AS DOUBLE) AS {quote(column)}"
    if kind.startswith(("enum", "set", "bit")):
        return f"{quote(column)} + 0 AS {quote(column)}"
    if kind.startswith("timestamp"):  # of a zero one that is no table's column, UNIX_TIMESTAMP is NULL
        return f"COALESCE(UNIX_TIMESTAMP({quote(column)}), {quote(column)} + 0) AS {quote(column)}"
    if re.match(r"(?:multi)?(?:point|linestring|polygon)|geometry", kind):
        raise SkyError(SHIP_TYPE, column=column, type=kind)
    return quote(column)


async def _ddl(home: HomeLink, database: str, name: str) -> tuple[str, bool]:
    """Return a CREATE TABLE with the columns and keys of a table, fit for a temporary one, and whether it is a view."""
    found = await home.table(show_create(f"{quote(database)}.{quote(name)}").encode())
    text = (found.rows[0][1] or b"").decode()
    is_view = len(found.columns) > 2
    if is_view:  # a view: the columns that a SELECT of it has
        await home.table(
            f"CREATE OR REPLACE TEMPORARY TABLE {_SHAPE} AS SELECT * FROM {quote(database)}.{quote(name)} LIMIT 0".encode()
        )
        found = await home.table(show_create(_SHAPE).encode())
        text = (found.rows[0][1] or b"").decode()
        await home.table(f"DROP TEMPORARY TABLE {_SHAPE}".encode())
    return clean_ddl(text, name), is_view


def _is_hashed(line: str, lines: Sequence[str]) -> bool:
    """Whether a line is a unique key on a long text, which Aria has none of; a column that counts keeps its key."""
    counting = [found[1] for item in lines if (found := _COUNTING.match(item)) is not None]
    return _HASHED.match(line) is not None and not any(name in line for name in counting)


def clean_ddl(text: str, name: str) -> str:
    """Return SHOW CREATE TABLE's text under a name, without what a temporary table cannot have."""
    lines = text.split("\n")
    body = [line.rstrip(",") for line in lines[1:] if line.startswith("  ")]
    body = [line for line in body if not line.strip().startswith(_DROPPED) and not _is_hashed(line, lines)]
    last = next((line for line in lines[1:] if line.startswith(")")), ")")
    charset = _CHARSET.search(last)
    options = ""
    if charset is not None:
        options = f" DEFAULT CHARSET={charset[1]}" + (f" COLLATE={charset[2]}" if charset[2] else "")
    return f"CREATE TABLE {quote(name)} (\n" + ",\n".join(body) + "\n)" + options


def which(plan: Plan, ship: Ship) -> tuple[object, ...]:
    """Return what tells a plan's shipment from others: each part of a statement has its own rows of the same table."""
    return plan.database, ship.target, ship.split, ship.key


async def shipments(
    pool: Pool, contents: CatalogueSnapshot, plans: Iterable[Plan], own: Sequence[OwnTable]
) -> dict[tuple[object, ...], Shipment]:
    """Return what the workers get of users' own tables for these plans, by `which`."""
    known = {(table.database, table.table.name): table for table in own}
    out: dict[tuple[object, ...], Shipment] = {}
    for plan in plans:
        for ship in plan.ships:
            table = known[ship.database, ship.table.name]
            if table.data is None:
                raise ValueError("the table is too large to be sent")
            if which(plan, ship) in out:
                continue
            lines = rows.rows_to_load(table.data)
            if ship.split is not None:
                found = await asyncio.to_thread(
                    _near, table, ship.split, contents.database(plan.database), lines
                )
                out[which(plan, ship)] = _shipment(table, ship, found)
            elif ship.key is not None:
                parts = lines.split(b"\n")[:-1]
                at, keys = await asyncio.to_thread(_keys, table, ship.key.column, parts)
                where = await places(pool, contents, plan.database, ship.key.director, keys)
                found = await asyncio.to_thread(_by_key, parts, at, keys, where)
                out[which(plan, ship)] = _shipment(table, ship, found)
            else:
                out[which(plan, ship)] = _shipment(table, ship, lines)
    return out


def _shipment(own: OwnTable, ship: Ship, data: bytes | dict[int, bytes]) -> Shipment:
    """Return what the workers get of a table: all its rows, or those of each chunk."""
    head = f"CREATE TABLE {quote(own.table.name)} (\n"
    body = own.table.ddl[len(head) :]
    target = f"{quote(SCRATCH_DATABASE)}.{quote(ship.target)}"
    names, extra, every = own.names, "", True
    if isinstance(data, dict):
        indexed = (
            SPLIT_COLUMN if ship.key is None else f"{SPLIT_COLUMN}`, `{ship.key.column.replace('`', '``')}"
        )
        extra = f"  {quote(SPLIT_COLUMN)} INT INVISIBLE, KEY (`{indexed}`),\n"
        body = _not_unique(body)  # a row can have several chunks
        names, every = (*names, SPLIT_COLUMN), ship.key is not None and ship.key.every
    create = f"CREATE OR REPLACE TEMPORARY TABLE {target} (\n{extra}{body} ENGINE=Aria TRANSACTIONAL=0"
    types = (*own.types, PartialType(3, 0))[: len(names)]
    load = load_statement(Target(target, names), types)
    if isinstance(data, dict):
        chunks = None if every else frozenset(data)
        return Shipment(frames.Shipped(create.encode(), load.encode(), b""), chunks, data)
    return Shipment(frames.Shipped(create.encode(), load.encode(), data), None, None)


def _not_unique(body: str) -> str:
    """Return the columns and keys of a table with plain keys in place of unique ones."""
    return _UNIQUE.sub("  KEY", _PRIMARY.sub(f"  KEY {quote('skyPrimary')}", body))


def _keys(own: OwnTable, column: str, lines: Sequence[bytes]) -> tuple[list[int], list[int]]:
    """Return (places of lines whose key is not NULL, their keys)."""
    field = [name.lower() for name in own.names].index(column.lower())
    words = [line.split(b"\t", field + 1)[field] for line in lines]
    at = [index for index, word in enumerate(words) if word != _NULL]
    return at, [int(words[index]) for index in at]


def _by_key(
    lines: Sequence[bytes], at: Sequence[int], keys: Sequence[int], where: Places
) -> dict[int, bytes]:
    """Return chunk → the lines to load there, from the places that the keys of some lines have."""
    index, chunk = where.of(keys)
    return _grouped(lines, [at[i] for i in index.tolist()], chunk.tolist())


def _grouped(lines: Sequence[bytes], index: Iterable[int], chunks: Iterable[int]) -> dict[int, bytes]:
    """Return chunk → its lines, each with the chunk."""
    found: dict[int, list[bytes]] = {}
    size = 0
    for at, chunk in zip(index, chunks, strict=True):
        found.setdefault(chunk, []).append(lines[at])
        size += len(lines[at]) + _CHUNK_BYTES
        if size > MOST_SPLIT_BYTES:
            raise SkyError(STATEMENT_TOO_LONG, limit=MOST_SPLIT_BYTES)
    return {chunk: b"".join(b"%s\t%d\n" % (line, chunk) for line in mine) for chunk, mine in found.items()}


def _near(own: OwnTable, place: tuple[str, str, float], database: Database, data: bytes) -> dict[int, bytes]:
    """Return chunk → the lines to load there, of rows that have neighbours in it within the radius."""
    lon_name, lat_name, radius = place
    at = [[name.lower() for name in own.names].index(column.lower()) for column in (lon_name, lat_name)]
    lines = data.split(b"\n")[:-1]
    positions = np.array([_position(line.split(b"\t"), at) for line in lines], dtype=np.float64).reshape(
        -1, 2
    )
    usable = np.flatnonzero(np.isfinite(positions).all(axis=1) & (np.abs(positions[:, 1]) <= 90.0))
    lon, lat = positions[usable, 0], positions[usable, 1]
    stripes = database.partitioning.stripes
    if radius > min(10.0, 180.0 / stripes):
        every = ChunkGrid(stripes, 1).all_chunks()
        index, chunk = np.repeat(usable, len(every)), np.tile(every, len(usable))
    else:
        grid = ChunkGrid(stripes, 1, radius * (1 + 1e-9) + 1e-12 if radius > 0 else 1e-12)
        home, _ = grid.locate(lon, lat)
        near, other = grid.overlap_rows(lon, lat)
        index, chunk = np.concatenate([usable, usable[near]]), np.concatenate([home, other])
    return _grouped(lines, index.tolist(), chunk.tolist())


def _position(fields: list[bytes], at: list[int]) -> tuple[float, float]:
    try:
        return float(fields[at[0]]), float(fields[at[1]])
    except ValueError:  # NULL
        return float("nan"), float("nan")
