"""The steps of a transaction, each of which can be run alone and again: register, load, check, publish, and back."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backend.agent_link import LinkLost
from backend.connection import ConnectionLost
from shard.catalog.catalog_file import CatalogFile, CatalogFileError, Places, parse
from shard.catalog.model import Kind
from shard.catalog.naming import chunk_table, literal, overlap_table, stage_name
from shard.errors import WORKER_DOWN, WORKER_LOST, ServerError, SkyError
from skyshard.catalog.cluster import Cluster, opened
from skyshard.catalog.drop import Drop
from skyshard.cluster.connect import ClusterAddress
from skyshard.errors import UserError
from skyshard.ingest import files, sources
from skyshard.ingest.append import Append, check_fits
from skyshard.ingest.commit import Commits
from skyshard.ingest.consolidate import GRACE_S
from skyshard.ingest.index import rebuild
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.progress import Bars
from skyshard.ingest.queue import FileStatus, Queue
from skyshard.ingest.staging import Staging
from skyshard.ingest.transactions import (
    IS_TRANSACTION,
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
_AWAY = frozenset({1040, 1053, 1158, 1159, 1160, 1161, 1205, 1927, 2006, 2013})


NOTICE_S = 1.0
"""Seconds within which proxies notice a commit; they look every half second."""
LASTING = ("committed", "consolidating", "consolidated")
"""States of transactions whose rows are visible."""


class Order(msgspec.Struct, frozen=True):
    """What a transaction was asked for: the catalogue file, its text, and the directory of its paths."""

    file: str
    text: str
    base: str


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
            yield cluster, self._commits(cluster, database)
            await unlock_database(cluster.home, database)

    def _commits(self, cluster: Cluster, database: str) -> Commits:
        ledger = Ledger(cluster.home, cluster.agents, list(cluster.workers))
        return Commits(cluster.home, ledger, database, self.grace_s)

    async def register(self, catalog: Path) -> int:
        """Open a transaction for a catalogue file, or find the one that was opened; return its number.

        Raises
        ------
        UserError
            If the file is wrong, does not fit the published database, or other transactions have its tables.
        """
        order = await asyncio.to_thread(_order, catalog)
        file, places = parsed(order)
        found = [
            files.find(spec, ("tables", index), places, Path(order.base))
            for index, spec in enumerate(file.tables)
        ]
        stamped = await asyncio.to_thread(_stamped, found)
        fingerprint = hashlib.sha256(f"{order.base}\0{order.text}".encode()).hexdigest()
        async with self._locked(file.database) as (cluster, commits):
            await Staging(cluster.home, cluster.agents, list(cluster.workers), file.database).recover()
            await Drop(cluster.home, cluster.agents, cluster.workers.values(), file.database).finish()
            await commits.recover()
            if (done := await self._done(cluster, file.database, fingerprint, stamped)) is not None:
                return done
            base = await published(cluster.home, file.database)
            check_fits(file, places, base)
            await self._check_free(cluster, base, file)
            number = await self._open(cluster, commits, file, order, fingerprint)
            for spec, listed in zip(file.tables, stamped, strict=True):
                await Queue(cluster.home, number).add(spec.name, listed)
        return number

    @staticmethod
    async def _done(
        cluster: Cluster,
        database: str,
        fingerprint: str,
        stamped: list[list[tuple[files.DataFile, sources.Stamp]]],
    ) -> int | None:
        """Return the transaction that has made the rows of these very files visible, if there is one."""
        now = sorted((one.name, stamp.size, stamp.checksum) for listed in stamped for one, stamp in listed)
        for one in await transactions(
            cluster.home,
            f"i.db_name = {literal(database)} AND i.fingerprint = '{fingerprint}' "
            f"AND i.state IN ({', '.join(map(literal, LASTING))})",
        ):
            then = await Queue(cluster.home, one.number).files()
            if now == sorted((item.name, item.stamp.size, item.stamp.checksum) for item in then):
                return one.number
        return None

    @staticmethod
    async def _check_free(cluster: Cluster, base: Published, file: CatalogFile) -> None:
        """Refuse new tables whose names users' own tables have."""
        rows = await cluster.home.fetch(
            f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(base.name)}"
        )
        here = {(row[0] or b"").decode().lower() for row in rows}
        for spec in file.tables:
            if base.table(spec.name) is None and spec.name.lower() in here:
                raise UserError(
                    f"'{base.name}.{spec.name}' is a user's table or view; drop it, or choose another name"
                )

    async def _open(
        self, cluster: Cluster, commits: Commits, file: CatalogFile, order: Order, fingerprint: str
    ) -> int:
        names = {spec.name for spec in file.tables}
        for one in await transactions(
            cluster.home, f"i.db_name = {literal(file.database)} AND i.state = 'open'"
        ):
            if one.fingerprint == fingerprint:
                return one.number
            if both := sorted(names.intersection(one.tables)):
                raise UserError(
                    f"another ingest of table '{file.database}.{both[0]}' is open: transaction {one.number} of "
                    f"{one.owner}, since {one.started} UTC; finish it with its own command, or abort it "
                    f"(skyshard ingest --abort {one.number})"
                )
        owner = f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}"
        tables = [(spec.name, spec.kind) for spec in file.tables]
        return await commits.ledger.open(
            file.database, owner, msgspec.json.encode(order).decode(), fingerprint, tables
        )

    async def queue(self, number: int, table: str, names: list[str]) -> None:
        """Put more files of a table into the queue of an open transaction."""
        async with self._mine(number, "open") as (cluster, one):
            if table not in one.tables:
                raise UserError(f"transaction {number} is about {', '.join(one.tables)}, not about '{table}'")
            if table in await Ledger(cluster.home, cluster.agents, list(cluster.workers)).loaded_tables(
                number
            ):
                raise UserError(f"transaction {number}: table '{table}' is loaded already")
            listed = [self._named(name) for name in names]
            stamped = [(file, await asyncio.to_thread(sources.stamp, file.name)) for file in listed]
            await Queue(cluster.home, number).add(table, stamped)

    @staticmethod
    def _named(name: str) -> files.DataFile:
        if sources.is_remote(name):
            return files.DataFile(Path(name.rpartition("/")[2]), url=name)
        return files.DataFile(Path(sources.local(name)).resolve())

    @asynccontextmanager
    async def _mine(self, number: int, *states: str) -> AsyncIterator[tuple[Cluster, Transaction]]:
        """Yield a transaction in one of some states while nobody else works on it."""
        async with opened(self.address) as cluster:
            await find(cluster.home, number)
            await lock_transaction(cluster.home, number)
            one = await find(cluster.home, number)
            if one.state not in states:
                raise UserError(f"transaction {number} is {one.state}")
            yield cluster, one

    async def load(self, number: int) -> None:
        """Load what is not loaded yet; a server or agent that went away is waited for, a few times."""
        async with self._mine(number, "open") as (cluster, one):
            for pause in (*_PAUSES_S, None):
                try:
                    await self._load(cluster, one)
                except Exception as error:
                    if pause is None or not went_away(error):
                        raise
                    await cluster.home.fetch(
                        "SELECT 1"
                    )  # with it the lock would be gone, and others might begin
                    self.bars.say(f"  note: {reason_of(error)}; trying again")
                    await asyncio.sleep(pause)
                else:
                    return

    async def _load(self, cluster: Cluster, one: Transaction) -> None:
        order = msgspec.json.decode(one.detail, type=Order)
        file, places = parsed(order)
        base = await published(cluster.home, one.database)
        visible = [other.number for other in await self._commits(cluster, one.database).visible()]
        await Append(
            file,
            places,
            Path(order.base),
            self.address,
            published=base,
            transaction=one,
            visible=visible,
            jobs=self.jobs,
            bars=self.bars,
        ).load()

    async def check(self, number: int) -> None:
        """Compare what the workers have with what was loaded, and the files with what they were.

        Raises
        ------
        UserError
            Naming the first difference.
        """
        async with self._mine(number, "open") as (cluster, one):
            commits = self._commits(cluster, one.database)
            base = await published(cluster.home, one.database)
            loaded = await commits.ledger.loaded_tables(number)
            if missing := sorted(set(one.tables) - set(loaded)):
                raise UserError(f"transaction {number}: table '{missing[0]}' is not loaded")
            for item in await Queue(cluster.home, number).files():
                await asyncio.to_thread(item.check)
            await self._check_counts(cluster, commits, base, one)
            await commits.check_keys(base, one, [other.number for other in await commits.visible()])

    @staticmethod
    async def _check_counts(cluster: Cluster, commits: Commits, base: Published, one: Transaction) -> None:
        loaded = await commits.ledger.holders(one.number)
        holders = {
            chunk: set(ids) & set(base.holders.get(chunk, ids)) & set(cluster.workers)
            for chunk, ids in loaded.items()
        }
        stored = {
            worker: await commits.ledger.stored(worker, stage_name(one.number))
            for worker in {worker for ids in holders.values() for worker in ids}
        }
        for chunk, tables in (await commits.ledger.parts([one.number])).get(one.number, {}).items():
            for name, (main, overlap) in tables.items():
                wanted = {chunk_table(name, chunk): main}
                table = base.table(name)
                if table is not None and table.kind is Kind.DIRECTOR:
                    wanted[overlap_table(name, chunk)] = overlap
                for worker in holders[chunk]:
                    for made, rows in wanted.items():
                        if stored[worker].get(made) != rows:
                            raise UserError(
                                f"table '{name}': worker {cluster.workers[worker].name} has "
                                f"{stored[worker].get(made, 'no')} of {rows} rows of {made}"
                            )

    async def publish(self, number: int) -> None:
        """Make a transaction's rows visible; one that is visible stays so."""
        async with opened(self.address) as cluster:
            database = (await find(cluster.home, number)).database
            await lock_transaction(cluster.home, number)
            await lock_database(cluster.home, database)
            commits = self._commits(cluster, database)
            await commits.recover()
            one = await find(cluster.home, number)
            if one.state == "committed":
                return
            if one.state != "open":
                raise UserError(f"transaction {number} is {one.state}")
            await commits.commit(one)
        await asyncio.sleep(NOTICE_S)  # then every proxy answers with these rows

    async def abort(self, number: int) -> None:
        """Remove everything of a transaction that is not committed."""
        async with opened(self.address) as cluster:
            database = (await find(cluster.home, number)).database
            await lock_transaction(cluster.home, number)
            await lock_database(cluster.home, database)
            await self._commits(cluster, database).abort(await find(cluster.home, number))

    async def undo(self, number: int) -> None:
        """Take a committed transaction back."""
        async with opened(self.address) as cluster:
            database = (await find(cluster.home, number)).database
            await lock_database(cluster.home, database)
            commits = self._commits(cluster, database)
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
        where = IS_TRANSACTION + " AND i.fingerprint <> ''"
        where += "" if database is None else f" AND i.db_name = {literal(database)}"
        where += "" if number is None else f" AND i.ingest_id = {number}"
        async with opened(self.address) as cluster:
            out = []
            for one in await transactions(cluster.home, where):
                out.append(
                    Status(
                        id=one.number,
                        database=one.database,
                        state=one.state,
                        started=one.started,
                        owner=one.owner,
                        commit=one.commit or None,
                        tables=one.tables,
                        files=tuple(await Queue(cluster.home, one.number).status()),
                    )
                )
            if number is not None and not out:
                raise UserError(f"there is no transaction {number}")
            return out


def _order(catalog: Path) -> Order:
    try:
        return Order(str(catalog), catalog.read_text(), str(catalog.parent.resolve()))
    except OSError as error:
        raise UserError(f"{catalog}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{catalog}: it is no UTF-8 text") from error


def _stamped(found: list[list[files.DataFile]]) -> list[list[tuple[files.DataFile, sources.Stamp]]]:
    return [[(one, sources.stamp(one.name)) for one in listed] for listed in found]


def parsed(order: Order) -> tuple[CatalogFile, Places]:
    """Return a transaction's catalogue file.

    Raises
    ------
    UserError
        If it is wrong, with file, line and key.
    """
    try:
        return parse(order.text, order.file, partial=True), Places(order.text, order.file)
    except CatalogFileError as error:
        raise UserError(str(error)) from error


def went_away(error: BaseException) -> bool:
    """Whether something failed only because a server or an agent was away."""
    if isinstance(error, BaseExceptionGroup):
        return all(went_away(inner) for inner in error.exceptions)
    if isinstance(error, ServerError):
        return error.errno in _AWAY
    if isinstance(error, SkyError):
        return error.code in (WORKER_DOWN, WORKER_LOST)
    return isinstance(error, ConnectionLost | LinkLost)


def reason_of(error: BaseException) -> str:
    """Return the first reason of what failed."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
