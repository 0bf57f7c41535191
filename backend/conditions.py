"""What MariaDB has to say about the statement that has just run."""

from __future__ import annotations

from backend.connection import RawConnection
from shard.wire.frames import Note


async def conditions(connection: RawConnection, most: int | None = None) -> tuple[Note, ...]:
    """Return the warnings, notes and errors that SHOW WARNINGS lists, the first `most` of them at most."""
    limit = "" if most is None else f" LIMIT {most}"
    found = await connection.fetch_texts("SHOW WARNINGS" + limit)
    return tuple(Note(level, int(code), message) for level, code, message in found)
