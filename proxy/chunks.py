"""From a plan's restriction to the chunks that exist and the workers that hold them."""

from __future__ import annotations

from backend.pool import Pool
from proxy.home.director_index import lookup
from proxy.home.metadata import Catalogue
from shard.geometry.chunker import ChunkGrid
from shard.geometry.regions import cover
from shard.planner.plan import AllOf, AnyOf, ByKey, InChunks, InRegion, Plan, Restriction


async def find_chunks(pool: Pool, catalogue: Catalogue, plan: Plan) -> dict[int, tuple[int, ...]]:
    """Return chunk → workers for the chunks that a plan must ask."""
    replicas = catalogue.replicas(plan.database)
    grid = ChunkGrid.of(catalogue.database(plan.database).partitioning)
    wanted = await _resolve(pool, grid, plan.database, plan.restriction, set(replicas))
    active = {number for number, worker in catalogue.workers.items() if worker.state != "removed"}
    return {
        chunk: tuple(worker for worker in replicas[chunk] if worker in active) for chunk in sorted(wanted)
    }


async def _resolve(
    pool: Pool, grid: ChunkGrid, database: str, restriction: Restriction, exist: set[int]
) -> set[int]:
    if isinstance(restriction, InRegion):
        return exist & set(cover(restriction.region, grid).tolist())
    if isinstance(restriction, InChunks):
        return exist & set(restriction.chunks)
    if isinstance(restriction, ByKey):
        return exist & await lookup(pool, database, restriction.director, restriction.keys)
    if isinstance(restriction, AllOf):
        left = exist
        for part in restriction.parts:
            if left:
                left = await _resolve(pool, grid, database, part, left)
        return left
    if isinstance(restriction, AnyOf):
        found: set[int] = set()
        for part in restriction.parts:
            found |= await _resolve(pool, grid, database, part, exist)
        return found
    return exist
