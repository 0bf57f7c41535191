"""Copies that are missing are made again while queries run, and workers come and go."""

import asyncio
import json
import random
import signal
import subprocess
import sys

import pytest

from backend.connection import RawConnection
from shard.catalog.naming import copying_name
from skyshard.catalog.cluster import opened
from skyshard.cluster.connect import from_dir
from skyshard.replicas.repair import Repairer
from tests.faults.field import QUERIES, some_query
from tests.support.agents import until
from tests.support.servers import skyshard


@pytest.fixture
async def busy(field):
    """Queries run, and are compared, as long as the test does."""
    await field.until_well()
    stop, rng = asyncio.Event(), random.Random(5)
    asked = 0

    async def ask():
        nonlocal asked
        while not stop.is_set():
            await field.compare(some_query(rng))
            asked += 1

    asking = [asyncio.create_task(ask()) for _ in range(2)]
    yield
    stop.set()
    await asyncio.gather(*asking)
    assert asked > 5


async def command(field, *arguments, check=True):
    return await asyncio.to_thread(skyshard, *arguments, "--dir", field.cluster.directory, check=check)


async def told(field, *arguments):
    return json.loads((await command(field, *arguments, "--json")).stdout)


async def complete(field):
    """Return the chunks by worker, once every chunk has its two copies."""
    one = await told(field, "catalog", "show", "lab")
    assert one["incomplete"] == 0
    assert sum(one["workers"].values()) == 2 * one["chunks"]
    return one["workers"]


async def tables(field, number):
    found = await field.worker(
        number,
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab' AND TABLE_ROWS > 0 "
        "AND TABLE_NAME REGEXP '_[0-9]+$' ORDER BY 1",
    )
    return [row[0].decode() for row in found]


async def sums(field, number):
    """Return the checksums of all of a worker's tables."""
    listed = ", ".join(f"lab.`{name}`" for name in await tables(field, number))
    return {row[0]: row[1] for row in await field.worker(number, f"CHECKSUM TABLE {listed} EXTENDED")}


async def test_missing_and_damaged_copies_are_made_again(field, busy):
    await field.until_well()
    before = await sums(field, 1)
    names = await tables(field, 1)
    chunks = {name.rpartition("_")[2] for name in names[::3]}
    counted = "SELECT TABLE_NAME, CAST(TABLE_ROWS AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab'"
    held = [
        (name.decode(), int(rows)) for name, rows in await field.worker(1, counted) if name.decode() in names
    ]
    await field.worker(1, *(f"DROP TABLE lab.`{name}`" for name in names[::3]))
    (outcome,) = await told(field, "repair", "lab")
    assert outcome["copied"] == outcome["damaged"] == len(chunks) > 3
    assert outcome["rows"] == sum(rows for name, rows in held if name.rpartition("_")[2] in chunks)
    assert (outcome["lost"], outcome["failed"], outcome["removed"]) == ([], [], 0)
    assert await sums(field, 1) == before
    await complete(field)
    (again,) = await told(field, "repair")
    assert (again["copied"], again["removed"], again["damaged"]) == (0, 0, 0)


async def test_a_lost_worker_is_replaced_and_comes_back(field, busy):
    """Its copies are made on the others by the watcher; when it is back, there are too many, and loads are evened."""
    await field.until_well()
    agent = field.signal("agent-worker3", signal.SIGSTOP)
    watching = [sys.executable, "-m", "skyshard.cli", "repair", "--auto-repair-after", "1"]
    watcher = await asyncio.create_subprocess_exec(
        *watching, "--dir", str(field.cluster.directory), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        line = (await asyncio.wait_for(watcher.stdout.readline(), 60)).decode()
        assert line.startswith("lab: ")
        assert " 0 lost, 0 failed" in line
    finally:
        watcher.terminate()
        assert await watcher.wait() == 0
    show = await told(field, "catalog", "show", "lab")
    assert show["workers"]["worker1"] == show["workers"]["worker2"] == show["chunks"]
    for sql in QUERIES:
        await field.compare(sql.format(star=8, other=9, lon=200))
    agent.send_signal(signal.SIGCONT)
    await field.until_well()
    (outcome,) = await told(field, "repair", "--rebalance")
    assert outcome["removed"] > 0
    held = await complete(field)
    assert max(held.values()) - min(held.values()) <= 1


async def test_lost_rows_are_found_without_a_query(field, busy):
    """A copy of which something is gone is out of use as soon as somebody has counted."""
    await field.until_well()
    names = await tables(field, 2)
    before = await complete(field)
    async with opened(from_dir(field.cluster.directory)) as cluster:
        assert await Repairer(cluster).examine("lab") == 0
        await field.worker(2, f"DROP TABLE lab.`{names[0]}`")
        assert await Repairer(cluster).examine("lab") == 1
        assert (await told(field, "catalog", "show", "lab"))["incomplete"] == 1
        (outcome,) = await told(field, "repair", "lab")
    assert (outcome["copied"], outcome["failed"]) == (1, [])
    held = await complete(field)
    chunk = names[0].rpartition("_")[2]
    here = [name for name in await tables(field, 2) if name.endswith(f"_{chunk}")]
    assert here in (
        [],
        [name for name in names if name.endswith(f"_{chunk}")],
    )  # made here again, or nothing is left
    assert sum(held.values()) == sum(before.values())


async def test_what_a_killed_repair_has_left_is_taken_away(field):
    await field.until_well()
    aside = copying_name("lab")
    await field.worker(
        1,
        "CREATE TABLE lab.`Band$copy` LIKE lab.Band",  # it was being filled
        "CREATE TABLE lab.`skyshard_old_0badcafe$copy` LIKE lab.Band",  # another had come into its place
        f"CREATE DATABASE {aside}",
        f"CREATE TABLE {aside}.`6630_0` LIKE lab.Band",
    )
    async with opened(from_dir(field.cluster.directory)) as cluster:
        assert await Repairer(cluster).examine("lab") == 0
    assert await field.worker(1, r"SHOW TABLES IN lab LIKE '%$copy'") == []
    assert await field.worker(1, r"SHOW DATABASES LIKE 'skyshard\_copy%'") == []


async def test_a_worker_is_emptied_removed_and_added(field, busy):
    await field.until_well()
    refused = await command(field, "worker", "drain", "worker9", check=False)
    assert (refused.returncode, "there is no worker 'worker9'" in refused.stderr) == (1, True)
    await command(field, "worker", "drain", "worker2")
    assert set(await complete(field)) == {"worker1", "worker3"}
    assert await field.worker(2, "SHOW DATABASES LIKE 'lab'") == []
    (one,) = await told(field, "worker", "status", "worker2")
    assert (one["state"], one["chunks"], one["mariadb"]) == ("draining", {}, True)
    await command(field, "worker", "remove", "worker2")
    assert [one["name"] for one in await told(field, "worker", "status")] == ["worker1", "worker3"]
    port = field.inside.state.ports["worker2"]
    await command(field, "worker", "add", "worker2", "--host", "127.0.0.1", "--port", str(port))
    await command(field, "repair", "--rebalance")
    held = await complete(field)
    assert set(held) == {"worker1", "worker2", "worker3"}
    assert max(held.values()) - min(held.values()) <= 1


async def test_the_last_copy_is_not_given_up(field):
    await field.until_well()
    home = field.inside.server("home")
    connection = await RawConnection.open(home)
    try:
        kept = await connection.fetch(
            "SELECT db_id, chunk_id FROM skyshard_meta.chunk_replicas WHERE worker_id = 2 ORDER BY 2 LIMIT 1"
        )
        db_id, chunk = (int(value) for value in kept[0])
        where = f"db_id = {db_id} AND chunk_id = {chunk} AND worker_id <> 2"
        await connection.run(f"UPDATE skyshard_meta.chunk_replicas SET state = 'stale' WHERE {where}")
    finally:
        await connection.close()
    refused = await command(field, "worker", "remove", "worker2", check=False)
    assert refused.returncode == 1
    assert "has the only copy of 1 chunks of database 'lab'" in refused.stderr
    before = await sums(field, 3)
    await field.worker(3, f"DELETE FROM lab.`{(await tables(field, 3))[1]}` LIMIT 1")  # while nobody asks
    (outcome,) = await told(field, "repair")
    assert (outcome["damaged"], outcome["failed"]) == (1, [])
    assert await sums(field, 3) == before
    await complete(field)


async def test_a_killed_repair_is_repeated(field, busy):
    await field.until_well()
    names = await tables(field, 3)
    arguments = [sys.executable, "-m", "skyshard.cli", "repair", "--dir", str(field.cluster.directory)]

    async def begun():
        return len(await tables(field, 3)) > len(names) // 10

    for _ in range(3):  # it may be done before it is killed
        await field.worker(3, *(f"DROP TABLE lab.`{name}`" for name in names))
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        await until(begun)
        process.kill()
        await process.wait()
        if len(await tables(field, 3)) < len(names):
            break
    assert len(await tables(field, 3)) < len(names)
    await command(field, "repair")
    assert await tables(field, 3) == names
    await complete(field)
