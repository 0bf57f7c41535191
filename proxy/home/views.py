"""The home server's views that read a catalogue: known by name, their definitions read when they are used."""

from __future__ import annotations

from collections.abc import Mapping

from backend.pool import Pool
from shard.catalog.model import Database
from shard.catalog.naming import INTERNAL_DATABASES, literal, quote
from shard.planner.views import Views, sharded

_SELECT = "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE "


class HomeViews:
    """Which views read sharded tables, and which replicated ones.

    Attributes
    ----------
    names : frozenset of (str, str)
        Database and name of those that read sharded tables, as of the last `find`.
    replicated : frozenset of (str, str)
        Of those that name replicated tables: a write to such a view may be one to the table.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.names: frozenset[tuple[str, str]] = frozenset()
        self.replicated: frozenset[tuple[str, str]] = frozenset()
        self._seen: tuple[Views, Mapping[str, Database]] = {}, {}

    async def find(self, catalogue: Mapping[str, Database]) -> bool:
        """Look for views that read a catalogue; return whether others are known now."""
        if not catalogue:
            return False
        inner = ", ".join(literal(name) for name in sorted(INTERNAL_DATABASES | {"sys", "mysql"}))
        before = self.names, self.replicated
        views = await self._read(f"TABLE_SCHEMA NOT IN ({inner})")
        if self._seen[0] == views and self._seen[1] is catalogue:
            return False  # reading all definitions takes longer than all else that a quiet proxy does
        self.names, self.replicated = sharded(views, catalogue), _over_replicated(views, catalogue)
        self._seen = views, catalogue
        return (self.names, self.replicated) != before

    def may_be_in(self, text: str) -> bool:
        """Whether a statement may name a known view."""
        return any(name in text for _, name in self.names)

    async def definitions(self, text: str) -> dict[tuple[str, str], str]:
        """Return the definitions of the known views as they are now, if a statement may name any."""
        if not self.may_be_in(text):
            return {}
        wanted = " OR ".join(
            f"(TABLE_SCHEMA = {literal(database)} AND TABLE_NAME = {literal(name)})"
            for database, name in sorted(self.names)
        )
        return await self._read(wanted)

    async def _read(self, condition: str) -> dict[tuple[str, str], str]:
        async with self._pool.lease() as connection:
            rows = await connection.fetch_texts(_SELECT + condition)
        return {(schema, name): text for schema, name, text in rows}


def _over_replicated(views: Views, catalogue: Mapping[str, Database]) -> frozenset[tuple[str, str]]:
    """Return the views that name replicated tables, by themselves or through others.

    The server writes definitions with all names qualified and quoted.
    """
    wanted = {
        f"{quote(database.name)}.{quote(table.name)}"
        for database in catalogue.values()
        for table in database.tables
        if not table.is_sharded
    }
    found: set[tuple[str, str]] = set()
    grown = True
    while grown:
        more = {
            key for key, text in views.items() if key not in found and any(name in text for name in wanted)
        }
        wanted = {f"{quote(database)}.{quote(name)}" for database, name in more}
        found |= more
        grown = bool(more)
    return frozenset(found)
