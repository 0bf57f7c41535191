"""SHOW [FULL] PROCESSLIST: the home server's list, which has what this user may see, with distributed queries in it.

At home a session whose query is distributed looks idle, or runs the statement that watches for KILL.
"""

from __future__ import annotations

import time
from dataclasses import replace

from proxy.home.link import HomeLink, Table
from proxy.home.watch_locks import WATCH, watched
from proxy.registry import Registry
from proxy.running_board import TEXT_BYTES, Shown

_SHORT = 100
"""Bytes of a statement that SHOW PROCESSLIST has without FULL."""
_FULL = b"SHOW FULL PROCESSLIST"
_ID, _COMMAND, _TIME, _STATE, _INFO, _PROGRESS = 0, 4, 5, 6, 7, 8


async def read(home: HomeLink, sql: bytes, full: bool, registry: Registry) -> Table:
    """Return the list.

    Parameters
    ----------
    sql : bytes
        The statement, as it was asked.
    full : bool
        It says FULL.
    registry : Registry
        Knows what runs in this proxy. Of another proxy's queries the home server has the text alone.
    """
    found = await home.table(sql)
    if not full and any((row[_INFO] or b"").startswith(WATCH) for row in found.rows):
        found = replace(found, rows=(await home.table(_FULL)).rows)
    running = registry.shown()
    most = None if full else _SHORT
    for row in found.rows:
        if (about := watched(row[_INFO] or b"")) is not None:
            row[_INFO], row[_STATE] = about, b"distributed"
        query = running.get(int(row[_ID] or b"0"))
        if query is not None:
            _fill(row, query)
        row[_INFO] = (row[_INFO] or b"")[:most] if row[_INFO] is not None else None
    return found


def _fill(row: list[bytes | None], query: Shown) -> None:
    row[_COMMAND], row[_STATE] = b"Query", query.state.encode()
    row[_TIME] = b"%d" % (time.monotonic() - query.started)
    text = query.sql.encode()
    if row[_INFO] is None or len(text) < TEXT_BYTES:
        row[_INFO] = text
    if len(row) > _PROGRESS:
        row[_PROGRESS] = b"%.3f" % query.overall
