"""ORDER BY of everything, as clients see it: they stop reading, leave, kill, count and limit; nothing is left behind."""

import asyncio

import pymysql
import pytest

from backend.connection import RawConnection
from shard.errors import ServerError
from shard.wire import rows
from tests.support.agents import until
from tests.support.servers import Inside

WIDE = (
    "SELECT objectId, REPEAT('x', 9000) FROM Object WHERE objectId < 20000 ORDER BY vmag, objectId LIMIT 5000"
)
PLAIN = "SELECT objectId FROM Object WHERE objectId < 20000 ORDER BY vmag, objectId LIMIT 5000"
SLOW = "SELECT objectId FROM Object WHERE SHA2(REPEAT(objectId, 100000), 512) > '' ORDER BY vmag"
MARK = "SHA2("


@pytest.fixture
def inside(cluster):
    return Inside(cluster.directory)


def held(inside):
    """Return how many bytes the agents' spools hold."""
    figures = [inside.figures(f"worker{number}") for number in (1, 2)]
    return sum(
        value
        for found in figures
        for name, value in found.items()
        if name.startswith("skyshard_agent_spool_bytes")
    )


async def nothing_left(inside):
    async def nothing():
        return not held(inside) and not await inside.statements(MARK)

    await until(nothing, 5, pause=0.05)


async def test_a_reader_that_stops_holds_workers_spools_and_no_statement(cluster, plain, inside):
    client = await RawConnection.open(cluster.address, "hip")
    other = await RawConnection.open(plain.address, "hip")
    try:
        result = await client.query(WIDE.encode())
        blocks = result.blocks()
        first = await anext(blocks)

        async def all_sorted():
            return held(inside) > 20 << 20 and not await inside.statements("REPEAT")

        await until(all_sorted, pause=0.05)
        found = [row[0] for row in rows.split(first.data)]
        async for block in blocks:
            found += [row[0] for row in rows.split(block.data)]
        assert found == [row[0] for row in await other.fetch(PLAIN)]
        await nothing_left(inside)
    finally:
        await client.close()
        await other.close()


@pytest.mark.parametrize("how", ["KILL QUERY", "KILL CONNECTION", "leaves"])
@pytest.mark.parametrize("sql", [WIDE, SLOW])
async def test_a_query_that_is_given_up_leaves_nothing(cluster, inside, how, sql):
    client = await RawConnection.open(cluster.address, "hip")
    if sql is WIDE:
        result = await client.query(sql.encode())
        blocks = result.blocks()
        await anext(blocks)
    else:
        answer = asyncio.ensure_future(client.query(sql.encode()))

        async def runs():
            return await inside.statements(MARK)

        await until(runs)
    if how == "leaves":
        client.abort()
    else:
        other = await RawConnection.open(cluster.address)
        await other.run(f"{how} {client.thread_id}")
        await other.close()
    if sql is SLOW:
        (error,) = await asyncio.gather(answer, return_exceptions=True)
    else:
        error = None
        try:
            async for _ in blocks:
                pass
        except Exception as problem:  # what it is is looked at below
            error = problem
    if how == "KILL QUERY":
        assert isinstance(error, ServerError)
        assert error.errno == 1317
        assert await client.fetch("SELECT 1") == [[b"1"]]
    else:
        assert type(error).__name__ == "ConnectionLost"
    await client.close()
    await nothing_left(inside)


async def test_a_statement_that_takes_too_long(cluster, inside):
    client = await RawConnection.open(cluster.address, "hip")
    await client.run("SET max_statement_time = 0.5")
    with pytest.raises(ServerError) as caught:
        await client.fetch(SLOW)
    assert caught.value.errno == 1969
    await client.close()
    await nothing_left(inside)


def test_rows_are_counted_and_limited_as_ever(cluster, plain):
    answers = []
    there = {"host": "127.0.0.1", "port": cluster.port}, {"unix_socket": plain.socket}
    for place in there:
        client = pymysql.connect(**place, user="root", database="hip")
        with client, client.cursor() as cursor:
            cursor.execute(
                "SELECT SQL_CALC_FOUND_ROWS objectId FROM Object ORDER BY vmag DESC, objectId LIMIT 7, 5"
            )
            found = [cursor.fetchall()]
            cursor.execute("SELECT FOUND_ROWS()")
            found.append(cursor.fetchall())
            cursor.execute("SET sql_select_limit = 1700")
            cursor.execute("SELECT objectId FROM Object ORDER BY vmag, objectId")
            found.append(cursor.fetchall())
            cursor.execute("SELECT FOUND_ROWS()")
            found.append(cursor.fetchall())
            cursor.execute("SET sql_select_limit = DEFAULT")
            cursor.execute(
                "SELECT objectId, 1 / (objectId % 3) FROM Object WHERE objectId < 9000 ORDER BY vmag, objectId"
            )
            found += [cursor.fetchall(), cursor.warning_count]
        answers.append(found)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("charset", ["latin1", "binary"])
def test_numbers_in_any_character_set(cluster, plain, charset):
    answers = []
    for place in ({"host": "127.0.0.1", "port": cluster.port}, {"unix_socket": plain.socket}):
        client = pymysql.connect(**place, user="root", database="lab", use_unicode=False)
        with client, client.cursor() as cursor:
            cursor.execute(f"SET character_set_results = {charset}")
            client.decoders = {}
            cursor.execute("SELECT d, starId, name FROM Star ORDER BY d DESC, starId")
            answers.append(cursor.fetchall())
    assert answers[0] == answers[1]


async def test_rows_of_several_packets(cluster, plain):
    long = "REPEAT('x', IF(starId % 5 = 2, 9000000, 150000))"
    sql = f"SELECT starId, {long}, {long} FROM Star WHERE starId < 21 ORDER BY decl DESC, starId"
    found = []
    for place in (cluster.address, plain.address):
        client = await RawConnection.open(place, "lab")
        result = await client.query(sql.encode())
        lengths = []
        async for block in result.blocks():
            lengths += [(row[0], len(row[1]), len(row[2])) for row in rows.split(block.data)]
        found.append(lengths)
        await client.close()
    assert found[0] == found[1]
    assert len(found[0]) == 20
    assert sum(size == 9_000_000 for _, size, _ in found[0]) == 4
