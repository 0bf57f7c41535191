"""The home server's views that read sharded tables: known by name, their definitions read when they are used."""

from __future__ import annotations

from collections.abc import Mapping

from backend.pool import Pool
from shard.catalog.model import Database
from shard.catalog.naming import INTERNAL_DATABASES, literal
from shard.planner.views import sharded

_SELECT = "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE "


class HomeViews:
    """Which views read sharded tables.

    Attributes
    ----------
    names : frozenset of (str, str)
        Database and name, as of the last `find`.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.names: frozenset[tuple[str, str]] = frozenset()

    async def find(self, catalogue: Mapping[str, Database]) -> bool:
        """Look for views that read sharded tables; return whether others are known now."""
        if not catalogue:
            return False
        inner = ", ".join(literal(name) for name in sorted(INTERNAL_DATABASES | {"sys", "mysql"}))
        before = self.names
        self.names = sharded(await self._read(f"TABLE_SCHEMA NOT IN ({inner})"), catalogue)
        return self.names != before

    async def definitions(self, text: str) -> dict[tuple[str, str], str]:
        """Return the definitions of the known views as they are now, if a statement may name any."""
        if not any(name in text for _, name in self.names):
            return {}
        wanted = " OR ".join(
            f"(TABLE_SCHEMA = {literal(database)} AND TABLE_NAME = {literal(name)})"
            for database, name in sorted(self.names)
        )
        return await self._read(wanted)

    async def _read(self, condition: str) -> dict[tuple[str, str], str]:
        async with self._pool.lease() as connection:
            rows = await connection.fetch(_SELECT + condition)
        return {
            ((schema or b"").decode(), (name or b"").decode()): (text or b"").decode()
            for schema, name, text in rows
        }
