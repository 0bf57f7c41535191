"""Chunks that one statement reads together: the answer is that of a statement for each, whatever goes wrong."""

import asyncio
import math

import msgspec
import pytest

from backend.connection import RawConnection
from shard.errors import ServerError
from shard.wire import frames
from shard.wire import rows as packets
from tests.support.agents import LocalAgent, asking, collect, job, running, until, until_running
from worker_agent.joint import Union

MANY = 120
SLOW = "SUM(SLEEP(0.001))"
"""Makes a chunk of two rows take 2 ms: it is worth it to unite some."""


async def fill(address):
    connection = await RawConnection.open(address)
    for chunk in range(MANY):
        await connection.run(
            f"CREATE TABLE ag.u_{chunk} (a INT, b VARCHAR(20), c INT INVISIBLE) ENGINE=MyISAM"
        )
        await connection.run(f"INSERT INTO ag.u_{chunk} VALUES ({chunk}, 'x'), (NULL, 'y')")
        await connection.run(f"CREATE TABLE ag.v_{chunk} ENGINE=InnoDB AS SELECT * FROM ag.u_{chunk}")
    await connection.run(
        "CREATE TABLE ag.u_5_3 (a INT, b VARCHAR(20), c INT INVISIBLE) ENGINE=MERGE UNION=(ag.u_5, ag.u_6)"
    )
    await connection.run("CREATE TABLE ag.u_201 (a INT) ENGINE=MyISAM")
    await connection.close()


@pytest.fixture(scope="module")
def tables(chunks):
    """Chunk tables ag.u_0 … with two rows each, the same of another engine (v), chunk 5 in state 3, one unlike the others."""
    asyncio.run(fill(chunks.address))
    return chunks


def merged(sql, chunks=range(MANY), table="u", **more):
    """Return a job whose statement reads one table, and is merged."""
    name = frames.Template((f"`ag`.`{table}_".encode(), b"`"))
    return job(sql, [*chunks], table=name, **{"interactive": False} | more)


async def joint(agent, chunks):
    """Wait until the agent, which counts when a job's end is sent, has read more chunks by statements over several."""

    async def counted() -> bool:
        return agent.agent.metrics.joint._value.get() > chunks

    await until(counted, 10)


def total(answer, column=0):
    return sum(int(row[column] or 0) for row in answer.all_rows)


@pytest.mark.parametrize("interactive", [False, True])
async def test_fewer_rows_say_the_same(tables, interactive):
    async with LocalAgent(tables, slots=2) as agent:
        sql = f"SELECT COUNT(*), SUM(a), {SLOW} FROM u_# AS t"
        answer = await agent.ask(merged(sql, interactive=interactive))
        assert sorted(answer.chunks) == [*range(MANY)]
        assert (total(answer), total(answer, 1)) == (2 * MANY, math.comb(MANY, 2))
        assert len(answer.all_rows) < MANY / 2
        await joint(agent, MANY / 2)
        groups = await agent.ask(merged(f"SELECT b, COUNT(*), {SLOW} FROM u_# AS t GROUP BY b"))
        counts = {b: sum(int(row[1]) for row in groups.all_rows if row[0] == b) for b in (b"x", b"y")}
        assert counts == {b"x": MANY, b"y": MANY}
        await joint(agent, MANY)
        again = await agent.ask(job("SELECT COUNT(*) FROM u_united", [1]))  # the union is gone
        assert again.end.errno == 1146


async def test_values_of_parameters_are_filled_in(tables):
    five = frames.Parameter(8, False, (5).to_bytes(8, "little"))
    template = frames.Template((b"SELECT SUM(a < ?), SUM(SLEEP(0.001)) FROM u_", b" AS t"), (0,))
    async with LocalAgent(tables, slots=1) as agent:
        asked = msgspec.structs.replace(merged("#", parameters=(five,)), main=template)
        answer = await agent.ask(asked)
        assert sorted(answer.chunks) == [*range(MANY)]
        assert total(answer) == 5
        await joint(agent, MANY / 2)


async def test_what_differs_between_chunks_is_asked_one_by_one(tables):
    """A list of the keys that are in a chunk; rows that come sorted, or binary."""
    main = frames.Template(
        (b"SELECT COUNT(*), SUM(SLEEP(0.001)) FROM u_", b" AS t WHERE a IN (", b")"), lists=(1,)
    )
    keys = {chunk: b"%d" % chunk for chunk in range(MANY)}
    async with LocalAgent(tables, slots=1) as agent:
        answer = await agent.ask(msgspec.structs.replace(merged("#", keys=keys), main=main))
        assert [row[0] for row in answer.all_rows] == [b"1"] * MANY
        binary = await agent.ask(merged(f"SELECT COUNT(*), {SLOW} FROM u_# AS t", binary=True), raw=True)
        assert sum(map(packets.count, binary.all_rows)) == MANY
    with pytest.raises(ValueError, match="keys"):
        main.named(b"united")


@pytest.mark.parametrize(("table", "last"), [("v", ()), ("u", (201,))])
async def test_tables_that_cannot_be_united_are_asked_one_by_one(tables, table, last):
    """Tables of another engine; one table with fewer columns among others."""
    async with LocalAgent(tables, slots=1) as agent:
        sql = f"SELECT COUNT(*), SUM(a), {SLOW} FROM {table}_# AS t"
        answer = await agent.ask(merged(sql, [*range(MANY), *last], table))
        assert sorted(answer.chunks) == [*range(MANY), *last]
        assert (total(answer), total(answer, 1)) == (2 * MANY, math.comb(MANY, 2))
        assert (len(answer.all_rows) == MANY) == (table == "v")


async def test_a_chunk_that_has_a_state_is_read_by_its_own_name(tables):
    async with LocalAgent(tables, slots=1) as agent:
        answer = await agent.ask(merged(f"SELECT COUNT(*), SUM(a), {SLOW} FROM u_# AS t", states={5: 3}))
        assert sorted(answer.chunks) == [*range(MANY)]
        assert (total(answer), total(answer, 1)) == (2 * MANY + 2, math.comb(MANY, 2) + 6)
        await joint(agent, MANY / 2)


@pytest.mark.parametrize("rows_before", [False, True])
async def test_an_error_names_its_chunk(tables, rows_before):
    """Of groups nothing is sent before all are known; of a scan there are rows before the chunk at fault."""
    failing = "IF(a = 90, (SELECT 1 UNION SELECT 2), 0)"
    sql = f"SELECT SUM({failing}), {SLOW} FROM u_# AS t"
    if rows_before:
        sql = f"SELECT REPEAT(b, 100000), SLEEP(0.001), {failing} FROM u_# AS t"
    async with LocalAgent(tables, slots=1) as agent:
        answer = await agent.ask(merged(sql))
        assert (answer.end.errno, answer.end.chunk, answer.end.retry) == (1242, 90, False)
        once = "IF(a = 90 AND @said IS NULL AND (@said := a), (SELECT 1 UNION SELECT 2), 0)"
        if rows_before:  # it fails over the union, and for no chunk: none is to blame
            nobodys = await agent.ask(merged(f"SELECT REPEAT(b, 100000), SLEEP(0.001), {once} FROM u_# AS t"))
            assert (nobodys.end.errno, nobodys.end.chunk) == (1242, None)
        missing = await agent.ask(
            merged(f"SELECT COUNT(*), {SLOW} FROM u_# AS t", [*range(80), 999, *range(80, 100)])
        )
        assert (missing.end.errno, missing.end.chunk, missing.end.retry) == (1146, 999, True)
        assert total(await agent.ask(merged("SELECT COUNT(*) FROM u_# AS t"))) == 2 * MANY


async def test_warnings_are_counted_and_told(tables):
    async with LocalAgent(tables, slots=1) as agent:
        link = await agent.link()
        await link.send(merged(f"SELECT SUM(CAST(b AS SIGNED)), {SLOW} FROM u_# AS t"))
        warnings, notes = 0, []
        while not isinstance((header := (await link.receive())[0]), frames.JobEnd):
            if isinstance(header, frames.BatchEnd):
                warnings += header.warnings
                notes += header.notes
        assert warnings == 2 * MANY
        assert {note.code for note in notes} == {1292}
        assert {note.message for note in notes} == {f"Truncated incorrect INTEGER value: '{b}'" for b in "xy"}
        await joint(agent, MANY / 2)
        link.abort()


async def test_a_cancel_ends_the_statement_over_many(tables):
    sql = "SELECT SUM(IF(a > 50, SLEEP(1000), SLEEP(0.002))) FROM u_# AS t /* torpid */"
    async with LocalAgent(tables, slots=1) as agent:
        link = await agent.link()
        await link.send(merged(sql))
        await until_running(tables, "FROM u_united ", 1)
        await link.send(frames.Cancel())
        assert (await collect(link)).end.errno == 1317

        async def idle() -> bool:
            return not agent.agent.scheduler.running and not await running(tables, "torpid")

        await until(idle, 10)


async def test_a_server_without_the_engine_says_no_more_than_a_warning(tables):
    """It makes a table of another engine, which has no rows."""
    async with asking(tables) as connection:
        await connection.run("USE ag")
        await connection.run("SET sql_mode=''")
        union = Union.of(merged("SELECT COUNT(*) FROM u_#"), range(3))
        await union.begin(connection)
        assert await connection.fetch(union.main) == [[b"6"]]
        await connection.run(union.drop)
        lacking = Union(
            (union.make[0], union.make[1].replace(b"MERGE UNION", b"nowhere UNION")), union.main, union.drop
        )
        with pytest.raises(ServerError) as refused:
            await lacking.begin(connection)
        assert refused.value.errno == 1286
