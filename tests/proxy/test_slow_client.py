"""Clients that read slowly or rows that are long: bounded memory, MariaDB not held, the first row soon."""

import asyncio

import pymysql
import pytest

from backend.connection import ConnectionLost, RawConnection
from shard.wire import rows
from shard.wire.packets import read_lenenc_int
from tests.support.agents import until
from tests.support.servers import Inside

SHARE = (64 << 20) // 3
"""Bytes of rows that a proxy holds for one query."""
MOST = 150_000_000
"""Bytes of memory that a proxy may use."""
READERS = 64
MOST_OF_MANY = 200_000_000
"""Bytes of memory that it may use for so many."""
WIDE = b"SELECT d.*, REPEAT('x', 200) FROM Detection d"
"""All of Detection, 600 MB: some ten times what proxy and agents hold in memory."""

LONG = 17_000_000
"""Bytes of a text that no packet holds."""
WORD = f"REPEAT(CHAR(64 + objectId), IF(objectId = 3, {LONG}, 2))"
DAY = 730485
DERIVED = (
    f"(SELECT objectId, {WORD} AS word, TO_DAYS('2000-01-01') AS day FROM Object WHERE objectId < 6 LIMIT 5)"
)


@pytest.fixture
def inside(cluster):
    return Inside(cluster.directory)


async def test_a_slow_reader_costs_little_memory_and_holds_no_statement(cluster, inside):
    await inside.renew("proxy1")  # what other tests left behind is not this query's
    proxy = inside.process("proxy1")
    client = await RawConnection.open(cluster.address, "hip")
    (wanted,) = await client.fetch("SELECT COUNT(*) FROM Detection")
    result = await client.query(WIDE)
    blocks = result.blocks()
    found = (await anext(blocks)).rows

    async def stalled():
        running = any(inside.figures(name)["skyshard_agent_running"] for name in ("worker1", "worker2"))
        running = running or await inside.statements("Detection")
        return not running and inside.figures("proxy1")["skyshard_budget_bytes"] >= SHARE

    await until(stalled, 60, pause=0.1)
    assert proxy.memory_info().rss < MOST
    for name in ("worker1", "worker2"):
        spooled = inside.figures(name)
        assert spooled['skyshard_agent_spool_bytes{where="disk"}'] > 0
        assert sum(spooled[f'skyshard_agent_spool_bytes{{where="{w}"}}'] for w in ("memory", "disk")) < 300e6
        assert inside.process(f"agent-{name}").memory_info().rss < MOST + (64 << 20)
    most = size = 0
    async for block in blocks:
        found += block.rows
        size += len(block.data)
        if size > 10 << 20:
            most, size = max(most, proxy.memory_info().rss), 0
            await asyncio.sleep(0.001)  # a reader that takes its time
    assert found == int(wanted[0])
    assert most < MOST
    await client.close()

    async def empty():
        figures = inside.figures("proxy1")
        return figures["skyshard_budget_bytes"] == figures["skyshard_running_queries"] == 0

    await until(empty, pause=0.1)


async def test_many_slow_readers_share_one_budget(cluster, inside):
    await inside.renew("proxy1")
    proxy = inside.process("proxy1")
    clients = [await RawConnection.open(cluster.address, "hip") for _ in range(READERS)]
    ((wanted,),) = await clients[0].fetch("SELECT COUNT(*) FROM Object WHERE objectId < 30000")
    most = 0

    async def read(client):
        nonlocal most
        found = 0
        result = await client.query(b"SELECT o.*, REPEAT('y', 60) FROM Object o WHERE objectId < 30000")
        async for block in result.blocks():
            found += block.rows
            most = max(most, proxy.memory_info().rss)
            await asyncio.sleep(0.02)  # a reader that takes its time
        return found

    assert await asyncio.gather(*map(read, clients)) == [int(wanted)] * READERS
    assert most < MOST_OF_MANY
    for client in clients:
        await client.close()


async def test_the_first_row_comes_when_the_first_chunk_is_done(cluster, inside):
    """One chunk cannot be read; the rows of the others arrive meanwhile."""
    worker = await RawConnection.open(inside.server("worker1"))
    (name,) = (
        await worker.fetch(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'hip' "
            "AND TABLE_NAME REGEXP '^Object_[0-9]+$' AND TABLE_ROWS > 0 ORDER BY TABLE_NAME LIMIT 1"
        )
    )[0]
    await worker.run(f"LOCK TABLES hip.{name.decode()} WRITE")
    client = await RawConnection.open(cluster.address, "hip")
    other = await RawConnection.open(cluster.address)
    result = await client.query(b"SELECT objectId FROM Object")
    blocks = result.blocks()
    async with asyncio.timeout(20):
        found = (await anext(blocks)).rows
    assert found > 0
    listed = [row for row in await other.fetch("SHOW PROCESSLIST") if b"chunks" in (row[6] or b"")]
    (state,) = [row[6].decode() for row in listed if int(row[0]) == client.thread_id]
    done, total = map(int, state.split()[1].split("/"))
    assert 0 < done < total
    await worker.run("UNLOCK TABLES")
    found += sum([block.rows async for block in blocks])
    assert found == 118216
    for connection in (worker, client, other):
        await connection.close()


@pytest.mark.parametrize("binary", [False, True])
async def test_rows_longer_than_packets_and_frames(cluster, inside, binary):
    """Rows of 20, 40 and 100 MB are exact from one end to the other, also past OFFSET and LIMIT.

    Their pieces are packets of 16 MiB: the share of the query, and a few on their way in and out.
    """
    proxy = inside.process("proxy1")
    text = (
        "SELECT objectId, REPEAT(CHAR(64 + objectId), CASE objectId WHEN 3 THEN 20000000 WHEN 5 THEN "
        "100000000 WHEN 8 THEN 40000000 ELSE 2 END) FROM Object WHERE objectId IN (1, 2, 3, 4, 5, 6, 7, 8, 9)"
    )
    lengths = {3: 20_000_000, 5: 100_000_000, 8: 40_000_000}
    client = await RawConnection.open(cluster.address, "hip")
    most = 0
    for more, number in (("", 9), (" LIMIT 7", 7), (" LIMIT 6 OFFSET 2", 6)):
        sql = (text + more).encode()
        result = await (client.execute(sql, ()) if binary else client.query(sql))
        seen = []
        held = b""
        async for block in result.blocks(pieces=True):
            held += block.data
            most = max(most, proxy.memory_info().rss)
            if not block.more:
                seen += [key for key, length in fields(held, binary) if length == lengths.get(key, 2)]
                held = b""
        assert len(seen) == len(set(seen)) == number
        if not more:
            assert sorted(seen) == list(range(1, 10))
    assert most < MOST + (6 << 24)
    await client.close()


@pytest.fixture(scope="module")
def own(cluster):
    """A table of a user's own whose third text is longer than a packet."""
    with pymysql.connect(host="127.0.0.1", port=cluster.port, user="root", autocommit=True) as client:
        with client.cursor() as cursor:
            cursor.execute("CREATE OR REPLACE DATABASE own_long")
            cursor.execute("CREATE TABLE own_long.t (id BIGINT, word LONGTEXT)")
            texts = (f"({key}, REPEAT('{chr(64 + key)}', {LONG if key == 3 else 2}))" for key in range(1, 6))
            cursor.execute(f"INSERT INTO own_long.t VALUES {', '.join(texts)}")
        yield
        with client.cursor() as cursor:
            cursor.execute("DROP DATABASE own_long")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("sql", "found"),
    [
        (f"SELECT MAX(objectId), MAX({WORD}) FROM Object WHERE objectId < 6 GROUP BY objectId % 100", [1, 2, 3, 4, 5]),
        (f"SELECT MAX(objectId), MAX(word), MAX(day) FROM {DERIVED} a GROUP BY objectId", [1, 2, 3, 4, 5]),
        (f"SELECT id, MAX(b.word), MAX(day) FROM own_long.t JOIN {DERIVED} b ON id + 0.0 = objectId + 0.0 GROUP BY id", [1, 2, 3, 4, 5]),
        ("SELECT SQL_CALC_FOUND_ROWS id, word FROM own_long.t JOIN Object ON id + 0.0 = objectId + 0.0 ORDER BY id LIMIT 2 OFFSET 2", [3, 4]),
    ],
    ids=["merged", "gathered", "with own", "some with own"],
)  # fmt: skip
async def test_long_rows_that_home_puts_together(cluster, own, sql, found, binary):
    """Of those with a day, binary rows at home have a BIGINT where clients are told of an INT."""
    client = await RawConnection.open(cluster.address, "hip")
    result = await (client.execute(sql.encode(), ()) if binary else client.query(sql.encode()))
    held, seen = b"", []
    async for block in result.blocks(pieces=True):
        held += block.data
        if not block.more:
            seen += fields(held, binary, days="day" in sql)
            held = b""
    assert sorted(seen) == [(key, LONG if key == 3 else 2) for key in found]
    if "FOUND_ROWS" in sql:
        assert await client.fetch("SELECT FOUND_ROWS()") == [[b"5"]]
    await client.close()


def fields(data, binary, days=False):
    """Return (objectId, length of the text) of every row, checking every byte of the text, and the day behind it."""
    if binary:
        found, at = [], 0
        while at < len(data):
            end = at + rows.take(data[at:], 1)
            payload = b"".join(payloads(data[at:end]))
            length, start = read_lenenc_int(payload, 10)  # after the header, NULLs and objectId
            assert payload[start + length :] == (DAY.to_bytes(4, "little") if days else b"")
            found.append((int.from_bytes(payload[2:10], "little"), payload[start : start + length]))
            at = end
    else:
        found = [(int(key), text) for key, text, *_ in rows.split(data)]
        assert all(row[2:] == [b"%d" % DAY] * days for row in rows.split(data))
    assert all(text == bytes([64 + key]) * len(text) for key, text in found)
    return [(key, len(text)) for key, text in found]


def payloads(data):
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "little")
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


@pytest.mark.parametrize(
    "tables", ["Object WHERE objectId IN (1, 2)", "own_long.t JOIN Object ON id + 0.0 = objectId + 0.0"]
)
async def test_a_row_that_breaks_off_ends_the_connection(cluster, own, tables):
    """Within a row there is no room for an error: a client would take it for the row's."""
    client = await RawConnection.open(cluster.address, "hip")
    other = await RawConnection.open(cluster.address)
    result = await client.query(f"SELECT objectId, REPEAT('x', 70000000) FROM {tables}".encode())
    blocks = result.blocks(pieces=True)
    block = await anext(blocks)
    while not block.more:
        block = await anext(blocks)
    await other.run(f"KILL QUERY {client.thread_id}")
    with pytest.raises(ConnectionLost):
        async for _ in blocks:
            pass
    await other.close()


async def test_a_home_server_that_is_lost_within_a_row(cluster, inside, raw):
    """Nothing follows what came of a row that is relayed from there."""
    client = raw()
    client.command(b"\x03SELECT REPEAT('x', 50000000)")
    data = client.socket.recv(1 << 20)
    home = await RawConnection.open(inside.server("home"))
    await home.run(f"KILL {client.thread_id}")
    await home.close()
    while more := client.socket.recv(1 << 20):
        data = data[-100:] + more
    assert data[-100:] == b"x" * 100
