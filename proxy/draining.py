"""Lets the sessions of a proxy end before it does: one that rests is closed, one that does something finishes that.

A session rests when its client has asked nothing for a moment. One that asks again and again is served meanwhile: its next
statement may be on its way already, and whoever closed on it would make it fail. Sessions that rest are closed without
a word, as MariaDB closes them at a shutdown: clients that reconnect by themselves do so then, while an error that
nobody has asked for is given to the next statement.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from proxy.session.session import Session
from shard.errors import SHUTDOWN, SkyError

log = logging.getLogger("skyshard.proxy")

QUIET_S = 0.5
"""Seconds between two looks; who has asked nothing in between rests."""
LAST_S = 10.0
"""Seconds in which statements must have ended that were told to."""
_LOOK_S = 0.05

Sessions = Mapping[asyncio.Task[None], Session | None]


async def drain(sessions: Sessions, seconds: float) -> None:
    """Return when all sessions have ended: by themselves within so many seconds, or because they are told to."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    answered: dict[Session, int] = {}
    while sessions and (left := deadline - loop.time()) > 0:
        resting = [one for one in sessions.values() if one is not None and one.rests and not one.holds]
        for session in resting:
            if answered.get(session) == session.client.bytes_sent:
                session.leave()
        answered = {session: session.client.bytes_sent for session in resting}
        await asyncio.wait(list(sessions), timeout=min(QUIET_S, left))
    if sessions:
        log.warning("%d sessions have not ended within %g s: they are told to", len(sessions), seconds)
    deadline = loop.time() + LAST_S
    while sessions and loop.time() < deadline:
        for task, one in list(sessions.items()):
            if one is not None:
                one.dismiss(task, SkyError(SHUTDOWN))
        await asyncio.wait(list(sessions), timeout=_LOOK_S)
    for one in list(sessions.values()):
        if one is not None:  # a statement of ours at home is waited for otherwise, however long it takes
            one.home.abort()


async def end_all(sessions: Sessions) -> None:
    """Cancel all sessions and return when they have ended."""
    for task in list(sessions):
        task.cancel()
    if sessions:
        await asyncio.wait(list(sessions), timeout=LAST_S)
    if sessions:
        log.warning("%d sessions do not end: their home connections are closed", len(sessions))
    while sessions:
        for one in list(sessions.values()):
            if one is not None:
                one.home.abort()
        await asyncio.wait(list(sessions), timeout=QUIET_S)
