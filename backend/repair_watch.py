"""What the automatic repair says of itself in the metadata, so that everybody can see whether it runs.

`skyshard repair --auto-repair-after` writes it at every look; `skyshard worker list` and the proxies' metrics read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.connection import RawConnection
from shard.catalog.naming import META_DATABASE, quote

_CLUSTER = f"{quote(META_DATABASE)}.cluster"
_AFTER, _SEEN, _MISSING = "auto_repair_after", "auto_repair_seen", "auto_repair_missing"
SILENT_S = 60.0
"""Seconds without a sign of life after which it is taken to be gone; it says nothing while it copies one database."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The automatic repair: its patience and its last sign of life (seconds ago), and copies that it misses."""

    after_s: float
    seen_s: float
    missing: int

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.seen_s < SILENT_S


async def say(home: RawConnection, after_s: float, missing: int) -> None:
    """Write that the automatic repair runs, and how many copies of chunks are missing."""
    await home.run(
        f"REPLACE INTO {_CLUSTER} VALUES ('{_AFTER}', '{after_s:g}'), ('{_SEEN}', UNIX_TIMESTAMP(NOW(3))), "
        f"('{_MISSING}', '{missing}')"
    )


async def leave(home: RawConnection) -> None:
    """Write that there is no automatic repair any more."""
    await home.run(f"DELETE FROM {_CLUSTER} WHERE name IN ('{_AFTER}', '{_SEEN}', '{_MISSING}')")


async def read(home: RawConnection) -> Watch | None:
    """Return what the automatic repair has said last; None if there is none."""
    rows = await home.fetch_texts(
        f"SELECT name, IF(name = '{_SEEN}', UNIX_TIMESTAMP(NOW(3)) - value, value) FROM {_CLUSTER} "
        f"WHERE name IN ('{_AFTER}', '{_SEEN}', '{_MISSING}')"
    )
    found = {name: float(value) for name, value in rows}
    if len(found) < 3:
        return None
    return Watch(found[_AFTER], found[_SEEN], int(found[_MISSING]))
