"""The pool: bounded, and nothing broken is ever lent again."""

import asyncio

import pytest

from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from shard.errors import ServerError
from tests.support.relay import Relay


@pytest.fixture
async def pool(plain):
    pool = Pool(plain.address, limit=2)
    yield pool
    await pool.close()


async def connections(plain):
    """Return the ids of the connections that the server has."""
    asker = await RawConnection.open(plain.address)
    found = await asker.fetch("SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()")
    await asker.close()
    return {int(row[0]) for row in found}


async def gone(plain, *ids):
    async with asyncio.timeout(10):
        while set(ids) & await connections(plain):
            pass


async def test_no_more_than_the_limit_at_once(pool):
    lent, most = 0, 0
    both = asyncio.Event()

    async def one():
        nonlocal lent, most
        async with pool.lease() as connection:
            lent += 1
            most = max(most, lent)
            if lent == 2:
                both.set()
            await both.wait()
            await connection.run("SELECT 1")
            lent -= 1

    await asyncio.gather(*(one() for _ in range(9)))
    assert most == 2
    assert pool.idle == 2


async def test_idle_ones_are_used_again_and_bounded_also_when_borrowed(pool, plain):
    borrowed = [await pool.borrow() for _ in range(5)]
    ids = [connection.thread_id for connection in borrowed]
    for connection in borrowed:
        await pool.put(connection)
    assert pool.idle == 2
    await gone(plain, *ids[2:])
    async with pool.lease() as connection:
        assert connection.thread_id in ids[:2]


async def test_an_error_of_the_statement_keeps_the_connection(pool):
    with pytest.raises(ServerError):
        async with pool.lease() as connection:
            await connection.run("SELECT nothing")
    assert pool.idle == 1


async def test_a_connection_with_unread_rows_is_not_lent_again(pool, plain):
    async with pool.lease() as connection:
        result = await connection.query(b"SELECT * FROM mysql.seq_1_to_1000000")
        await anext(result.blocks())
        first = connection.thread_id
    assert pool.idle == 0
    await gone(plain, first)
    async with pool.lease() as connection:
        assert await connection.fetch("SELECT 7") == [[b"7"]]


async def test_one_that_is_cancelled_in_mid_statement_is_not_lent_again(pool, plain):
    async def hold():
        async with pool.lease() as connection:
            await connection.run("SELECT SLEEP(60)")

    task = asyncio.create_task(hold())
    asker = await RawConnection.open(plain.address)
    sleeping = "SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'"
    async with asyncio.timeout(10):
        while not await asker.fetch(sleeping):
            assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert pool.idle == 0
    await asker.close()


async def test_one_that_the_server_closed_is_not_lent_again(pool, plain):
    async with pool.lease() as connection:
        first = connection.thread_id
    other = await RawConnection.open(plain.address)
    await other.run(f"KILL CONNECTION {first}")
    await other.close()
    async with asyncio.timeout(10):
        while not connection.closed:
            await asyncio.sleep(0)
    async with pool.lease() as connection:
        assert connection.thread_id != first
        assert await connection.fetch("SELECT 7") == [[b"7"]]


async def test_a_connection_lost_in_mid_reply_is_dropped(plain):
    async with Relay(plain.socket, cut_after=100_000) as relay:
        pool = Pool(relay.address(), limit=2)
        with pytest.raises(ConnectionLost):
            async with pool.lease() as connection:
                await connection.run("SELECT REPEAT('x', 1000000)")
        assert pool.idle == 0
        relay.cut_after = None
        async with pool.lease() as connection:
            assert await connection.fetch("SELECT 7") == [[b"7"]]
        await pool.close()


async def test_what_comes_back_after_the_end_is_closed(plain):
    pool = Pool(plain.address, limit=2)
    async with pool.lease() as connection:
        await pool.close()
    assert connection.closed
    assert pool.idle == 0
    await gone(plain, connection.thread_id)


async def test_a_transaction_that_was_left_open_is_not_lent_on(pool, plain):
    async with pool.lease() as connection:
        await connection.run("CREATE OR REPLACE DATABASE left_open")
        await connection.run("CREATE TABLE left_open.t (a INT PRIMARY KEY) ENGINE=InnoDB")

    async def left():
        async with pool.lease() as connection:
            await connection.run("START TRANSACTION")
            await connection.run("INSERT INTO left_open.t VALUES (1)")
            await connection.run("INSERT INTO left_open.t VALUES (1)")

    with pytest.raises(ServerError):
        await left()
    assert pool.idle == 0
    async with pool.lease() as connection:
        await connection.run("START TRANSACTION")
        await connection.run(
            "INSERT INTO left_open.t VALUES (1)"
        )  # waits for the server to take the other back
        await connection.run("COMMIT")
        assert await connection.fetch("SELECT COUNT(*) FROM left_open.t") == [[b"1"]]
        await connection.run("DROP DATABASE left_open")
    assert pool.idle == 1
