"""Makes plain tables of the unions that transactions have made of chunks; after that nothing can be undone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from shard.catalog import ddl
from shard.catalog.model import Kind, Table, whole_name
from shard.catalog.naming import (
    INDEX_DATABASE,
    TEMPLATE_CHUNK,
    index_aside,
    index_table,
    literal,
    namers,
    quote,
    stage_name,
)
from shard.catalog.timing import GRACE_S
from skyshard.errors import NotNow
from skyshard.home.provision import bump
from skyshard.ingest.change import Change
from skyshard.ingest.debts import Debt, owe
from skyshard.ingest.replicated import ReplicatedRows
from skyshard.ingest.transactions import META, Published, Transaction, published, whole_rows


@dataclass(frozen=True, slots=True)
class _Piece:
    """A table on some workers: its first one, what names it in a state, and the state that it is in.

    `chunk` is None of a replicated table.
    """

    table: Table
    chunk: int | None
    first: str
    template: str
    named: Callable[[int], str]
    workers: tuple[int, ...]
    state: int


@dataclass(frozen=True, slots=True)
class Consolidation(Change):
    """The consolidation of one database."""

    async def run(self, visible: Sequence[Transaction]) -> list[int]:
        """Make plain tables of everything that is committed, which then cannot be undone; return the transactions.

        A chunk's rows are copied into tables of a new state. Once no query reads others, these become its first
        tables, and unions of these alone stand under the new state's name until proxies have forgotten it.
        """
        everywhere = await published(self.home, self.database)
        if not visible:
            return []
        base = replace(everywhere, holders=self.there(everywhere))
        state = max((one.seen for one in visible if one.state == "consolidating"), default=0)
        if not state:
            await self._count(everywhere, await self._changed(base), None)
            state = await self.ledger.last_commit() + 1
            await self._begin_consolidation(visible, state)
        numbers = [one.number for one in visible]
        whole = sorted({name for rows in (await whole_rows(self.home, numbers)).values() for name in rows})
        replicated = [table for table in base.tables if table.name in whole]
        chunks = sorted({chunk for part in (await self.ledger.parts(numbers)).values() for chunk in part})
        # The first tables of replicated ones get rows: where they do not, no chunk is of use.
        gone = self.concerned(everywhere, chunks, bool(whole))
        if any(old < state for old in base.states.values()) or any(0 < t.state < state for t in replicated):
            await self._copy(base, state)
            await self._count(everywhere, await self._changed(base), state)
            await self._merge_indexes(base, numbers, state)
            await self.ledger.agents.settle(self.ledger.workers)
            await self.home.run("START TRANSACTION")
            await self.ledger.out_of_use(everywhere, gone, self.away)
            await self.ledger.set_states(base.db_id, dict.fromkeys(base.states, state))
            await self._define([table for table in replicated if table.state], base, state)
            await self._mark_merged(numbers)
            await self.ledger.changed(base.db_id)
            await self.home.run("COMMIT")
        await asyncio.sleep(self.grace_s)
        # From now on the chunks' first tables get more rows: what still reads them as they were would answer wrongly.
        await self.home.run("START TRANSACTION")
        await self.home.run(f"UPDATE {META}.`databases` SET oldest = revision WHERE db_id = {base.db_id}")
        await bump(self.home)
        await self.home.run("COMMIT")
        await asyncio.sleep(GRACE_S)
        await self._exchange(base, chunks, whole, state)
        # The rows that they were made of go now: it must not have been for another command that was at the same.
        await self._count(everywhere, await self._pieces(base, chunks, whole), 0)
        await self.ledger.agents.settle(self.ledger.workers)
        await self.home.run("START TRANSACTION")
        await self.ledger.out_of_use(everywhere, gone, self.away)  # one may have gone since the first time
        await self.home.run(f"DELETE FROM {META}.chunk_states WHERE db_id = {base.db_id}")
        await self._define(replicated, base, 0)
        await self._mark_merged(numbers)  # one that has no rows gets here at once
        await self.ledger.changed(base.db_id)
        await self.home.run("COMMIT")
        await asyncio.sleep(GRACE_S + self.grace_s)
        commits = [*(one.commit for one in visible), state]
        await self.ledger.drop_states(base, [(chunk, commit) for chunk in chunks for commit in commits])
        await ReplicatedRows(self.home, self.ledger, base).drop(whole, commits)
        await self._drop_aliases(base, state)
        await self._owe(base, chunks, whole, commits, numbers)
        for one in visible:
            await self.ledger.drop_rows(one.number)
            await self.ledger.forget(one.number, "consolidated")
        return numbers

    async def _owe(
        self,
        base: Published,
        chunks: Iterable[int],
        whole: Iterable[str],
        states: Sequence[int],
        numbers: Sequence[int],
    ) -> None:
        """Write down what workers that are away have still to drop."""
        names = [
            name + end
            for piece in await self._pieces(base, chunks, whole)
            for name in map(piece.named, states)
            for end in ("", "_0", "_0_0")
        ]
        debt = Debt(db_id=base.db_id, tables=tuple(names), stages=tuple(numbers))
        await owe(self.home, self.database, self.away, debt)

    async def _begin_consolidation(self, visible: Sequence[Transaction], state: int) -> None:
        """Write down the number of the new state, which no commit may get."""
        await self.home.run("START TRANSACTION")
        await self.home.run(
            f"INSERT INTO {META}.ingests (db_name, state, owner, detail, commit_no, finished_at) VALUES "
            f"({literal(self.database)}, 'consolidated', '', 'consolidation', {state}, NOW())"
        )
        for one in visible:
            await self.home.run(
                f"UPDATE {META}.ingests SET state = 'consolidating', seen = {state} WHERE ingest_id = {one.number}"
            )
        await self.home.run("COMMIT")

    async def _mark_merged(self, numbers: Sequence[int]) -> None:
        """Say that look-ups need the director indexes of transactions no more; part of what shows the new state."""
        listed = ", ".join(map(str, numbers))
        await self.home.run(f"UPDATE {META}.ingests SET merged = 1 WHERE ingest_id IN ({listed})")

    async def _define(self, tables: Sequence[Table], base: Published, state: int) -> None:
        """Write the states of replicated tables."""
        for table in tables:
            now = msgspec.structs.replace(table, state=state)
            await self.home.run(
                f"UPDATE {META}.`tables` SET definition = 0x{msgspec.json.encode(now).hex()} "
                f"WHERE db_id = {base.db_id} AND name = {literal(table.name)}"
            )

    async def _pieces(self, base: Published, chunks: Iterable[int], whole: Iterable[str]) -> list[_Piece]:
        """Return what the tables of chunks, and whole replicated tables, consist of."""
        out = [
            _Piece(
                table,
                chunk,
                namer(table.name, chunk),
                namer(table.name, TEMPLATE_CHUNK),
                partial(namer, table.name, chunk),
                tuple(base.holders.get(chunk, ())),
                base.states.get(chunk, 0),
            )
            for chunk in chunks
            for table in base.sharded
            for namer in namers(table)
        ]
        members = await self.equipped(base)
        for table in base.tables:
            if table.name in whole:
                named = partial(whole_name, table.name)
                out.append(
                    _Piece(table, None, table.name, table.name, named, tuple(sorted(members)), table.state)
                )
        return out

    async def _changed(self, base: Published) -> list[_Piece]:
        """Return what the tables consist of that are not as they were published."""
        return await self._pieces(base, base.states, [table.name for table in base.tables if table.state])

    async def _copy(self, base: Published, state: int) -> None:
        """Copy the rows of all that has changed into plain tables of a new state, on every worker that has them."""
        jobs: dict[int, list[str]] = {}
        for piece in await self._changed(base):
            listed = ", ".join(map(quote, _all_columns(piece.table)))
            new = piece.named(state)
            texts = [
                f"DROP TABLE IF EXISTS {quote(base.name)}.{quote(new)}",
                ddl.like(base.name, new, piece.template),
                f"INSERT INTO {quote(base.name)}.{quote(new)} ({listed}) SELECT {listed} FROM "
                f"{quote(base.name)}.{quote(piece.named(piece.state))}",
            ]
            for worker in piece.workers:
                jobs.setdefault(worker, []).extend(texts)
        await self.ledger.run(jobs, 3)

    async def _count(self, base: Published, pieces: Iterable[_Piece], state: int | None) -> None:
        """Compare the rows of tables in a state (0: the first ones; None: as they are) with those that the catalogue counts.

        Raises
        ------
        NotNow
            Naming a worker that has others.
        """
        wanted: dict[str, int] = {table.name: table.rows for table in base.tables if not table.is_sharded}
        kinds = {table.name: namers(table) for table in base.sharded}
        for name, chunk, *counts in await self.home.fetch(
            f"SELECT t.name, c.chunk_id, c.row_count, c.overlap_rows FROM {META}.chunk_rows c "
            f"JOIN {META}.`tables` t USING (table_id) WHERE t.db_id = {base.db_id}"
        ):
            for namer, count in zip(kinds[(name or b"").decode()], counts, strict=False):
                wanted[namer((name or b"").decode(), int(chunk or b"0"))] = int(count or b"0")
        stored = {worker: await self.ledger.stored(worker, base.name) for worker in self.ledger.workers}
        for piece in pieces:
            number, rows = piece.state if state is None else state, wanted.get(piece.first, 0)
            made = piece.named(number) if number else piece.first
            there = {worker: stored[worker].get(made) for worker in piece.workers}
            worker = next((worker for worker, found in there.items() if found != rows), None)
            if worker is None:
                continue
            whole = rows in there.values()
            way_out = self.mended(base, self._holders(base, piece), whole)
            if state is not None:  # it has begun, and repairs wait for its end
                other = "while this worker is stopped" if whole else way_out
                way_out = f"run this again, or, if that does not help, {other}"
            raise NotNow(
                f"{self.ledger.agents.name(worker)} has {there[worker] or 0} of {rows} rows of {piece.first} of database "
                f"'{base.name}'; {way_out}"
            )

    @staticmethod
    def _holders(base: Published, piece: _Piece) -> set[int]:
        """Return the workers that should have a table, whether they answer or not."""
        if piece.chunk is None:
            return {worker for ids in base.holders.values() for worker in ids}
        return set(base.holders.get(piece.chunk, ()))

    async def _merge_indexes(self, base: Published, numbers: Sequence[int], state: int) -> None:
        """Put the keys of transactions into the director indexes; each is exchanged by one RENAME.

        A merged index says for which state in its comment, so that a run after one that was killed does not put the
        same keys there again. Until the metadata say that they are merged, look-ups ask for the transactions' own, too.
        """
        mark = f"consolidated {state}"
        for table in base.tables:
            name = index_table(base.name, table.name)
            more = [index_table(stage_name(number), table.name) for number in numbers]
            more = [other for other in more if await self.ledger.has_index(other)]
            if table.kind is not Kind.DIRECTOR or not more or await self._comment(name) == mark:
                continue
            at = f"{quote(INDEX_DATABASE)}."
            new, old = (
                f"{at}{quote(index_aside(base.db_id, table.name, 'new'))}",
                f"{at}{quote(index_aside(base.db_id, table.name, 'old'))}",
            )
            await self.home.run(f"DROP TABLE IF EXISTS {new}, {old}")
            await self.home.run(f"CREATE TABLE {new} LIKE {at}{quote(name)}")
            await self.home.run(f"ALTER TABLE {new} TRANSACTIONAL = 1, COMMENT = {literal(mark)}")
            parts = " UNION ALL ".join(
                f"SELECT directorKey, chunkId, subChunkId FROM {at}{quote(other)}" for other in (name, *more)
            )
            await self.home.run(f"INSERT INTO {new} {parts}")
            await self.home.run(f"RENAME TABLE {at}{quote(name)} TO {old}, {new} TO {at}{quote(name)}")
            await self.home.run(f"DROP TABLE {old}")

    async def _comment(self, index: str) -> str:
        """Return the comment of a director index."""
        found = await self.home.fetch(
            "SELECT TABLE_COMMENT FROM information_schema.TABLES "
            f"WHERE TABLE_SCHEMA = {literal(INDEX_DATABASE)} AND TABLE_NAME = {literal(index)}"
        )
        return (found[0][0] or b"").decode() if found else ""

    async def _exchange(
        self, base: Published, chunks: Sequence[int], whole: Sequence[str], state: int
    ) -> None:
        """Let the plain tables be the first ones; a union stands under the state's name."""
        names = await self.ledger.tables(base.name)
        jobs: dict[int, list[str]] = {}
        at = f"{quote(base.name)}."
        for piece in await self._pieces(base, chunks, whole):
            table, first, plain = piece.table, piece.first, piece.named(state)
            alias = f"{plain}_0"
            for worker in piece.workers:
                if names[worker].get(plain) != "MyISAM":
                    continue  # an earlier run got this far
                jobs.setdefault(worker, []).extend(
                    [
                        f"DROP TABLE IF EXISTS {at}{quote(alias)}, {at}{quote(alias + '_0')}",
                        ddl.union(table.ddl, table.name, base.name, alias, [(base.name, first)]),
                        f"RENAME TABLE {at}{quote(first)} TO {at}{quote(alias + '_0')}, "
                        f"{at}{quote(plain)} TO {at}{quote(first)}, {at}{quote(alias)} TO {at}{quote(plain)}",
                        f"DROP TABLE {at}{quote(alias + '_0')}",
                    ]
                )
        await self.ledger.run(jobs, 4)

    async def _drop_aliases(self, base: Published, state: int) -> None:
        """Drop what a run that was killed between two renames has left."""
        ends = tuple(f"{mark}{state}{end}" for mark in "_$" for end in ("_0", "_0_0"))
        found = await self.ledger.tables(base.name)
        await self.ledger.run(
            {
                worker: [
                    f"DROP TABLE {quote(base.name)}.{quote(name)}"
                    for name in sorted(names)
                    if name.endswith(ends)
                ]
                for worker, names in found.items()
            }
        )


def _all_columns(table: Table) -> list[str]:
    return [*(column.name for column in table.columns), *ddl.invisible(table.columns, table.kind)]
