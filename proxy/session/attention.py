"""What may end a distributed query while it runs: its client, its home connection, its time, a KILL elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time

from backend.connection import ConnectionLost
from backend.pool import Pool
from backend.tasks import ended
from proxy.home.link import HomeLink
from proxy.home.watch_locks import WatchLocks
from proxy.registry import Registry, RunningQuery
from proxy.session.client import ClientStream
from shard.errors import TIMEOUT, ServerError, SkyError

_WATCH_AFTER_S = 0.5
"""Seconds after which a query is seen at home: three statements there, which many short queries at once cannot afford."""
_LOOK_S = 0.2
"""Seconds between two looks whether a session was killed that the home server is busy with."""
_REPORT_S = 1.0
_SHOW_S = 0.2
"""Seconds after which other processes see anew how far a query is, and it sees whether they kill it."""


class Attention:
    """Attends to one query of a session.

    Parameters
    ----------
    pool : Pool
        Service connections at home, to see whether the session's own has been killed.
    locks : WatchLocks
        What it waits for at home, to be seen there.
    registry : Registry
        Tells other processes what runs here.
    """

    def __init__(
        self, client: ClientStream, home: HomeLink, pool: Pool, locks: WatchLocks, registry: Registry
    ) -> None:
        self._client, self._home, self._pool, self._locks, self._registry = (
            client,
            home,
            pool,
            locks,
            registry,
        )

    async def attend(self, query: RunningQuery, sql: bytes, seconds: float) -> None:
        """End a query whose client or home connection is gone, or whose time is over."""
        others: list[asyncio.Task[object]] = [
            asyncio.ensure_future(item)
            for item in (
                self._client.gone.wait(), self._home.wait_closed(), self._watch(query, sql),
                self._report(query), self._meet_others(query),
            )
        ]  # fmt: skip
        try:
            await asyncio.wait(others[:2], timeout=seconds or None, return_when=asyncio.FIRST_COMPLETED)
            query.cancel(SkyError(TIMEOUT))
        finally:
            await ended(others)

    async def _report(self, query: RunningQuery) -> None:
        """Tell a client that wants to know how far its query is, until rows come."""
        while self._client.progresses and not self._client.started:
            await asyncio.sleep(_REPORT_S)
            now = query.shown()
            await self._client.progress(now.stage, now.stages, now.percent, now.state)

    async def _meet_others(self, query: RunningQuery) -> None:
        """Let the other processes of this proxy see how far it is, and kill it."""
        while not self._registry.killed(query):
            self._registry.show(query)
            await asyncio.sleep(_SHOW_S)
        query.cancel()

    async def _watch(self, query: RunningQuery, sql: bytes) -> None:
        """Be seen, and be killed, at the home server while a distributed query runs for long.

        KILL may reach another proxy; it ends what this session runs at home, and that ends the query. Where
        rows are filled into tables of the session, the home server waits for them and heeds no KILL, but shows it.
        """
        began = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            long = time.monotonic() - began >= _WATCH_AFTER_S
            with contextlib.suppress(SkyError, ServerError, ConnectionLost, OSError):  # it is asked again
                if (long or self._home.asking) and await self._home.killed(self._pool):
                    break
                if long and not self._home.asking and await self._home.watch(sql, self._locks):
                    break
        query.cancel()
