"""Which workers get a chunk: the same ones for all tables of a database, and copies far apart."""

from __future__ import annotations

from collections.abc import Iterable

_FIRST, _OTHERS = 2654435761, 40503
"""Odd multipliers (Knuth's 32-bit and 16-bit golden ratios): neighbouring chunks get different workers."""


class Placement:
    """Where the chunks of a database are put.

    Parameters
    ----------
    workers : iterable of int
        Active workers.
    replicas : int
        Copies of every chunk; as many as there are workers at most.
    """

    def __init__(self, workers: Iterable[int], replicas: int) -> None:
        self.workers = sorted(workers)
        self.replicas = min(replicas, len(self.workers))

    def of(self, chunk: int) -> list[int]:
        """Return a chunk's workers, as many as it has copies."""
        return self.order(chunk)[: self.replicas]

    def order(self, chunk: int) -> list[int]:
        """Return all workers, those first that a chunk belongs to.

        The chunks that have their first copy on one worker have their second on all others alike, so that its
        loss burdens no single one.

        Examples
        --------
        >>> Placement([1, 2, 3], 2).order(6630)
        [1, 3, 2]
        """
        start = (chunk * _FIRST >> 7) % len(self.workers)
        others = self.workers[start + 1 :] + self.workers[:start]
        turn = (chunk * _OTHERS >> 5) % len(others) if others else 0
        return [self.workers[start], *others[turn:], *others[:turn]]
