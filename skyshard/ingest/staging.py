"""How a loaded catalogue comes into being: staged beside what is published, then swapped by renaming.

An ingest loads everything into databases ``skyshard_stage_<number>`` and writes its metadata under that name;
nobody sees it. Publishing is a list of steps that can be repeated from any point, so that a run that was
killed while it published is finished by the next one:

1. the ingest is 'publishing'; what is published under the name is 'swapping', and proxies drop it;
2. on every worker the old tables move to ``skyshard_old_<number>``, then the staged ones take their place, on disk;
3. at home traps, replicated tables and director indexes are exchanged by one RENAME;
4. the metadata takes the real name, 'published', in one transaction that bumps the catalogue's version;
5. what was put aside is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog.model import Kind, Partitioning, Table
from shard.catalog.naming import INDEX_DATABASE, META_DATABASE, index_table, literal, quote, stage_name
from shard.catalog.timing import GRACE_S
from skyshard.errors import NotNow, UserError
from skyshard.home.guard import TooWide, trap_statements
from skyshard.home.moves import move
from skyshard.home.provision import bump
from skyshard.ingest.contributions import lock_loaders
from skyshard.ingest.debts import Debt, drop_forgotten, owe, pay
from skyshard.ingest.ledger import Ledger, forget_transactions
from skyshard.ingest.transactions import ChunkRows

RENAMES = 200
"""Tables moved by one RENAME TABLE."""

_META = quote(META_DATABASE)
_MOVED = "moved_out"
"""Table in the database of old tables that says that all of them are there."""


def old_name(number: int) -> str:
    """Return the database that holds what ingest `number` replaces, until it is dropped."""
    return f"skyshard_old_{number}"


class Staging:
    """The metadata and the databases of ingests of one catalogue.

    Parameters
    ----------
    home : RawConnection
        A connection to the home server, which holds the catalogue's lock.
    agents : AgentPool
        The workers' agents.
    workers : sequence of int
        The workers that answer.
    database : str
        The catalogue's name.
    away : mapping
        Workers that do not answer → their names. They have no part in what is published, and drop what they have later.
    """

    def __init__(
        self,
        home: RawConnection,
        agents: AgentPool,
        workers: Sequence[int],
        database: str,
        away: Mapping[int, str] | None = None,
    ) -> None:
        self._home, self._agents, self._workers, self._database = home, agents, workers, database
        self._away = dict(away or {})
        self._ledger = Ledger(home, agents, workers)

    async def recover(self, keep: int | None = None) -> bool:
        """Finish or clear away what earlier runs left, but for `keep`; return whether one was finished.

        Workers that were away then, and are back, drop what they have still to first.
        """
        finished = False
        await pay(self._home, self._agents, self._database, self._workers)
        rows = await self._home.fetch(
            f"SELECT ingest_id, state FROM {_META}.ingests WHERE db_name = {literal(self._database)} "
            "AND finished_at IS NULL AND state IN ('running', 'publishing', 'published') ORDER BY ingest_id"
        )
        for number, state in rows:
            ingest = int(number or b"0")
            if state == b"publishing":
                await self.publish(ingest)
                finished = True
            elif state == b"published":
                await self._tidy(ingest)
            elif ingest != keep:
                await self.abandon(ingest, "abandoned")
        return finished

    async def check_closed(self, but: int = 0) -> None:
        """Refuse to replace a database while transactions on it are open, `but` for one.

        Raises
        ------
        UserError
            Naming the first.
        """
        found = await self._home.fetch_texts(
            f"SELECT ingest_id, owner FROM {_META}.ingests WHERE db_name = {literal(self._database)} "
            f"AND state IN ('open', 'committing') AND ingest_id <> {but} ORDER BY 1 LIMIT 1"
        )
        if found:
            number = int(found[0][0])
            raise UserError(
                f"transaction {number} of {found[0][1]} on database '{self._database}' is open; "
                f"finish it, or abort it (skyshard ingest --abort {number})"
            )

    async def check_free(self, replace: bool, names: Iterable[str]) -> None:
        """Refuse to touch what is published (without `replace`) or is no catalogue.

        Parameters
        ----------
        names : iterable of str
            The tables to come; a user's own table or view of such a name in the database is not replaced.

        Raises
        ------
        UserError
            With the reason.
        """
        name = literal(self._database)
        found = await self._home.fetch(f"SELECT state FROM {_META}.`databases` WHERE name = {name}")
        published = bool(found) and found[0][0] == b"published"
        if published and not replace:
            raise UserError(
                f"database '{self._database}' is published; use --replace to swap it for these files"
            )
        rows = await self._home.fetch_texts(
            f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name}"
        )
        known = {row[0] for row in rows}
        if known and not found:
            raise UserError(f"a database '{self._database}' that is no catalogue exists; choose another name")
        own = known - {table.name for table in await self._tables(self._database)} if published else set()
        if taken := sorted(own.intersection(names)):
            raise UserError(
                f"'{self._database}.{taken[0]}' is a user's table or view; drop it, or choose another name"
            )

    async def begin(self, owner: str, detail: str, partitioning: Partitioning, replicas: int) -> int:
        """Register an ingest and make its databases; return its number."""
        await self._home.run(
            f"INSERT INTO {_META}.ingests (db_name, state, owner, detail) VALUES "
            f"({literal(self._database)}, 'running', {literal(owner[:255])}, {literal(detail)})"
        )
        number = int((await self._home.fetch("SELECT LAST_INSERT_ID()"))[0][0] or b"0")
        await self.register(number, partitioning, replicas)
        create = [_drop(stage_name(number)), _create(stage_name(number))]
        for statement in create:
            await self._home.run(statement)
        await self._ledger.everywhere(create)
        return number

    async def register(self, number: int, partitioning: Partitioning, replicas: int) -> None:
        """Write down the database that an ingest makes, once."""
        stage = literal(stage_name(number))
        await self._home.run(
            f"INSERT IGNORE INTO {_META}.`databases` (name, stripes, sub_stripes, overlap_deg, state, version, replicas) "
            f"VALUES ({stage}, {partitioning.stripes}, {partitioning.sub_stripes}, {partitioning.overlap_deg!r}, "
            f"'building', {number}, {replicas})"
        )

    async def abandon(self, number: int, state: str) -> None:
        """Remove everything of an ingest that was not published; `state` is 'failed' or 'abandoned'."""
        await lock_loaders(self._home, number)
        await owe(self._home, self._database, self._away, Debt(db_id=0, stages=(number,)))
        await self._forget(stage_name(number))
        await self._ledger.drop_rows(number)
        await self._ledger.forget(number, state)

    async def _forget(self, name: str) -> None:
        """Remove a database's metadata."""
        found = await self._home.fetch(f"SELECT db_id FROM {_META}.`databases` WHERE name = {literal(name)}")
        for (number,) in found:
            db_id = int(number or b"0")
            await self._clear(db_id)
            await self._home.run(f"DELETE FROM {_META}.`databases` WHERE db_id = {db_id}")
            await forget_transactions(self._home, name)

    async def _clear(self, db_id: int) -> None:
        """Remove what the metadata know of a database's tables and chunks."""
        await self._home.run(
            f"DELETE FROM {_META}.chunk_rows WHERE table_id IN "
            f"(SELECT table_id FROM {_META}.`tables` WHERE db_id = {db_id})"
        )
        for table in ("`tables`", "chunk_replicas", "chunk_states"):
            await self._home.run(f"DELETE FROM {_META}.{table} WHERE db_id = {db_id}")

    async def write(
        self,
        number: int,
        tables: Sequence[Table],
        counts: Mapping[str, Mapping[int, ChunkRows]],
        replicas: Mapping[int, Sequence[int]],
    ) -> None:
        """Write the metadata of a loaded catalogue, still under its staged name.

        Parameters
        ----------
        counts : mapping
            Sharded table → chunk → rows.
        replicas : mapping
            Chunk → workers that have it.
        """
        home = self._home
        await home.run("START TRANSACTION")
        db_id = await self._db_id(stage_name(number))
        await self._clear(db_id)  # a run that was killed may have been here
        for table in tables:
            definition = msgspec.json.encode(table).hex()
            await home.run(
                f"INSERT INTO {_META}.`tables` (db_id, name, kind, definition, row_count) VALUES "
                f"({db_id}, {literal(table.name)}, '{table.kind.value}', 0x{definition}, {table.rows})"
            )
            table_id = int((await home.fetch("SELECT LAST_INSERT_ID()"))[0][0] or b"0")
            if table.name in counts:
                await self._ledger.insert(
                    "INSERT",
                    "chunk_rows (table_id, chunk_id, row_count, overlap_rows)",
                    [
                        f"({table_id}, {chunk}, {has.rows}, {has.overlap})"
                        for chunk, has in sorted(counts[table.name].items())
                    ],
                )
        await self._ledger.insert(
            "INSERT",
            "chunk_replicas (db_id, chunk_id, worker_id)",
            [f"({db_id}, {chunk}, {worker})" for chunk, ids in sorted(replicas.items()) for worker in ids],
        )
        await home.run("COMMIT")

    async def _db_id(self, name: str) -> int:
        found = await self._home.fetch(f"SELECT db_id FROM {_META}.`databases` WHERE name = {literal(name)}")
        return int(found[0][0] or b"0")

    async def publish(self, number: int) -> None:
        """Put a loaded catalogue in the place of what is published; may be repeated after a failure.

        Raises
        ------
        NotNow
            If workers are away of which others have not all chunks.
        """
        home, name = self._home, literal(self._database)
        await self._check_own(stage_name(number))
        await self._need_one_of_each(number)
        # One that was away when this began, and is here now, must not drop one day what it gets. From here on nobody who is
        # here owes anything: whoever finishes this may let all pay before.
        await pay(self._home, self._agents, self._database, self._workers)
        tables = await self._tables(stage_name(number))
        await home.run("START TRANSACTION")
        await home.run(f"UPDATE {_META}.ingests SET state = 'publishing' WHERE ingest_id = {number}")
        swapped = await home.run(f"UPDATE {_META}.`databases` SET state = 'swapping' WHERE name = {name}")
        await bump(home)
        await home.run("COMMIT")
        before = await self._tables(self._database)
        if swapped.affected_rows:
            await asyncio.sleep(GRACE_S)
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(self._swap_worker(worker, number))
        await self._agents.settle(self._workers)
        await self._swap_home(number, tables, before)
        await home.run("START TRANSACTION")
        await self._forget(self._database)
        await home.run(
            f"UPDATE {_META}.`databases` SET name = {name}, state = 'published', version = {number}, "
            f"published_at = NOW() WHERE name = {literal(stage_name(number))}"
        )
        await home.run(f"UPDATE {_META}.ingests SET state = 'published' WHERE ingest_id = {number}")
        await self._leave_out(number)
        await bump(home)
        await home.run("COMMIT")
        await self._tidy(number)

    async def _check_own(self, stage: str) -> None:
        """Refuse to swap in tables where users have made their own of these names; what is staged is not there yet."""
        staged = await self._names(stage)
        here = await self._names(self._database) | await self._names(self._database, "VIEW")
        own = here - {table.name for table in await self._tables(self._database)}
        if taken := sorted(own & staged):
            raise UserError(
                f"'{self._database}.{taken[0]}' is a user's table or view; drop or rename it, and run this again"
            )

    async def _need_one_of_each(self, number: int) -> None:
        """Refuse to publish chunks of which nobody who answers has a copy."""
        listed = ", ".join(map(str, self._workers)) or "0"
        found = await self._home.fetch(
            f"SELECT chunk_id, MIN(worker_id) FROM {_META}.chunk_replicas r JOIN {_META}.`databases` d USING (db_id) "
            f"WHERE d.name = {literal(stage_name(number))} AND r.state = 'ok' GROUP BY chunk_id "
            f"HAVING SUM(worker_id IN ({listed})) = 0 ORDER BY 1 LIMIT 1"
        )
        for chunk, worker in found:
            name = self._away.get(int(worker or b"0"), "a worker that is removed")
            raise NotNow(
                f"{name} does not answer, and has the only copy of chunk {int(chunk or b'0')} of ingest {number}; "
                "start it, and run this again"
            )

    async def _leave_out(self, number: int) -> None:
        """Let workers that are away have no part in what is published; belongs to the transaction that publishes it."""
        if not self._away:
            return
        gone = ", ".join(map(str, self._away))
        await self._home.run(
            f"DELETE FROM {_META}.chunk_replicas WHERE worker_id IN ({gone}) AND db_id = "
            f"(SELECT db_id FROM {_META}.`databases` WHERE name = {literal(self._database)})"
        )
        await owe(self._home, self._database, self._away, Debt(db_id=0, databases=(self._database,)))

    async def _tables(self, name: str) -> list[Table]:
        rows = await self._home.fetch(
            f"SELECT t.definition FROM {_META}.`tables` t JOIN {_META}.`databases` d USING (db_id) "
            f"WHERE d.name = {literal(name)} ORDER BY t.table_id"
        )
        return [msgspec.json.decode(row[0] or b"", type=Table) for row in rows]

    async def _swap_worker(self, worker: int, number: int) -> None:
        stage, old, name = stage_name(number), old_name(number), self._database
        await self._agents.admin(worker, [_create(name), _create(old), _create(stage)])
        if _MOVED not in await self._listed(worker, old):
            await self._move(worker, name, old)
            await self._agents.admin(
                worker, [f"CREATE TABLE {quote(old)}.{quote(_MOVED)} (x INT) ENGINE=MyISAM"]
            )
        await self._move(worker, stage, name)

    async def _move(self, worker: int, source: str, target: str) -> None:
        names = await self._listed(worker, source)
        for start in range(0, len(names), RENAMES):
            pairs = (
                f"{quote(source)}.{quote(n)} TO {quote(target)}.{quote(n)}"
                for n in names[start : start + RENAMES]
            )
            await self._agents.admin(worker, ["RENAME TABLE " + ", ".join(pairs)])

    async def _listed(self, worker: int, database: str) -> list[str]:
        rows = await self._agents.admin(
            worker,
            [f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(database)}"],
        )
        return sorted(row[0] or "" for row in rows)

    async def _swap_home(self, number: int, tables: Sequence[Table], before: Sequence[Table]) -> None:
        """Exchange everything at home by one RENAME, which is done whole or not at all.

        The traps come as they were made in the staged database: one that is made in place would, for a moment,
        be an empty table that answers.
        """
        stage, old, name = stage_name(number), old_name(number), self._database
        staged, here = await self._names(stage), await self._names(name)
        if not staged:
            return  # an earlier run got this far
        for database in (name, old):
            await self._home.run(_create(database))
        away = ({table.name for table in before} | staged) & here
        moves = [(name, table, old, table) for table in sorted(away)]
        moves += [(stage, table, name, table) for table in sorted(staged)]
        indexes = await self._names(INDEX_DATABASE)
        for table in sorted({table.name for table in before if table.kind is Kind.DIRECTOR}):
            if (index := index_table(name, table)) in indexes:
                moves.append((INDEX_DATABASE, index, old, index))
        for table in sorted(table.name for table in tables if table.kind is Kind.DIRECTOR):
            moves.append(
                (INDEX_DATABASE, index_table(stage, table), INDEX_DATABASE, index_table(name, table))
            )
        await move(self._home, moves, name, "half swapped")

    async def _names(self, database: str, kind: str = "BASE TABLE") -> set[str]:
        """Return the tables, or views, of a database at home."""
        found = await self._home.fetch_texts(
            f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(database)} "
            f"AND TABLE_TYPE = {literal(kind)}"
        )
        return {row[0] for row in found}

    async def _tidy(self, number: int) -> None:
        drops = [_drop(stage_name(number)), _drop(old_name(number))]
        debt = Debt(db_id=0, stages=(number,), databases=(old_name(number),))
        await owe(self._home, self._database, self._away, debt)
        await drop_forgotten(self._home, self._agents, self._workers, self._database, self._away)
        await self._ledger.everywhere(drops)
        for statement in drops:
            await self._home.run(statement)
        await self._ledger.drop_contributions(number)
        await self._ledger.forget(number, "published")


def traps(database: str, table: Table) -> tuple[str, ...]:
    """Return the statements that make a sharded table's trap.

    Raises
    ------
    UserError
        If it has more columns than MariaDB can have.
    """
    try:
        return trap_statements(database, table)
    except TooWide as error:
        raise UserError(str(error)) from error


def _create(name: str) -> str:
    return f"CREATE DATABASE IF NOT EXISTS {quote(name)} CHARACTER SET utf8mb4"


def _drop(name: str) -> str:
    return f"DROP DATABASE IF EXISTS {quote(name)}"
