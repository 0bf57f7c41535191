"""The agent over its port, beside a real MariaDB: secrets, jobs, cancels, lanes, loads."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from backend.agent_link import AgentPool, LinkSilent
from shard.errors import ServerError, SkyError
from shard.wire import frames
from tests.support.agents import SECRET, LocalAgent, asking, collect, job, running, until_running
from tests.support.servers import skyshard
from worker_agent.peer import ALIVE_S

HEAVY = "SELECT SUM(x.seq ^ y.seq) FROM mysql.seq_1_to_10000000 x, mysql.seq_1_to_10000000 y /* heavy # */"


async def test_a_wrong_secret_is_refused_and_names_the_worker(chunks):
    async with LocalAgent(chunks) as agent:
        other = AgentPool({7: agent.worker}, b"another secret")
        with pytest.raises(SkyError) as caught:
            await other.get(7)
        assert caught.value.errno == 1429
        assert "worker7" in caught.value.message
        right = await agent.link()
        await right.send(frames.Ping())
        assert (await right.receive())[0] == frames.Pong(True, 0, 0)


async def test_nothing_is_served_before_the_secret(chunks):
    async with LocalAgent(chunks) as agent:
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        writer.writelines(frames.encode(frames.Admin(("SELECT 1",))))
        decoder = frames.FrameDecoder()
        while data := await reader.read(1 << 16):
            decoder.feed(data)
        assert isinstance(decoder.next()[0], frames.Challenge)
        assert decoder.next() is None
        writer.close()


async def test_a_job_is_its_chunks_rows_and_their_ends(chunks):
    async with LocalAgent(chunks, slots=2) as agent:
        answer = await agent.ask(job("SELECT a FROM t_#", [3, 1, 7], interactive=False))
        assert answer.end == frames.JobEnd()
        assert sorted(answer.chunks) == [1, 3, 7]
        assert sorted(int(row[0]) for row in answer.all_rows) == [
            n + 100 * c for c in (1, 3, 7) for n in range(1, 101)
        ]
        assert answer.columns == (frames.ColumnType(3, False, 0, 63),)
        assert (await agent.ask(job("SELECT a FROM t_#", []))).chunks == []
        nothing = await agent.ask(job("SELECT a FROM t_# WHERE a < 0", [1, 2]))
        assert (sorted(nothing.chunks), nothing.all_rows, len(nothing.columns)) == ([1, 2], [], 1)


async def test_settings_variables_setup_and_types(chunks):
    asked = job(
        "SELECT @@time_zone, @v, ? + 1, (SELECT COUNT(*) FROM near_#)",
        [4],
        settings={"time_zone": "'+07:00'"},
        binary=True,
        parameters=(frames.Parameter(8, False, (41).to_bytes(8, "little")),),
    )
    asked = frames.Job(
        **{
            **{name: getattr(asked, name) for name in asked.__struct_fields__},
            "main": frames.Template(asked.main.segments, (0,)),
            "setup": (
                frames.Template((b"SET @v = 12.50",)),
                frames.Template((b"CREATE TEMPORARY TABLE near_", b" SELECT a FROM t_", b"")),
            ),
            "teardown": (frames.Template((b"DROP TEMPORARY TABLE near_", b"")),),
        }
    )
    async with LocalAgent(chunks, slots=1) as agent:
        for _ in range(2):  # the second finds a connection on which nothing is left
            answer = await agent.ask(asked, raw=True)
            assert [column.type for column in answer.columns] == [253, 246, 8, 8]
            (body,) = answer.all_rows
            numbers = (42).to_bytes(8, "little") + (100).to_bytes(8, "little")
            assert body[4:] == b"\0\0" + b"\x06+07:00" + b"\x0512.50" + numbers
        fresh = await agent.ask(job("SELECT @@time_zone, @v", [4]))
        assert fresh.all_rows == [[b"SYSTEM", None]]


async def test_an_error_keeps_its_number_and_the_agent_goes_on(chunks):
    async with LocalAgent(chunks) as agent:
        failed = await agent.ask(job("SELECT nothing FROM t_#", [1, 2]))
        assert (failed.end.errno, failed.end.sqlstate, failed.end.retry) == (1054, "42S22", False)
        missing = await agent.ask(job("SELECT a FROM t_#", [1, 99]))
        assert (missing.end.errno, missing.end.retry) == (1146, True)
        syntax = await agent.ask(job("SELECT FROM # ?", [1], binary=True))
        assert syntax.end.errno == 1064
        wrong = await agent.ask(job("SELECT ? FROM t_#", [1], binary=True))
        assert wrong.end.errno == 1835
        assert len((await agent.ask(job("SELECT a FROM t_#", [1]))).all_rows) == 100
        assert (agent.agent.scheduler.running, agent.agent.scheduler.queued) == (0, 0)


@pytest.mark.parametrize("how", ["cancel", "lost"])
async def test_a_cancel_or_a_lost_connection_kills_what_runs(chunks, how):
    async with LocalAgent(chunks, slots=2, interactive_slots=0) as agent:
        link = await agent.link()
        await link.send(job(HEAVY, [1, 2, 3]))
        await until_running(chunks, "heavy", 2)
        if how == "cancel":
            await link.send(frames.Cancel())
            header, _ = await link.receive()
            assert (header.errno, header.sqlstate) == (1317, "70100")
            await link.send(job("SELECT a FROM t_#", [1]))
            assert len((await collect(link)).all_rows) == 100
        else:
            link.abort()
        await until_running(chunks, "heavy", 0)
        assert len((await agent.ask(job("SELECT a FROM t_#", [1, 2, 3]))).all_rows) == 300
        assert (agent.agent.scheduler.running, agent.agent.scheduler.queued) == (0, 0)


async def test_the_next_job_may_be_sent_as_soon_as_the_end_has_come(chunks):
    """The agent may still be giving connections back; the next job must wait, not cancel or vanish."""
    async with LocalAgent(chunks, slots=4) as agent:
        link = await agent.link()
        async with asyncio.timeout(20):
            for number in range(150):
                limit = 5 if number % 3 == 0 else None
                await link.send(job("SELECT a FROM t_#", [1, 2, 3, 4], row_limit=limit))
                answer = await collect(link)
                assert answer.end == frames.JobEnd(limited=limit is not None), answer.end
                assert limit or len(answer.all_rows) == 400


async def test_two_jobs_sent_at_once_are_answered_in_turn(chunks):
    async with LocalAgent(chunks) as agent:
        link = await agent.link()
        await link.send(job("SELECT a FROM t_#", [1, 2]))
        await link.send(job("SELECT a FROM t_#", [5]))
        async with asyncio.timeout(10):
            assert len((await collect(link)).all_rows) == 200
            assert (await collect(link)).chunks == [5]


async def test_a_limited_job_tells_what_its_rows_came_with(chunks):
    async with LocalAgent(chunks, slots=1) as agent:
        answer = await agent.ask(
            job("SELECT a, CAST('1x' AS SIGNED) FROM t_# LIMIT 7", [1, 2, 3], row_limit=7)
        )
    assert len(answer.all_rows) >= 7
    assert isinstance(answer.end, frames.JobEnd)
    told = answer.warnings + answer.end.warnings
    assert told == len(answer.all_rows)
    assert not answer.end.warnings or "1x" in answer.end.notes[0].message


async def test_a_limit_stops_what_still_runs(chunks):
    async with LocalAgent(chunks, slots=2, interactive_slots=0) as agent:
        text = (
            "SELECT a FROM t_# WHERE a < 201 OR (SELECT SUM(x.seq ^ y.seq) FROM mysql.seq_1_to_10000000 x, "
        )
        text += "mysql.seq_1_to_10000000 y /* heavy */) > 0"
        answer = await agent.ask(job(text, [5, 1, 6], row_limit=30))  # chunk 5 would take for ever
        assert answer.end == frames.JobEnd(limited=True)
        assert len(answer.all_rows) >= 30
        await until_running(chunks, "heavy", 0)


async def test_a_chunk_that_is_slow_holds_up_no_other(chunks):
    async with LocalAgent(chunks, slots=2, interactive_slots=0) as agent, asking(chunks) as other:
        await other.run("LOCK TABLES ag.t_0 WRITE")
        link = await agent.link()
        await link.send(job("SELECT a FROM t_#", list(range(10)), interactive=False))
        seen = []
        async with asyncio.timeout(15):
            while len(seen) < 9:
                header, _ = await link.receive()
                if isinstance(header, frames.BatchEnd):
                    seen += header.chunks
        assert sorted(seen) == list(range(1, 10))
        await other.run("UNLOCK TABLES")
        answer = await collect(link, late=True)
        assert answer.chunks == [0]
        assert len(answer.all_rows) == 100


async def test_lanes_and_scans_of_one_chunk_together(chunks):
    """Scans fill their lane; an interactive job passes them; scans of one chunk run side by side."""
    async with (
        LocalAgent(chunks, slots=2, interactive_slots=1) as agent,
        asking(chunks) as first,
        asking(chunks) as rest,
    ):
        await first.run("LOCK TABLES ag.t_0 WRITE")
        await rest.run("LOCK TABLES ag.t_1 WRITE, ag.t_2 WRITE")
        links = [await agent.link() for _ in range(3)]
        for number, link in enumerate(links):
            await link.send(job(f"SELECT a /* scan{number} */ FROM t_#", [0, 1, 2], interactive=False))
            await until_queued(agent, 3 * number + 1)
        await until_running(chunks, "FROM t_0", 1)
        await until_running(chunks, "FROM t_1", 1)
        assert await running(chunks, "FROM t_2") == 0
        quick = await agent.ask(job("SELECT a FROM t_#", [5]))
        assert len(quick.all_rows) == 100
        await first.run("UNLOCK TABLES")
        await until_running(chunks, "FROM t_1", 2)  # the scan that reads chunk 1 is joined by the next
        await rest.run("UNLOCK TABLES")
        for link in links:
            assert len((await collect(link)).all_rows) == 300


async def until_queued(agent, number):
    async with asyncio.timeout(10):
        while agent.agent.scheduler.queued != number:
            await asyncio.sleep(0)


async def test_many_jobs_at_once(chunks):
    async with LocalAgent(chunks, slots=3, interactive_slots=1) as agent:
        answers = await asyncio.gather(
            *(
                agent.ask(job("SELECT a FROM t_#", list(range(n % 10 + 1)), interactive=bool(n % 2)))
                for n in range(40)
            )
        )
        assert [len(answer.all_rows) for answer in answers] == [100 * (n % 10 + 1) for n in range(40)]
        assert agent.agent.pool.idle <= 64


def files_of(server):
    """Return the directory in which a server may read files."""
    return Path(server.socket).with_name("files")


@pytest.mark.parametrize("by_file", [False, True])
async def test_admin_and_load(chunks, by_file):
    files = files_of(chunks)
    left = files / "skyshard-load-of an agent that was killed"
    left.write_text("1\n")
    async with LocalAgent(chunks, load_dir=str(files) if by_file else None) as agent:
        assert left.exists() != by_file
        rows = await agent.pool.admin(
            7, ["CREATE OR REPLACE TABLE ag.l (n INT PRIMARY KEY, t TEXT)", "SELECT 1, NULL"]
        )
        assert rows == (("1", None),)
        with pytest.raises(ServerError) as caught:
            await agent.pool.admin(7, ["SELECT nothing"])
        assert caught.value.errno == 1054
        begin = frames.LoadBegin(
            database="ag", table="l", columns=("n", "@t"), expressions={"t": "UPPER(@t)"}
        )

        async def text(*pieces):
            for piece in pieces:
                yield piece

        assert await agent.pool.load(7, begin, text(b"1\ta\n2\t", b"\\N\n"), [2]) == 2
        async with asking(chunks) as other:
            assert await other.fetch("SELECT * FROM ag.l ORDER BY n") == [[b"1", b"A"], [b"2", None]]
        for pieces, sent in [
            ((b"2\ta\n",), 1),
            ((b"3\ta\n",), 2),
            ((b"four\ta\n",), 1),
        ]:  # twice, lost, no number
            with pytest.raises(ServerError) as caught:
                await agent.pool.load(7, begin, text(*pieces), [sent])
            assert caught.value.errno == (1062 if by_file and pieces[0][:1] == b"2" else 1366)
        nowhere = frames.LoadBegin(database="ag", table="nowhere", columns=("n",))
        with pytest.raises(ServerError) as caught:
            await agent.pool.load(7, nowhere, text(*[b"1\n" * 100_000] * 20), [2_000_000])
        assert caught.value.errno == 1146
        assert await agent.pool.admin(7, ["SELECT 1"]) == (("1",),)
        left.unlink(missing_ok=True)
        assert not list(files.glob("skyshard-load-*"))


async def test_a_load_by_file_that_breaks_off_loads_nothing(chunks):
    files = files_of(chunks)
    async with LocalAgent(chunks, load_dir=str(files)) as agent:
        await agent.pool.admin(7, ["CREATE OR REPLACE TABLE ag.broken (n INT) ENGINE=MyISAM"])
        link = await agent.link()
        await link.send(frames.LoadBegin(database="ag", table="broken", columns=("n",)))
        await link.send(frames.LoadData(), b"1\n2\n3")
        async with asyncio.timeout(10):
            while not list(files.glob("skyshard-load-*")):
                await asyncio.sleep(0.01)
            link.abort()
            while list(files.glob("skyshard-load-*")):
                await asyncio.sleep(0.01)
        assert await agent.pool.admin(7, ["SELECT COUNT(*) FROM ag.broken"]) == (("0",),)


async def test_a_load_dir_that_cannot_be_written_is_an_error_of_the_load(chunks, tmp_path):
    async with LocalAgent(chunks, load_dir=str(tmp_path / "nowhere")) as agent:

        async def text():
            yield b"1\n"

        begin = frames.LoadBegin(database="ag", table="t_1", columns=("a",))
        with pytest.raises(ServerError, match="load_dir"):
            await agent.pool.load(7, begin, text(), [1])
        assert await agent.pool.admin(7, ["SELECT 1"]) == (("1",),)


async def test_statements_of_a_command_that_is_gone_are_not_run(chunks):
    """Whoever runs the command again must not meet them."""
    async with LocalAgent(chunks) as agent, asking(chunks) as other:
        await other.run("CREATE OR REPLACE TABLE ag.held (n INT) ENGINE=MyISAM")
        await other.run("DROP TABLE IF EXISTS ag.later")
        await other.run("LOCK TABLES ag.held WRITE")
        link = await agent.link()
        await link.send(frames.Admin(("INSERT INTO ag.held VALUES (1)", "CREATE TABLE ag.later (n INT)")))
        await until_running(chunks, "INSERT INTO ag.held", 1)
        link.abort()
        await until_running(chunks, "INSERT INTO ag.held", 0)
        await other.run("UNLOCK TABLES")
        assert await agent.pool.admin(7, ["SELECT COUNT(*) FROM ag.held"]) == (("0",),)
        assert await agent.pool.admin(7, ["SHOW TABLES FROM ag LIKE 'later'"]) == ()


async def test_an_agent_whose_server_hangs_gives_no_sign_of_life(chunks):
    """Whoever waits for a statement goes on without this worker, and does not wait for ever."""
    async with LocalAgent(chunks) as agent:
        link = await agent.link()
        await link.send(frames.Admin(("DO SLEEP(30)",)))
        with pytest.raises(TimeoutError):  # it is not silent while the server works
            await asyncio.wait_for(link.receive(ALIVE_S + 1), 2 * ALIVE_S)
        os.kill(chunks.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(LinkSilent):
                await link.receive(ALIVE_S + 3)
        finally:
            os.kill(chunks.process.pid, signal.SIGCONT)
        link.abort()
        await until_running(chunks, "SLEEP(30)", 0)


async def test_a_load_that_breaks_off_loads_nothing(chunks):
    async with LocalAgent(chunks) as agent:
        await agent.pool.admin(7, ["CREATE OR REPLACE TABLE ag.half (n INT) ENGINE=InnoDB"])
        link = await agent.link()
        await link.send(frames.LoadBegin(database="ag", table="half", columns=("n",)))
        await link.send(frames.LoadData(), b"1\n2\n3")
        await until_running(chunks, "LOAD DATA", 1)
        link.abort()
        await until_running(chunks, "LOAD DATA", 0)
        assert await agent.pool.admin(7, ["SELECT COUNT(*) FROM ag.half"]) == (("0",),)


async def test_a_peer_that_talks_nonsense_is_cut_off(chunks):
    async with LocalAgent(chunks) as agent:
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 8, b"\x03\0\0\0\x01\0\xc1"):
            reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
            writer.write(nonsense)
            async with asyncio.timeout(5):
                while await reader.read(1 << 16):
                    pass
            writer.close()
        assert len((await agent.ask(job("SELECT a FROM t_#", [1]))).all_rows) == 100


async def test_a_worker_that_has_moved_is_asked_where_it_is(chunks):
    """Connections to the old place are not used again."""
    async with LocalAgent(chunks) as old, LocalAgent(chunks, slots=1) as new:
        workers = {7: old.worker}
        pool = AgentPool(workers, SECRET)
        async with pool.lease(7) as link:
            assert link.where == (old.worker.host, old.worker.port)
            workers[7] = new.worker
        async with pool.lease(7) as link:
            assert link.where == (new.worker.host, new.worker.port)
            await link.send(frames.Ping())
            assert (await link.receive())[0] == frames.Pong(True, 0, 0)
        await pool.close()
        await asyncio.sleep(0)  # lets the transports close


async def test_a_port_that_is_taken_is_one_message(chunks, tmp_path):
    (tmp_path / "secret").write_text("a secret of its own")
    async with LocalAgent(chunks) as agent:
        config = tmp_path / "agent.yaml"
        config.write_text(
            f"worker: w\nlisten: 127.0.0.1:{agent.port}\nsecret_file: {tmp_path / 'secret'}\nmariadb: {{socket: none}}\n"
        )
        done = await asyncio.to_thread(skyshard, "agent", "--config", config, check=False)
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr
