"""The steps of a transaction, each of which can be run alone and again: register, load, check, publish, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backend.agent_link import LinkLost
from backend.connection import ConnectionLost
from shard.catalog.model import Kind
from shard.catalog.naming import chunk_table, literal, overlap_table, stage_name
from shard.catalog.timing import GRACE_S, NOTICE_S
from shard.errors import (
    LOCK_TIMEOUT,
    NETWORK_ERRORS,
    SERVER_GONE,
    TOO_MANY_CONNECTIONS,
    WORKER_DOWN,
    WORKER_LOST,
    WORKER_RESTARTED,
    ServerError,
    SkyError,
)
from skyshard.catalog.cluster import Cluster, opened, parted
from skyshard.catalog.drop import Drop
from skyshard.cluster.connect import ClusterAddress
from skyshard.errors import UserError
from skyshard.ingest import files, sources
from skyshard.ingest.append import Append
from skyshard.ingest.commit import Commits
from skyshard.ingest.compatible import check_fits
from skyshard.ingest.contributions import BATCH_BYTES, lock_loaders
from skyshard.ingest.first import First, FirstIngest, check_not_begun, empty
from skyshard.ingest.index import rebuild
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.order import Order, fingerprint, order_of, parsed, stamped
from skyshard.ingest.progress import Bars
from skyshard.ingest.queue import FileStatus, Queue
from skyshard.ingest.registering import (
    check_free,
    check_not_late,
    check_not_there,
    done_before,
    first_order,
    is_published,
    open_first,
    open_or_found,
)
from skyshard.ingest.replicated import ReplicatedRows
from skyshard.ingest.transactions import (
    Published,
    Transaction,
    find,
    lock_database,
    lock_transaction,
    published,
    transactions,
    unlock_database,
)

_PAUSES_S = (1, 2, 4, 8, 15)
"""Pauses before a load is tried again when a server or an agent went away."""
LOAD_LOCK_S = 60
"""Seconds that a load waits for whoever changes the database; it takes the lock for a moment only."""
_AWAY = SERVER_GONE | NETWORK_ERRORS | {TOO_MANY_CONNECTIONS.errno, LOCK_TIMEOUT}
"""Errnos of a server that is busy or away: a load is tried again."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction for people and programs; `commit` is None until it is visible."""

    id: int
    database: str
    state: str
    started: str
    owner: str
    commit: int | None
    tables: tuple[str, ...]
    files: tuple[FileStatus, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps on one cluster.

    Attributes
    ----------
    jobs : int
        Pieces of files that are partitioned at once.
    grace_s : float
        Seconds that running queries get to end before tables that they read are dropped.
    """

    address: ClusterAddress
    bars: Bars
    jobs: int = 1
    grace_s: float = GRACE_S

    @asynccontextmanager
    async def _locked(self, database: str) -> AsyncIterator[tuple[Cluster, Commits]]:
        """Yield a cluster while nobody else changes a database; what was left undone of it is finished first."""
        async with opened(self.address) as cluster:
            await lock_database(cluster.home, database)
            yield cluster, await self._commits(cluster, database)
            await unlock_database(cluster.home, database)

    async def _commits(self, cluster: Cluster, database: str) -> Commits:
        there, away = await parted(cluster)
        ledger = Ledger(cluster.home, cluster.agents, there)
        return Commits(cluster.home, ledger, database, self.grace_s, away)

    async def register(
        self,
        catalog: Path,
        replace: bool = False,
        replicas: int | None = None,
        append: bool | None = None,
        batch_bytes: int = BATCH_BYTES,
    ) -> int:
        """Open an ingest or a transaction for a catalogue file, or find the one that was opened; return its number.

        Parameters
        ----------
        append : bool or None
            Whether rows are added to what is published; None: if the database is published, and not replaced.

        Raises
        ------
        UserError
            If the file is wrong, does not fit the published database, or others have its tables.
        """
        order = await asyncio.to_thread(order_of, catalog, batch_bytes)
        file, lines = parsed(order)
        name, now = file.database, await asyncio.to_thread(stamped, file, lines, order)
        async with self._locked(name) as (cluster, commits):  # the lock is not held while files are read
            if append is None:
                append = not replace and await is_published(cluster, name)
            if not append:
                order, _ = await first_order(cluster, order, replace, replicas)
            file, lines = parsed(order)
            first = FirstIngest(cluster, file, commits.ledger.workers)
            await first.staging.recover()
            await Drop(cluster.home, cluster.agents, cluster.workers.values(), name).finish()
            if order.first is not None:
                return await open_first(first, order, order.first, now)
            await commits.recover()
            if (done := await done_before(cluster, name, fingerprint(order), now)) is not None:
                return done
            base = await published(cluster.home, name)
            check_fits(file, lines, base)
            await check_free(cluster, base, file)
            listed = zip(file.tables, now, strict=True)
            await check_not_there(cluster, name, ((spec.name, *one) for spec, own in listed for one in own))
            await cluster.home.run("START TRANSACTION")
            number = await open_or_found(cluster, commits, file, order)
            await check_not_late(cluster, commits.ledger, number, file, now)
            for spec, own in zip(file.tables, now, strict=True):
                await Queue(cluster.home, number).add(spec.name, own)
            await cluster.home.run("COMMIT")
        return number

    async def queue(self, number: int, table: str, names: list[str]) -> None:
        """Put more files of a table into the queue of an open transaction."""
        async with self._mine(number, "open") as (cluster, one):
            if table not in one.tables:
                raise UserError(f"transaction {number} is about {', '.join(one.tables)}, not about '{table}'")
            if table in await Ledger(cluster.home, cluster.agents, list(cluster.workers)).loaded_tables(
                number
            ):
                raise UserError(f"transaction {number}: table '{table}' is loaded already")
            file, _ = parsed(msgspec.json.decode(one.detail, type=Order))
            spec = next(spec for spec in file.tables if spec.name == table)
            listed = [one for name in names for one in await asyncio.to_thread(files.given, spec, name)]
            stamps = [(one, await asyncio.to_thread(sources.stamp, one.name)) for one in listed]
            queue = Queue(cluster.home, number)
            if first_of(one) is None:
                await check_not_there(cluster, one.database, ((table, *stamp) for stamp in stamps))
            await queue.check_new(table, stamps)
            await queue.add(table, stamps)

    @asynccontextmanager
    async def _mine(self, number: int, *states: str) -> AsyncIterator[tuple[Cluster, Transaction]]:
        """Yield a transaction in one of some states while nobody else works on it."""
        async with opened(self.address) as cluster:
            await find(cluster.home, number)
            await lock_transaction(cluster.home, number)
            await lock_loaders(cluster.home, number)
            one = await find(cluster.home, number)
            if one.state not in states:
                raise UserError(f"transaction {number} is {one.state}")
            yield cluster, one

    async def load(self, number: int) -> None:
        """Load what is not loaded yet; a server or agent that went away is waited for, a few times."""
        async with opened(self.address) as cluster:
            one = await find(cluster.home, number)
            if one.state not in ("open", "running"):
                raise UserError(f"transaction {number} is {one.state}")
            await self.load_in(cluster, one)

    async def load_in(self, cluster: Cluster, one: Transaction) -> None:
        """Load what is not loaded yet of an ingest or a transaction."""
        for pause in (*_PAUSES_S, None):
            try:
                await self._load(cluster, one)
            except Exception as error:
                if pause is None or not went_away(error):
                    raise
                await cluster.home.fetch("SELECT 1")  # with it locks would be gone, and others might begin
                self.bars.say(f"  note: {reason_of(error)}; trying again")
                await asyncio.sleep(pause)
            else:
                return

    async def _load(self, cluster: Cluster, one: Transaction) -> None:
        order = msgspec.json.decode(one.detail, type=Order)
        file, lines = parsed(order)
        visible: list[int] = []
        if order.first is not None:
            base = empty(one.database, file, order.first)
        else:
            base, visible = await self._built_on(cluster, one)
        await Append(
            file,
            lines,
            Path(order.base),
            self.address,
            published=base,
            transaction=one,
            visible=visible,
            only=None if order.first is None else order.first.workers,
            batch_bytes=order.batch_bytes,
            jobs=self.jobs,
            bars=self.bars,
        ).load()

    @staticmethod
    async def _built_on(cluster: Cluster, one: Transaction) -> tuple[Published, list[int]]:
        """Return the database and the visible transactions as a load finds them, and note that it may build on these.

        An undo has the same lock: it comes first, and is seen here, or it comes later, and sees what is noted.
        """
        await lock_database(cluster.home, one.database, LOAD_LOCK_S)
        try:
            commits = Commits(cluster.home, Ledger(cluster.home, cluster.agents, ()), one.database)
            visible = [other.number for other in await commits.visible()]
            base = await published(cluster.home, one.database)
            await commits.ledger.look(one.number)
        finally:
            if not cluster.home.busy and not cluster.home.closed:
                await unlock_database(cluster.home, one.database)
        return base, visible

    async def check(self, number: int) -> None:
        """Compare what the workers have with what was loaded, and the files with what they were.

        Raises
        ------
        UserError
            Naming the first difference.
        """
        async with self._mine(number, "open") as (cluster, one):
            commits = await self._commits(cluster, one.database)
            order = msgspec.json.decode(one.detail, type=Order)
            if order.first is not None:
                file, lines = parsed(order)
                for item in await Queue(cluster.home, number).files():
                    await asyncio.to_thread(item.check)
                first = FirstIngest(cluster, file, commits.ledger.workers, self.bars.say)
                await first.check(number, order.first, lines)
                return
            base = await published(cluster.home, one.database)
            loaded = await commits.ledger.loaded_tables(number)
            if missing := sorted(set(one.tables) - set(loaded)):
                raise UserError(f"transaction {number}: table '{missing[0]}' is not loaded")
            for item in await Queue(cluster.home, number).files():
                await asyncio.to_thread(item.check)
            await self._check_counts(cluster, commits, base, one)
            await commits.check_keys(base, one, [other.number for other in await commits.visible()])

    async def _check_counts(
        self, cluster: Cluster, commits: Commits, base: Published, one: Transaction
    ) -> None:
        """Compare the tables of chunks with what was loaded; a copy that is wrong beside a right one is none any more.

        A commit copies the rows to it anew from another worker (of a new chunk a repair does).
        """
        loaded = await commits.ledger.whole_holders(one.number)
        holders = {chunk: set(ids) & set(commits.ledger.workers) for chunk, ids in loaded.items()}
        stored = {
            worker: await commits.ledger.stored(worker, stage_name(one.number))
            for worker in {worker for ids in holders.values() for worker in ids}
        }
        await ReplicatedRows(cluster.home, commits.ledger, base).check(one)
        for chunk, tables in (await commits.ledger.parts([one.number])).get(one.number, {}).items():
            wanted: dict[str, int] = {}
            for name, (main, overlap) in tables.items():
                wanted[chunk_table(name, chunk)] = main
                table = base.table(name)
                if table is not None and table.kind is Kind.DIRECTOR:
                    wanted[overlap_table(name, chunk)] = overlap
            faults = {
                worker: f"worker {cluster.workers[worker].name} has {stored[worker].get(made, 'no')} of {rows} rows of {made}"
                for worker in holders[chunk]
                for made, rows in wanted.items()
                if stored[worker].get(made) != rows
            }
            if faults and len(faults) == len(holders[chunk]):
                raise UserError(f"transaction {one.number}: {next(iter(faults.values()))}")
            for worker, text in faults.items():
                self.bars.say(f"  note: {text}; this copy is left out")
                await commits.ledger.leave_out(one.number, chunk, worker)

    async def publish(self, number: int) -> None:
        """Make a transaction's rows visible; one that is visible stays so."""
        async with opened(self.address) as cluster:
            database = (await find(cluster.home, number)).database
            await lock_transaction(cluster.home, number)
            await lock_database(cluster.home, database)
            commits = await self._commits(cluster, database)
            one = await find(cluster.home, number)
            if one.state in ("open", "publishing", "published") and (first := first_of(one)) is not None:
                return await self._publish_first(cluster, commits.ledger.workers, one, first)
            await commits.recover()
            one = await find(cluster.home, number)
            if one.state == "committed":
                return None
            if one.state != "open":
                raise UserError(f"transaction {number} is {one.state}")
            await lock_loaders(cluster.home, number)
            base = await published(cluster.home, database)
            await self._check_counts(cluster, commits, base, one)  # whatever has come about since `check`
            await commits.commit(one)
        await asyncio.sleep(NOTICE_S)  # then every proxy answers with these rows
        return None

    async def _publish_first(
        self, cluster: Cluster, there: Sequence[int], one: Transaction, first: First
    ) -> None:
        """Publish a first ingest; one that was cut short is finished."""
        file, lines = parsed(msgspec.json.decode(one.detail, type=Order))
        ingest = FirstIngest(cluster, file, there, self.bars.say)
        # What another ingest, or a drop, of that name has begun comes first; this one may go with it.
        await ingest.staging.recover(one.number)
        await Drop(cluster.home, cluster.agents, cluster.workers.values(), one.database).finish()
        state = (await find(cluster.home, one.number)).state
        if state == "open":
            await lock_loaders(cluster.home, one.number)
            await ingest.publish(one.number, first, lines)
        elif state != "published":
            raise UserError(f"transaction {one.number} is {state}")

    async def abort(self, number: int) -> None:
        """Remove everything of a transaction that is not committed."""
        async with opened(self.address) as cluster:
            database = (await find(cluster.home, number)).database
            await lock_transaction(cluster.home, number)
            await lock_database(cluster.home, database)
            await lock_loaders(cluster.home, number)
            one = await find(cluster.home, number)
            commits = await self._commits(cluster, database)
            await commits.catch_up()
            if first_of(one) is None:
                await commits.abort(one)
                return
            file, _ = parsed(msgspec.json.decode(one.detail, type=Order))
            check_not_begun(one)  # before it is written down that rows are to go
            await FirstIngest(cluster, file, commits.ledger.workers).abandon(number, "abandoned")

    async def undo(self, number: int) -> None:
        """Take a committed transaction back."""
        async with opened(self.address) as cluster:
            database = (await find(cluster.home, number)).database
            await lock_database(cluster.home, database)
            commits = await self._commits(cluster, database)
            if number in await commits.recover() and (await find(cluster.home, number)).state == "undone":
                return
            await commits.undo(await find(cluster.home, number))

    async def consolidate(self, database: str) -> list[int]:
        """Make what is committed in a database lasting; return the transactions."""
        async with self._locked(database) as (_, commits):
            finished = await commits.recover()
            return sorted({*finished, *await commits.consolidate()})

    async def index(self, database: str) -> dict[str, int]:
        """Make the director indexes of a database anew; return director → keys."""
        async with self._locked(database) as (_, commits):
            await commits.recover()
            return await rebuild(commits)

    async def status(self, database: str | None = None, number: int | None = None) -> list[Status]:
        """Return transactions, the last one last."""
        where = "i.fingerprint <> ''"
        where += "" if database is None else f" AND i.db_name = {literal(database)}"
        where += "" if number is None else f" AND i.ingest_id = {number}"
        async with opened(self.address) as cluster:
            out = []
            for one in await transactions(cluster.home, where):
                listed = await Queue(cluster.home, one.number).status()
                out.append(
                    Status(
                        id=one.number,
                        database=one.database,
                        state=one.state,
                        started=one.started,
                        owner=one.owner,
                        commit=one.commit or None,
                        tables=one.tables or tuple(dict.fromkeys(file.table for file in listed)),
                        files=tuple(
                            msgspec.structs.replace(one, url=sources.shown(one.url)) for one in listed
                        ),
                    )
                )
            if number is not None and not out:
                raise UserError(f"there is no transaction {number}")
            return out


def first_of(one: Transaction) -> First | None:
    """Return how a first ingest is made; None for a transaction, which adds rows to a published database."""
    return msgspec.json.decode(one.detail, type=Order).first


def went_away(error: BaseException) -> bool:
    """Whether something failed only because a server or an agent was away."""
    if isinstance(error, BaseExceptionGroup):
        return all(went_away(inner) for inner in error.exceptions)
    if isinstance(error, ServerError):
        return error.errno in _AWAY
    if isinstance(error, SkyError):
        return error.code in (WORKER_DOWN, WORKER_LOST, WORKER_RESTARTED)
    return isinstance(error, ConnectionLost | LinkLost)


def reason_of(error: BaseException) -> str:
    """Return the first reason of what failed."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
