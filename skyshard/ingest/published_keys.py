"""Where the keys of directors lie that were loaded before: in the director indexes at home, and in overlaps on workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backend.agent_link import AgentPool
from backend.connection import RawConnection
from shard.catalog import types
from shard.catalog.model import Table
from shard.catalog.naming import INDEX_DATABASE, index_table, literal, overlap_table, quote
from shard.wire import rows as row_packets
from skyshard.ingest.keys import Ints, KeyIndex, array_of
from skyshard.ingest.loading import Loader
from skyshard.ingest.runs import Array
from skyshard.ingest.transactions import Published


@dataclass(frozen=True, slots=True)
class PublishedKeys:
    """Reads the keys of one database's directors, and of a transaction on it, which are in database `stage`."""

    home: RawConnection
    agents: AgentPool
    loader: Loader
    base: Published
    stage: str

    async def of(
        self,
        table: Table,
        kind: types.SqlType,
        places: Sequence[str],
        directory: Path,
        holders: Mapping[int, tuple[int, ...]] | None = None,
        staged: Iterable[int] = (),
    ) -> KeyIndex:
        """Return where a director's keys lie, as home has it.

        Parameters
        ----------
        places : sequence of str
            The databases of its rows.
        holders : mapping or None
            Published chunk → workers that have its overlap; None: nobody asks in whose overlap keys lie.
        staged : iterable of int
            Chunks of which the transaction has an overlap.
        """
        index = KeyIndex(directory)
        listed = ", ".join(literal(index_table(place, table.name)) for place in places)
        there = await self.home.fetch(
            f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(INDEX_DATABASE)} "
            f"AND TABLE_NAME IN ({listed})"
        )
        for (name,) in there:
            answer = await self.home.query(
                "SELECT directorKey, chunkId, subChunkId FROM "
                f"{quote(INDEX_DATABASE)}.{quote((name or b'').decode())}".encode()
            )
            async for block in answer.blocks():
                found = list(zip(*row_packets.split(block.data), strict=True))
                keys, _ = _keys(found[0], kind)
                index.add(keys, _numbers(found[1]), _numbers(found[2]))
        if holders is not None:
            await self._overlap(table, kind, index, holders, staged)
        index.finish()
        return index

    async def _overlap(
        self,
        table: Table,
        kind: types.SqlType,
        index: KeyIndex,
        holders: Mapping[int, tuple[int, ...]],
        staged: Iterable[int],
    ) -> None:
        """Add in whose overlap keys lie, as the workers have it."""
        wanted: dict[int, list[tuple[int, str]]] = {}
        for chunk in holders:
            name = overlap_table(table.name, chunk, self.base.states.get(chunk, 0))
            wanted.setdefault(self.loader.holders(chunk)[0], []).append(
                (chunk, f"{quote(self.base.name)}.{quote(name)}")
            )
        for chunk in staged:
            name = f"{quote(self.stage)}.{quote(overlap_table(table.name, chunk))}"
            wanted.setdefault(self.loader.holders(chunk)[0], []).append((chunk, name))

        async def read(worker: int, tables: list[tuple[int, str]]) -> None:
            for chunk, name in tables:
                answer = await self.agents.admin(worker, [f"SELECT {quote(table.key or '')} FROM {name}"])
                if answer:
                    keys, _ = _keys([(row[0] or "").encode() for row in answer], kind)
                    index.add_overlap(keys, np.full(len(keys), chunk, dtype=np.int32))

        async with asyncio.TaskGroup() as group:
            for worker, tables in wanted.items():
                group.create_task(read(worker, tables))


def _numbers(values: Sequence[bytes | None]) -> Ints:
    return np.array([int(value or b"0") for value in values], dtype=np.int32)


def _keys(values: Sequence[bytes | None], kind: types.SqlType) -> tuple[Array, npt.NDArray[np.bool_]]:
    texts = [(value or b"").decode() for value in values]
    if kind.family is not types.Family.INTEGER:
        return array_of(pa.array(texts, pa.string()), kind)
    return array_of(pa.array([int(text) for text in texts], kind.arrow), kind)
