"""What a command does ends with its connection to the home server, and with nothing else."""

from __future__ import annotations

import asyncio

import pytest

from backend.connection import ConnectionLost, RawConnection
from skyshard.home.watched import watched
from tests.skyshard.home.conftest import Server


async def waiting(own: RawConnection, other: RawConnection) -> None:
    """Wait in a block while somebody else has the server end its connection."""
    async with watched(own):
        await other.run(f"KILL CONNECTION {own.thread_id}")
        await asyncio.Event().wait()


async def test_a_block_ends_when_a_connection_that_nobody_uses_is_lost(
    home: RawConnection, home_server: Server
) -> None:
    own = await home_server.connect()
    with pytest.raises(ConnectionLost, match="the home server has gone"):
        await waiting(own, home)
    with pytest.raises(ConnectionLost, match="has gone"):  # before the block began
        async with watched(own):
            await asyncio.Event().wait()
    await asyncio.sleep(0)  # lets the transport close
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_nobody_looks_while_it_is_there(home: RawConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting costs nothing: the loop has nothing to do until the connection ends."""
    loop, timers = asyncio.get_running_loop(), []
    monkeypatch.setattr(loop, "call_later", lambda *arguments: timers.append(arguments))
    async with watched(home):
        for _ in range(3):
            await asyncio.sleep(0)
    assert timers == []


async def test_other_ends_are_what_they_are(home: RawConnection, home_server: Server) -> None:
    own = await home_server.connect()
    with pytest.raises(ValueError, match="mine"):
        async with watched(own):
            raise ValueError("mine")
    async with watched(own):
        await own.close()  # by the block itself
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), watched(home):
            await asyncio.Event().wait()
    assert not task.cancelling()
