"""Ends what the home server does for a connection that nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib

from backend.connection import ConnectionLost
from backend.pool import Pool
from shard.errors import ServerError

_KILL_S = 3.0


async def end_at_home(pool: Pool, thread: int) -> None:
    """Kill a connection, if the home server answers in time: it would go on, commit and keep its locks till it is done.

    Parameters
    ----------
    pool : Pool
        Service connections.
    thread : int
        The connection's number.
    """
    with contextlib.suppress(ServerError, ConnectionLost, OSError, TimeoutError):
        async with asyncio.timeout(_KILL_S), pool.lease() as service:
            await service.run(f"KILL CONNECTION {thread}")
