"""Drops a catalogue: users see all of it, and then nothing.

A list of steps that can be repeated from any point, so that a run that was killed is finished by the next one
(or by the next ingest under that name):

1. the database is 'dropping' in the metadata, and proxies forget it: running queries end well, or with 1412;
2. at home traps, replicated tables and director indexes are put aside by one RENAME, and with them the database
   unless something of users' own is in it;
3. on every worker that answers its chunk tables are dropped, and it is written down for the others to do so later;
4. what was put aside is dropped, and the metadata.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog.model import Kind, Table, Worker
from shard.catalog.naming import INDEX_DATABASE, copying_name, index_table, literal, quote
from shard.catalog.timing import GRACE_S
from shard.errors import SkyError
from skyshard.catalog.cluster import META, PATIENCE, answering
from skyshard.errors import UserError
from skyshard.home.moves import move
from skyshard.home.provision import bump
from skyshard.ingest.contributions import lock_loaders
from skyshard.ingest.debts import Debt, drop_forgotten, owe
from skyshard.ingest.ledger import forget_transactions


class Drop:
    """The removal of one database.

    Parameters
    ----------
    home : RawConnection
        A connection to the home server, which holds the catalogue's lock.
    agents : AgentPool
        The workers' agents.
    workers : iterable of Worker
        All that may hold chunks.
    database : str
        The catalogue's name.
    """

    def __init__(
        self, home: RawConnection, agents: AgentPool, workers: Iterable[Worker], database: str
    ) -> None:
        self._home, self._agents, self._database = home, agents, database
        self._workers = {worker.worker_id: worker for worker in workers}
        self.away: list[str] = []
        """Names of workers that do not answer, whose tables go when they are back."""

    @property
    def _on_workers(self) -> tuple[str, ...]:
        """The databases of workers that go; one is there only if a repair was killed."""
        return self._database, copying_name(self._database)

    async def finish(self) -> None:
        """Finish a removal that was begun and did not come to its end; do nothing else."""
        if await self._state() == b"dropping":
            await self.run()

    async def _state(self) -> bytes | None:
        name = literal(self._database)
        found = await self._home.fetch(f"SELECT state FROM {META}.`databases` WHERE name = {name}")
        return found[0][0] if found else None

    async def run(self) -> list[str]:
        """Drop it; return the users' tables, views and programs that stay in a database of that name.

        Raises
        ------
        UserError
            If there is no such catalogue, or something is in the way; then it is simply run again.
        """
        name = literal(self._database)
        found = await self._home.fetch(f"SELECT db_id, state FROM {META}.`databases` WHERE name = {name}")
        if not found:
            raise UserError(f"there is no catalogue '{self._database}'")
        number = int(found[0][0] or b"0")
        await self._lock_loaders()
        there = await answering(self._agents, self._workers, PATIENCE)
        away = [worker for worker in self._workers if worker not in there]
        self.away = [self._agents.name(worker) for worker in away]
        if found[0][1] != b"dropping":
            await self._home.run("START TRANSACTION")
            await self._home.run(f"UPDATE {META}.`databases` SET state = 'dropping' WHERE db_id = {number}")
            await bump(self._home)
            await self._home.run("COMMIT")
        await asyncio.sleep(GRACE_S)
        aside = f"skyshard_drop_{number}"
        await self._put_aside(number, aside)
        left = await self._names(self._database) + await self._programs()
        if not left:
            await self._home.run(f"DROP DATABASE IF EXISTS {quote(self._database)}")
        await self._workers_tables(there)
        await forget_transactions(self._home, self._database)
        await drop_forgotten(self._home, self._agents, sorted(there), self._database, away)
        await self._home.run(f"DROP DATABASE IF EXISTS {quote(aside)}")
        await self._forget(number, away)
        return left

    async def _lock_loaders(self) -> None:
        """Keep rows from coming to open transactions, which go with the database."""
        rows = await self._home.fetch(
            f"SELECT ingest_id FROM {META}.ingests WHERE db_name = {literal(self._database)} AND state = 'open'"
        )
        for (number,) in rows:
            await lock_loaders(self._home, int(number or b"0"))

    async def _put_aside(self, number: int, aside: str) -> None:
        rows = await self._home.fetch(
            f"SELECT definition FROM {META}.`tables` WHERE db_id = {number} ORDER BY table_id"
        )
        tables = [msgspec.json.decode(row[0] or b"", type=Table) for row in rows]
        here, indexes = set(await self._names(self._database)), set(await self._names(INDEX_DATABASE))
        moves = [(self._database, table.name) for table in tables if table.name in here]
        for table in tables:
            index = index_table(self._database, table.name)
            if table.kind is Kind.DIRECTOR and index in indexes:
                moves.append((INDEX_DATABASE, index))
        # What an earlier run has put aside is not here any more: a table of that name is a user's.
        gone = set(await self._names(aside))
        left = [(base, name, aside, name) for base, name in moves if name not in gone]
        if not left:
            return
        await self._home.run(f"CREATE DATABASE IF NOT EXISTS {quote(aside)} CHARACTER SET utf8mb4")
        await move(self._home, left, self._database, "no longer published")

    async def _names(self, database: str) -> list[str]:
        """Return the tables and views of a database at home."""
        rows = await self._home.fetch_texts(
            f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(database)} ORDER BY 1"
        )
        return [row[0] for row in rows]

    async def _programs(self) -> list[str]:
        """Return users' stored functions, procedures and events of the database."""
        name = literal(self._database)
        rows = await self._home.fetch_texts(
            f"SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name} UNION "
            f"SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name} ORDER BY 1"
        )
        return [row[0] for row in rows]

    async def _workers_tables(self, there: Iterable[int]) -> None:
        """Drop the chunk tables of workers; one that fails keeps none of the others from it."""
        drops, numbers = (
            [f"DROP DATABASE IF EXISTS {quote(name)}" for name in self._on_workers],
            sorted(there),
        )
        answers = await asyncio.gather(
            *(self._agents.admin(number, drops) for number in numbers), return_exceptions=True
        )
        silent = []
        for number, answer in zip(numbers, answers, strict=True):
            if isinstance(answer, SkyError):
                silent.append(f"{self._workers[number].name} ({answer})")
            elif isinstance(answer, BaseException):
                raise answer
        if silent:
            raise UserError(
                f"database '{self._database}' is gone for users, but chunk tables are left on {', '.join(silent)}: "
                "run the same command again when that has been mended"
            )

    async def _forget(self, number: int, away: Iterable[int]) -> None:
        await self._home.run("START TRANSACTION")
        await owe(self._home, self._database, away, Debt(db_id=number, databases=self._on_workers))
        await self._home.run(
            f"DELETE FROM {META}.chunk_rows WHERE table_id IN "
            f"(SELECT table_id FROM {META}.`tables` WHERE db_id = {number})"
        )
        for table in ("`tables`", "chunk_replicas", "chunk_states", "`databases`"):
            await self._home.run(f"DELETE FROM {META}.{table} WHERE db_id = {number}")
        await bump(self._home)
        await self._home.run("COMMIT")
