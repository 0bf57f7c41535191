"""Which copies of chunks must be made, and which are too many: pure, from who holds what.

A chunk is copied to the active worker that holds least and does not have it. Balancing moves chunks from the
fullest worker to the emptiest, which is a copy and, once that is there, a removal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from shard.catalog.placement import Placement


@dataclass(frozen=True, slots=True)
class Copy:
    """One chunk's copy to be made; `sources` are the workers that have the chunk, best first."""

    chunk: int
    sources: tuple[int, ...]
    target: int


@dataclass(frozen=True, slots=True)
class Repair:
    """What is to be done for one database.

    Attributes
    ----------
    copies : tuple of Copy
        To be made first.
    surplus : tuple of (int, int)
        (chunk, worker) that are too many once all copies have been made.
    lost : tuple of int
        Chunks that nobody who answers has.
    """

    copies: tuple[Copy, ...]
    surplus: tuple[tuple[int, int], ...]
    lost: tuple[int, ...]


def plan(
    holders: Mapping[int, Set[int]], active: Iterable[int], replicas: int, balance: bool = False
) -> Repair:
    """Return what a database needs.

    Parameters
    ----------
    holders : mapping
        Chunk → workers that answer and have it, those that are being emptied too.
    active : iterable of int
        Workers that answer and may get chunks.
    replicas : int
        Wanted copies of every chunk; as many as there are active workers at most.
    balance : bool
        Move chunks, too, until all active workers hold equally many.
    """
    order = Placement(active, replicas)
    fit = set(order.workers)
    have = {chunk: set(ids) & fit for chunk, ids in holders.items()}
    load = {worker: sum(worker in ids for ids in have.values()) for worker in order.workers}
    new: dict[tuple[int, int], Copy] = {}
    lost = []
    for chunk in sorted(holders):
        if not holders[chunk]:
            lost.append(chunk)
            continue
        while len(have[chunk]) < order.replicas:
            free = [worker for worker in order.order(chunk) if worker not in have[chunk]]
            target = min(free, key=lambda worker: load[worker])
            have[chunk].add(target)
            load[target] += 1
            new[chunk, target] = Copy(chunk, _sources(holders[chunk], fit), target)
    surplus = _surplus(have, load, order.replicas)
    if balance and fit:
        _balance(holders, have, load, new, surplus, fit)
    return Repair(tuple(new.values()), tuple(sorted(surplus)), tuple(lost))


def _sources(ids: Set[int], fit: Set[int]) -> tuple[int, ...]:
    """Return the workers to copy a chunk from, best first: those that are being emptied serve fewer queries."""
    return tuple(sorted(ids, key=lambda worker: (worker in fit, worker)))


def _surplus(have: dict[int, set[int]], load: dict[int, int], replicas: int) -> set[tuple[int, int]]:
    """Take copies that are too many from the fullest workers."""
    out = set()
    for chunk in sorted(have):
        while len(have[chunk]) > replicas:
            worker = max(have[chunk], key=lambda one: (load[one], one))
            have[chunk].remove(worker)
            load[worker] -= 1
            out.add((chunk, worker))
    return out


def _balance(
    holders: Mapping[int, Set[int]],
    have: dict[int, set[int]],
    load: dict[int, int],
    new: dict[tuple[int, int], Copy],
    surplus: set[tuple[int, int]],
    fit: Set[int],
) -> None:
    while True:
        full = max(load, key=lambda worker: (load[worker], worker))
        empty = min(load, key=lambda worker: (load[worker], worker))
        movable = [chunk for chunk, ids in sorted(have.items()) if full in ids and empty not in ids]
        if load[full] - load[empty] <= 1 or not movable:
            return
        chunk = movable[0]
        have[chunk] ^= {full, empty}
        load[full], load[empty] = load[full] - 1, load[empty] + 1
        if new.pop((chunk, full), None) is None:
            surplus.add((chunk, full))
        if (chunk, empty) in surplus:
            surplus.remove((chunk, empty))
        else:
            new[chunk, empty] = Copy(chunk, _sources(holders[chunk], fit), empty)
