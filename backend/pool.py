"""A bounded pool of raw connections to one server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakSet

from backend.address import Address
from backend.connection import RawConnection


class Pool:
    """Lends connections; broken ones, ones with an unread result and ones in a transaction are not lent again.

    Parameters
    ----------
    address : Address
        The server.
    limit : int
        Most connections leased at once (others wait), and most that are kept idle.
    """

    def __init__(self, address: Address, limit: int, database: str | None = None) -> None:
        self.address = address
        self._database = database
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[RawConnection] = []
        self._made: WeakSet[RawConnection] = WeakSet()
        self._closed = False

    def sibling(self, limit: int) -> Pool:
        """Return another pool to the same server; `abort` ends the connections of both."""
        other = Pool(self.address, limit, self._database)
        other._made = self._made
        return other

    def abort(self) -> None:
        """End all connections, lent ones too: whoever waits for a reply gets ConnectionLost."""
        for connection in list(self._made):
            connection.abort()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[RawConnection]:
        """Lend a connection for the length of a `with`."""
        async with self._slots:
            connection = await self._get()
            try:
                yield connection
            finally:
                await self.put(connection)

    async def borrow(self) -> RawConnection:
        """Lend a connection until `put`, beside the limit (the borrower bounds its own number)."""
        return await self._get()

    async def put(self, connection: RawConnection) -> None:
        """Take a borrowed connection back; ones that cannot be lent and those beyond the limit are closed."""
        if not self._lendable(connection):
            await connection.close()
        else:
            self._idle.append(connection)

    def lend(self) -> RawConnection | None:
        """Lend a connection that is idle, until `take_back`; beside the limit, and only if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
            connection.abort()
        return None

    def take_back(self, connection: RawConnection) -> None:
        """Take back what `lend` has lent."""
        if not self._lendable(connection):
            connection.abort()
        else:
            self._idle.append(connection)

    def _lendable(self, connection: RawConnection) -> bool:
        broken = connection.closed or connection.busy or connection.in_transaction
        return not (self._closed or broken or len(self._idle) >= self._limit)

    async def _get(self) -> RawConnection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
            await connection.close()
        connection = await RawConnection.open(self.address, self._database)
        self._made.add(connection)
        return connection

    @property
    def idle(self) -> int:
        """How many connections wait to be lent."""
        return len(self._idle)

    async def close(self) -> None:
        """Close the idle connections; lent ones are closed when they come back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()
