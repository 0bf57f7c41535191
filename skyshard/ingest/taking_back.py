"""Aborts and undoes transactions, in steps that can be repeated from any point.

An undo changes what a query sees in one transaction on the metadata, as a commit does; tables are dropped after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from shard.catalog.model import Table, whole_name
from shard.catalog.naming import (
    literal,
    namers,
)
from shard.catalog.timing import GRACE_S
from skyshard.errors import UserError
from skyshard.ingest.additions import Additions, stems_of
from skyshard.ingest.change import Change
from skyshard.ingest.debts import Debt, owe
from skyshard.ingest.replicated import ReplicatedRows
from skyshard.ingest.transactions import (
    META,
    Published,
    Transaction,
    published,
    transactions,
    whole_rows,
)


@dataclass(frozen=True, slots=True)
class TakingBack(Change):
    """Takes rows back, of one database."""

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
        """Take back what a commit made visible, so that everything is as it was before it.

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
        self.need_one_of_each(base, await self.ledger.holders(one.number))
        left = [other.number for other in visible[:-1]]
        states = await self._states_without(base, one, visible[:-1])
        changed = {chunk: state for chunk, state in states.items() if state}
        await self.ledger.unions(base, changed, left, self.there(base))  # a copy made since may not have them
        before = await self._before(one)
        earlier = {
            name: table.state for name, table in before.items() if table is not None and not table.is_sharded
        }
        members = self.ledger.only(await self.equipped(base))
        await ReplicatedRows(self.home, members, base).unions(earlier, left)
        await self.at_once(partial(self._make_invisible, base, one, states))
        await asyncio.sleep(GRACE_S + self.grace_s)
        await self.clear(await self._again(one))

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
        """Write everything that makes rows invisible; all of it is one transaction."""
        home = self.home
        ids, replicated = await self.table_ids(base), ReplicatedRows(home, self.ledger, base)
        brought = await self._brought(one)
        revision = await replicated.revision()
        for name, table in (await self._before(one)).items():
            if table is None:
                await self._additions(base, one).hide(brought[name])
                await home.run(f"DELETE FROM {META}.`tables` WHERE table_id = {ids[name]}")
                await home.run(f"DELETE FROM {META}.chunk_rows WHERE table_id = {ids[name]}")
                continue
            if not table.is_sharded:
                await replicated.hide(one, table)
                table = msgspec.structs.replace(table, changed=revision)  # noqa: PLW2901
            await self.define(base, table)
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

    async def _drop_tables(self, base: Published, one: Transaction) -> None:
        """Drop the tables that came with a transaction."""
        await self._additions(base, one).drop(list((await self._brought(one)).values()))

    async def _brought(self, one: Transaction) -> dict[str, Table]:
        """Return the tables that a transaction brings."""
        learned = await self.ledger.loaded_tables(one.number)
        return {name: facts.table for name, facts in learned.items() if facts.table is not None}

    def _additions(self, base: Published, one: Transaction) -> Additions:
        return Additions(self.home, self.ledger, base, one.number)

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

    async def clear(self, one: Transaction) -> None:
        """Drop the tables of a transaction that was undone."""
        base = await published(self.home, self.database)
        held = await self.ledger.holders(one.number)
        await self._drop_tables(base, one)
        await self._drop_states(base, one, held)
        await self._owe(base, one, held)
        await self.ledger.drop_rows(one.number)
        await self.ledger.forget(one.number, "undone")
