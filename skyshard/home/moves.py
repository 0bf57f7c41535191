"""Moves tables of the home server between databases, all by one RENAME: users see all of it, or nothing."""

from __future__ import annotations

from collections.abc import Iterable

from backend.connection import RawConnection
from shard.catalog.naming import quote
from shard.errors import ServerError
from skyshard.errors import UserError

LOCK_WAIT_S = 30
"""Seconds that a move waits for clients' open transactions; no proxy sends new ones meanwhile."""
_LOCK_WAIT_TIMEOUT = 1205

Move = tuple[str, str, str, str]
"""Database and table, and what they become."""


async def move(home: RawConnection, moves: Iterable[Move], database: str, how: str) -> None:
    """Move tables.

    Parameters
    ----------
    database, how : str
        The catalogue, and in which state it is left if somebody holds a table, for the message.

    Raises
    ------
    UserError
        If a client's open transaction holds one of them.
    """
    listed = ", ".join(f"{quote(a)}.{quote(b)} TO {quote(c)}.{quote(d)}" for a, b, c, d in moves)
    try:
        await home.run(f"SET STATEMENT lock_wait_timeout={LOCK_WAIT_S} FOR RENAME TABLE {listed}")
    except ServerError as error:
        if error.errno != _LOCK_WAIT_TIMEOUT:
            raise
        raise UserError(
            f"a client's open transaction holds a table of database '{database}', which is {how}: "
            "end the transaction and run the same command again"
        ) from error
