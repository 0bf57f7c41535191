"""A look-up that needs no task: its statement is sent when its job arrives, its answer when the rows arrive.

Two calls of the event loop do it all. Only what is small, quick and without warnings ends that way; whatever
else comes (a long answer, an error, a cancel, a lost peer, or `AFTER_S`) hands the look-up over to the
peer's task, which goes on from there (`server.AgentServer`, `quick`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from backend.connection import ConnectionLost, RawConnection, Small
from shard.wire import frames
from shard.wire.packets import PacketError
from worker_agent.batch import main_text, picked_parameters, typed_small
from worker_agent.quick import QUICK_BYTES, Frame, may_be_quick
from worker_agent.runner import Floor, kill
from worker_agent.warm import Lent

AFTER_S = 0.1
"""Seconds after which the peer's task takes over: more than look-ups take beside a hundred others."""


class Flight:
    """A look-up on its way.

    Parameters
    ----------
    landed : callable
        Called with the answer and the seconds it took.
    adopt : callable
        Called when a task has to go on with it.
    """

    def __init__(
        self,
        floor: Floor,
        job: frames.Job,
        lent: Lent,
        landed: Callable[[Flight, Frame, float], None],
        adopt: Callable[[Flight], None],
    ) -> None:
        self.job, self._floor, self._lent = job, floor, lent
        self._landed, self._adopt = landed, adopt
        self._started = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(AFTER_S, self.hand_over)
        self.connection.wire.first = self._answered

    @property
    def connection(self) -> RawConnection:
        """Where its statement runs."""
        return self._lent.connection

    @staticmethod
    def begin(
        floor: Floor,
        job: frames.Job,
        landed: Callable[[Flight, Frame, float], None],
        adopt: Callable[[Flight], None],
    ) -> Flight | None:
        """Send a job's statement and return the flight; None if the job must take the ordinary way."""
        if not may_be_quick(job):
            return None
        if not floor.scheduler.begin_one():
            return None
        lent = floor.warm.lend(job)
        if lent is None:
            floor.end_one()
            return None
        try:
            lent.connection.begin(
                main_text(job, job.chunks[0]), picked_parameters(job) if job.binary else None
            )
        except ConnectionLost:  # closed while it was idle
            lent.connection.abort()
            floor.end_one()
            return None
        return Flight(floor, job, lent, landed, adopt)

    def _answered(self, data: bytes) -> bool:
        found = frame = None
        try:
            found = self.connection.ended_by(data) if len(data) <= QUICK_BYTES else None
            frame = None if found is None or found.warnings else self._frame(found)
        except (ConnectionLost, PacketError):  # the task finds the same
            pass
        if frame is None:
            if found is not None:
                self.connection.unread()
            self.hand_over()
            return False
        self._stop()
        self._floor.warm.take_back(self._lent)
        self._floor.end_one()
        self._landed(self, frame, time.monotonic() - self._started)
        return True

    def _frame(self, found: Small) -> Frame:
        types, block = typed_small(found, self.job)
        return frames.Whole(self.job.chunks[0], types, block.rows), block.data

    def _stop(self) -> None:
        self._timer.cancel()
        self.connection.wire.first = None

    def hand_over(self) -> None:
        """Give the look-up to the peer's task, which goes on from here."""
        self._stop()
        self._adopt(self)

    async def abandon(self) -> None:
        """End what runs: nobody wants the answer."""
        self._stop()
        try:
            await kill(self.connection, self._floor.pool.address)
        finally:
            self._floor.end_one()
