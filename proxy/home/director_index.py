"""Key → chunks, from the director index at home."""

from __future__ import annotations

from collections.abc import Sequence

from backend.pool import Pool
from shard.catalog.naming import INDEX_DATABASE, index_table, quote


async def lookup(pool: Pool, database: str, director: str, keys: Sequence[str]) -> set[int]:
    """Return the chunks that hold rows with these keys.

    Parameters
    ----------
    keys : sequence of str
        SQL literals, compared by MariaDB with the key's own type.
    """
    name = f"{quote(INDEX_DATABASE)}.{quote(index_table(database, director))}"
    found: set[int] = set()
    async with pool.lease() as connection:
        for start in range(0, len(keys), 1000):
            part = ", ".join(keys[start : start + 1000])
            rows = await connection.fetch(
                f"SELECT DISTINCT chunkId FROM {name} WHERE directorKey IN ({part})"
            )
            found |= {int((row[0] or b"0").decode()) for row in rows}
    return found
