"""A database of rows that are awkward on the wire, and a runner on each event loop."""

import asyncio

import pytest
import uvloop

from backend.connection import RawConnection

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine on this event loop."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


@pytest.fixture(scope="session")
def wire_rows(plain):
    """Make `wire.t`: NULLs, empty and long text, every byte."""

    async def fill():
        connection = await RawConnection.open(plain.address)
        await connection.run("CREATE DATABASE wire")
        await connection.run("CREATE TABLE wire.t (a INT PRIMARY KEY, b LONGBLOB)")
        await connection.run("INSERT INTO wire.t VALUES (1, NULL), (2, ''), (3, REPEAT('x', 70000))")
        everything = bytes(range(256)).hex()
        await connection.run(f"INSERT INTO wire.t VALUES (4, x'{everything}')")
        await connection.close()

    asyncio.run(fill())
    return plain
