"""Takes an authenticated connection over from asyncmy: the only place that touches its private parts.

asyncmy does the handshake, authentication and TLS; afterwards its transport is ours, because raw row
packets and LOAD DATA from memory need bytes, not rows. `tests/backend/test_takeover.py` fails when a
new asyncmy names things differently.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncmy
from asyncmy.errors import MySQLError

from backend.address import Address
from shard.errors import ServerError


class ConnectionLost(Exception):  # noqa: N818 - it is what happened
    """The server closed the connection, or it could not be made."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What is left of asyncmy's connection: the transport, its thread id, and the negotiated EOF style."""

    transport: asyncio.Transport
    thread_id: int
    deprecate_eof: bool
    keep: object


async def take(address: Address, database: str | None, protocol: asyncio.BaseProtocol) -> Taken:
    """Connect and authenticate with asyncmy, then put `protocol` on its transport.

    Raises
    ------
    ConnectionLost
        If the server cannot be reached.
    ServerError
        If it refuses the account.
    """
    try:
        connection = await asyncmy.connect(
            host=address.host or "localhost",
            port=address.port or 3306,
            unix_socket=address.socket,
            user=address.user,
            password=address.password,
            db=database,
            charset="utf8mb4",
            autocommit=None,
            local_infile=True,
            connect_timeout=10,
        )
    except MySQLError as error:
        arguments = error.args
        if len(arguments) > 1 and isinstance(arguments[0], int) and arguments[0] < 2000:
            raise ServerError(arguments[0], "HY000", str(arguments[1])) from error
        raise ConnectionLost(str(error)) from error
    except (OSError, TimeoutError) as error:
        raise ConnectionLost(str(error)) from error
    internals: Any = connection
    transport = internals._transport
    transport.set_protocol(protocol)
    thread_id = connection.thread_id()
    return Taken(transport, int(thread_id), bool(internals._deprecate_eof), connection)
