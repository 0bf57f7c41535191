"""From a plan's restriction to the chunks that exist and the workers that hold them."""

from __future__ import annotations

from collections.abc import Container, Mapping

from backend.pool import Pool
from proxy.home.director_index import in_ranges, lookup, places
from proxy.home.metadata import Contents
from shard.geometry.chunker import ChunkGrid
from shard.geometry.regions import cover
from shard.planner.plan import AllOf, AnyOf, ByKey, ByRange, InChunks, InRegion, Plan, Restriction

_FEW = 4
"""So many chunks are asked sooner than the director index, which of them have keys in a range."""


async def find_chunks(
    pool: Pool,
    contents: Contents,
    workers: Container[int],
    plan: Plan,
    lists: dict[tuple[str, ByKey], Mapping[int, bytes]] | None = None,
) -> dict[int, tuple[int, ...]]:
    """Return chunk → workers for the chunks that a plan must ask.

    Parameters
    ----------
    contents : Contents
        What the plan was made with.
    workers : container of int
        The workers that have not been removed.
    lists : dict
        Is given the plan's list of keys in its database, if it has one: chunk → its keys as SQL.
    """
    known: dict[ByKey, Mapping[int, bytes]] = {}
    if plan.keys is not None and lists is not None:
        found = await places(pool, contents, plan.database, plan.keys.director, map(int, plan.keys.keys))
        known[plan.keys] = lists[plan.database, plan.keys] = found.lists()
    replicas = contents.replicas.get(plan.database, {})
    grid = ChunkGrid.of(contents.database(plan.database).partitioning)
    wanted = await _resolve(pool, contents, grid, plan.database, plan.restriction, set(replicas), known)
    holders = {  # thousands of chunks have the same few
        ids: tuple(worker for worker in ids if worker in workers) for ids in set(replicas.values())
    }
    return {chunk: holders[replicas[chunk]] for chunk in sorted(wanted)}


async def _resolve(
    pool: Pool,
    contents: Contents,
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
