"""What the metadata know of transactions' rows, and the tables on workers that hold them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog import ddl
from shard.catalog.model import Kind
from shard.catalog.naming import (
    INDEX_DATABASE,
    TEMPLATE_CHUNK,
    contribution_name,
    index_table,
    literal,
    namers,
    quote,
    stage_name,
)
from skyshard.errors import UserError
from skyshard.home.provision import bump
from skyshard.ingest.loading import LOADS_PER_WORKER, STATEMENTS
from skyshard.ingest.transactions import META, ChunkRows, Learned, Published


class Ledger:
    """What the metadata know of one transaction's rows, and the tables that hold them.

    Parameters
    ----------
    home : RawConnection
        A connection to the home server.
    agents : AgentPool
        The workers' agents.
    workers : sequence of int
        All workers that have not been removed, or those that answer.
    """

    def __init__(self, home: RawConnection, agents: AgentPool, workers: Sequence[int]) -> None:
        self._home, self.agents, self._workers = home, agents, list(workers)

    @property
    def workers(self) -> tuple[int, ...]:
        """The workers that it works on."""
        return tuple(self._workers)

    def only(self, workers: Iterable[int]) -> Ledger:
        """Return a ledger for those of its workers that are among these."""
        return Ledger(self._home, self.agents, sorted(set(workers).intersection(self._workers)))

    # opening -------------------------------------------------------------------------------------

    async def open(
        self,
        database: str,
        owner: str,
        detail: str,
        fingerprint: str,
        tables: Iterable[tuple[str, Kind]],
        state: str = "open",
    ) -> int:
        """Open a transaction; return its number. The database's lock must be held, and a transaction of the home server open.

        Its files are queued in that one, too: what is cut short is not there, and nobody publishes a part of the files.

        Parameters
        ----------
        state : str
            'open', or 'running' if its command does everything else as well.
        """
        home = self._home
        await home.run(
            f"INSERT INTO {META}.ingests (db_name, state, owner, detail, fingerprint) VALUES ({literal(database)}, "
            f"'{state}', {literal(owner[:255])}, {literal(detail)}, {literal(fingerprint)})"
        )
        number = int((await home.fetch_texts("SELECT LAST_INSERT_ID()"))[0][0])
        for name, kind in tables:
            await home.run(
                f"INSERT INTO {META}.ingest_tables (ingest_id, name, kind) VALUES "
                f"({number}, {literal(name)}, '{kind.value}')"
            )
        return number

    async def prepare(self, number: int) -> None:
        """Make the databases of an open transaction where there are none."""
        await self.make(stage_name(number))

    async def make(self, stage: str) -> None:
        """Make a database for rows everywhere, if there is none."""
        made = f"CREATE DATABASE IF NOT EXISTS {quote(stage)} CHARACTER SET utf8mb4"
        await self._home.run(made)
        await self.everywhere([made])

    async def look(self, number: int) -> None:
        """Note that a transaction has looked at all rows that are committed now, and may depend on them."""
        await self._home.run(
            f"UPDATE {META}.ingests SET seen = {await self.last_commit()} WHERE ingest_id = {number}"
        )

    async def last_commit(self) -> int:
        """Return the number of the last commit of all."""
        found = await self._home.fetch_texts(f"SELECT COALESCE(MAX(commit_no), 0) FROM {META}.ingests")
        return int(found[0][0])

    async def loaded_tables(self, number: int) -> dict[str, Learned]:
        """Return what is known of the tables that are loaded."""
        rows = await self._home.fetch_texts(
            f"SELECT name, learned FROM {META}.ingest_tables WHERE ingest_id = {number} AND state = 'loaded'"
        )
        return {name: msgspec.json.decode(learned, type=Learned) for name, learned in rows}

    async def loaded(
        self,
        number: int,
        table: str,
        learned: Learned,
        rows: Mapping[int, ChunkRows],
        holders: Mapping[int, Sequence[int]],
    ) -> None:
        """Note that all rows of a table have been loaded; workers that are away have no whole copy of any chunk then.

        Nor has one that was away when another table was loaded, even if it has got these rows: a commit copies them all.

        Parameters
        ----------
        rows : mapping
            Chunk → rows.
        holders : mapping
            Chunk → workers that have them.
        """
        await self.agents.settle(self._workers)  # what is noted must outlive a loss of power
        home = self._home
        await home.run("START TRANSACTION")
        whole = await self._whole(number, table)
        await self.insert(
            "REPLACE",
            "ingest_chunks",
            [f"({number}, {literal(table)}, {c}, {m}, {o})" for c, (m, o) in rows.items()],
        )
        held = [
            f"({number}, {chunk}, {worker})"
            for chunk, ids in holders.items()
            for worker in ids
            if chunk not in whole or worker in whole[chunk]
        ]
        await self.insert("REPLACE", "ingest_replicas", held)
        there = ", ".join(map(str, self._workers))
        await home.run(
            f"DELETE FROM {META}.ingest_replicas WHERE ingest_id = {number} AND worker_id NOT IN ({there})"
        )
        await home.run(
            f"UPDATE {META}.ingest_files SET state = 'loaded', reason = NULL WHERE ingest_id = {number} "
            f"AND name = {literal(table)}"
        )
        await home.run(
            f"UPDATE {META}.ingest_tables SET state = 'loaded', learned = 0x{msgspec.json.encode(learned).hex()} "
            f"WHERE ingest_id = {number} AND name = {literal(table)}"
        )
        await home.run("COMMIT")

    async def _whole(self, number: int, table: str) -> dict[int, set[int]]:
        """Return chunk → workers that have the rows of all other tables, of chunks that these have rows in."""
        out: dict[int, set[int]] = {}
        for chunk, worker in await self._home.fetch_texts(
            f"SELECT DISTINCT c.chunk_id, r.worker_id FROM {META}.ingest_chunks c LEFT JOIN {META}.ingest_replicas r "
            f"USING (ingest_id, chunk_id) WHERE c.ingest_id = {number} AND c.name <> {literal(table)}"
        ):
            ids = out.setdefault(int(chunk), set())
            if worker:
                ids.add(int(worker))
        return out

    async def insert(self, verb: str, into: str, rows: list[str]) -> None:
        """Write rows into a table of the metadata."""
        for start in range(0, len(rows), 1000):
            await self._home.run(f"{verb} INTO {META}.{into} VALUES " + ", ".join(rows[start : start + 1000]))

    async def parts(self, numbers: Iterable[int]) -> dict[int, dict[int, dict[str, ChunkRows]]]:
        """Return transaction → chunk → table → rows."""
        listed = ", ".join(map(str, numbers)) or "0"
        out: dict[int, dict[int, dict[str, ChunkRows]]] = {}
        for row in await self._home.fetch_texts(
            f"SELECT ingest_id, chunk_id, name, row_count, overlap_rows FROM {META}.ingest_chunks "
            f"WHERE ingest_id IN ({listed})"
        ):
            chunk = out.setdefault(int(row[0]), {}).setdefault(int(row[1]), {})
            chunk[row[2]] = ChunkRows(int(row[3]), int(row[4]))
        return out

    async def holders(self, number: int) -> dict[int, tuple[int, ...]]:
        """Return chunk → workers that have a transaction's rows."""
        out: dict[int, tuple[int, ...]] = {}
        for chunk, worker in await self._home.fetch_texts(
            f"SELECT chunk_id, worker_id FROM {META}.ingest_replicas WHERE ingest_id = {number} ORDER BY 1, 2"
        ):
            out[int(chunk)] = (*out.get(int(chunk), ()), int(worker))
        return out

    async def leave_out(self, number: int, chunk: int, worker: int) -> None:
        """Note that a worker's copy of a transaction's rows of a chunk does not count."""
        await self._home.run(
            f"DELETE FROM {META}.ingest_replicas WHERE ingest_id = {number} AND chunk_id = {chunk} "
            f"AND worker_id = {worker}"
        )

    async def whole_holders(self, number: int) -> dict[int, tuple[int, ...]]:
        """Return chunk → workers that have a transaction's rows, of all chunks that get any.

        Raises
        ------
        UserError
            If nobody has all rows of a chunk: its workers were away in turn.
        """
        out = await self.holders(number)
        lost = set((await self.parts([number])).get(number, {})) - set(out)
        if lost:
            raise UserError(in_turn(number, min(lost)))
        return out

    async def has_index(self, name: str) -> bool:
        """Whether there is a director index of that name."""
        found = await self._home.fetch_texts(
            f"SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(INDEX_DATABASE)} "
            f"AND TABLE_NAME = {literal(name)}"
        )
        return bool(found)

    async def set_states(self, db_id: int, states: Mapping[int, int]) -> None:
        """Write the states of chunks; 0: as it was published."""
        gone = ", ".join(str(chunk) for chunk, state in states.items() if not state)
        if gone:
            await self._home.run(
                f"DELETE FROM {META}.chunk_states WHERE db_id = {db_id} AND chunk_id IN ({gone})"
            )
        kept = [f"({db_id}, {chunk}, {state})" for chunk, state in states.items() if state]
        await self.insert("REPLACE", "chunk_states", kept)

    async def out_of_use(self, base: Published, chunks: Iterable[int], away: Iterable[int]) -> None:
        """Take the copies on workers that are away out of use; runs in the transaction after which they are wrong."""
        gone = set(away)
        await self.insert(
            "REPLACE",
            "chunk_replicas (db_id, chunk_id, worker_id, state)",
            [
                f"({base.db_id}, {chunk}, {worker}, 'stale')"
                for chunk in chunks
                for worker in base.holders.get(chunk, ())
                if worker in gone
            ],
        )

    # tables on workers -----------------------------------------------------------------------------

    async def everywhere(self, statements: Sequence[str]) -> None:
        """Run statements on every worker."""
        await self.run({worker: list(statements) for worker in self._workers})

    async def run(self, jobs: Mapping[int, list[str]], together: int = 0) -> None:
        """Run statements on workers.

        Parameters
        ----------
        together : int
            Size of a group of statements that are run in order; groups are run concurrently. 0: one group, all in order.
        """

        async def one(worker: int, texts: list[str]) -> None:
            for start in range(0, len(texts), STATEMENTS):
                await self.agents.admin(worker, texts[start : start + STATEMENTS])

        async with asyncio.TaskGroup() as group:
            for worker, texts in jobs.items():
                width = together or max(1, len(texts))
                groups = [texts[start : start + width] for start in range(0, len(texts), width)]
                for lane in range(min(LOADS_PER_WORKER, len(groups))):
                    mine = [text for part in groups[lane::LOADS_PER_WORKER] for text in part]
                    group.create_task(one(worker, mine))

    async def tables(self, database: str) -> dict[int, dict[str, str]]:
        """Return worker → its tables of a database → their engines."""
        sql = f"SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(database)}"
        answers = await asyncio.gather(*(self.agents.admin(worker, [sql]) for worker in self._workers))
        return {
            worker: {name or "": engine or "" for name, engine in rows}
            for worker, rows in zip(self._workers, answers, strict=True)
        }

    async def names(self, database: str) -> dict[int, set[str]]:
        """Return worker → table names of a database; empty where the database does not exist."""
        sql = f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(database)}"
        answers = await asyncio.gather(*(self.agents.admin(worker, [sql]) for worker in self._workers))
        return {
            worker: {row[0] or "" for row in rows}
            for worker, rows in zip(self._workers, answers, strict=True)
        }

    async def stored(self, worker: int, database: str) -> dict[str, int]:
        """Return table → rows of everything that a worker has of a database."""
        rows = await self.agents.admin(
            worker,
            [
                "SELECT TABLE_NAME, CAST(TABLE_ROWS AS CHAR) FROM information_schema.TABLES "
                f"WHERE TABLE_SCHEMA = {literal(database)} AND TABLE_ROWS IS NOT NULL"
            ],
        )
        return {name or "": int(count or "0") for name, count in rows}

    async def new_chunks(self, base: Published, holders: Mapping[int, Sequence[int]]) -> None:
        """Make the tables of chunks that the database did not have; they are empty."""
        jobs: dict[int, list[str]] = defaultdict(list)
        for chunk, workers in holders.items():
            for table in base.sharded:
                for namer in namers(table):
                    text = ddl.like(base.name, namer(table.name, chunk), namer(table.name, TEMPLATE_CHUNK))
                    for worker in workers:
                        jobs[worker].append(text)
        await self.run(jobs, 1)

    async def unions(
        self,
        base: Published,
        states: Mapping[int, int],
        visible: Sequence[int],
        holders: Mapping[int, Sequence[int]],
    ) -> None:
        """Make, for chunks in new states, the tables that unite their published rows with those of the visible transactions."""
        parts = await self.parts(visible)
        jobs: dict[int, list[str]] = defaultdict(list)
        for chunk, state in states.items():
            having = [(number, parts[number][chunk]) for number in visible if chunk in parts.get(number, {})]
            for table in base.sharded:
                for namer in namers(table):
                    name = namer(table.name, chunk)
                    of = [(stage_name(number), name) for number, tables in having if table.name in tables]
                    made = namer(table.name, chunk, state)
                    text = ddl.union(table.ddl, table.name, base.name, made, [(base.name, name), *of])
                    for worker in holders.get(chunk, ()):
                        jobs[worker].append(text)
        await self.run(jobs, 1)

    async def drop_states(self, base: Published, states: Iterable[tuple[int, int]]) -> None:
        """Drop the tables of (chunk, state) on every worker."""
        texts = [
            f"DROP TABLE IF EXISTS {quote(base.name)}.{quote(namer(table.name, chunk, state))}"
            for chunk, state in states
            for table in base.sharded
            for namer in namers(table)
        ]
        await self.run(dict.fromkeys(self._workers, texts), 1)

    async def drop_rows(self, number: int) -> None:
        """Drop everything that a transaction has loaded."""
        await self._drop_staged([stage_name(number)])
        await self.drop_contributions(number)

    async def drop_contributions(self, number: int, files: Iterable[int] | None = None) -> None:
        """Drop what was loaded of some files of tables: of those whose contributions begin with `files`, or of all."""
        listed = sorted(files) if files is not None else await self._contributions(number)
        await self._drop_staged([contribution_name(number, file) for file in listed])

    async def _contributions(self, number: int) -> list[int]:
        """Return the contributions whose databases there are anywhere."""
        prefix = contribution_name(number, 0)[:-1]
        sql = (
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA "
            f"WHERE LEFT(SCHEMA_NAME, {len(prefix)}) = {literal(prefix)}"
        )
        names = {row[0] for row in await self._home.fetch_texts(sql)}
        answers = await asyncio.gather(*(self.agents.admin(worker, [sql]) for worker in self._workers))
        names |= {row[0] or "" for rows in answers for row in rows}
        return sorted(int(name[len(prefix) :]) for name in names)

    async def _drop_staged(self, stages: Sequence[str]) -> None:
        """Drop databases of loaded rows everywhere, with their director indexes."""
        if not stages:
            return
        own = " OR ".join(
            f"LEFT(TABLE_NAME, {len(prefix)}) = {literal(prefix)}"
            for prefix in (index_table(stage, "") for stage in stages)
        )
        found = await self._home.fetch_texts(
            "SELECT TABLE_NAME FROM information_schema.TABLES "
            f"WHERE TABLE_SCHEMA = {literal(INDEX_DATABASE)} AND ({own})"
        )
        for (name,) in found:
            await self._home.run(f"DROP TABLE IF EXISTS {quote(INDEX_DATABASE)}.{quote(name)}")
        drops = [f"DROP DATABASE IF EXISTS {quote(stage)}" for stage in stages]
        for drop in drops:
            await self._home.run(drop)
        await self.run(dict.fromkeys(self._workers, drops), 1)

    async def forget(self, number: int, state: str) -> None:
        """Delete what the metadata know of a transaction's rows; its files stay as a record."""
        home = self._home
        await home.run("START TRANSACTION")
        for table in ("ingest_tables", "ingest_chunks", "ingest_replicas", "ingest_contributions"):
            await home.run(f"DELETE FROM {META}.{table} WHERE ingest_id = {number}")
        staged = f"SELECT db_id FROM {META}.`databases` WHERE name = {literal(stage_name(number))}"
        await home.run(
            f"DELETE FROM {META}.chunk_rows WHERE table_id IN "
            f"(SELECT table_id FROM {META}.`tables` WHERE db_id IN ({staged}))"
        )
        for table in ("`tables`", "chunk_replicas"):
            await home.run(f"DELETE FROM {META}.{table} WHERE db_id IN ({staged})")
        await home.run(f"DELETE FROM {META}.`databases` WHERE name = {literal(stage_name(number))}")
        await self.set_state(number, state, finished=True)
        await home.run("COMMIT")

    async def set_state(self, number: int, state: str, finished: bool = False) -> None:
        """Write a transaction's state."""
        end = ", finished_at = NOW()" if finished else ""
        await self._home.run(f"UPDATE {META}.ingests SET state = '{state}'{end} WHERE ingest_id = {number}")

    async def changed(self, db_id: int) -> None:
        """Raise a database's revision and tell the proxies; runs in the transaction that changes its rows."""
        await self._home.run(f"UPDATE {META}.`databases` SET revision = revision + 1 WHERE db_id = {db_id}")
        await bump(self._home)


def in_turn(number: int, chunk: int) -> str:
    """Return the error text for a transaction of which no worker has all rows of a chunk."""
    return (
        f"transaction {number}: no worker has all its rows of chunk {chunk}, since workers were away in turn; abort it "
        f"(skyshard ingest --abort {number}) and begin anew"
    )


async def forget_transactions(home: RawConnection, database: str) -> None:
    """Mark a database's unfinished transactions as dropped; runs in the transaction that takes it out of the metadata."""
    await home.run(
        f"UPDATE {META}.ingests SET state = 'dropped', finished_at = NOW() WHERE db_name = {literal(database)} "
        "AND state IN ('open', 'committing', 'committed', 'aborting', 'undoing', 'consolidating', 'consolidated')"
    )
