"""What proxies do to each other's rows of jobs: locks in the way are waited for, and nothing is lost by them."""

import asyncio

import pytest

from backend.connection import RawConnection
from backend.pool import Pool
from proxy.jobs.job import SubmittedSettings
from proxy.jobs.store import LOST_S, QUERIES, Store
from shard.catalog.metadata import MIGRATIONS
from shard.errors import ServerError
from tests.support.agents import until

SETTINGS = SubmittedSettings(database=None, values={}, charset="utf8mb4")


@pytest.fixture
async def pool(plain):
    made = Pool(plain.address, 4)
    (table,) = (sql for step in MIGRATIONS for sql in step if sql.startswith("CREATE TABLE queries"))
    async with made.lease() as connection:
        await connection.run("CREATE OR REPLACE DATABASE skyshard_meta")
        await connection.run("USE skyshard_meta")
        await connection.run(table)
    yield made
    async with made.lease() as connection:
        await connection.run("DROP DATABASE skyshard_meta")
    await made.close()


async def submitted(store, number):
    return [await store.add("a", "a@%", f"SELECT {one}", SETTINGS) for one in range(number)]


@pytest.fixture
async def other(plain, pool):
    made = await RawConnection.open(plain.address)
    yield made
    await made.close()


async def test_a_deadlock_with_another_proxy_is_gone_through(plain, pool, other):
    store = Store(pool, "first")
    jobs = await submitted(store, 2)
    async with pool.lease() as connection:
        await connection.run(
            f"UPDATE {QUERIES} SET status = 'EXECUTING', attempts = 3, alive_at = '2000-01-01'"
        )
    asker = await pool.borrow()
    await other.run("START TRANSACTION")
    await other.run(f"UPDATE {QUERIES} SET chunks = 1 WHERE id = {jobs[1]}")
    rows = ", ".join(["('b', 'SYNC', 'QUEUED', NOW(), '')"] * 9)  # whoever has changed less is ended
    await other.run(f"INSERT INTO {QUERIES} (user, type, status, submitted, query) VALUES {rows}")
    claim = asyncio.create_task(store.claim(4, 0))

    async def waits():
        return await asker.fetch("SELECT 1 FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'")

    await until(waits, pause=0.2)  # the server looks again once nobody has asked for a tenth of a second
    before = await deadlocks(asker)
    await other.run(f"UPDATE {QUERIES} SET chunks = 2 WHERE id = {jobs[0]}")
    assert await deadlocks(asker) == before + 1
    await other.run("ROLLBACK")
    assert await claim == []
    found = await asker.fetch(f"SELECT status FROM {QUERIES} ORDER BY id")
    assert found == [[b"FAILED"], [b"FAILED"]]
    await pool.put(asker)


async def deadlocks(connection):
    ((_, count),) = await connection.fetch("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
    return int(count)


async def test_a_job_is_one_proxys_and_anothers_when_it_is_lost(pool):
    first, second = Store(pool, "first"), Store(pool, "second")
    jobs = await submitted(first, 5)
    taken = await asyncio.gather(first.claim(5, 0), second.claim(5, 0))
    assert sorted(job.id for some in taken for job in some) == jobs
    mine = {job.id for job in taken[0]}
    assert await second.alive(dict.fromkeys(mine, (3, 1))) == set()
    assert await first.alive(dict.fromkeys(mine, (3, 1))) == mine
    async with pool.lease() as connection:
        await connection.run(f"UPDATE {QUERIES} SET alive_at = alive_at - INTERVAL {LOST_S + 1} SECOND")
    again = await second.claim(9, 0)
    assert sorted(job.id for job in again) == jobs
    assert {job.attempts for job in again} == {2}
    assert await first.alive(dict.fromkeys(mine, (3, 1))) == set()


async def test_what_lost_proxies_have_left_is_dropped(pool, other):
    """A cancelled job's table, that of one lost too often, and a result of which only the note is gone; no one else's."""
    store = Store(pool, "first")
    aborted, failed, noted, waits, kept = await submitted(store, 5)
    async with pool.lease() as connection:
        for states in (f"status = 'ABORTED' WHERE id = {aborted}", f"status = 'FAILED' WHERE id = {failed}",
                       f"status = 'COMPLETED' WHERE id = {noted}", f"status = 'COMPLETED', stored = 1 WHERE id = {kept}"):  # fmt: skip
            await connection.run(f"UPDATE {QUERIES} SET completed = NOW(3), {states}")
        await connection.run("CREATE DATABASE skyshard_jobs")
        names = [f"running_{aborted}_1", f"running_{failed}_3", f"result_{noted}", "result_999", f"running_{waits}_1", f"result_{kept}"]  # fmt: skip
        for name in names:
            await connection.run(f"CREATE TABLE skyshard_jobs.{name} (n INT)")
        await connection.run("CREATE USER reader")
        await connection.run(f"GRANT SELECT ON skyshard_jobs.result_{noted} TO reader")
    await other.run(f"LOCK TABLES skyshard_jobs.running_{failed}_3 READ")
    try:
        await store.expire(100, 100)
        listed = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'skyshard_jobs'"
        async with pool.lease() as connection:
            left = {name.decode() for (name,) in await connection.fetch(listed)}
            assert left == {f"running_{failed}_3", f"running_{waits}_1", f"result_{kept}"}
            assert await connection.fetch("SELECT 1 FROM mysql.tables_priv WHERE User = 'reader'") == []
        await other.run("UNLOCK TABLES")
        await store.expire(100, 100)
        async with pool.lease() as connection:
            left = {name.decode() for (name,) in await connection.fetch(listed)}
        assert left == {f"running_{waits}_1", f"result_{kept}"}
    finally:
        async with pool.lease() as connection:
            await connection.run("DROP DATABASE skyshard_jobs")
            await connection.run("DROP USER reader")


@pytest.fixture
async def results(pool):
    """The database of jobs' results, while a test runs."""
    async with pool.lease() as connection:
        await connection.run("CREATE OR REPLACE DATABASE skyshard_jobs")
    yield
    async with pool.lease() as connection:
        await connection.run("DROP DATABASE skyshard_jobs")


async def test_long_errors_are_kept_in_part(pool, results):
    store = Store(pool, "first")
    await submitted(store, 1)
    (job,) = await store.claim(1, 0)
    await store.fail(job, "é" * 100_000)
    got = await store.get(job.id, "a")
    assert (got.status, len(got.error)) == ("FAILED", 10_000)


async def test_a_result_that_nobody_may_read_is_dropped(pool, results):
    """An account may be dropped while its job runs."""
    store = Store(pool, "first")
    await submitted(store, 1)
    (job,) = await store.claim(1, 0)
    async with pool.lease() as connection:
        await connection.run(f"CREATE TABLE {job.running} AS SELECT 1 AS a")
        with pytest.raises(ServerError):
            await store.finish(job, 1, 1)
        assert await connection.fetch("SHOW TABLES FROM skyshard_jobs") == [[f"result_{job.id}".encode()]]
        await store.fail(job, "its account is gone")
        assert await connection.fetch("SHOW TABLES FROM skyshard_jobs") == []
        assert await connection.fetch(f"SELECT status, stored FROM {QUERIES}") == [[b"FAILED", b"0"]]
