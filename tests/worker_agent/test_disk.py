"""What a worker's server has written is on disk before somebody counts on it."""

import asyncio
import errno
import threading

import pytest

from shard.errors import ServerError
from shard.wire import frames
from tests.support.agents import LocalAgent, until
from worker_agent import disk


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
        first = asyncio.create_task(shared.settle())

        async def runs():
            return begun

        await until(runs, 10, pause=0.01)
        others = [asyncio.create_task(shared.settle()) for _ in range(5)]
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
        await agent.pool.settle([7])


def test_a_directory_that_cannot_be_opened_is_synced_with_all_others(tmp_path, monkeypatch):
    everything = []
    monkeypatch.setattr(disk.os, "sync", lambda: everything.append(True))
    disk.sync(tmp_path)
    assert everything == []
    disk.sync(tmp_path / "nowhere")
    assert everything == [True]
