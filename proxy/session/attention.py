"""What may end a distributed query while it runs: its client, its home connection, its time, a KILL elsewhere."""

from __future__ import annotations

import asyncio

from backend.pool import Pool
from backend.tasks import ended
from proxy.home.link import HomeLink
from proxy.registry import RunningQuery
from proxy.session.client import ClientStream
from shard.errors import TIMEOUT, SkyError

_WATCH_AFTER_S = 0.1
_REPORT_S = 1.0


class Attention:
    """Attends to one query of a session.

    Parameters
    ----------
    pool : Pool
        Service connections at home, to see whether the session's own has been killed.
    """

    def __init__(self, client: ClientStream, home: HomeLink, pool: Pool) -> None:
        self._client, self._home, self._pool = client, home, pool

    async def attend(self, query: RunningQuery, sql: bytes, seconds: float) -> None:
        """End a query whose client or home connection is gone, or whose time is over."""
        others: list[asyncio.Task[object]] = [
            asyncio.ensure_future(item)
            for item in (
                self._client.gone.wait(), self._home.wait_closed(), self._watch(query, sql), self._report(query)
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
            stage = 2 if query.chunks_done >= query.chunks_total > 0 else 1
            percent = 100 * query.chunks_done / max(1, query.chunks_total)
            await self._client.progress(stage, 2, percent, query.state())

    async def _watch(self, query: RunningQuery, sql: bytes) -> None:
        """Be seen, and be killed, at the home server while a distributed query runs for long.

        KILL may reach another proxy process; it ends what this session runs at home, and that ends the query.
        """
        await asyncio.sleep(_WATCH_AFTER_S)
        while self._home.asking:
            await asyncio.sleep(_WATCH_AFTER_S)
        if await self._home.killed(self._pool) or await self._home.watch(sql, self._pool):
            query.cancel()
