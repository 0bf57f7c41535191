"""Locks that sessions wait for at home while distributed queries of theirs run: seen there, killed there, let go from here.

A session that only slept would have to be killed at the end of its query, and MariaDB's KILL of a sleeper can hold up
every other for two seconds: whoever wakes from SLEEP() holds a mutex of all sleepers while it asks for one that the
killer has, and the killer tries for the former forty times before it gives up (sql/sql_class.cc, THD::awake). One
that waits for a user lock has a mutex of its own, and it goes on as soon as the lock is free.
"""

from __future__ import annotations

import asyncio
import re
import secrets

from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from backend.tasks import to_the_end
from shard.catalog.naming import literal
from shard.errors import HOME_DOWN, ServerError, SkyError

_SECONDS = 31_536_000
"""How long a session waits for its lock: a year."""
_ANSWER_S = 15.0
"""Seconds after which the connection that holds the locks is given up: all wait for its answers."""
_NAMES = "skyshard "
WATCH = f"SET STATEMENT max_statement_time=0 FOR DO GET_LOCK('{_NAMES}".encode()
"""What the statement that a session waits in begins with."""
_ABOUT = re.compile(re.escape(WATCH) + rb"[^']*', \d+\) AND RELEASE_LOCK\('[^']*'\) /\* (.*) \*/", re.DOTALL)


def watched(statement: bytes) -> bytes | None:
    """Return the distributed statement that a session waits for at home in `statement`; None if it does something else."""
    found = _ABOUT.fullmatch(statement)
    return None if found is None else found[1]


class WatchLocks:
    """Holds locks of one's own choice at home, in one connection; all are free when that is lost.

    Parameters
    ----------
    pool : Pool
        Lends the connection, beside its limit.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._one = asyncio.Lock()
        self._holder: RawConnection | None = None

    @staticmethod
    def name() -> str:
        """Return the name of a new lock: who does not know it cannot take it, nor guess it from another's."""
        return f"{_NAMES}{secrets.token_hex(16)}"

    @staticmethod
    def statement(name: str, about: bytes) -> bytes:
        """Return the statement that a session waits in until a lock is let go; text `about` it is seen with it."""
        lock = literal(name)
        wait = (
            WATCH.removesuffix(f"'{_NAMES}".encode())
            + f"{lock}, {_SECONDS}) AND RELEASE_LOCK({lock})".encode()
        )
        return wait + b" /* " + about.replace(b"*/", b"* /") + b" */"

    async def take(self, name: str) -> None:
        """Take a lock.

        Raises
        ------
        SkyError
            HOME_DOWN.
        """
        await to_the_end(self._take(name))

    async def _take(self, name: str) -> None:
        try:
            async with self._one:
                if self._holder is None or self._holder.closed:
                    self._holder = await self._pool.borrow()
                found = await self._ask(f"SELECT GET_LOCK({literal(name)}, 0)")
        except (ServerError, ConnectionLost, OSError) as error:
            raise SkyError(HOME_DOWN) from error
        if found != [[b"1"]]:
            raise SkyError(HOME_DOWN)

    async def holds(self, name: str) -> bool:
        """Whether a lock is still held here: who waited for it has ended for another reason."""
        return await to_the_end(self._holds(name))

    async def _holds(self, name: str) -> bool:
        try:
            async with self._one:
                found = await self._ask(f"SELECT IS_USED_LOCK({literal(name)}) = CONNECTION_ID()")
        except (ServerError, ConnectionLost, OSError):
            return False
        return found == [[b"1"]]

    async def let_go(self, name: str) -> bool:
        """Let a lock go, whoever waits for it goes on; return whether it was held here, so that this is certain."""
        return await to_the_end(self._let_go(name))

    async def _let_go(self, name: str) -> bool:
        try:
            async with self._one:
                found = await self._ask(f"SELECT RELEASE_LOCK({literal(name)})")
        except ServerError:
            if self._holder is not None:
                self._holder.abort()  # no lock is held for ever
            return False
        except (ConnectionLost, OSError):
            return False
        return found == [[b"1"]]

    async def _ask(self, sql: str) -> list[list[bytes | None]]:
        """Ask the connection that holds the locks, which is given up if it does not answer."""
        if self._holder is None or self._holder.closed:
            raise ConnectionLost("nothing is held")
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._holder.fetch(sql)
        except (ConnectionLost, OSError):
            self._holder.abort()
            raise

    async def close(self) -> None:
        """Let all locks go."""
        if self._holder is not None:
            await self._holder.close()
