"""Where the rows of a transaction go: to the workers that have their chunks already, if they answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shard.catalog.placement import Placement
from shard.errors import WORKER_DOWN, SkyError
from skyshard.errors import UserError


class Held(Placement):
    """Where the rows of a transaction go: to all copies of their chunks, new chunks as in any ingest.

    Parameters
    ----------
    active : sequence of int
        Workers that get new chunks. A chunk belongs to the same ones whoever of them is away, so that what is loaded of it
        at several times is together; only if all of these are away, others get it.
    holders : mapping
        Chunk → workers that have it.
    there : set of int
        Workers that answer; copies of others are made by a repair.
    name : callable
        Names a worker.
    """

    def __init__(
        self,
        active: Sequence[int],
        replicas: int,
        holders: Mapping[int, tuple[int, ...]],
        there: set[int],
        name: Callable[[int], str],
    ) -> None:
        fit = [worker for worker in active if worker in there]
        if not fit:
            raise SkyError(WORKER_DOWN, worker=name(active[0]) if active else "that is active")
        super().__init__(fit, replicas)
        self._all = Placement(active, replicas)
        self._holders, self._there, self._name = holders, there, name
        self.workers = sorted({*fit, *(one for ids in holders.values() for one in ids if one in there)})
        self._active = Placement(fit, replicas)

    def of(self, chunk: int) -> list[int]:
        """Return the workers that get a chunk's rows."""
        if chunk not in self._holders:
            own = [worker for worker in self._all.of(chunk) if worker in self._there]
            return own or self._active.of(chunk)
        held = self._holders[chunk]
        if not held:
            raise UserError(f"nobody has chunk {chunk}; run skyshard repair")
        if not (fit := [worker for worker in held if worker in self._there]):
            raise SkyError(WORKER_DOWN, worker=self._name(held[0]))
        return fit
