"""From a plan's restriction to the chunks that exist and the workers that hold them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from backend.pool import Pool
from proxy.home.director_index import in_ranges, lookup, places
from proxy.home.metadata import CatalogueSnapshot
from shard.geometry.chunker import ChunkGrid
from shard.geometry.regions import cover
from shard.planner.plan import AllOf, AnyOf, ByKey, ByRange, InChunks, InRegion, Plan, Restriction

_FEW = 4
"""So many chunks are asked sooner than the director index, which of them have keys in a range."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The chunks that a plan must ask.

    Attributes
    ----------
    chunks : mapping
        Chunk → the workers that hold it.
    keys : mapping
        Chunk → its own keys of the plan's list, as SQL; empty if the plan has none.
    """

    chunks: Mapping[int, tuple[int, ...]]
    keys: Mapping[int, bytes] = field(default_factory=dict)


async def place(pool: Pool, contents: CatalogueSnapshot, workers: Container[int], plan: Plan) -> Placement:
    """Return what a plan must ask, its list of keys looked up if it has one; parameters are those of `find_chunks`."""
    if plan.keys is None:
        return Placement(await find_chunks(pool, contents, workers, plan))
    found = await places(pool, contents, plan.database, plan.keys.director, map(int, plan.keys.keys))
    lists = found.lists()
    return Placement(await find_chunks(pool, contents, workers, plan, {plan.keys: lists}), lists)


async def find_chunks(
    pool: Pool,
    contents: CatalogueSnapshot,
    workers: Container[int],
    plan: Plan,
    known: Mapping[ByKey, Mapping[int, bytes]] | None = None,
) -> dict[int, tuple[int, ...]]:
    """Return chunk → workers for the chunks that a plan must ask.

    Parameters
    ----------
    contents : CatalogueSnapshot
        What the plan was made with.
    workers : container of int
        The workers that have not been removed.
    known : mapping
        Lists of keys that have been looked up: list → chunk → its keys as SQL.
    """
    replicas = contents.replicas.get(plan.database, {})
    grid = ChunkGrid.of(contents.database(plan.database).partitioning)
    wanted = await _resolve(pool, contents, grid, plan.database, plan.restriction, set(replicas), known or {})
    holders = {  # thousands of chunks have the same few
        ids: tuple(worker for worker in ids if worker in workers) for ids in set(replicas.values())
    }
    return {chunk: holders[replicas[chunk]] for chunk in sorted(wanted)}


async def _resolve(
    pool: Pool,
    contents: CatalogueSnapshot,
    grid: ChunkGrid,
    database: str,
    restriction: Restriction,
    exist: set[int],
    lists: Mapping[ByKey, Mapping[int, bytes]],
) -> set[int]:
    if isinstance(restriction, InRegion):
        return exist & set(cover(restriction.region, grid).tolist())
    if isinstance(restriction, InChunks):
        return exist & set(restriction.chunks)
    if isinstance(restriction, ByKey) and restriction in lists:
        return exist & set(lists[restriction])
    if isinstance(restriction, ByKey):
        more = contents.indexes.get((database, restriction.director), ())
        return exist & await lookup(pool, database, restriction.director, restriction.keys, more)
    if isinstance(restriction, ByRange):
        if len(exist) <= _FEW:
            return exist
        more = contents.indexes.get((database, restriction.director), ())
        ranged = await in_ranges(pool, database, restriction, more)
        return exist if ranged is None else exist & ranged
    if isinstance(restriction, AllOf):
        left = exist
        for part in restriction.parts:
            if left:
                left = await _resolve(pool, contents, grid, database, part, left, lists)
        return left
    if isinstance(restriction, AnyOf):
        found: set[int] = set()
        for part in restriction.parts:
            found |= await _resolve(pool, contents, grid, database, part, exist, lists)
        return found
    return exist
