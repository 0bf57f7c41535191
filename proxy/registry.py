"""What runs in this proxy: sessions by id, and their distributed queries."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field

from shard.errors import INTERRUPTED, SkyError
from shard.wire.frames import Note


@dataclass(slots=True)
class RunningQuery:
    """A distributed query that runs; `task` is what is cancelled: its session's."""

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
    reason: SkyError | None = None
    cancels: int = 0

    def cancel(self, reason: SkyError | None = None) -> None:
        """Cancel the query; the client gets `reason` (default: interrupted)."""
        self.reason = reason or SkyError(INTERRUPTED)
        if self.task is not None:
            self.cancels += 1
            self.task.cancel()

    def settle(self) -> None:
        """Take back what was cancelled: the query has ended, and its task goes on."""
        task, self.task = self.task, None
        for _ in range(self.cancels):
            if task is not None:
                task.uncancel()

    def percent(self) -> float:
        """Return how much is done, by chunks."""
        return 100 * self.chunks_done / max(1, self.chunks_total)

    def state(self) -> str:
        """Return the text for SHOW PROCESSLIST."""
        return f"{self.strategy}: {self.chunks_done}/{self.chunks_total} chunks"


class Registry:
    """Sessions and queries of this process."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.queries: dict[int, RunningQuery] = {}
        self.sessions: set[int] = set()

    def begin(self, session_id: int, user: str, sql: str) -> RunningQuery:
        """Note a query; ids are unique in this process."""
        query = RunningQuery(next(self._numbers), session_id, user, sql)
        self.queries[session_id] = query
        return query

    def end(self, query: RunningQuery) -> None:
        """Forget a query."""
        if self.queries.get(query.session_id) is query:
            del self.queries[query.session_id]
