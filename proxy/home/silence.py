"""Whether the home server still says anything: a question every second, on a connection of its own.

A statement may take the home server hours, so that no reply is late by itself. But a server (or a network before it)
that does not answer even this question would hold sessions for ever: what waits for it is ended then, as if the server
had gone, and new sessions are refused until it answers again.
"""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakSet

from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from proxy.home.link import HomeLink
from shard.errors import HOME_DOWN, ServerError, SkyError

log = logging.getLogger("skyshard.health")
EVERY_S = 1.0


class HomeWatch:
    """Ends what waits for a home server that is silent.

    Parameters
    ----------
    pool : Pool
        Service connections, which are ended with those of its siblings.
    patience_s : float
        Seconds of silence; 0: any number.

    Attributes
    ----------
    silent : bool
        Whether it has not answered for so long.
    """

    def __init__(self, pool: Pool, patience_s: float) -> None:
        self._pool, self._patience = pool, patience_s
        self._links: WeakSet[HomeLink] = WeakSet()
        self._task: asyncio.Task[None] | None = None
        self.silent = False

    def start(self) -> None:
        """Begin to ask."""
        if self._patience:
            self._task = asyncio.create_task(self._ask(), name="home watch")

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Refuse a new session while the home server is silent.

        Raises
        ------
        SkyError
            HOME_DOWN.
        """
        if self.silent:
            raise SkyError(HOME_DOWN)

    def attend(self, link: HomeLink) -> None:
        """End a session's link with the others when the home server falls silent."""
        self._links.add(link)

    async def _ask(self) -> None:
        connection: RawConnection | None = None
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    connection = connection or await RawConnection.open(self._pool.address)
                    await connection.run("DO 1")
            except TimeoutError:
                self._end()
            except (ConnectionLost, ServerError, OSError):
                pass  # it is down, which everybody notices by himself
            else:
                if self.silent:
                    log.warning("the home server answers again")
                self.silent = False
                await asyncio.sleep(EVERY_S)
                continue
            if connection is not None:
                connection.abort()
                connection = None
            await asyncio.sleep(EVERY_S)

    def _end(self) -> None:
        if not self.silent:
            log.error("the home server has not answered for %g s: what waits for it is ended", self._patience)
        self.silent = True
        for link in list(self._links):
            link.abort()
        self._pool.abort()
