"""Commits, aborts, undoes and consolidates transactions: each in steps that can be repeated from any point.

What a query sees changes in one transaction on the metadata at home. Everything before it makes tables that nobody
knows yet, everything after it drops tables that nobody needs any more, so a command that was killed is finished by the
next one. See docs/decisions/0007-transactions.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from shard.catalog.model import Kind, Table
from shard.catalog.naming import (
    INDEX_DATABASE,
    index_table,
    literal,
    quote,
    stage_name,
)
from shard.catalog.timing import NOTICE_S
from skyshard.errors import NotNow, UserError
from skyshard.ingest.additions import Additions
from skyshard.ingest.consolidate import Consolidation
from skyshard.ingest.replicated import ReplicatedRows
from skyshard.ingest.taking_back import TakingBack
from skyshard.ingest.transactions import (
    META,
    Learned,
    Published,
    Transaction,
    published,
    transactions,
    whole_rows,
)
from skyshard.replicas.copy import Content, Copier, CopyFailed


@dataclass(frozen=True, slots=True)
class Commits(TakingBack):
    """Commits, and finishes what was begun."""

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
                    await self.clear(one)
        if any(one.state == "consolidating" for one in found):
            await self.consolidate()
        return [one.number for one in found]

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
        tables = [facts.table for facts in learned.values() if facts.table is not None]
        whole = ReplicatedRows(self.home, self.ledger, base).of(learned)
        visible = [other.number for other in await self.visible()]
        await self.check_keys(base, one, visible)
        holders, copies = await self._holders(base, one)
        way_out = f", or abort transaction {one.number} (skyshard ingest --abort {one.number})"
        gone = self.concerned(base, holders, bool(tables or whole), way_out)
        members = await self.equipped(base)
        await Additions(self.home, self.ledger, base, one.number).check_free(tables)
        if one.state == "open":  # what is found later leaves the database to this command alone
            await self.need_tables(base, base.holders if tables or whole else holders)
        new = {chunk: ids for chunk, ids in holders.items() if chunk not in base.holders}
        joined = {worker for ids in new.values() for worker in ids}
        lacking = sorted(joined.difference(members) if base.holders else joined)
        source = await self._source(base, members, way_out) if lacking else 0
        commit = one.commit or await self.ledger.last_commit() + 1
        await self.home.run(
            f"UPDATE {META}.ingests SET state = 'committing', commit_no = {commit} WHERE ingest_id = {one.number}"
        )
        wide = base.with_tables(tables)
        await self._let_in(base, lacking, source, visible)
        concerned = self.ledger.only(members | joined)
        there = replace(base, holders=self.there(base))
        await Additions(self.home, concerned, there, one.number).make(tables)
        await self._copy(wide, one, copies)
        await self.ledger.new_chunks(wide, new)
        await self.ledger.unions(wide, dict.fromkeys(holders, commit), [*visible, one.number], holders)
        await ReplicatedRows(self.home, concerned, base).make(one, commit, whole, visible)
        await self.ledger.agents.settle(self.ledger.workers)
        await self.at_once(partial(self._make_visible, base, one, commit, learned, new, list(holders), gone))
        return commit

    async def _let_in(
        self, base: Published, workers: Sequence[int], source: int, visible: Sequence[int]
    ) -> None:
        """Give workers that get chunks, and have none yet, the tables that every worker with chunks has.

        Whatever they have of the database besides is of no use, as that of a worker which had been removed.
        """
        content = Content.of(base.name, base.tables, {}, whole=await whole_rows(self.home, visible))
        copier = Copier(self.ledger.agents, content)
        for worker in workers:
            try:
                await copier.prepare(worker, source, fresh=worker != source)
            except CopyFailed as error:
                raise NotNow(f"database '{base.name}': {self.ledger.agents.name(worker)}: {error}") from error

    async def _source(self, base: Published, members: Iterable[int], way_out: str) -> int:
        """Return a worker that has all rows of all replicated tables."""
        wanted = {table.stored: table.rows for table in base.tables if not table.is_sharded}
        for worker in sorted(members):
            if wanted.items() <= (await self.ledger.stored(worker, base.name)).items():
                return worker
        raise NotNow(
            f"no worker that answers has all replicated tables of database '{base.name}'; start the others, and run this again"
            f"{way_out}"
        )

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

    async def _holders(
        self, base: Published, one: Transaction
    ) -> tuple[dict[int, tuple[int, ...]], list[tuple[int, int, int]]]:
        """Return the workers of the chunks that get rows, and (chunk, from, to) of rows that have to be copied for that.

        Copies that were made since the rows were loaded get them, too. A copy whose worker is away is none any more: it
        will be made anew by a repair.
        """
        loaded, there = await self.ledger.whole_holders(one.number), set(self.ledger.workers)
        out: dict[int, tuple[int, ...]] = {}
        copies = []
        for chunk, ids in loaded.items():
            wanted = base.holders.get(chunk, ids)
            sources = [worker for worker in ids if worker in there]
            out[chunk] = tuple(worker for worker in wanted if worker in there)
            if not wanted:
                raise NotNow(f"nobody has a good copy of chunk {chunk}; run 'skyshard repair {base.name}'")
            if not sources or not out[chunk]:
                lost = ids if not sources else wanted
                name = next((self.away[worker] for worker in lost if worker in self.away), "its worker")
                raise NotNow(
                    f"{name} does not answer, and nobody else has the rows of chunk {chunk}; start it, and run this again, "
                    f"or abort transaction {one.number} (skyshard ingest --abort {one.number})"
                )
            copies += [(chunk, sources[0], target) for target in sorted(set(out[chunk]).difference(ids))]
        return out, copies

    async def _copy(self, wide: Published, one: Transaction, copies: Sequence[tuple[int, int, int]]) -> None:
        """Copy a transaction's rows of chunks to workers that have none."""
        parts = (await self.ledger.parts([one.number])).get(one.number, {})
        content = Content.of(wide.name, wide.tables, {})
        copier = Copier(self.ledger.agents, content)
        for chunk, source, target in copies:
            counted = {(name, chunk): counts for name, counts in parts.get(chunk, {}).items()}
            items = content.added_items(chunk, one.number, counted)
            try:
                await copier.tables(chunk, items, source, target)
            except CopyFailed as error:
                raise NotNow(f"transaction {one.number}: chunk {chunk}: {error}") from error
            await self.ledger.insert("REPLACE", "ingest_replicas", [f"({one.number}, {chunk}, {target})"])
        for target in sorted({target for _, _, target in copies}):
            await copier.finish(target)

    async def _make_visible(
        self,
        base: Published,
        one: Transaction,
        commit: int,
        learned: Mapping[str, Learned],
        new: Mapping[int, Sequence[int]],
        chunks: Sequence[int],
        gone: Sequence[int],
    ) -> None:
        """Write everything that makes rows visible; all of it is one transaction."""
        home = self.home
        ids = await self.table_ids(base)
        replicated = ReplicatedRows(home, self.ledger, base)
        whole = replicated.of(learned)
        revision = await replicated.revision()
        for name, facts in learned.items():
            before = base.table(name)
            if facts.table is not None:
                ids[name] = await self._insert_table(base, facts.table)
                await Additions(home, self.ledger, base, one.number).show(facts.table)
            elif before is None:
                raise UserError(f"there is no table '{self.database}.{name}' any more")
            else:
                now = _with(before, facts)
                if name in whole:
                    await replicated.show(one, before)
                    now = msgspec.structs.replace(now, state=commit, changed=revision)
                await self.define(base, now)
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
        await self.ledger.out_of_use(base, gone, self.away)
        held = [f"({base.db_id}, {chunk}, {worker})" for chunk, ids in new.items() for worker in ids]
        await self.ledger.insert("INSERT", "chunk_replicas (db_id, chunk_id, worker_id)", held)
        await self.ledger.insert(
            "REPLACE", "chunk_states", [f"({base.db_id}, {chunk}, {commit})" for chunk in chunks]
        )
        await home.run(f"UPDATE {META}.ingests SET committed_at = NOW() WHERE ingest_id = {one.number}")
        await self.ledger.set_state(one.number, "committed", finished=True)
        await self.ledger.changed(base.db_id)

    async def _insert_table(self, base: Published, table: Table) -> int:
        await self.home.run(
            f"INSERT INTO {META}.`tables` (db_id, name, kind, definition, row_count) VALUES ({base.db_id}, "
            f"{literal(table.name)}, '{table.kind.value}', 0x{msgspec.json.encode(table).hex()}, {table.rows})"
        )
        return int((await self.home.fetch("SELECT LAST_INSERT_ID()"))[0][0] or b"0")

    async def consolidate(self) -> list[int]:
        """Make plain tables of everything that is committed, which then cannot be undone; return the transactions."""
        visible = await self.visible()
        base = await published(self.home, self.database)
        self.need_one_of_each(base, base.states)
        if all(one.state == "committed" for one in visible):
            await self.need_tables(base, base.states)
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
