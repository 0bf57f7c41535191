"""The dispatch core: events in, instructions out; no socket, clock or randomness.

It knows which chunks are planned, which job has which, and which batches' rows may go on. Rows of a
batch are held until its end has come; until then the loss of its worker is mended by running its chunks on
another replica. Past `commit_bytes` a batch streams, and after that the loss of its worker fails the query.
Every planned chunk is answered exactly once or the query fails.

A worker that cannot be reached is not asked again; one that was lost in the middle of its work is, once, where
nobody else has a chunk; one that lacks a job's chunks is asked for others only. If nobody is left who may be asked
for a chunk, it waits for one of its workers to come back, however many copies it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec


class Failure(Enum):
    """Why a query fails."""

    LOST = auto()  # a worker, after some of its rows had been sent
    DOWN = auto()  # all workers that have some chunk
    PROTOCOL = auto()  # a worker has answered something else than it was asked


class Loss(Enum):
    """Why a job did not come to its end."""

    DOWN = auto()  # its worker cannot be reached, or hangs
    LOST = auto()  # the connection to it ended, or its server did
    LACKING = auto()  # it has not these chunks, or not whole


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


class Abort(msgspec.Struct, frozen=True):
    """Give a job up: `job_lost` is the answer."""

    job: int


class Park(msgspec.Struct, frozen=True):
    """Some chunks have no worker left: `resume` is the answer, once one of these is back, or none after a while."""

    park: int
    workers: tuple[int, ...]


class Finish(msgspec.Struct, frozen=True):
    """All chunks are answered."""


class Fail(msgspec.Struct, frozen=True):
    """The query fails, by the fault of this worker."""

    reason: Failure
    worker: int


Instruction = StartJob | Hold | Forward | Discard | Abort | Park | Finish | Fail

MOST_LOSSES = 2
"""Jobs that a query loses on one worker before it asks it no more."""
_TURNS = 32
"""Parts in which chunks are dealt out whose workers differ."""
MOST_PARKS = 5
"""Times that a chunk waits for a worker to come back."""


@dataclass(slots=True)
class _Job:
    worker: int
    outstanding: set[int]
    streaming: set[int] = field(default_factory=set)
    held: dict[int, int] = field(default_factory=dict)
    over: bool = False
    given_up: bool = False


class DispatchCore:
    """One query's chunks.

    Parameters
    ----------
    placement : mapping
        Chunk → workers that hold it, in no order of preference.
    commit_bytes : int
        Bytes of one batch past which it streams.
    suspects : set of int
        Workers to ask only for chunks that nobody else has.
    bad : set of (int, int)
        (chunk, worker) of copies to ask only if there is no other.
    """

    def __init__(
        self,
        placement: Mapping[int, tuple[int, ...]],
        commit_bytes: int,
        suspects: frozenset[int] = frozenset(),
        bad: Set[tuple[int, int]] = frozenset(),
    ) -> None:
        self._placement = placement
        self._commit = commit_bytes
        self._suspects, self._bad = set(suspects), bad
        self._left = set(placement)
        self._jobs: dict[int, _Job] = {}
        self._losses: dict[int, int] = {}
        self._lacking: set[tuple[int, int]] = set()
        # Chunks that wait together, and whose loss it was.
        self._parked: dict[int, tuple[list[int], int]] = {}
        self._parks = 0
        self._waits: Counter[int] = Counter()
        self._next = 0
        self.done = 0

    def start(self) -> list[Instruction]:
        """Return the first jobs, one a worker."""
        if not self._left:
            return [Finish()]
        return self._assign(sorted(self._left))

    def _assign(self, chunks: list[int]) -> list[Instruction]:
        """Give chunks to replicas, evenly; first to those that nothing is known against.

        Most chunks have their workers in common with many others: they are given out together.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        of_all: dict[tuple[int, ...], tuple[int, ...]] = {}
        odd = {chunk for chunk, _ in (*self._lacking, *self._bad)} if self._lacking or self._bad else ()
        for chunk in chunks:
            holders = self._placement[chunk]
            if chunk in odd:
                workers = self._best(chunk)
            elif (workers := of_all.get(holders, ())) == ():
                workers = of_all[holders] = self._best(chunk)
            if not workers:
                return [Fail(Failure.DOWN, next(iter(holders), -1))]
            groups.setdefault(workers, []).append(chunk)
        shares: dict[int, list[int]] = {worker: [] for workers in groups for worker in workers}
        turns = _TURNS if len(groups) > 1 else 1
        for turn in range(turns):  # one group after the other would leave the last nothing to even out with
            for workers, alike in groups.items():
                _deal(alike[turn::turns], [shares[worker] for worker in workers])
        out: list[Instruction] = []
        for worker, share in sorted(shares.items()):
            if share:
                self._next += 1
                self._jobs[self._next] = _Job(worker, set(share))
                out.append(StartJob(self._next, worker, tuple(sorted(share))))
        return out

    def _best(self, chunk: int) -> tuple[int, ...]:
        """Return the workers that may be asked for a chunk, of whom least is known against."""
        usable = self._usable(chunk)
        doubts = [self._doubt(worker, chunk) for worker in usable]
        return tuple(worker for worker, doubt in zip(usable, doubts, strict=True) if doubt == min(doubts))

    def _usable(self, chunk: int) -> list[int]:
        """Return the workers that may be asked for a chunk."""
        return [
            worker
            for worker in self._placement[chunk]
            if self._losses.get(worker, 0) < MOST_LOSSES and (chunk, worker) not in self._lacking
        ]

    def _doubt(self, worker: int, chunk: int) -> int:
        known = self._losses.get(worker, 0) + (worker in self._suspects)
        return known + (bool(self._bad) and (chunk, worker) in self._bad)

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
            return [Fail(Failure.PROTOCOL, state.worker)]
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
            return [Fail(Failure.PROTOCOL, state.worker)]
        return [] if self._left else [Finish()]

    def job_lost(self, job: int, loss: Loss) -> list[Instruction]:
        """A job will not come to its end: its chunks run on other replicas, if none of its rows have gone on."""
        state = self._jobs[job]
        if state.over:
            return []
        state.over = True
        if state.streaming:
            return [Fail(Failure.LOST, state.worker)]
        if loss is Loss.LACKING:
            self._lacking |= {(chunk, state.worker) for chunk in state.outstanding}
        else:
            self._losses[state.worker] = (
                MOST_LOSSES if loss is Loss.DOWN else self._losses.get(state.worker, 0) + 1
            )
        again = sorted(state.outstanding)
        state.outstanding, state.held = set(), {}
        if not again:  # all of its rows have been given, and stay: only its farewell is lost
            return [] if self._left else [Finish()]
        stuck = [chunk for chunk in again if not self._usable(chunk)]
        if not all(map(self._may_return, stuck)):
            return [Fail(Failure.DOWN, state.worker)]
        waiting = set(stuck)
        out = [Discard(job), *self._assign([chunk for chunk in again if chunk not in waiting])]
        return [*out, self._park(stuck, state.worker)] if stuck else out

    def _may_return(self, chunk: int) -> bool:
        """Whether it helps to wait for a chunk's workers: it has not waited too often, and not all lack it."""
        lacking = all((chunk, worker) in self._lacking for worker in self._placement[chunk])
        return not lacking and self._waits[chunk] < MOST_PARKS

    def _park(self, chunks: list[int], blame: int) -> Park:
        self._parks += 1
        self._parked[self._parks] = chunks, blame
        self._waits.update(chunks)
        holders = {(chunk, worker) for chunk in chunks for worker in self._placement[chunk]} - self._lacking
        return Park(self._parks, tuple(sorted({worker for _, worker in holders})))

    def resume(self, park: int, back: frozenset[int]) -> list[Instruction]:
        """These workers answer again: what waited for them runs there; the rest waits on, unless nobody is back."""
        for worker in back:
            self._losses.pop(worker, None)
            self._suspects.discard(worker)
        chunks, blame = self._parked.pop(park)
        ready = [chunk for chunk in chunks if self._usable(chunk)]
        rest = [chunk for chunk in chunks if not self._usable(chunk)]
        if rest and not (back and all(map(self._may_return, rest))):
            return [Fail(Failure.DOWN, blame)]
        out = self._assign(ready)
        return [*out, self._park(rest, blame)] if rest else out

    def suspected(self, worker: int) -> list[Instruction]:
        """A worker gives no sign of life: jobs there whose chunks others have, and can still take, are given up."""
        if worker in self._suspects:
            return []
        self._suspects.add(worker)
        return self._give_up({worker})

    def returned(self, worker: int) -> list[Instruction]:
        """A worker answers again: what waits at others that do not can go there."""
        if worker not in self._suspects:
            return []
        self._suspects.discard(worker)
        return self._give_up(self._suspects)

    def _give_up(self, workers: Set[int]) -> list[Instruction]:
        out: list[Instruction] = []
        for number, job in self._jobs.items():
            done = job.over or job.given_up or job.streaming
            if job.worker in workers and not done and self._replaceable(job):
                job.given_up = True
                out.append(Abort(number))
        return out

    def _replaceable(self, job: _Job) -> bool:
        return bool(job.outstanding) and all(
            any(self._doubt(other, chunk) == 0 for other in self._usable(chunk)) for chunk in job.outstanding
        )


def _deal(chunks: list[int], shares: list[list[int]]) -> None:
    """Deal chunks out in turn, so that the shares come as near to the same size as they can."""
    if not chunks:
        return
    wanted = sum(map(len, shares)) + len(chunks)
    open_shares = sorted(shares, key=len)
    while len(open_shares[-1]) * len(open_shares) > wanted:  # it has more than enough already
        wanted -= len(open_shares.pop())
    quotas = [wanted // len(open_shares) - len(share) for share in open_shares]
    for index in range(wanted % len(open_shares)):
        quotas[index] += 1
    at = 0
    while at < len(chunks):
        taking = [index for index, quota in enumerate(quotas) if quota]
        turns = min(quotas[index] for index in taking)
        block = chunks[at : at + turns * len(taking)]
        for place, index in enumerate(taking):
            open_shares[index] += block[place :: len(taking)]
            quotas[index] -= turns
        at += len(block)
