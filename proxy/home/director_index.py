"""Key → chunks, from the director index at home; single keys are remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from backend.connection import RowBlock
from backend.pool import Pool
from shard.catalog.naming import INDEX_DATABASE, index_table, quote, stage_name
from shard.planner.plan import ByRange, Range
from shard.wire import rows

if TYPE_CHECKING:
    from proxy.home.metadata import CatalogueSnapshot

_Keys = npt.NDArray[np.integer[Any]]

MOST_KEYS = 50_000
"""Keys whose chunks are remembered: some 15 MB."""


_KEYS_A_STATEMENT = 10_000
_SCAN_RATIO = 8
"""Rows of the index that are read in the time of one look-up."""

MOST_IN_RANGE = 50_000
"""Rows of the index that are read for a range: some 10 ms."""
_ESTIMATE = 8
"""The column of EXPLAIN that says how many rows are expected."""


async def lookup(
    pool: Pool, database: str, director: str, keys: Sequence[str], transactions: Sequence[int] = ()
) -> set[int]:
    """Return the chunks that hold rows with these keys.

    Parameters
    ----------
    keys : sequence of str
        SQL literals, compared by MariaDB with the key's own type.
    transactions : sequence of int
        Those that have director indexes of their own.
    """
    found: set[int] = set()
    async with pool.lease() as connection:
        for start in range(0, len(keys), 1000):
            part = keys[start : start + 1000]
            found |= chunks_of(await connection.fetch(question(database, director, part, transactions)))
    return found


async def in_ranges(
    pool: Pool, database: str, restriction: ByRange, transactions: Sequence[int] = ()
) -> set[int] | None:
    """Return the chunks that hold rows with keys in some ranges; None if the index has too many rows in them.

    How many there are is guessed by the server, and counted as they are read.
    """
    condition = " OR ".join(map(_within, restriction.ranges))
    found: set[int] = set()
    left = MOST_IN_RANGE
    async with pool.lease() as connection:
        for base in (database, *map(stage_name, transactions)):
            name = f"{quote(INDEX_DATABASE)}.{quote(index_table(base, restriction.director))}"
            rows_of = f"SELECT chunkId FROM {name} FORCE INDEX (directorKey) WHERE {condition}"
            guessed = sum(int(row[_ESTIMATE] or b"0") for row in await connection.fetch("EXPLAIN " + rows_of))
            if guessed > 2 * MOST_IN_RANGE:
                return None
            counted = await connection.fetch(
                f"SELECT chunkId, COUNT(*) FROM ({rows_of} LIMIT {left + 1}) AS q GROUP BY chunkId"
            )
            left -= sum(int(row[1] or b"0") for row in counted)
            if left < 0:
                return None
            found |= chunks_of(counted)
    return found


def _within(ends: Range) -> str:
    low, high = ends
    parts = [] if low is None else [f"directorKey >= {low}"]
    parts += [] if high is None else [f"directorKey <= {high}"]
    return f"({' AND '.join(parts)})"


def question(database: str, director: str, keys: Sequence[str], transactions: Sequence[int] = ()) -> str:
    """Return the statement that asks for the chunks of some keys."""
    bases = (database, *map(stage_name, transactions))
    names = [f"{quote(INDEX_DATABASE)}.{quote(index_table(base, director))}" for base in bases]
    part = ", ".join(keys)
    return " UNION ".join(
        f"SELECT DISTINCT chunkId FROM {name} WHERE directorKey IN ({part})" for name in names
    )


async def places(
    pool: Pool, contents: CatalogueSnapshot, database: str, director: str, keys: Iterable[int]
) -> Places:
    """Return the chunks that integer keys are in; for a large part of all keys, the whole index is read."""
    table = contents.database(database).table(director)
    kinds = {} if table is None else {column.name: column.sql_type for column in table.columns}
    unsigned = table is not None and "UNSIGNED" in kinds.get(table.key or "", "").upper()
    low, high, kind = (0, 1 << 64, np.uint64) if unsigned else (-1 << 63, 1 << 63, np.int64)
    wanted = np.unique(np.array([key for key in keys if low <= key < high], dtype=kind))
    found = [np.empty((0, 2), kind)]
    whole = len(wanted) * _SCAN_RATIO > contents.table_rows(database, director)
    more = contents.indexes.get((database, director), ())
    async with pool.lease() as connection:
        for base in (database, *map(stage_name, more)):
            name = f"{quote(INDEX_DATABASE)}.{quote(index_table(base, director))}"
            for sql in _questions(f"SELECT directorKey, chunkId FROM {name}", wanted, whole):
                result = await connection.query(sql.encode())
                async for block in result.blocks():
                    pairs = _pairs(block, kind)
                    found.append(_chosen(pairs, wanted) if whole else pairs)
    pairs = _each_once(np.concatenate(found))
    return Places(pairs[:, 0], pairs[:, 1], unsigned)


def _questions(head: str, keys: _Keys, whole: bool) -> list[str]:
    if whole:
        return [head]
    parts = (keys[at : at + _KEYS_A_STATEMENT] for at in range(0, len(keys), _KEYS_A_STATEMENT))
    return [f"{head} WHERE directorKey IN ({', '.join(map(str, part.tolist()))})" for part in parts]


def _pairs(block: RowBlock, kind: type[np.int64 | np.uint64]) -> _Keys:
    """Return the whole numbers of text rows, two a row."""
    numbers: _Keys = np.fromstring(rows.rows_to_load(block.data), dtype=kind, sep=" ")
    if len(numbers) != 2 * block.rows:
        raise ValueError("the director index has something else than whole numbers")
    pairs: _Keys = numbers.reshape(-1, 2)
    return pairs


def _chosen(pairs: _Keys, wanted: _Keys) -> _Keys:
    """Return the pairs whose keys are among those wanted, which are in order."""
    at = np.searchsorted(wanted, pairs[:, 0])
    chosen: _Keys = pairs[wanted[np.minimum(at, len(wanted) - 1)] == pairs[:, 0]]
    return chosen


def _each_once(pairs: _Keys) -> _Keys:
    """Return pairs in order, each once."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    once: _Keys = pairs[np.append(True, (pairs[1:] != pairs[:-1]).any(axis=1))[: len(pairs)]]
    return once


@dataclass(frozen=True, slots=True)
class Places:
    """Keys and the chunks that they are in: pairs, each once, in order."""

    keys: _Keys
    chunks: _Keys
    unsigned: bool

    def of(self, keys: Sequence[int]) -> tuple[npt.NDArray[np.intp], _Keys]:
        """Return (place in `keys`, chunk) for every chunk that one of the keys is in."""
        low, high = (0, 1 << 64) if self.unsigned else (-1 << 63, 1 << 63)
        usable = np.array([at for at, key in enumerate(keys) if low <= key < high], dtype=np.intp)
        values = np.array([keys[at] for at in usable], dtype=self.keys.dtype)
        first = np.searchsorted(self.keys, values, "left")
        count = np.searchsorted(self.keys, values, "right") - first
        index = np.repeat(np.arange(len(values)), count)
        within = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
        return usable[index], self.chunks[np.repeat(first, count) + within]

    def lists(self) -> dict[int, bytes]:
        """Return the keys of each chunk, as SQL."""
        found: dict[int, list[int]] = {}
        for key, chunk in zip(self.keys.tolist(), self.chunks.tolist(), strict=True):
            found.setdefault(chunk, []).append(key)
        return {chunk: ", ".join(map(str, keys)).encode() for chunk, keys in found.items()}


def chunks_of(found: Iterable[Sequence[bytes | None]]) -> set[int]:
    """Return the chunks that its rows name."""
    return {int((row[0] or b"0").decode()) for row in found}


class KnownKeys:
    """Chunks of keys that were looked up, while their database's state, (version, revision), lasts.

    An answer may be kept only once the version is known to have held while it was read.
    """

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._chunks: OrderedDict[tuple[str, tuple[int, int], str, bytes], tuple[int, ...]] = OrderedDict()

    def get(self, database: str, state: tuple[int, int], director: str, key: bytes) -> tuple[int, ...] | None:
        """Return a key's chunks, or None if they are not known."""
        place = (database, state, director, key)
        found = self._chunks.get(place)
        if found is not None:
            self._chunks.move_to_end(place)
        return found

    def keep(
        self, database: str, state: tuple[int, int], director: str, key: bytes, chunks: tuple[int, ...]
    ) -> None:
        """Remember a key's chunks."""
        self._chunks[database, state, director, key] = chunks
        if len(self._chunks) > self._most:
            self._chunks.popitem(last=False)
