"""Makes copies that are missing, and takes away those that are too many.

Who has what is what the metadata say, of workers that answer, and only as far as their tables are there with as
many rows as the catalogue counts. A copy is 'loading' in the metadata until it has been checked, so that a repair
that is killed leaves nothing that a query would read; the next one begins that copy anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from shard.catalog.naming import literal
from shard.catalog.repair import Copy, Repair, plan
from shard.catalog.timing import GRACE_S
from shard.catalog.traps import INGEST_LOCK
from shard.errors import SkyError
from skyshard.catalog import published
from skyshard.catalog.cluster import META, Cluster, alive
from skyshard.errors import UserError
from skyshard.home.provision import bump
from skyshard.ingest.debts import Debt, owe, pay, payers
from skyshard.replicas.copy import Content, Copier, CopyFailed

AT_ONCE = 3
"""Chunks copied to one worker at once."""
NOTICE_S = 2.0
"""Seconds between two notices to proxies that copies have been made."""
LOCK_S = 5


class Outcome(msgspec.Struct, kw_only=True):
    """What a repair of one database did; `lost` are chunks that nobody who answers has."""

    database: str
    chunks: int = 0
    copied: int = 0
    rows: int = 0
    removed: int = 0
    damaged: int = 0
    lost: tuple[int, ...] = ()
    failed: list[str] = msgspec.field(default_factory=list)


@dataclass
class _Work:
    """One database under repair."""

    db_id: int
    replicas: int
    content: Content
    outcome: Outcome
    holders: dict[int, set[int]] = field(default_factory=dict)
    stale: set[tuple[int, int]] = field(default_factory=set)  # copies out of use, on workers that answer
    known: set[int] = field(default_factory=set)  # workers that have chunks of it
    prepared: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    # Copies that no query may use yet, and their rows.
    made: list[tuple[Copy, int]] = field(default_factory=list)


async def databases(cluster: Cluster) -> list[str]:
    """Return the names of the published databases."""
    rows = await cluster.home.fetch_texts(
        f"SELECT name FROM {META}.`databases` WHERE state = 'published' ORDER BY name"
    )
    return [row[0] for row in rows]


class Repairer:
    """Repairs the databases of a cluster, one after the other.

    Parameters
    ----------
    cluster : Cluster
        The home server and the workers.
    say : callable
        Takes one line of progress.
    """

    def __init__(self, cluster: Cluster, say: Callable[[str], None] = lambda _: None) -> None:
        self._cluster, self._say = cluster, say
        self._told = 0.0

    async def run(self, database: str, balance: bool = False) -> Outcome:
        """Repair a database.

        Raises
        ------
        UserError
            If it is not published, or an ingest, drop or repair of it runs.
        """
        async with self._alone(database):
            return await self._run(database, balance)

    async def examine(self, database: str) -> int:
        """Take copies with missing tables or rows out of use, and mend replicated tables; return how many copies there are.

        Raises
        ------
        UserError
            As from `run`.
        """
        async with self._alone(database):
            there = await self._payers(database, await alive(self._cluster), self._say)
            work = await self._read(database)
            stored = await self._examine(work, there)
            await self._whole(work, stored)
            for problem in work.outcome.failed:
                self._say(f"{database}: {problem}")
            return work.outcome.damaged

    @contextlib.asynccontextmanager
    async def _alone(self, database: str) -> AsyncIterator[None]:
        """Keep ingests, drops and other repairs of a database away."""
        home = self._cluster.home
        lock = literal(INGEST_LOCK.format(database=database)[:64])
        if (await home.fetch(f"SELECT GET_LOCK({lock}, {LOCK_S})"))[0][0] != b"1":
            raise UserError(f"an ingest, drop or repair of database '{database}' is running")
        try:
            yield
        finally:
            if not home.busy and not home.closed:
                await home.run(f"DO RELEASE_LOCK({lock})")

    async def _run(self, database: str, balance: bool) -> Outcome:
        problems: list[str] = []
        there = await self._payers(database, await alive(self._cluster), problems.append)
        active = [number for number in there if self._cluster.workers[number].state == "active"]
        if not active:
            raise UserError(problems[0] if problems else "no active worker answers")
        work = await self._read(database)
        stored = await self._examine(work, there)
        found = plan(work.holders, active, work.replicas, balance)
        work.outcome.chunks, work.outcome.lost = len(work.holders), found.lost
        await self._whole(work, stored)
        await self._copy_all(work, found)
        await self._bump()
        made = {(copy.chunk, copy.target) for copy in found.copies}
        unused = [place for place in work.stale - made if work.holders[place[0]]]
        if (found.surplus or unused) and not work.outcome.failed:
            await self._remove(work, [*found.surplus, *unused])
            work.outcome.removed = len(found.surplus)
        work.outcome.failed += problems
        return work.outcome

    async def _payers(self, database: str, there: Iterable[int], say: Callable[[str], None]) -> set[int]:
        """Let workers drop what they have still to; return those of which nothing old can be taken for what is wanted."""
        return await payers(self._cluster.home, self._cluster.agents, database, there, say)

    async def _read(self, database: str) -> _Work:
        found = await published.read(self._cluster.home, database)
        return _Work(found.db_id, found.replicas, found.content, Outcome(database=database))

    async def _examine(self, work: _Work, there: set[int]) -> dict[int, dict[tuple[str, str], int]]:
        """Find out who has which chunks, and return what is stored; a copy with missing tables or rows is no copy."""
        stored = dict(
            zip(there, await asyncio.gather(*(self._stored(number, work) for number in there)), strict=True)
        )
        rows = await self._cluster.home.fetch(
            f"SELECT chunk_id, worker_id, state FROM {META}.chunk_replicas WHERE db_id = {work.db_id}"
        )
        damaged = []
        for chunk_id, worker_id, state in rows:
            chunk, worker = int(chunk_id or b"0"), int(worker_id or b"0")
            held = work.holders.setdefault(chunk, set())
            if state == b"ok":
                work.known.add(worker)
            # One that is being loaded is so by a repair that was killed: this one is alone.
            if state != b"ok" and worker in there:
                work.stale.add((chunk, worker))
            if state != b"ok" or worker not in there:
                continue
            if self._is_whole(work.content, chunk, stored[worker]):
                held.add(worker)
            else:
                damaged.append((chunk, worker))
        await asyncio.gather(*(self._sweep(work, worker) for worker in there))
        # The last copy stays in use, however it is: queries that it cannot answer say so.
        spoilt = [(chunk, worker) for chunk, worker in damaged if work.holders[chunk]]
        work.outcome.damaged = len(damaged)
        work.stale.update(spoilt)
        await self._set(work, spoilt, "stale")
        if spoilt:
            await self._bump()
        return stored

    async def _sweep(self, work: _Work, worker: int) -> None:
        """Take away what a command that was killed has left of copies."""
        try:
            await Copier(self._cluster.agents, work.content).sweep(worker)
        except SkyError as error:
            work.outcome.failed.append(f"{self._cluster.agents.name(worker)}: {error}")

    @staticmethod
    def _is_whole(content: Content, chunk: int, stored: Mapping[tuple[str, str], int]) -> bool:
        """Whether a worker has all tables of a chunk, with all rows."""
        unions = {(content.database, name): rows for name, (rows, _) in content.unions(chunk).items()}
        return all(
            stored.get((item.database, item.name)) == item.rows for item in content.items(chunk)
        ) and all(stored.get(place) == rows for place, rows in unions.items())

    async def _stored(self, worker: int, work: _Work) -> dict[tuple[str, str], int]:
        listed = ", ".join(map(literal, work.content.databases))
        rows = await self._cluster.agents.admin(
            worker,
            [
                "SELECT TABLE_SCHEMA, TABLE_NAME, CAST(TABLE_ROWS AS CHAR) FROM information_schema.TABLES "
                f"WHERE TABLE_SCHEMA IN ({listed}) AND TABLE_ROWS IS NOT NULL"
            ],
        )
        return {(base or "", name or ""): int(count or "0") for base, name, count in rows}

    async def _whole(self, work: _Work, stored: Mapping[int, Mapping[tuple[str, str], int]]) -> None:
        """Make replicated tables where a worker with chunks lacks them, or the state that is now visible."""
        wanted = {
            (work.content.database, table.stored): table.rows
            for table in work.content.tables
            if not table.is_sharded
        }
        # Others, without a copy in use, may have as many rows of a table as it was before it was replaced.
        members = sorted(work.known.intersection(stored))
        whole = [worker for worker in members if wanted.items() <= stored[worker].items()]
        lacking = sorted(set(members).difference(whole))
        if lacking and not whole:
            name = self._cluster.agents.name(lacking[0])
            work.outcome.failed.append(
                f"{name}: it lacks replicated tables, and no worker that answers has all of them"
            )
            return
        copier = Copier(self._cluster.agents, work.content)
        for worker in lacking:
            try:
                await self._prepared(work, copier, worker, whole[0])
                await self._cluster.agents.settle([worker])
            except (SkyError, CopyFailed) as error:
                work.outcome.failed.append(f"{self._cluster.agents.name(worker)}: {error}")

    # making copies -------------------------------------------------------------------------------

    async def _copy_all(self, work: _Work, found: Repair) -> None:
        by_target: dict[int, list[Copy]] = defaultdict(list)
        for copy in found.copies:
            by_target[copy.target].append(copy)
        copier = Copier(self._cluster.agents, work.content)
        home = asyncio.Lock()
        async with asyncio.TaskGroup() as group:
            for copies in by_target.values():
                shared = iter(copies)
                for _ in range(AT_ONCE):
                    group.create_task(self._copy_some(work, copier, shared, home))
        if work.made:
            await self._let_use(work)
        await asyncio.gather(*(self._finished(copier, target) for target in by_target))

    async def _copy_some(
        self, work: _Work, copier: Copier, copies: Iterable[Copy], home: asyncio.Lock
    ) -> None:
        for copy in copies:
            problem, rows = "", 0
            async with home:
                await self._set(work, [(copy.chunk, copy.target)], "loading")
            for source in copy.sources:
                try:
                    await self._prepared(work, copier, copy.target, source)
                    rows = await copier.chunk(copy.chunk, source, copy.target)
                except (SkyError, CopyFailed) as error:
                    problem = f"chunk {copy.chunk} to {self._cluster.agents.name(copy.target)}: {error}"
                    continue
                problem = ""
                break
            async with home:
                if problem:
                    work.outcome.failed.append(problem)
                    await self._forget(work, [(copy.chunk, copy.target)])
                    continue
                work.made.append((copy, rows))
                if asyncio.get_running_loop().time() >= self._told + NOTICE_S:
                    await self._let_use(work)

    async def _let_use(self, work: _Work) -> None:
        """Let queries have the copies that are made, once these are on disk; several at once, since that waits for disks."""
        made, work.made = work.made, []
        for target in sorted({copy.target for copy, _ in made}):
            mine = [(copy, rows) for copy, rows in made if copy.target == target]
            places = [(copy.chunk, copy.target) for copy, _ in mine]
            try:
                await self._cluster.agents.settle([target])
            except SkyError as error:
                work.outcome.failed.append(str(error))
                await self._forget(work, places)
                continue
            await self._set(work, places, "ok")
            work.outcome.copied += len(mine)
            work.outcome.rows += sum(rows for _, rows in mine)
        self._say(f"{work.content.database}: {work.outcome.copied} copies, {work.outcome.rows:,} rows")
        await self._bump(NOTICE_S)

    async def _finished(self, copier: Copier, target: int) -> None:
        with contextlib.suppress(SkyError):  # a worker that is away is cleaned by the next repair
            await copier.finish(target)

    async def _prepared(self, work: _Work, copier: Copier, target: int, source: int) -> None:
        task = work.prepared.get(target)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = work.prepared[target] = asyncio.create_task(
                copier.prepare(target, source, target not in work.known)
            )
        await asyncio.shield(task)

    async def _set(self, work: _Work, held: list[tuple[int, int]], state: str) -> None:
        for chunk, worker in held:
            await self._cluster.home.run(
                f"INSERT INTO {META}.chunk_replicas (db_id, chunk_id, worker_id, state) "
                f"VALUES ({work.db_id}, {chunk}, {worker}, '{state}') ON DUPLICATE KEY UPDATE state = '{state}'"
            )

    async def _bump(self, every_s: float = 0.0) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._told + every_s:
            self._told = now
            await bump(self._cluster.home)

    # taking copies away --------------------------------------------------------------------------

    async def _forget(self, work: _Work, held: Iterable[tuple[int, int]]) -> None:
        for chunk, worker in held:
            await self._cluster.home.run(
                f"DELETE FROM {META}.chunk_replicas WHERE db_id = {work.db_id} AND chunk_id = {chunk} "
                f"AND worker_id = {worker}"
            )

    async def _remove(self, work: _Work, places: Sequence[tuple[int, int]]) -> None:
        """Take copies out of use, wait until proxies know, and drop their tables.

        What is to be dropped is written down in the same transaction, so that it is if this is killed meanwhile.
        """
        home, own = self._cluster.home, work.content.database
        gone: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for chunk, worker in places:
            gone[worker] += [(own, name) for name in work.content.unions(chunk)]
            gone[worker] += [(item.database, item.name) for item in work.content.items(chunk)]
        await home.run("START TRANSACTION")
        await self._forget(work, places)
        for worker, names in gone.items():
            debt = Debt(
                db_id=work.db_id,
                tables=tuple(name for place, name in names if place == own),
                staged=tuple(one for one in names if one[0] != own),
            )
            await owe(home, own, [worker], debt)
        await self._bump()
        await home.run("COMMIT")
        await asyncio.sleep(GRACE_S)
        await pay(home, self._cluster.agents, own, gone)
