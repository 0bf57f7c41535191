"""Who waits for a slot: users in turn, whatever each of them asks for."""

import asyncio
import contextlib

import pytest

from proxy.execute.admission import Admission, Lane
from shard.errors import SkyError


class Crowd:
    """Queries that hold a slot until they are told to end."""

    def __init__(self, lane):
        self.lane, self.began, self.tasks, self.ends = lane, [], {}, {}

    async def ask(self, name):
        user = name[0]
        self.ends[name] = asyncio.Event()

        async def query():
            async with self.lane.slot(user):
                self.began.append(name)
                await self.ends[name].wait()

        self.tasks[name] = asyncio.create_task(query())
        await asyncio.sleep(0)

    async def end(self, name):
        self.ends[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)

    async def cancel(self, name):
        self.tasks[name].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.tasks[name]
        await asyncio.sleep(0)


async def test_users_take_turns():
    crowd = Crowd(Lane(2, 0, 0))
    for name in ("a1", "a2", "a3", "a4", "b1", "c1", "b2"):
        await crowd.ask(name)
    assert crowd.began == ["a1", "a2"]
    for name in ("a1", "a2", "b1", "c1", "a3", "b2", "a4"):
        await crowd.end(name)
    assert crowd.began == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]
    assert (crowd.lane.running, crowd.lane.waiting, crowd.lane.users) == (0, 0, 0)


async def test_one_user_leaves_room_for_another():
    crowd = Crowd(Lane(4, 3, 0))
    for name in ("a1", "a2", "a3", "a4"):
        await crowd.ask(name)
    assert (crowd.lane.running, crowd.lane.waiting, crowd.lane.users) == (3, 1, 1)
    await crowd.ask("b1")
    assert crowd.began == ["a1", "a2", "a3", "b1"]
    for name in ("a1", "b1", "a2", "a3", "a4"):
        await crowd.end(name)
    assert crowd.began[-1] == "a4"


async def test_who_gives_up_takes_no_slot():
    crowd = Crowd(Lane(1, 0, 0))
    for name in ("a1", "b1", "c1"):
        await crowd.ask(name)
    await crowd.cancel("b1")
    crowd.ends["a1"].set()
    await crowd.tasks["a1"]
    await crowd.cancel("c1")  # which has just been given the slot
    assert (crowd.lane.running, crowd.lane.waiting) == (0, 0)
    await crowd.ask("d1")
    assert crowd.began[-1] == "d1"
    await crowd.end("d1")


async def test_not_too_many_wait():
    crowd = Crowd(Lane(1, 0, 2))
    for name in ("a1", "a2", "a3", "b1"):
        await crowd.ask(name)
    with pytest.raises(SkyError, match=r"admission\.waiting_per_user") as caught:
        async with crowd.lane.slot("a"):
            raise AssertionError("it was let in")
    assert caught.value.errno == 1226
    for name in ("a1", "b1", "a2", "a3"):
        await crowd.end(name)


def test_processes_share_it():
    whole = Admission(scans=10, scans_per_user=3, interactive=0, interactive_per_user=0, waiting_per_user=8)
    assert whole.share(4) == Admission(3, 1, 0, 0, 2)
