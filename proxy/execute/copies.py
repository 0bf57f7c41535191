"""Which copies of chunks have turned out to be bad: their table was missing or damaged when a query read it.

They are asked last from then on, so that one query alone pays for finding out. What is known is forgotten with the
next version of the catalogue, which every repair makes, and after a while: somebody may have mended the server.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

FORGET_S = 60.0
"""Seconds after which a bad copy may be tried again."""
MANY = 3
"""Bad copies of a database on one worker after which all that it has of it are taken for bad."""


class Copies:
    """What one proxy knows of bad copies.

    Parameters
    ----------
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._version = -1
        self._found: dict[tuple[str, int, int], float] = {}

    def note(self, database: str, version: int, chunk: int, worker: int) -> None:
        """Remember that a copy is bad, as a query with this version of the catalogue has found."""
        if version < self._version:
            return
        self._renew(version)
        self._found[database, chunk, worker] = self._clock() + FORGET_S

    def bad(
        self, database: str, version: int, placement: Mapping[int, tuple[int, ...]]
    ) -> frozenset[tuple[int, int]]:
        """Return (chunk, worker) of those copies of a placement that are bad."""
        if not self._found:
            return frozenset()
        self._renew(version)
        now = self._clock()
        self._found = {place: until for place, until in self._found.items() if until > now}
        per_worker = Counter(worker for name, _, worker in self._found if name == database)
        return frozenset(
            (chunk, worker)
            for chunk, holders in placement.items()
            for worker in holders
            if per_worker[worker] >= MANY or (database, chunk, worker) in self._found
        )

    def __len__(self) -> int:
        """Return how many are known."""
        return len(self._found)

    def _renew(self, version: int) -> None:
        if version > self._version:
            self._version = version
            self._found.clear()
