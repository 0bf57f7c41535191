"""Which workers answer: all are asked every second, and what queries notice counts at once.

A worker that is down is asked last, so that it slows no query; whether a query fails is decided by asking it
all the same where nobody else has a chunk. Two questions in a row without an answer, of the agent and through it
of MariaDB, mean that it is down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from backend.agent_link import AgentPool, LinkLost
from shard.errors import SkyError
from shard.wire import frames

log = logging.getLogger("skyshard.health")

MISSES = 2
"""Questions without an answer, in a row, after which a worker is down."""

Watcher = Callable[[int], None]


class Health:
    """What a proxy knows of its workers.

    Parameters
    ----------
    agents : AgentPool
        Its workers are asked.
    every_s : float
        Seconds between questions.
    patience_s : float
        Seconds in which an answer must come.
    """

    def __init__(self, agents: AgentPool, every_s: float = 1.0, patience_s: float = 1.5) -> None:
        self._agents, self._every, self._patience = agents, every_s, patience_s
        self._down: set[int] = set()
        self._doubted: set[int] = set()
        self._leaving: set[int] = set()  # their agents finish what they do, and take no more
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._watchers: dict[Watcher, Watcher | None] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.create_task(self._beat(), name="heartbeats")

    async def close(self) -> None:
        """Stop asking."""
        tasks = [task for task in (self._task, *self._asking.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def suspects(self) -> frozenset[int]:
        """Return the workers that others should be asked before."""
        return frozenset(self._down | self._doubted | self._leaving)

    def up(self, worker: int) -> bool:
        """Whether a worker has answered when it was last asked."""
        return worker not in self._down

    def doubt(self, worker: int) -> None:
        """Note that a query had trouble with a worker, and ask it now."""
        if self._task is not None:
            self._doubted.add(worker)
            self._ask(worker)

    def watch(self, watcher: Watcher, returned: Watcher | None = None) -> None:
        """Call `watcher` with every worker that is found to be down, and `returned` with those that answer again."""
        self._watchers[watcher] = returned

    def unwatch(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        self._watchers.pop(watcher, None)

    async def _beat(self) -> None:
        while True:
            known = set(self._agents.workers)
            self._down &= known
            self._doubted &= known
            self._leaving &= known
            for worker in known:
                self._ask(worker)
            await asyncio.sleep(self._every)

    def _ask(self, worker: int) -> None:
        if worker not in self._asking:
            task = asyncio.create_task(self._examine(worker), name=f"heartbeat {worker}")
            self._asking[worker] = task
            task.add_done_callback(lambda _: self._asking.pop(worker, None))

    async def _examine(self, worker: int) -> None:
        reason = ""
        for _ in range(MISSES):
            try:
                answer = await self._answer(worker)
            except SkyError as error:
                answer, reason = None, f" ({error})"
            if answer is not None and answer.draining:
                self._leaving.add(worker)
                return
            if answer is not None:
                self._is_back(worker)
                return
        if worker not in self._down:
            log.warning("worker %s does not answer%s", self._agents.name(worker), reason)
            self._down.add(worker)
            for watcher in list(self._watchers):
                watcher(worker)

    def _is_back(self, worker: int) -> None:
        if worker in self._down:
            log.warning("worker %s answers again", self._agents.name(worker))
        if worker in self.suspects():
            for known in (self._down, self._doubted, self._leaving):
                known.discard(worker)
            for returned in list(self._watchers.values()):
                if returned is not None:
                    returned(worker)

    async def _answer(self, worker: int) -> frames.Pong | None:
        """Return how a worker is, if it and its MariaDB answer in time.

        Raises
        ------
        SkyError
            Why there was no asking it.
        """
        try:
            async with asyncio.timeout(self._patience), self._agents.lease(worker) as link:
                await link.send(frames.Ping())
                header, _ = await link.receive()
        except (TimeoutError, LinkLost):
            return None
        return header if isinstance(header, frames.Pong) and header.mariadb_ok else None
