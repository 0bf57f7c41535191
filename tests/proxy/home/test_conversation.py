"""A session's own connection to the home server: what is asked of it ends, however it is asked."""

import asyncio

import pytest

from backend.connection import RawConnection
from shard.errors import ServerError
from tests.support.agents import until
from tests.support.home_link import logged_in

FILES = "LOAD DATA LOCAL INFILE 'rows' INTO TABLE said.t"


@pytest.fixture
async def root(plain):
    made = await RawConnection.open(plain.address)
    await made.run("CREATE OR REPLACE DATABASE said")
    await made.run("CREATE TABLE said.t (a INT) ENGINE=MyISAM")
    yield made
    await made.run("UNLOCK TABLES")
    await made.run("DROP DATABASE said")
    await made.close()


@pytest.fixture
async def home(plain):
    link = await logged_in(plain.address)
    yield link
    link.abort()


async def pieces(*texts):
    for text in texts:
        yield text


async def test_rows_are_loaded(root, home):
    ok = await home.load(FILES.encode(), pieces(b"1\n2", b"\n3\n"))
    assert ok.affected_rows == 3
    assert await root.fetch("SELECT SUM(a) FROM said.t") == [[b"6"]]


async def test_a_load_that_is_cancelled_before_the_server_asks_for_its_rows_ends(root, home):
    """Else the server would wait for the file for ever, and the session for the server."""
    await root.run("LOCK TABLES said.t WRITE")
    task = asyncio.create_task(home.load(FILES.encode(), pieces(b"1\n")))

    async def waits():
        found = await root.fetch(
            f"SELECT STATE FROM information_schema.PROCESSLIST WHERE ID = {home.thread_id} AND INFO LIKE 'LOAD DATA%'"
        )
        return found and b"lock" in found[0][0]

    await until(waits)
    task.cancel()
    for _ in range(3):  # the cancel is delivered, and the server has not asked yet
        await asyncio.sleep(0)
    assert not task.done()
    await root.run("UNLOCK TABLES")
    async with asyncio.timeout(10):
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
    assert await root.fetch("SELECT COUNT(*) FROM said.t") == [[b"0"]]
    assert (await home.load(FILES.encode(), pieces(b"4\n"))).affected_rows == 1


async def test_a_load_that_is_cancelled_among_its_rows_ends_with_those_sent(root, home):
    begun, never = asyncio.Event(), asyncio.Event()

    async def slowly():
        yield b"1\n2\n"
        begun.set()
        await never.wait()

    task = asyncio.create_task(home.load(FILES.encode(), slowly()))
    async with asyncio.timeout(10):
        await begun.wait()
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
    assert (await home.load(FILES.encode(), pieces(b"3\n"))).affected_rows == 1
    assert await root.fetch("SELECT SUM(a) FROM said.t") == [[b"6"]]


async def test_a_load_that_is_refused_leaves_the_connection_usable(root, home):
    with pytest.raises(ServerError) as caught:
        await home.load(FILES.replace("said.t", "said.u").encode(), pieces(b"1\n"))
    assert caught.value.errno == 1146
    assert (await home.load(FILES.encode(), pieces(b"1\n"))).affected_rows == 1
