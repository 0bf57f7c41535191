"""Sessions that wait at home in the name of a query: many end at once, a KILL is seen, the loss of the locks is none."""

import asyncio
import contextlib
import time

import pytest

from backend.connection import RawConnection
from backend.pool import Pool
from proxy.home.watch_locks import WATCH, WatchLocks, watched
from tests.support.agents import until
from tests.support.home_link import logged_in

MANY = 40
"""Sleepers whose KILLs would take MariaDB four seconds at the least."""
QUERY = b"SELECT 'it''s */ long' /* a comment */ FROM t\n WHERE a = '\\' ) AND RELEASE_LOCK('"


@pytest.fixture
async def locks(plain):
    pool = Pool(plain.address, 4)
    made = WatchLocks(pool)
    yield made
    await made.close()
    await pool.close()


@pytest.fixture
async def root(plain):
    made = await RawConnection.open(plain.address)
    yield made
    await made.close()


@pytest.fixture
async def links(plain):
    made = [await logged_in(plain.address) for _ in range(MANY)]
    yield made
    for link in made:
        link.abort()


async def seen(root, links):
    """Return what sessions are seen with, by id."""
    found = await root.fetch("SELECT ID, INFO, STATE FROM information_schema.PROCESSLIST")
    mine = {link.thread_id for link in links}
    return {
        int(number): (watched(info), state)
        for number, info, state in found
        if int(number) in mine and (info or b"").startswith(WATCH)
    }


async def all_wait(root, links):
    async def there():
        found = await seen(root, links)
        return len(found) == len(links) and all(state == b"User lock" for _, state in found.values())

    await until(there)


async def held(root):
    found = await root.fetch("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'User lock'")
    return int(found[0][0])


async def ended(tasks):
    for task in tasks:
        task.cancel()
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_many_end_at_once(root, locks, links):
    tasks = [asyncio.create_task(link.watch(QUERY, locks)) for link in links]
    await all_wait(root, links)
    assert set((await seen(root, links)).values()) == {(QUERY.replace(b"*/", b"* /"), b"User lock")}
    began = time.monotonic()
    await ended(tasks)
    took = time.monotonic() - began
    print(f"{MANY} in {took:.3f} s")
    assert took < 2
    for link in links:
        assert (await link.table(b"SELECT 1")).rows == [[b"1"]]
    assert await held(root) == 0


async def test_another_use_of_the_connection_ends_it(root, locks, links):
    link = links[0]
    task = asyncio.create_task(link.watch(QUERY, locks))
    await all_wait(root, [link])
    assert (await link.table(b"SELECT 2")).rows == [[b"2"]]
    assert await task is False


@pytest.mark.parametrize("what", ["QUERY", "CONNECTION"])
async def test_a_kill_is_seen(root, locks, links, what):
    link = links[0]
    task = asyncio.create_task(link.watch(QUERY, locks))
    await all_wait(root, [link])
    await root.run(f"KILL {what} {link.thread_id}")
    async with asyncio.timeout(20):
        assert await task is True
    assert link.closed == (what == "CONNECTION")


async def test_one_that_is_cancelled_before_it_waits_leaves_no_lock(root, locks, links):
    for turns in range(12):
        task = asyncio.create_task(links[0].watch(QUERY, locks))
        for _ in range(turns):
            await asyncio.sleep(0)
        await ended([task])
    async with asyncio.timeout(20):
        await links[0].table(b"SELECT 1")
    held_by = locks._holder
    assert held_by is not None
    assert await held_by.fetch("SELECT RELEASE_ALL_LOCKS()") == [[b"0"]]


async def test_the_loss_of_the_locks_is_no_kill(root, locks, links):
    link = links[0]
    task = asyncio.create_task(link.watch(QUERY, locks))
    await all_wait(root, [link])
    lost = locks._holder
    await root.run(f"KILL CONNECTION {lost.thread_id}")

    async def anew():
        return locks._holder is not lost and len(await seen(root, [link])) == 1

    await until(anew)
    assert not task.done()
    await ended([task])
    assert (await link.table(b"SELECT 3")).rows == [[b"3"]]


async def test_where_the_holder_cannot_let_go_the_session_ends(root, locks, links, monkeypatch):
    """It could wait for a lock whose holder the server does not know to be gone."""
    link = links[0]
    task = asyncio.create_task(link.watch(QUERY, locks))
    await all_wait(root, [link])

    async def never(name):
        return False

    monkeypatch.setattr(locks, "let_go", never)
    await ended([task])
    assert link.closed
    with contextlib.suppress(Exception):
        await root.run(f"KILL CONNECTION {link.thread_id}")


def test_only_watches_are_taken_for_such():
    name = WatchLocks(None).name()
    statement = WatchLocks.statement(name, b"SELECT 1")
    assert watched(statement) == b"SELECT 1"
    assert statement.startswith(WATCH)
    for other in (b"", WATCH, statement[:-1], statement[1:], b"DO SLEEP(1) /* SELECT 1 */"):
        assert watched(other) is None
