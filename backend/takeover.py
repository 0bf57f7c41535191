"""Takes an authenticated connection over from asyncmy: the only place that touches its private parts.

asyncmy does the handshake and authentication; afterwards its transport is ours, because raw row packets
and LOAD DATA from memory need bytes, not rows. `tests/backend/test_takeover.py` fails when a new asyncmy
names things differently.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from asyncmy.connection import Connection
from asyncmy.constants.CLIENT import MULTI_STATEMENTS
from asyncmy.errors import MySQLError

from backend.address import Address
from backend.keepalive import keep_alive
from backend.wire import ConnectionLost, Wire
from shard.errors import ServerError

CONNECT_TIMEOUT_S = 10.0
"""Seconds for connecting and logging in together."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What is left of asyncmy's connection: the transport, its thread id, and the negotiated EOF style."""

    transport: asyncio.Transport
    thread_id: int
    deprecate_eof: bool


async def take(address: Address, database: str | None, wire: Wire) -> Taken:
    """Connect and authenticate with asyncmy, then put `wire` on its transport.

    One packet is one statement here, whatever text is sent: CLIENT_MULTI_STATEMENTS is not asked for.

    Raises
    ------
    ConnectionLost
        If the server cannot be reached, or does not answer in time.
    ServerError
        If it refuses the account or the database.
    """
    connection: Any = Connection(  # type: ignore[no-untyped-call]
        host=address.host or "localhost",
        port=address.port or 3306,
        unix_socket=address.socket,
        user=address.user,
        password=address.password.encode(),  # asyncmy would encode a str as latin1
        database=database,
        charset="utf8mb4",
        autocommit=None,
        local_infile=True,
    )
    connection._client_flag &= ~MULTI_STATEMENTS
    connection._connect_timeout = None  # ours below; asyncio.wait_for of Python 3.11 may swallow a cancel
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await connection.connect()
    except MySQLError as error:
        errno = error.args[0] if len(error.args) > 1 else None
        if not isinstance(errno, int) or errno < 1000 or 2000 <= errno < 3000:  # asyncmy's own numbers
            raise ConnectionLost(str(error)) from error
        raise ServerError(errno, str(error.sqlstate or "HY000"), str(error.args[1])) from error
    except (OSError, TimeoutError) as error:
        raise ConnectionLost(str(error) or "no answer in time") from error
    return _hand_over(connection, wire)


def _hand_over(connection: Any, wire: Wire) -> Taken:
    transport, old = connection._transport, connection._proto
    taken = Taken(transport, int(connection.thread_id()), bool(connection._deprecate_eof))
    if old.eof or old.exc is not None or old.pos != old.length:  # a goodbye came with the welcome
        transport.abort()
        raise ConnectionLost("closed by the server")
    keep_alive(transport)
    transport.set_protocol(wire)
    wire.transport = transport
    connection._transport = None  # it must neither read nor close any more
    connection._connected = False
    return taken
