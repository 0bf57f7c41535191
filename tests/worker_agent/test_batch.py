"""Small chunks that are run together: what is told of each, errors, cancels, limits, warnings, long rows."""

import asyncio

import msgspec
import pytest

from backend.connection import RawConnection
from shard.wire import frames
from shard.wire import rows as packets
from tests.support.agents import LocalAgent, asking, collect, job, running, until, until_running

MANY = 400


async def fill(address):
    connection = await RawConnection.open(address)
    for chunk in range(MANY):
        await connection.run(f"CREATE TABLE ag.s_{chunk} (a INT, b VARCHAR(20)) ENGINE=MyISAM")
        await connection.run(f"INSERT INTO ag.s_{chunk} VALUES ({chunk}, 'x'), (NULL, 'y')")
    await connection.close()


@pytest.fixture(scope="module")
def small(chunks):
    """Chunk tables ag.s_0 … with two rows each."""
    asyncio.run(fill(chunks.address))
    return chunks


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("interactive", [False, True])
async def test_small_chunks_share_batches_and_are_told_once_each(small, binary, interactive):
    async with LocalAgent(small, slots=2) as agent, agent.pool.lease(7) as link:
        await link.send(job("SELECT a, b FROM s_#", [*range(MANY)], interactive=interactive, binary=binary))
        seen, batches, rows = [], [], 0
        while True:
            header, _ = await link.receive()
            if isinstance(header, frames.BatchEnd):
                batches.append(len(header.chunks))
                seen += header.chunks
                rows += header.rows
            elif isinstance(header, frames.JobEnd):
                break
        assert sorted(seen) == [*range(MANY)]
        assert rows == 2 * MANY
        assert max(batches) > 10
        answer = await agent.ask(job("SELECT a, b FROM s_#", [*range(MANY)], interactive=interactive))
        found = sorted(answer.all_rows, key=lambda row: (row[0] is None, int(row[0] or 0)))
        assert found == [[b"%d" % n, b"x"] for n in range(MANY)] + [[None, b"y"]] * MANY
        after = await agent.ask(job("SELECT COUNT(*) FROM t_#", [1], interactive=interactive))
        assert after.all_rows == [[b"100"]]


async def test_statements_before_and_after_belong_to_their_chunk(small):
    number = frames.Parameter(8, False, (5).to_bytes(8, "little"))
    asked = job("SELECT SUM(a) FROM near_#", [*range(MANY)], interactive=False, parameters=(number,))
    asked = frames.Job(
        **{name: getattr(asked, name) for name in asked.__struct_fields__}
        | {
            "setup": (frames.Template((b"CREATE TEMPORARY TABLE near_", b" SELECT a + ? AS a FROM s_", b""), (0,)),),
            "teardown": (frames.Template((b"DROP TEMPORARY TABLE near_", b"")),),
        }
    )  # fmt: skip
    async with LocalAgent(small, slots=2) as agent:
        answer = await agent.ask(asked)
        assert sorted(int(row[0]) for row in answer.all_rows) == [n + 5 for n in range(MANY)]
        answer = await agent.ask(asked)  # nothing is left behind
        assert len(answer.all_rows) == MANY


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("many", [range(200, 240), range(MANY)])
async def test_tables_that_memory_does_not_hold_are_made_on_disk(small, binary, many):
    """Most chunks have two rows here, which fit; those from 230 to 232 have a hundred."""
    rows = b" SELECT a, CAST('x' AS CHAR(400)) AS wide FROM s_"
    more = b" JOIN (SELECT seq FROM seq_1_to_100) AS s WHERE seq = 1 OR "
    setup = (
        frames.Template((b"CREATE TEMPORARY TABLE near_", b" AS" + rows, b"")),
        frames.Template((b"INSERT INTO near_", rows, more, b" BETWEEN 230 AND 232")),
    )
    fields = {"setup": setup, "teardown": (frames.Template((b"DROP TEMPORARY TABLE near_", b"")),)}
    settings = {"max_heap_table_size": "32768"}
    asked = job(
        "SELECT COUNT(*), # FROM near_#", [*many], interactive=False, binary=binary, settings=settings
    )
    asked = msgspec.structs.replace(asked, **fields)
    memory = msgspec.structs.replace(asked, settings=settings | {frames.ENGINE_SETTING: frames.IN_MEMORY})
    async with LocalAgent(small, slots=2) as agent:
        only_memory = tuple(
            msgspec.structs.replace(one, segments=(b"SET STATEMENT default_tmp_storage_engine=MEMORY FOR " + one.segments[0], *one.segments[1:]))
            for one in setup
        )  # fmt: skip
        answer = await agent.ask(msgspec.structs.replace(asked, setup=only_memory), raw=binary)
        assert answer.end.errno == 1114
        for _ in range(2):
            answer = await agent.ask(memory, raw=binary)
            assert sorted(answer.chunks) == [*many]
            if binary:
                assert sum(map(packets.count, answer.all_rows)) == len(many)
            else:
                expected = {n: 202 if 230 <= n <= 232 else 4 for n in many}
                assert {int(row[1]): int(row[0]) for row in answer.all_rows} == expected
        assert (await agent.ask(job("SELECT @@default_tmp_storage_engine FROM s_#", [7]))).all_rows == [
            [None]
        ] * 2


async def test_an_error_in_one_chunk_of_a_batch_names_it(small):
    async with LocalAgent(small, slots=1) as agent:
        sql = "SELECT a, IF(a = 333, (SELECT 1 UNION SELECT 2), 0) FROM s_#"
        answer = await agent.ask(job(sql, [*range(MANY)], interactive=False))
        assert (answer.end.errno, answer.end.chunk, answer.end.retry) == (1242, 333, False)
        assert 333 not in answer.chunks
        answer = await agent.ask(job("SELECT a FROM s_#", [*range(300), MANY, *range(300, 320)]))
        assert (answer.end.errno, answer.end.chunk, answer.end.retry) == (1146, MANY, True)
        assert (await agent.ask(job("SELECT a FROM s_#", [7]))).all_rows == [[b"7"], [None]]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("how", ["cancel", "leave"])
async def test_a_cancel_in_the_middle_of_a_batch_ends_all_of_it(small, how, binary):
    """Every chunk sleeps but those that make the batches wide: what was sent already must not run."""
    sql = "SELECT a, IF(a > 100, SLEEP(1000), 0) FROM s_# /* drowsy */"
    async with LocalAgent(small, slots=1) as agent:
        link = await agent.link()
        await link.send(job(sql, [*range(MANY)], interactive=False, binary=binary))
        await until_running(small, "SLEEP(1000), 0) FROM s_101 ", 1)
        if how == "cancel":
            await link.send(frames.Cancel())
            answer = await collect(link, raw=binary)
            assert answer.end.errno == 1317
        else:
            link.abort()

        async def idle() -> bool:
            return not agent.agent.scheduler.running and not await running(small, "drowsy")

        await until(idle, 10)


async def test_a_row_limit_ends_the_job_before_most_chunks_are_asked(small):
    async with LocalAgent(small, slots=2) as agent:
        async with asking(small) as connection:
            before = await connection.fetch("SHOW GLOBAL STATUS LIKE 'Com_select'")
            answer = await agent.ask(job("SELECT a FROM s_#", [*range(MANY)], row_limit=3, interactive=False))
            after = await connection.fetch("SHOW GLOBAL STATUS LIKE 'Com_select'")
        assert answer.end == frames.JobEnd(limited=True)
        assert len(answer.all_rows) >= 3
        assert int(after[0][1]) - int(before[0][1]) < 40


async def test_warnings_of_all_chunks_are_counted_and_some_are_told(small):
    async with LocalAgent(small, slots=1) as agent, agent.pool.lease(7) as link:
        await link.send(job("SELECT CAST(CONCAT(b, a) AS INT) FROM s_#", [*range(MANY)], interactive=False))
        notes, count, rows = [], 0, 0
        while not isinstance(header := (await link.receive())[0], frames.JobEnd):
            if isinstance(header, frames.BatchEnd):
                notes, count, rows = [*notes, *header.notes], count + header.warnings, rows + header.rows
        assert (count, rows) == (MANY, 2 * MANY)
        texts = {note.message for note in notes}
        assert texts == {f"Truncated incorrect INTEGER value: 'x{n}'" for n in range(64)}


async def test_long_rows_among_small_ones(small):
    sql = "SELECT IF(a IN (250, 251), REPEAT('z', 17000000 + a), b) FROM s_# WHERE a IS NOT NULL"
    async with LocalAgent(small, slots=1) as agent, agent.pool.lease(7) as link:
        await link.send(job(sql, [*range(MANY)], interactive=False))
        size = rows = 0
        while not isinstance((found := await link.receive())[0], frames.JobEnd):
            header, body = found
            if isinstance(header, frames.Rows):
                size, rows = size + len(body), rows + header.rows
        assert rows == MANY
        assert size == (MANY - 2) * 6 + 2 * (8 + 9 + 17_000_000) + 501
