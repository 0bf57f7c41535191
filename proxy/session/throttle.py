"""Slows down guessing of passwords: failed logins use up an allowance that comes back with time.

The failures are counted in memory that the processes of one proxy share, so that a guesser whom the kernel
deals from one process to the next has no more guesses than at one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator

ACCOUNT_FAILURES, ACCOUNT_BACK_S = 10, 6.0
"""Failures an address has for one account, and the seconds after which one comes back."""

ADDRESS_FAILURES, ADDRESS_BACK_S = 100, 0.6
"""The same for all accounts together."""

_LONGEST_S = max(ACCOUNT_FAILURES * ACCOUNT_BACK_S, ADDRESS_FAILURES * ADDRESS_BACK_S)
"""Seconds after which all failures have come back."""
_SETS, _WAYS = 1024, 8
_NEWEST = struct.Struct("<d")
_ENTRY = struct.Struct("<Qdd")
_ROW = struct.Struct("<" + "Qdd" * _WAYS)


class Failures:
    """A table in shared memory: key → failures that are used up, and when that was reckoned.

    It has a fixed number of entries: a new one takes the place of the least recent of eight. Which eight a key
    belongs to depends on a secret of this table, so that nobody can choose names that push others out. Changes
    are made under a lock of the file beneath the memory, which the kernel gives back if its holder dies.
    """

    CAPACITY = _SETS * _WAYS

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            file.truncate(_NEWEST.size + _SETS * _ROW.size)
            self._file = os.dup(file.fileno())
        self._memory = mmap.mmap(self._file, _NEWEST.size + _SETS * _ROW.size)
        self._secret = os.urandom(16)

    def _place(self, key: str) -> tuple[int, int]:
        """Return a key's number, which is never 0, and where its eight entries begin."""
        digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=16, key=self._secret).digest()
        number = int.from_bytes(digest[:8], "little") | 1
        return number, int.from_bytes(digest[8:], "little") % _SETS * _ROW.size + _NEWEST.size

    def get(self, key: str) -> tuple[float, float]:
        """Return (failures used up, the time of that)."""
        number, start = self._place(key)
        entries = _ROW.unpack_from(self._memory, start)
        for way in range(0, len(entries), 3):
            if entries[way] == number:
                return entries[way + 1], entries[way + 2]
        return 0.0, 0.0

    @property
    def newest(self) -> float:
        """The time of the last failure."""
        return float(_NEWEST.unpack_from(self._memory, 0)[0])

    def set(self, key: str, used: float, at: float) -> None:
        """Note failures; only while `locked`."""
        number, start = self._place(key)
        entries = _ROW.unpack_from(self._memory, start)
        ways = range(0, len(entries), 3)
        way = next((way for way in ways if entries[way] == number), None)
        if way is None:
            way = min(ways, key=lambda way: (entries[way] != 0, entries[way + 2]))
        _ENTRY.pack_into(self._memory, start + way // 3 * _ENTRY.size, number, used, at)
        _NEWEST.pack_into(self._memory, 0, max(at, self.newest))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing anything."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


class LoginThrottle:
    """Counts failed logins by client address, and by address and account.

    Parameters
    ----------
    failures : Failures or None
        The table that processes share; None: one of this process's own.
    clock : callable
        Seconds that only go forward, and are the same in all processes.
    """

    def __init__(self, failures: Failures | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = Failures() if failures is None else failures
        self._clock = clock

    def _buckets(self, address: str, user: str) -> list[tuple[str, int, float]]:
        # a letter in front of an account's key, and a separator: none is the key of a whole address
        return [
            (f"u{address}\0{user}", ACCOUNT_FAILURES, ACCOUNT_BACK_S),
            (f"a{address}", ADDRESS_FAILURES, ADDRESS_BACK_S),
        ]

    def _level(self, key: str, back: float) -> float:
        used, at = self._failures.get(key)
        return max(0.0, used - (self._clock() - at) / back)

    def wait(self, address: str, user: str) -> float:
        """Return the seconds until another login may be tried; 0 is now."""
        if self._clock() - self._failures.newest > _LONGEST_S:
            return 0.0
        waits = [
            (self._level(key, back) + 1 - allowed) * back
            for key, allowed, back in self._buckets(address, user)
        ]
        return max(0.0, *waits)

    def failed(self, address: str, user: str) -> None:
        """Note a failed login."""
        with self._failures.locked():
            for key, _, back in self._buckets(address, user):
                self._failures.set(key, self._level(key, back) + 1, self._clock())

    def succeeded(self, address: str, user: str) -> None:
        """Forget an account's failures."""
        if self._clock() - self._failures.newest > _LONGEST_S:
            return
        key = f"u{address}\0{user}"
        if self._failures.get(key)[0]:
            with self._failures.locked():
                self._failures.set(key, 0.0, 0.0)
