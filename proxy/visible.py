"""Which error a refused change gets: who may not see a table is told what MariaDB tells, not that it is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.writes import Published
from shard.catalog.naming import literal
from shard.errors import DATABASE_DENIED, TABLE_DENIED, SkyError

if TYPE_CHECKING:
    from proxy.session.session import Session

_RIGHTS = {"TRUNCATE": "DROP", "RENAME": "DROP, ALTER", "REPLACE": "INSERT, DELETE", "LOAD": "INSERT"}
"""Verb → the right that MariaDB misses first."""


async def refusal(session: Session, error: SkyError, published: Published) -> SkyError:
    """Return the error for a change that must not be.

    Parameters
    ----------
    error : SkyError
        What is said to those who see the database, table or view that it names.
    """
    name = str(error.facts.get("name") or error.facts.get("table") or "")
    verb = str(error.facts.get("verb", ""))
    tables = [database for database, known in published.databases.items() if known.table(name) is not None]
    tables += [database for database, view in published.views if view == name]
    if name in published.databases and not tables:
        asked = f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {literal(name)}"
    elif tables:
        asked = (
            f"SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({', '.join(map(literal, tables))}) "
            f"AND TABLE_NAME = {literal(name)}"
        )
    else:
        return error
    who = "USER()" if tables else "CURRENT_USER()"  # as MariaDB names them
    found = await session.home.table(f"SELECT {who}, EXISTS({asked}) LIMIT 1".encode())
    account, seen = found.rows[0]
    if seen != b"0":
        return error
    user, _, host = (account or b"").decode("utf-8", "replace").rpartition("@")
    if not tables:
        return SkyError(DATABASE_DENIED, user=user, host=host, database=name)
    right = _RIGHTS.get(verb, verb)
    return SkyError(TABLE_DENIED, right=right, user=user, host=host, database=tables[0], table=name)
