"""Which chunk queries run now: a pure core, events in, instructions out.

Interactive jobs take slots first and have some of their own; while a scan waits or runs they leave it one
slot, so that a stream of them cannot hold it up for ever. In each lane users share the slots and their time: the next one
goes to the user who has the fewest, and of several such to the one who has had them for the least time, however many jobs
each has.
Scans of one user wait by chunk number: when a chunk is begun, all waiting scans of that chunk are started next to it,
so that its pages are read once; another user's scans join where the scans are. Scans keep company with those of their
pace only, and the paces of one user share its slots like users: what computes long on a chunk holds up nothing that does
not, and what is done with one at once has read next to nothing that others could share. A job whose chunks are small
takes several at a time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

Key = TypeVar("Key", bound=Hashable)
PACES_S = (0.01, 0.1)
"""Seconds that a chunk takes, from which on a scan is of the next slower pace."""
_STEADY = 2.0
"""A scan is of a quicker pace again only if it is that much quicker than the bound, or it would go to and fro."""


class Start(msgspec.Struct, frozen=True):
    """Start these chunks of this job now; they take one slot together."""

    job: int
    chunks: tuple[int, ...]


class _Scans:
    """The waiting scans of one user that are of one pace.

    Parameters
    ----------
    at : int
        The chunk to begin with, if one waits for it or a later one.
    """

    def __init__(self, at: int) -> None:
        self.waiting: dict[int, deque[int]] = {}  # chunk → jobs
        self._order: list[int] = []  # chunks, ascending; some are gone by now
        self._at, self._first = 0, at

    def add(self, job: int, chunks: Iterable[int]) -> None:
        """Let a job wait for chunks."""
        for chunk in chunks:
            self.waiting.setdefault(chunk, deque()).append(job)
        self._sort(self._order[self._at] if self._at < len(self._order) else self._first)

    def take(self, job: int, chunk: int) -> None:
        """Let a job wait for a chunk no more."""
        jobs = self.waiting[chunk]
        jobs.remove(job)
        if not jobs:
            del self.waiting[chunk]

    def head(self) -> int:
        """Return the chunk that is next: the one that others have just begun, or the first behind it."""
        while True:
            while self._at < len(self._order):
                if self._order[self._at] in self.waiting:
                    return self._order[self._at]
                self._at += 1
            self._sort(-1)

    def _sort(self, head: int) -> None:
        self._order = sorted(self.waiting)
        self._at = bisect_left(self._order, head)
        self._first = -1


@dataclass(slots=True)
class Turns(Generic[Key]):
    """Fair sharing of slots.

    Next is the holder with the fewest running slots; of several such, the one that has been served the fewest
    slot-seconds; of these, the one that waits longest. A newcomer counts as served as much as the holder that was chosen
    last (start-time fair queueing, Goyal et al.
    1996), so that neither newcomers nor those who stay have a claim from before.
    """

    running: Counter[Key] = field(default_factory=Counter)
    """Slots that are taken, by holder."""
    _served: dict[Key, float] = field(default_factory=dict)
    """Seconds of slots that holders have had."""
    _given: dict[Key, int] = field(default_factory=dict)
    _count: int = 0
    _clock: float = 0.0

    def next(self, keys: Iterable[Key]) -> Key:
        """Return whose turn it is."""
        return min(keys, key=self._place)

    def _place(self, key: Key) -> tuple[int, float, int]:
        return self.running[key], self._served.get(key, self._clock), self._given.get(key, 0)

    def give(self, key: Key) -> None:
        """Give a slot."""
        self._count += 1
        self.running[key] += 1
        self._clock = max(self._clock, self._served.setdefault(key, self._clock))
        self._given[key] = self._count

    def take(self, key: Key, seconds: float, waits: bool) -> None:
        """Take a slot back after so many seconds; of one for whom nothing runs or waits nothing is kept."""
        self._served[key] += seconds
        self.move(key, None, 1, waits)

    def move(self, key: Key, to: Key | None, slots: int, waits: bool) -> None:
        """Let slots be another's, or nobody's."""
        self.running[key] -= slots
        if to is not None and slots:
            self.running[to] += slots
            self._served.setdefault(to, self._clock)
        if not self.running[key]:
            del self.running[key]
            if not waits:
                self._served.pop(key, None)
                self._given.pop(key, None)


@dataclass(slots=True)
class Lane:
    """Slots that users share.

    Attributes
    ----------
    running : int
        Those that are taken, those of look-ups that no queue knows included.
    """

    running: int = 0
    turns: Turns[str] = field(default_factory=Turns)

    def give(self, user: str) -> None:
        """Give a slot to a user."""
        self.running += 1
        self.turns.give(user)

    def take(self, user: str, seconds: float, waits: bool) -> None:
        """Take a slot back."""
        self.running -= 1
        self.turns.take(user, seconds, waits)


@dataclass(slots=True)
class Scheduler:
    """Slots and two lanes.

    Parameters
    ----------
    slots : int
        Starts of scans that run at once.
    interactive_slots : int
        Further slots that only interactive jobs may take.

    Attributes
    ----------
    quick_lane, scan_lane : Lane
        The slots that are taken.
    """

    slots: int
    interactive_slots: int
    quick_lane: Lane = field(default_factory=Lane)
    scan_lane: Lane = field(default_factory=Lane)
    _quick: dict[str, deque[int]] = field(default_factory=dict)
    """Waiting interactive jobs by user."""
    _scans: dict[tuple[str, int], _Scans] = field(default_factory=dict)
    """Waiting scans by user and pace."""
    _pace: dict[int, int] = field(default_factory=dict)
    """The paces of jobs; 0, the quickest, until something is known."""
    _active: Counter[int] = field(default_factory=Counter)
    """Starts of scans that run, by job."""
    _paces: dict[str, Turns[int]] = field(default_factory=dict)
    """How the paces of each user share its slots."""
    _at: int = -1
    """The chunk that a scan has begun last."""
    _mine: dict[int, list[int]] = field(default_factory=dict)
    """Waiting chunks by job; those of scans ascend."""
    _width: dict[int, int] = field(default_factory=dict)
    _lane: dict[int, bool] = field(default_factory=dict)
    _user: dict[int, str] = field(default_factory=dict)

    def submit(self, job: int, chunks: Sequence[int], interactive: bool, user: str = "") -> list[Start]:
        """Add a job, or chunks that were removed from it; return what to start."""
        self._lane[job], self._user[job] = interactive, user
        if not chunks:
            return self._fill()
        if interactive:
            self._mine[job] = [*self._mine.get(job, ()), *chunks]
            self._quick.setdefault(user, deque()).append(job)
            return self._fill()
        self._wait(job, chunks)
        return self._fill()

    def _wait(self, job: int, chunks: Sequence[int]) -> None:
        """Let a scan wait for chunks."""
        self._mine[job] = sorted([*self._mine.get(job, ()), *chunks])
        key = self._key(job)
        if key not in self._scans:
            self._scans[key] = _Scans(self._at)
        self._scans[key].add(job, chunks)

    def _key(self, job: int) -> tuple[str, int]:
        return self._user[job], self._pace.get(job, 0)

    def pace(self, job: int, seconds: float) -> None:
        """Note what a chunk of a job takes on average so far."""
        if self._lane.get(job) is not False:
            return
        now, new = self._pace.get(job, 0), bisect_right(PACES_S, seconds)
        if new < now:
            new = min(now, bisect_right(PACES_S, seconds * _STEADY))
        if new == now:
            return
        waiting, user = self._unqueue(job), self._user[job]
        self._pace[job] = new
        if user in self._paces:
            self._paces[user].move(now, new, self._active[job], (user, now) in self._scans)
        if waiting:
            self._wait(job, waiting)

    def widen(self, job: int, width: int) -> None:
        """Let a job take so many chunks at a time."""
        if job in self._lane:
            self._width[job] = width

    def finished(self, job: int, seconds: float = 0.0) -> list[Start]:
        """Note that one start of a job has ended, after so many seconds; return what to start."""
        user = self._user[job]
        if self._lane[job]:
            self.quick_lane.take(user, seconds, user in self._quick)
        else:
            self._active[job] -= 1
            _, pace = key = self._key(job)
            self._paces[user].take(pace, seconds, key in self._scans)
            self.scan_lane.take(user, seconds, any(key in self._scans for key in _keys(user)))
            self._settle(job)
        return self._fill()

    def begin_one(self) -> bool:
        """Take a slot for a look-up that is no job of the queue; return False if it would have to wait."""
        if self._quick or self._scans:
            return False
        total = self.slots + self.interactive_slots
        for_scans = 1 if total > 1 and self.scan_lane.running else 0
        if self.running >= total or self.quick_lane.running >= total - for_scans:
            return False
        self.quick_lane.running += 1
        return True

    def end_one(self) -> list[Start]:
        """Give the slot of a look-up back; return what to start."""
        self.quick_lane.running -= 1
        return self._fill()

    def remove(self, job: int) -> list[int]:
        """Forget the waiting chunks of a job and return them (its running ones still call `finished`)."""
        waiting = self._unqueue(job)
        if waiting:
            self._settle(job)
        return waiting

    def _settle(self, job: int) -> None:
        """Keep nothing of the turns of a user for whom nothing waits any more, where nothing runs either."""
        user = self._user[job]
        if self._lane[job]:
            self.quick_lane.turns.move(user, None, 0, user in self._quick)
            return
        waits = [key for key in _keys(user) if key in self._scans]
        self.scan_lane.turns.move(user, None, 0, bool(waits))
        if user in self._paces:
            _, pace = key = self._key(job)
            self._paces[user].move(pace, None, 0, key in self._scans)
            if not waits and not self._paces[user].running:
                del self._paces[user]

    def _unqueue(self, job: int) -> list[int]:
        waiting = self._mine.pop(job, [])
        if not waiting:
            return waiting
        user = self._user[job]
        if self._lane[job]:
            self._quick[user].remove(job)
            if not self._quick[user]:
                del self._quick[user]
        else:
            for chunk in waiting:
                self._take(job, chunk)
        return waiting

    def forget(self, job: int) -> None:
        """Forget a job of which nothing runs any more."""
        self._lane.pop(job, None)
        self._width.pop(job, None)
        self._mine.pop(job, None)
        self._pace.pop(job, None)
        self._active.pop(job, None)
        self._user.pop(job, None)

    @property
    def running(self) -> int:
        """Starts that run now."""
        return self.quick_lane.running + self.scan_lane.running

    @property
    def queued(self) -> int:
        """Chunk queries that wait."""
        return sum(map(len, self._mine.values()))

    def waiting(self, interactive: bool) -> tuple[int, int]:
        """Return how many chunk queries wait in a lane, and of how many users."""
        chunks = sum(len(mine) for job, mine in self._mine.items() if self._lane[job] is interactive)
        return chunks, len(self._quick if interactive else {user for user, _ in self._scans})

    def _fill(self) -> list[Start]:
        out: list[Start] = []
        total = self.slots + self.interactive_slots
        for_scans = 1 if total > 1 and (self._scans or self.scan_lane.running) else 0
        while self._quick and self.running < total and self.quick_lane.running < total - for_scans:
            out.append(self._quick_start(self.quick_lane.turns.next(self._quick)))
        while self._scans and self.scan_lane.running < self.slots and self.running < total:
            out.append(self._scan_start(self.scan_lane.turns.next({user for user, _ in self._scans})))
        return out

    def _quick_start(self, user: str) -> Start:
        job = self._quick[user][0]
        mine, width = self._mine[job], self._width.get(job, 1)
        chunks, self._mine[job] = tuple(mine[:width]), mine[width:]
        if not self._mine[job]:
            del self._mine[job]
            self._quick[user].popleft()
            if not self._quick[user]:
                del self._quick[user]
        self.quick_lane.give(user)
        return Start(job, chunks)

    def _scan_start(self, user: str) -> Start:
        paces = self._paces.setdefault(user, Turns())
        pace = paces.next(pace for _, pace in _keys(user) if (user, pace) in self._scans)
        scans = self._scans[user, pace]
        self._at = head = scans.head()
        job = scans.waiting[head][0]
        mine = self._mine[job]
        begin = bisect_left(mine, head)
        chunks = tuple(mine[begin : begin + self._width.get(job, 1)])
        del mine[begin : begin + len(chunks)]
        for chunk in chunks:
            self._take(job, chunk)
        if not mine:
            del self._mine[job]
        self._active[job] += 1
        paces.give(pace)
        self.scan_lane.give(user)
        return Start(job, chunks)

    def _take(self, job: int, chunk: int) -> None:
        key = self._key(job)
        self._scans[key].take(job, chunk)
        if not self._scans[key].waiting:
            del self._scans[key]


def _keys(user: str) -> list[tuple[str, int]]:
    """Return the keys of a user's scans of every pace."""
    return [(user, pace) for pace in range(len(PACES_S) + 1)]
