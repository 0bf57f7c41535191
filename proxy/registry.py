"""What runs in this proxy: sessions by id, and their distributed queries."""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import time
from dataclasses import dataclass, field

from proxy.running_board import RunningShare, Shown
from shard.errors import INTERRUPTED, TIMEOUT, SkyError
from shard.planner.plan import Strategy
from shard.wire.frames import Note

_TWO_STAGES = frozenset({Strategy.SCATTER_MERGE.value, Strategy.GATHER.value})


@dataclass(slots=True)
class RunningQuery:
    """A distributed query that runs; `task` is what is cancelled: its session's.

    At its `deadline` (monotonic clock) its time is over.
    """

    query_id: int
    session_id: int
    user: str
    sql: str
    task: asyncio.Task[None] | None = None
    started: float = field(default_factory=time.monotonic)
    strategy: str = ""
    chunks_total: int = 0
    chunks_done: int = 0
    rows: int = 0
    warnings: int = 0
    at_home: bool = False
    notes: list[Note] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    passed_over: int = 0
    reason: SkyError | None = None
    cancels: int = 0
    deadline: float = math.inf

    @property
    def found_rows(self) -> int:
        """What FOUND_ROWS() says of it: the rows sent, and those that it passed over."""
        return self.rows + self.passed_over

    def cancel(self, reason: SkyError | None = None) -> None:
        """Cancel the query; the client gets the first `reason` (default: its time is over, else interrupted).

        What is ended at home for its time looks there as if it had been killed.
        """
        late = time.monotonic() >= self.deadline
        self.reason = self.reason or reason or SkyError(TIMEOUT if late else INTERRUPTED)
        if self.task is not None:
            self.cancels += 1
            self.task.cancel()

    def settle(self) -> None:
        """Uncancel the task: the query has ended, and the session goes on in it."""
        task, self.task = self.task, None
        for _ in range(self.cancels):
            if task is not None:
                task.uncancel()

    def shown(self) -> Shown:
        """Return what PROCESSLIST shows: chunks first, and then what is done with their rows at home."""
        stages = 2 if self.strategy in _TWO_STAGES else 1
        stage = 2 if stages == 2 and self.chunks_done >= self.chunks_total > 0 else 1
        percent = 100 * self.chunks_done / max(1, self.chunks_total) if stage == 1 else 0.0
        state = f"{self.strategy}: {self.chunks_done}/{self.chunks_total} chunks"
        return Shown(self.session_id, self.sql, state, self.started, stage, stages, percent)


class Registry:
    """Sessions and queries of this process.

    Parameters
    ----------
    share : RunningShare or None
        Where other processes of this proxy see its queries, and it theirs.
    """

    def __init__(self, share: RunningShare | None = None) -> None:
        self._share = share
        self._numbers = itertools.count((secrets.randbits(31) << 32) + 1)
        self.queries: dict[int, RunningQuery] = {}
        self.sessions: set[int] = set()

    def number(self) -> int:
        """Return an id for a query or an internal error; the upper half is random, and the same for all of this process."""
        return next(self._numbers)

    def begin(self, session_id: int, user: str, sql: str) -> RunningQuery:
        """Note a query."""
        query = RunningQuery(self.number(), session_id, user, sql)
        self.queries[session_id] = query
        return query

    def end(self, query: RunningQuery) -> None:
        """Forget a query."""
        if self.queries.get(query.session_id) is query:
            del self.queries[query.session_id]
            if self._share is not None:
                self._share.hide(query.session_id)

    def show(self, query: RunningQuery) -> None:
        """Let other processes see how far a query is."""
        if self._share is not None and self.queries.get(query.session_id) is query:
            self._share.show(query.shown())

    def kill(self, session_id: int, sent: float) -> None:
        """End the query of a session, here or in another process, that ran when KILL was sent (monotonic clock)."""
        query = self.queries.get(session_id)
        if query is not None:
            if query.started <= sent:
                query.cancel()
        elif self._share is not None:
            self._share.kill(session_id, sent)

    def killed(self, query: RunningQuery) -> bool:
        """Whether another process has killed a query."""
        return self._share is not None and self._share.killed(query.session_id, query.started)

    def shown(self) -> dict[int, Shown]:
        """Return the queries that run, here and in the other processes of this proxy, by session."""
        found = {} if self._share is None else {one.session_id: one for one in self._share.others()}
        return found | {number: query.shown() for number, query in self.queries.items()}
