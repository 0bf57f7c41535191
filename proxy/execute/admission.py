"""Who may run a distributed query now, and who waits: users share the slots of a proxy fairly.

Whenever a slot is free it goes to the user who has the fewest, and of several such to the one who has waited longest,
so that one user's fifty scans are as much in the way of another's one as a single one would be.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from shard.errors import USER_LIMIT, SkyError


class Admission(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How many distributed queries run at once in a proxy, its processes together; 0 is any number.

    Attributes
    ----------
    scans, scans_per_user : int
        Queries of the scan lane: of all users, and of one.
    interactive, interactive_per_user : int
        Queries of few chunks, but for look-ups by key of a known shape, which never wait.
    waiting_per_user : int
        Queries of one user that wait in a lane; further ones are refused.
    """

    scans: int = 64
    scans_per_user: int = 24
    interactive: int = 256
    interactive_per_user: int = 128
    waiting_per_user: int = 1000

    def share(self, processes: int) -> Admission:
        """Return what one of several processes has of it."""

        def part(number: int) -> int:
            return -(-number // processes)

        return Admission(
            part(self.scans),
            part(self.scans_per_user),
            part(self.interactive),
            part(self.interactive_per_user),
            part(self.waiting_per_user),
        )


class Lane:
    """The slots of one lane.

    Parameters
    ----------
    most, per_user : int
        Queries that run at once, of all users and of one; 0 is any number.
    waiting_per_user : int
        Queries of one user that wait; 0 is any number.
    """

    def __init__(self, most: int, per_user: int, waiting_per_user: int) -> None:
        self._most, self._per_user, self._most_waiting = most, per_user, waiting_per_user
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._served: dict[str, int] = {}
        self._count = 0
        self.running = 0

    @property
    def waiting(self) -> int:
        """Queries that wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def users(self) -> int:
        """Users whose queries wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def slot(self, user: str) -> AsyncIterator[None]:
        """Hold a slot, once it is the user's turn.

        Raises
        ------
        SkyError
            USER_LIMIT, if too many of the user's queries wait.
        """
        await self._enter(user)
        try:
            yield
        finally:
            self._leave(user)

    async def _enter(self, user: str) -> None:
        if user not in self._waiting and self._may(user):  # else those who wait could all not run either
            self._take(user)
            return
        queue = self._waiting.setdefault(user, deque())
        if self._most_waiting and len(queue) >= self._most_waiting:
            raise SkyError(USER_LIMIT, user=user, resource="admission.waiting_per_user", value=len(queue))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given a slot at this moment
                self._leave(user)
            else:
                queue.remove(turn)
                if not queue:
                    del self._waiting[user]
            raise

    def _may(self, user: str) -> bool:
        if self._most and self.running >= self._most:
            return False
        return not self._per_user or self._running[user] < self._per_user

    def _take(self, user: str) -> None:
        self._count += 1
        self.running += 1
        self._running[user] += 1
        self._served[user] = self._count

    def _leave(self, user: str) -> None:
        self.running -= 1
        self._running[user] -= 1
        if not self._running[user]:
            del self._running[user]
            if user not in self._waiting:
                del self._served[user]
        while ready := [one for one in self._waiting if self._may(one)]:
            following = min(ready, key=lambda one: (self._running[one], self._served.get(one, 0)))
            queue = self._waiting[following]
            turn = queue.popleft()
            if not queue:
                del self._waiting[following]
            self._take(following)
            turn.set_result(None)


class Admissions:
    """Both lanes of a process."""

    def __init__(self, limits: Admission) -> None:
        self.scans = Lane(limits.scans, limits.scans_per_user, limits.waiting_per_user)
        self.interactive = Lane(limits.interactive, limits.interactive_per_user, limits.waiting_per_user)
