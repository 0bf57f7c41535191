"""The dispatch core: events in, instructions out; no socket, clock or randomness.

It knows which chunks are planned, which job has which, and which batches' rows may go on. Rows of a
batch are held until its end has come; past `commit_bytes` a batch streams, and after that the loss of
its worker fails the query. Every planned chunk is answered exactly once or the query fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec


class StartJob(msgspec.Struct, frozen=True):
    """Send a job with these chunks to a worker."""

    job: int
    worker: int
    chunks: tuple[int, ...]


class Hold(msgspec.Struct, frozen=True):
    """Keep the rows until their batch ends."""


class Forward(msgspec.Struct, frozen=True):
    """Rows may go on: those held of this batch, then these."""

    job: int
    batch: int


class Discard(msgspec.Struct, frozen=True):
    """Forget what is held of a job; its chunks run again elsewhere."""

    job: int


class Finish(msgspec.Struct, frozen=True):
    """All chunks are answered."""


class Fail(msgspec.Struct, frozen=True):
    """The query fails: ``lost`` (rows were already sent), ``down`` (no replica left) or ``protocol``."""

    reason: str
    worker: int


Instruction = StartJob | Hold | Forward | Discard | Finish | Fail


@dataclass(slots=True)
class _Job:
    worker: int
    outstanding: set[int]
    streaming: set[int] = field(default_factory=set)
    held: dict[int, int] = field(default_factory=dict)
    over: bool = False


class DispatchCore:
    """One query's chunks.

    Parameters
    ----------
    placement : mapping
        Chunk → workers that hold it, best first.
    commit_bytes : int
        Bytes of one batch past which it streams.
    """

    def __init__(self, placement: Mapping[int, tuple[int, ...]], commit_bytes: int) -> None:
        self._placement = placement
        self._commit = commit_bytes
        self._left = set(placement)
        self._jobs: dict[int, _Job] = {}
        self._failed: set[int] = set()
        self._next = 0
        self.done = 0

    def start(self) -> list[Instruction]:
        """Return the first jobs, one a worker."""
        if not self._left:
            return [Finish()]
        return self._assign(sorted(self._left))

    def _assign(self, chunks: list[int]) -> list[Instruction]:
        """Give chunks to live replicas, evenly."""
        shares: dict[int, list[int]] = {}
        for chunk in chunks:
            live = [worker for worker in self._placement[chunk] if worker not in self._failed]
            if not live:
                return [Fail("down", self._placement[chunk][0] if self._placement[chunk] else -1)]
            best = min(live, key=lambda worker: len(shares.get(worker, ())))
            shares.setdefault(best, []).append(chunk)
        out: list[Instruction] = []
        for worker, share in sorted(shares.items()):
            self._next += 1
            self._jobs[self._next] = _Job(worker, set(share))
            out.append(StartJob(self._next, worker, tuple(share)))
        return out

    def rows(self, job: int, batch: int, size: int, must_stream: bool = False) -> Instruction:
        """Rows of a batch came: hold or forward them."""
        state = self._jobs[job]
        if batch in state.streaming:
            return Forward(job, batch)
        state.held[batch] = state.held.get(batch, 0) + size
        if must_stream or state.held[batch] > self._commit:
            state.streaming.add(batch)
            return Forward(job, batch)
        return Hold()

    def batch_end(self, job: int, batch: int, chunks: tuple[int, ...]) -> list[Instruction]:
        """All rows of these chunks have come."""
        state = self._jobs[job]
        if not chunks or len(set(chunks)) != len(chunks) or not set(chunks) <= state.outstanding:
            return [Fail("protocol", state.worker)]
        state.outstanding -= set(chunks)
        self._left -= set(chunks)
        self.done += len(chunks)
        state.streaming.discard(batch)
        state.held.pop(batch, None)
        return [Forward(job, batch)]

    def job_limited(self, job: int) -> list[Instruction]:
        """A job has sent as many rows as the query wants: they may go on, whatever their batch."""
        state = self._jobs[job]
        state.over = True
        held, state.held = list(state.held), {}
        return [Forward(job, batch) for batch in held]

    def job_end(self, job: int) -> list[Instruction]:
        """A job says that it is done."""
        state = self._jobs[job]
        state.over = True
        if state.outstanding or state.held:
            return [Fail("protocol", state.worker)]
        return [] if self._left else [Finish()]

    def job_lost(self, job: int) -> list[Instruction]:
        """A job's worker was lost, or said that another replica may succeed."""
        state = self._jobs[job]
        if state.over:
            return []
        state.over = True
        self._failed.add(state.worker)
        if state.streaming:
            return [Fail("lost", state.worker)]
        again = sorted(state.outstanding)
        state.outstanding = set()
        if not again:
            return [Discard(job)] if self._left else [Discard(job), Finish()]
        assigned = self._assign(again)
        if isinstance(assigned[0], Fail):
            return [Fail("down", state.worker)]
        return [Discard(job), *assigned]
