"""What the processes of one proxy know together: users' sessions and queries, failed logins, what runs.

It is memory that they share. Of the counts, every process writes its own rows only and reads all, so that nothing is locked and no question is sent. Two
processes that admit somebody at the same instant may pass a limit by one.
"""

from __future__ import annotations

import hashlib
import mmap

import numpy as np

from proxy.running_board import RunningBoard
from proxy.session.throttle import Failures
from shard.errors import TOO_MANY_CONNECTIONS, SkyError

SLOTS = 8192
"""Users that one process has at once."""
_ROW = np.dtype([("user", "<u8"), ("sessions", "<u4"), ("queries", "<u4")])
FIELDS = ("sessions", "queries")


class Board:
    """The table; made before the processes are forked."""

    def __init__(self, processes: int) -> None:
        self._memory = mmap.mmap(-1, processes * SLOTS * _ROW.itemsize)
        self.rows = np.frombuffer(self._memory, dtype=_ROW).reshape(processes, SLOTS)
        self.failures = Failures()
        self.running = RunningBoard(processes)

    def clear(self, number: int) -> None:
        """Forget what a process has counted, which has ended."""
        self.rows[number] = np.zeros((), _ROW)
        self.running.clear(number)

    def share(self, number: int) -> Share:
        """Return a process's view."""
        return Share(self, number)


class Share:
    """The view of one process: its own counts, and the sums of all.

    Attributes
    ----------
    failures : Failures
        Failed logins of all.
    running : RunningShare
        What runs in the others.
    """

    def __init__(self, board: Board, number: int) -> None:
        self._all = board.rows
        self._own = board.rows[number]
        self.failures, self.running = board.failures, board.running.share(number)
        self._slots: dict[str, int] = {}
        self._free = list(range(SLOTS - 1, -1, -1))

    @property
    def processes(self) -> int:
        """How many processes there are."""
        return len(self._all)

    def set(self, field: str, user: str, count: int) -> None:
        """Note how many sessions or queries (see `FIELDS`) a user has in this process."""
        slot = self._slots.get(user)
        if slot is None:
            if not self._free:
                raise SkyError(TOO_MANY_CONNECTIONS)
            slot = self._slots[user] = self._free.pop()
            self._own[slot] = (_key(user), 0, 0)
        self._own[field][slot] = count
        if not self._own["sessions"][slot] and not self._own["queries"][slot]:
            self._own[slot] = (0, 0, 0)
            del self._slots[user]
            self._free.append(slot)

    def total(self, field: str, user: str) -> int:
        """Return how many a user has in all processes."""
        return int(self._all[field][self._all["user"] == _key(user)].sum())


def _key(user: str) -> int:
    """Return a number that stands for a user; 0 is nobody."""
    return (
        int.from_bytes(hashlib.blake2b(user.encode("utf-8", "replace"), digest_size=8).digest(), "little") | 1
    )
