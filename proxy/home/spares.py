"""Connections to the home server that are opened before their clients come.

A client is greeted with the home server's scramble and thread id, so it waits until such a connection is there
and the home server has spoken. Whoever comes soon after another finds one that is ready; it has told nobody
anything yet, and the client's address (PROXY protocol) goes ahead of what the client answers.
"""

from __future__ import annotations

import asyncio

from backend.address import Address
from proxy.home.link import HomeLink
from shard.errors import SkyError

MOST = 4
"""Connections that wait at once."""
KEPT_S = 4.0
"""Seconds for which one waits: less than the home server's patience (connect_timeout, ten seconds by default)."""


class SpareLinks:
    """Keeps one connection ready for each that was taken a short time ago.

    Parameters
    ----------
    address : Address
        The home server.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._ready: list[tuple[HomeLink, asyncio.TimerHandle]] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False

    async def take(self, header: bytes = b"") -> HomeLink:
        """Return a connection that nobody has used.

        Parameters
        ----------
        header : bytes
            The client's address by PROXY protocol.

        Raises
        ------
        SkyError
            HOME_DOWN.
        """
        link = self._next() or await HomeLink.open(self._address)
        if header:
            await link.send(header)
        return link

    def _next(self) -> HomeLink | None:
        while self._ready:
            link, timer = self._ready.pop()
            timer.cancel()
            if link.greeted:
                return link
            link.abort()
        return None

    def prepare(self) -> None:
        """Open one for the next client, unless enough wait."""
        if not self._closed and len(self._ready) + len(self._opening) < MOST:
            task = asyncio.get_running_loop().create_task(self._open(), name="spare link")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        try:
            link = await HomeLink.open(self._address)
        except SkyError:  # the next client will be told
            return
        loop = asyncio.get_running_loop()
        self._ready.append((link, loop.call_later(KEPT_S, self._expire, link)))

    def _expire(self, old: HomeLink) -> None:
        self._ready = [(link, timer) for link, timer in self._ready if link is not old]
        old.abort()

    async def close(self) -> None:
        """Close what waits."""
        self._closed = True
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        while self._ready:
            link, timer = self._ready.pop()
            timer.cancel()
            link.abort()
