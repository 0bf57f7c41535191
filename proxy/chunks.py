"""From a plan's restriction to the chunks that exist and the workers that hold them."""

from __future__ import annotations

from collections.abc import Container

from backend.pool import Pool
from proxy.home.director_index import lookup
from proxy.home.metadata import Contents
from shard.geometry.chunker import ChunkGrid
from shard.geometry.regions import cover
from shard.planner.plan import AllOf, AnyOf, ByKey, InChunks, InRegion, Plan, Restriction


async def find_chunks(
    pool: Pool, contents: Contents, workers: Container[int], plan: Plan
) -> dict[int, tuple[int, ...]]:
    """Return chunk → workers for the chunks that a plan must ask.

    Parameters
    ----------
    contents : Contents
        What the plan was made with.
    workers : container of int
        The workers that have not been removed.
    """
    replicas = contents.replicas.get(plan.database, {})
    grid = ChunkGrid.of(contents.database(plan.database).partitioning)
    wanted = await _resolve(pool, contents, grid, plan.database, plan.restriction, set(replicas))
    holders = {  # thousands of chunks have the same few
        ids: tuple(worker for worker in ids if worker in workers) for ids in set(replicas.values())
    }
    return {chunk: holders[replicas[chunk]] for chunk in sorted(wanted)}


async def _resolve(
    pool: Pool, contents: Contents, grid: ChunkGrid, database: str, restriction: Restriction, exist: set[int]
) -> set[int]:
    if isinstance(restriction, InRegion):
        return exist & set(cover(restriction.region, grid).tolist())
    if isinstance(restriction, InChunks):
        return exist & set(restriction.chunks)
    if isinstance(restriction, ByKey):
        more = contents.indexes.get((database, restriction.director), ())
        return exist & await lookup(pool, database, restriction.director, restriction.keys, more)
    if isinstance(restriction, AllOf):
        left = exist
        for part in restriction.parts:
            if left:
                left = await _resolve(pool, contents, grid, database, part, left)
        return left
    if isinstance(restriction, AnyOf):
        found: set[int] = set()
        for part in restriction.parts:
            found |= await _resolve(pool, contents, grid, database, part, exist)
        return found
    return exist
