"""What a worker's server has written is on disk before somebody counts on it."""

import asyncio
import errno
import threading

import pytest

from backend.agent_link import AgentPool
from shard.errors import ServerError, SkyError
from shard.wire import frames
from skyshard.ingest.steps import went_away
from tests.support.agents import SECRET, LocalAgent, until
from worker_agent import disk
from worker_agent.config import AgentConfig
from worker_agent.main import main


async def test_callers_share_a_sync_that_begins_after_they_asked(chunks, monkeypatch):
    begun, go = [], threading.Event()

    def held(directory):
        begun.append(directory)
        assert go.wait(10)
        disk_sync(directory)

    disk_sync = disk.sync
    monkeypatch.setattr(disk, "sync", held)
    async with LocalAgent(chunks) as agent:
        shared = disk.Disk(agent.agent.pool)
        first = asyncio.create_task(shared.settle(0))

        async def runs():
            return begun

        await until(runs, 10, pause=0.01)
        others = [asyncio.create_task(shared.settle(0)) for _ in range(5)]
        await asyncio.sleep(0)  # each has come to wait for the first
        go.set()
        assert set(await asyncio.gather(first, *others)) == {frames.Settled()}
    assert len(begun) == 2  # what others wrote meanwhile was not in the first
    assert {path.resolve() for path in begun} == {(chunks.directory / "data").resolve()}


async def test_a_disk_that_fails_is_an_error(chunks, monkeypatch):
    def failing(directory):
        raise OSError(errno.EIO, "Input/output error")

    async with LocalAgent(chunks) as agent:
        with monkeypatch.context() as patch:
            patch.setattr(disk, "sync", failing)
            with pytest.raises(
                ServerError, match=r"worker7 \(id 7\): rows are not on disk: Input/output"
            ) as caught:
                await agent.pool.settle([7])
            assert caught.value.errno == disk.NOT_WRITTEN
        with pytest.raises(ServerError, match="rows are not on disk: Input/output"):
            await agent.pool.settle([7])  # its rows may be among those that were lost
        later = AgentPool({7: agent.worker}, SECRET)
        await later.settle([7])
        await later.close()


async def test_a_failure_that_an_agent_has_forgotten_is_not_taken_for_none(chunks, monkeypatch):
    """The system has told it once, to another command, and the agent that remembered it is no more."""

    def failing(directory):
        raise OSError(errno.EIO, "Input/output error")

    workers = {}
    ours, others = AgentPool(workers, SECRET), AgentPool(workers, SECRET)
    async with LocalAgent(chunks) as agent:
        workers[7] = agent.worker
        await ours.admin(7, ["CREATE OR REPLACE TABLE ag.lost (x INT) ENGINE=MyISAM"])
        with monkeypatch.context() as patch:
            patch.setattr(disk, "sync", failing)
            with pytest.raises(ServerError, match="rows are not on disk"):
                await others.settle([7])
    async with LocalAgent(chunks) as agent:
        workers[7] = agent.worker
        for _ in range(2):  # what of the rows is not there will not come
            with pytest.raises(SkyError, match=r"agent of worker worker7 \(id 7\) has restarted") as caught:
                await ours.settle([7])
            assert went_away(caught.value)  # a load is begun anew
        later = AgentPool(workers, SECRET)
        await later.settle([7])
        for pool in (ours, others, later):
            await pool.close()


async def test_an_agent_may_restart_when_nothing_waits_for_its_disk(chunks):
    workers = {}
    pool = AgentPool(workers, SECRET)
    for _ in range(2):
        async with LocalAgent(chunks) as agent:
            workers[7] = agent.worker
            await pool.settle([7])
            await pool.admin(7, ["CREATE OR REPLACE TABLE ag.kept (x INT) ENGINE=MyISAM", "SELECT 1"])
            await pool.settle([7])
            assert await pool.admin(7, ["SELECT COUNT(*) FROM ag.kept"]) == (("0",),)
    await pool.close()


async def test_all_that_wait_hear_of_a_sync_that_fails(chunks, monkeypatch):
    """The system tells of a failed write once: a second sync would find nothing."""
    begun, go = [], threading.Event()

    def failing_once(directory):
        begun.append(directory)
        assert go.wait(10)
        if len(begun) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, "sync", failing_once)
    async with LocalAgent(chunks) as agent:
        shared = disk.Disk(agent.agent.pool)
        first = asyncio.create_task(shared.settle(shared.failures))

        async def runs():
            return begun

        await until(runs, 10, pause=0.01)
        others = [asyncio.create_task(shared.settle(shared.failures)) for _ in range(3)]
        await asyncio.sleep(0)  # each has come to wait for the first
        go.set()
        answers = await asyncio.gather(first, *others)
        assert {type(answer) for answer in answers} == {frames.Failed}
        assert (
            await shared.settle(shared.failures) == frames.Settled()
        )  # what is written from now on is not lost


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_agent_may_reach_a_server_of_its_machine_by_its_address(tmp_path, host):
    path = tmp_path / "agent.yaml"
    path.write_text(f"mariadb: {{host: '{host}', port: 3306}}")
    assert AgentConfig.load(path).mariadb.host == host


def test_an_agent_is_not_to_vouch_for_another_machines_disk(tmp_path, capsys):
    path = tmp_path / "agent.yaml"
    path.write_text("mariadb: {host: 192.0.2.1, port: 3306}")  # an address for documentation: nobody's
    assert main(str(path)) == 1
    assert "mariadb.host: 192.0.2.1 is another machine" in capsys.readouterr().err


def test_a_directory_that_cannot_be_opened_is_synced_with_all_others(tmp_path, monkeypatch):
    everything = []
    monkeypatch.setattr(disk.os, "sync", lambda: everything.append(True))
    disk.sync(tmp_path)
    assert everything == []
    disk.sync(tmp_path / "nowhere")
    assert everything == [True]
