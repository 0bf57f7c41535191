"""Commits, aborts, undoes and consolidates transactions: each in steps that can be repeated from any point.

What a query sees changes in one transaction on the metadata at home. Everything before it makes tables that nobody
knows yet, everything after it drops tables that nobody needs any more, so a command that was killed is finished by the
next one. See docs/decisions/0007-transactions.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from backend.connection import RawConnection
from shard.catalog.model import Kind, Table, whole_name
from shard.catalog.naming import (
    INDEX_DATABASE,
    index_table,
    literal,
    namers,
    quote,
    stage_name,
)
from shard.errors import WORKER_DOWN, SkyError
from skyshard.errors import UserError
from skyshard.ingest.additions import Additions, stems_of
from skyshard.ingest.consolidate import Consolidation
from skyshard.ingest.debts import Debt, owe, pay
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.replicated import ReplicatedRows
from skyshard.ingest.transactions import (
    GRACE_S,
    META,
    NOTICE_S,
    Learned,
    Published,
    Transaction,
    published,
    transactions,
    whole_rows,
)
from skyshard.replicas.copy import Content, Copier, CopyFailed

_VISIBLE = ("committed", "consolidating")


@dataclass(frozen=True, slots=True)
class Commits:
    """Changes what is visible of one database; its lock must be held.

    Attributes
    ----------
    grace_s : float
        Seconds that queries which began before get to end, when tables that they read are dropped.
    away : mapping
        Workers that do not answer → their names. Rows come and go without them, if others have all; tables, and rows of
        replicated tables, come only with every worker.
    """

    home: RawConnection
    ledger: Ledger
    database: str
    grace_s: float = GRACE_S
    away: Mapping[int, str] = field(default_factory=dict)

    async def recover(self) -> list[int]:
        """Finish what earlier runs began to undo, abort, commit or consolidate; return the transactions."""
        await self.catch_up()
        states = "'committing', 'aborting', 'undoing', 'consolidating'"
        found = await transactions(
            self.home, f"i.db_name = {literal(self.database)} AND i.state IN ({states})"
        )
        for one in found:
            match one.state:
                case "committing":
                    await self.commit(one)
                    await asyncio.sleep(NOTICE_S)  # whoever asks again finds the rows published
                case "aborting":
                    await self.abort(one)
                case "undoing":
                    await self._clear(one)
        if any(one.state == "consolidating" for one in found):
            await self.consolidate()
        return [one.number for one in found]

    def _need_all(self, when: str) -> None:
        """Refuse what must be done on every worker, while one is away."""
        if self.away:
            name = next(iter(self.away.values()))
            raise UserError(
                f"{name} does not answer, and every worker must when {when}; start it, and run this again"
            )

    def _there(self, base: Published) -> dict[int, tuple[int, ...]]:
        """Return chunk → workers that have a good copy and answer."""
        return {
            chunk: tuple(worker for worker in ids if worker not in self.away)
            for chunk, ids in base.holders.items()
        }

    def _need_one_of_each(self, base: Published, chunks: Iterable[int]) -> None:
        """Refuse to change chunks of which nobody who answers has a copy."""
        there = self._there(base)
        for chunk in chunks:
            if chunk in there and not there[chunk]:
                raise SkyError(
                    WORKER_DOWN, worker=self.away.get(next(iter(base.holders[chunk]), 0), "that has its rows")
                )

    async def catch_up(self) -> None:
        """Let workers that were away drop what they had to; comes before anything else that is done to the database."""
        await pay(self.home, self.ledger.agents, self.database, self.ledger.workers)

    async def visible(self) -> list[Transaction]:
        """Return the transactions whose rows are visible and not consolidated, the first commit first."""
        states = ", ".join(map(literal, _VISIBLE))
        return await transactions(
            self.home, f"i.db_name = {literal(self.database)} AND i.state IN ({states})"
        )

    # commit --------------------------------------------------------------------------------------

    async def commit(self, one: Transaction) -> int:
        """Make a transaction's rows visible; return the number of the commit.

        Raises
        ------
        UserError
            If it cannot be: not all is loaded, a key is there already, or a copy is where its rows are not.
        """
        base = await published(self.home, self.database)
        learned = await self.ledger.loaded_tables(one.number)
        if taken := [name for name, facts in learned.items() if facts.table is not None and base.table(name)]:
            raise UserError(f"table '{self.database}.{taken[0]}' has been published by another transaction")
        if missing := sorted(set(one.tables) - set(learned)):
            raise UserError(f"transaction {one.number}: table '{missing[0]}' is not loaded")
        if any(facts.table is not None for facts in learned.values()):
            self._need_all("tables are added")
        replicated = ReplicatedRows(self.home, self.ledger, base)
        whole = replicated.of(learned)
        if whole:
            self._need_all("rows are added to replicated tables")
        visible = [other.number for other in await self.visible()]
        await self.check_keys(base, one, visible)
        holders = await self._holders(base, one)
        commit = one.commit or await self.ledger.last_commit() + 1
        await self.home.run(
            f"UPDATE {META}.ingests SET state = 'committing', commit_no = {commit} WHERE ingest_id = {one.number}"
        )
        new = {chunk: ids for chunk, ids in holders.items() if chunk not in base.holders}
        tables = [facts.table for facts in learned.values() if facts.table is not None]
        wide = base.with_tables(tables)
        await Additions(self.home, self.ledger, base, one.number).make(tables)
        await self.ledger.new_chunks(wide, new)
        await self.ledger.unions(wide, dict.fromkeys(holders, commit), [*visible, one.number], holders)
        await replicated.make(one, commit, whole, visible)
        await self._make_visible(base, one, commit, learned, new, list(holders))
        return commit

    async def check_keys(self, base: Published, one: Transaction, visible: Sequence[int]) -> None:
        """Refuse keys of directors that are there already.

        Raises
        ------
        UserError
            Naming table and key.
        """
        for table in base.tables:
            if table.kind is not Kind.DIRECTOR or table.name not in one.tables:
                continue
            new = f"{quote(INDEX_DATABASE)}.{quote(index_table(stage_name(one.number), table.name))}"
            for place in (self.database, *map(stage_name, visible)):
                name = index_table(place, table.name)
                if not await self.ledger.has_index(name):
                    continue
                found = await self.home.fetch(
                    f"SELECT n.directorKey FROM {new} n JOIN {quote(INDEX_DATABASE)}.{quote(name)} b "
                    "ON n.directorKey = b.directorKey LIMIT 1"
                )
                if found:
                    raise UserError(
                        f"table '{table.name}': key '{(found[0][0] or b'').decode()}' of column '{table.key}' is in "
                        "the published table already; nothing was published"
                    )

    async def _holders(self, base: Published, one: Transaction) -> dict[int, tuple[int, ...]]:
        """Return the workers of the chunks that get rows; copies that were made since they were loaded get them, too.

        A copy whose worker is away is none any more: it will be made anew by a repair.
        """
        loaded = await self.ledger.holders(one.number)
        parts = (await self.ledger.parts([one.number])).get(one.number, {})
        content = Content.of(base.name, base.tables, {})
        copier = Copier(self.ledger.agents, content)
        out = {}
        for chunk, ids in loaded.items():
            wanted = base.holders.get(chunk, ids)
            sources = [worker for worker in ids if worker not in self.away]
            out[chunk] = tuple(worker for worker in wanted if worker not in self.away)
            if not sources or not out[chunk]:
                raise SkyError(WORKER_DOWN, worker=self.away.get((*ids, *wanted)[0], "that has its rows"))
            counted = {(name, chunk): counts for name, counts in parts.get(chunk, {}).items()}
            for target in set(out[chunk]) - set(ids):
                items = content.added_items(chunk, one.number, counted)
                try:
                    await copier.tables(chunk, items, sources[0], target)
                except CopyFailed as error:
                    raise UserError(f"transaction {one.number}: chunk {chunk}: {error}") from error
                await self.ledger.insert("REPLACE", "ingest_replicas", [f"({one.number}, {chunk}, {target})"])
        return out

    async def _make_visible(
        self,
        base: Published,
        one: Transaction,
        commit: int,
        learned: Mapping[str, Learned],
        new: Mapping[int, Sequence[int]],
        chunks: Sequence[int],
    ) -> None:
        home = self.home
        ids = await self._table_ids(base)
        replicated = ReplicatedRows(home, self.ledger, base)
        whole = replicated.of(learned)
        await home.run("START TRANSACTION")
        revision = await replicated.revision()
        for name, facts in learned.items():
            before = base.table(name)
            if facts.table is not None:
                ids[name] = await self._insert_table(base, facts.table)
            elif before is None:
                raise UserError(f"there is no table '{self.database}.{name}' any more")
            else:
                now = _with(before, facts)
                if name in whole:
                    await replicated.show(one, before)
                    now = msgspec.structs.replace(now, state=commit, changed=revision)
                await self._define(base, now)
                await home.run(
                    f"UPDATE {META}.ingest_tables SET before_it = 0x{msgspec.json.encode(before).hex()} "
                    f"WHERE ingest_id = {one.number} AND name = {literal(name)}"
                )
            await home.run(
                f"INSERT INTO {META}.chunk_rows (table_id, chunk_id, row_count, overlap_rows) "
                f"SELECT {ids[name]}, p.chunk_id, p.row_count, p.overlap_rows FROM {META}.ingest_chunks p "
                f"WHERE p.ingest_id = {one.number} AND p.name = {literal(name)} ON DUPLICATE KEY UPDATE "
                "chunk_rows.row_count = chunk_rows.row_count + VALUES(row_count), "
                "chunk_rows.overlap_rows = chunk_rows.overlap_rows + VALUES(overlap_rows)"
            )
        await self.ledger.out_of_use(base, chunks, self.away)
        held = [f"({base.db_id}, {chunk}, {worker})" for chunk, ids in new.items() for worker in ids]
        await self.ledger.insert("INSERT", "chunk_replicas (db_id, chunk_id, worker_id)", held)
        await self.ledger.insert(
            "REPLACE", "chunk_states", [f"({base.db_id}, {chunk}, {commit})" for chunk in chunks]
        )
        await home.run(f"UPDATE {META}.ingests SET committed_at = NOW() WHERE ingest_id = {one.number}")
        await self.ledger.set_state(one.number, "committed", finished=True)
        await self.ledger.changed(base.db_id)
        await home.run("COMMIT")

    async def _insert_table(self, base: Published, table: Table) -> int:
        await self.home.run(
            f"INSERT INTO {META}.`tables` (db_id, name, kind, definition, row_count) VALUES ({base.db_id}, "
            f"{literal(table.name)}, '{table.kind.value}', 0x{msgspec.json.encode(table).hex()}, {table.rows})"
        )
        return int((await self.home.fetch("SELECT LAST_INSERT_ID()"))[0][0] or b"0")

    async def _define(self, base: Published, table: Table) -> None:
        await self.home.run(
            f"UPDATE {META}.`tables` SET definition = 0x{msgspec.json.encode(table).hex()}, row_count = {table.rows} "
            f"WHERE db_id = {base.db_id} AND name = {literal(table.name)}"
        )

    async def _table_ids(self, base: Published) -> dict[str, int]:
        rows = await self.home.fetch(f"SELECT name, table_id FROM {META}.`tables` WHERE db_id = {base.db_id}")
        return {(name or b"").decode(): int(number or b"0") for name, number in rows}

    # abort and undo --------------------------------------------------------------------------------

    async def abort(self, one: Transaction) -> None:
        """Remove everything of a transaction that was not committed.

        Raises
        ------
        UserError
            If it was.
        """
        if one.state not in ("open", "committing", "aborting"):
            raise UserError(f"transaction {one.number} is {one.state}; only one that is open can be aborted")
        await self.ledger.set_state(one.number, "aborting")
        base = await published(self.home, self.database)
        held = await self.ledger.holders(one.number)
        if one.commit:
            await self._drop_tables(base, one)
            await self._drop_states(base, one, held)
            await self.ledger.drop_states(base, [(chunk, 0) for chunk in held if chunk not in base.holders])
        await self._owe(base, one, held)
        await self.ledger.drop_rows(one.number)
        await self.ledger.forget(one.number, "aborted")

    async def undo(self, one: Transaction) -> None:
        """Take back what a commit made visible: all is as it was before it.

        Raises
        ------
        UserError
            If it was not committed, is consolidated, or others build on it.
        """
        if one.state != "committed":
            raise UserError(
                f"transaction {one.number} is {one.state}; only one that is committed can be undone"
            )
        visible = await self.visible()
        if visible[-1].number != one.number:
            raise UserError(
                f"transaction {one.number} cannot be undone before transaction {visible[-1].number}, which was "
                "committed after it"
            )
        opened = await transactions(
            self.home,
            f"i.db_name = {literal(self.database)} AND i.state = 'open' AND i.seen >= {one.commit} "
            f"AND EXISTS (SELECT 1 FROM {META}.ingest_tables l WHERE l.ingest_id = i.ingest_id)",
        )
        if opened:
            raise UserError(
                f"transaction {opened[0].number} is open and may build on transaction {one.number}; abort it first, "
                "or commit and undo it"
            )
        base = await published(self.home, self.database)
        self._need_one_of_each(base, await self.ledger.holders(one.number))
        left = [other.number for other in visible[:-1]]
        states = await self._states_without(base, one, visible[:-1])
        changed = {chunk: state for chunk, state in states.items() if state}
        await self.ledger.unions(
            base, changed, left, self._there(base)
        )  # a copy made since may not have them
        before = await self._before(one)
        earlier = {
            name: table.state for name, table in before.items() if table is not None and not table.is_sharded
        }
        await ReplicatedRows(self.home, self.ledger, base).unions(earlier, left)
        await self._make_invisible(base, one, states)
        await asyncio.sleep(GRACE_S + self.grace_s)
        await self._clear(await self._again(one))

    async def _again(self, one: Transaction) -> Transaction:
        return (await transactions(self.home, f"i.ingest_id = {one.number}"))[0]

    async def _states_without(
        self, base: Published, one: Transaction, others: Sequence[Transaction]
    ) -> dict[int, int]:
        """Return the states of a transaction's chunks before it."""
        parts = await self.ledger.parts([one.number, *(other.number for other in others)])
        out = dict.fromkeys(parts.get(one.number, {}), 0)
        for other in others:
            for chunk in parts.get(other.number, {}):
                if chunk in out:
                    out[chunk] = other.commit
        return out

    async def _before(self, one: Transaction) -> dict[str, Table | None]:
        """Return a transaction's tables as they were before it; None for those that it has brought."""
        rows = await self.home.fetch(
            f"SELECT name, before_it FROM {META}.ingest_tables WHERE ingest_id = {one.number}"
        )
        return {
            (name or b"").decode(): None if table is None else msgspec.json.decode(table, type=Table)
            for name, table in rows
        }

    async def _make_invisible(self, base: Published, one: Transaction, states: Mapping[int, int]) -> None:
        home = self.home
        ids, replicated = await self._table_ids(base), ReplicatedRows(home, self.ledger, base)
        await home.run("START TRANSACTION")
        revision = await replicated.revision()
        for name, table in (await self._before(one)).items():
            if table is None:
                await home.run(f"DELETE FROM {META}.`tables` WHERE table_id = {ids[name]}")
                await home.run(f"DELETE FROM {META}.chunk_rows WHERE table_id = {ids[name]}")
                continue
            if not table.is_sharded:
                await replicated.hide(one, table)
                table = msgspec.structs.replace(table, changed=revision)  # noqa: PLW2901
            await self._define(base, table)
            await home.run(
                f"UPDATE {META}.chunk_rows c JOIN {META}.ingest_chunks p ON p.ingest_id = {one.number} "
                f"AND p.name = {literal(name)} AND p.chunk_id = c.chunk_id "
                "SET c.row_count = c.row_count - p.row_count, c.overlap_rows = c.overlap_rows - p.overlap_rows "
                f"WHERE c.table_id = {ids[table.name]}"
            )
        # The tables of a chunk as it was published are in every copy; those of earlier commits may not be.
        await self.ledger.out_of_use(base, [chunk for chunk, state in states.items() if state], self.away)
        await self.ledger.set_states(base.db_id, states)
        await self.ledger.set_state(one.number, "undoing")
        await self.ledger.changed(base.db_id)
        await home.run("COMMIT")

    async def _drop_tables(self, base: Published, one: Transaction) -> None:
        """Drop the tables that came with a transaction."""
        learned = await self.ledger.loaded_tables(one.number)
        tables = [facts.table for facts in learned.values() if facts.table is not None]
        await Additions(self.home, self.ledger, base, one.number).drop(tables)

    async def _drop_states(self, base: Published, one: Transaction, chunks: Iterable[int]) -> None:
        """Drop what a commit has made of tables that were there before it."""
        await self.ledger.drop_states(base, [(chunk, one.commit) for chunk in chunks])
        added = (await whole_rows(self.home, [one.number])).get(one.number, {})
        await ReplicatedRows(self.home, self.ledger, base).drop(added, [one.commit])

    async def _owe(self, base: Published, one: Transaction, chunks: Iterable[int]) -> None:
        """Write down what workers that are away have still to drop of a transaction."""
        learned = await self.ledger.loaded_tables(one.number)
        brought = [facts.table for facts in learned.values() if facts.table is not None] if one.commit else []
        new = [chunk for chunk in chunks if chunk not in base.holders]
        made = [(chunk, one.commit) for chunk in chunks] + [(chunk, 0) for chunk in new]
        names = [
            namer(table.name, chunk, state)
            for chunk, state in (made if one.commit else [])
            for table in base.sharded
            for namer in namers(table)
        ]
        names += [
            whole_name(name, one.commit)
            for name in ReplicatedRows(self.home, self.ledger, base).of(learned)
            if one.commit
        ]
        names += [table.name for table in brought if not table.is_sharded]
        debt = Debt(
            db_id=base.db_id,
            tables=tuple(names),
            stems=tuple(sorted(stems_of(brought))),
            stages=(one.number,),
        )
        await owe(self.home, self.database, self.away, debt)

    async def _clear(self, one: Transaction) -> None:
        """Drop the tables of a transaction that was undone."""
        base = await published(self.home, self.database)
        held = await self.ledger.holders(one.number)
        await self._drop_tables(base, one)
        await self._drop_states(base, one, held)
        await self._owe(base, one, held)
        await self.ledger.drop_rows(one.number)
        await self.ledger.forget(one.number, "undone")

    async def consolidate(self) -> list[int]:
        """Make plain tables of everything that is committed, which then cannot be undone; return the transactions."""
        visible = await self.visible()
        if await whole_rows(self.home, [one.number for one in visible]):
            self._need_all("rows of replicated tables are consolidated")
        base = await published(self.home, self.database)
        self._need_one_of_each(base, base.states)
        work = Consolidation(self.home, self.ledger, self.database, self.grace_s, self.away)
        return await work.run(visible)


def _with(table: Table, facts: Learned) -> Table:
    """Return a table with the rows of a transaction."""
    return msgspec.structs.replace(
        table,
        rows=table.rows + facts.rows,
        key_spans_chunks=table.key_spans_chunks or facts.key_spans_chunks,
        null_keys=table.null_keys or facts.null_keys,
        wide_pairs=table.wide_pairs + facts.wide_pairs,
    )
