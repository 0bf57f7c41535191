"""SHOW TABLE STATUS with the truth about sharded tables: the rows that ingest counted.

The home server lists its trap tables; their names, columns and comments are right, their rows are not.
"""

from __future__ import annotations

from proxy.home.metadata import Catalogue
from proxy.session.session import Session

_NAME, _ENGINE, _ROWS, _AVERAGE = 0, 1, 4, 5


async def answer(
    session: Session, sql: bytes, database: str | None, catalogue: Catalogue, binary: bool
) -> None:
    """Write the home server's answer with the rows of sharded tables in it."""
    found = await session.home.table(sql)
    known = catalogue.databases.get(database or "")
    for row in found.rows:
        table = known.table((row[_NAME] or b"").decode("utf-8", "replace")) if known is not None else None
        if known is not None and table is not None and table.is_sharded:
            row[_ENGINE] = b"skyshard"
            row[_ROWS] = str(catalogue.contents.table_rows(known.name, table.name)).encode()
            row[_AVERAGE] = None
    await session.client.table(found.columns, found.rows, session.home.status, binary)
