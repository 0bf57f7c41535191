"""Key → chunks, from the director index at home; single keys are remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from backend.pool import Pool
from shard.catalog.naming import INDEX_DATABASE, index_table, quote, stage_name

MOST_KEYS = 50_000
"""Keys whose chunks are remembered: some 15 MB."""


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
            rows = await connection.fetch(question(database, director, part, transactions))
            found |= chunks_of(rows)
    return found


def question(database: str, director: str, keys: Sequence[str], transactions: Sequence[int] = ()) -> str:
    """Return the statement that asks for the chunks of some keys."""
    bases = (database, *map(stage_name, transactions))
    names = [f"{quote(INDEX_DATABASE)}.{quote(index_table(base, director))}" for base in bases]
    part = ", ".join(keys)
    return " UNION ".join(
        f"SELECT DISTINCT chunkId FROM {name} WHERE directorKey IN ({part})" for name in names
    )


def chunks_of(rows: Iterable[Sequence[bytes | None]]) -> set[int]:
    """Return the chunks that its rows name."""
    return {int((row[0] or b"0").decode()) for row in rows}


class KnownKeys:
    """Chunks of keys that were looked up, while their database's version and revision last.

    An answer may be kept only once the version is known to have held while it was read.
    """

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._chunks: OrderedDict[tuple[str, tuple[int, int], str, bytes], tuple[int, ...]] = OrderedDict()

    def get(
        self, database: str, version: tuple[int, int], director: str, key: bytes
    ) -> tuple[int, ...] | None:
        """Return a key's chunks, or None if they are not known."""
        place = (database, version, director, key)
        found = self._chunks.get(place)
        if found is not None:
            self._chunks.move_to_end(place)
        return found

    def keep(
        self, database: str, version: tuple[int, int], director: str, key: bytes, chunks: tuple[int, ...]
    ) -> None:
        """Remember a key's chunks."""
        self._chunks[database, version, director, key] = chunks
        if len(self._chunks) > self._most:
            self._chunks.popitem(last=False)
