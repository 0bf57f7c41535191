"""Comparisons of position columns with constants: few chunks are asked, and none with a row is left out."""

import math
import random

import numpy as np
import pytest

from shard.geometry.chunker import ChunkGrid
from shard.geometry.regions import cover
from shard.planner.lexer import LexerMode
from shard.planner.plan import AllOf, AnyOf, Everywhere, InChunks, InRegion
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE

FINE = ChunkGrid(85, 12, 0.01)


def restriction(where, source="Object"):
    return (
        read(f"SELECT objectId FROM {source} WHERE {where}", "sky", CATALOGUE, LexerMode()).plan().restriction
    )


def chunks(found, grid):
    if isinstance(found, InRegion):
        return set(cover(found.region, grid).tolist())
    if isinstance(found, AllOf):
        return set.intersection(*(chunks(part, grid) for part in found.parts))
    if isinstance(found, AnyOf):
        return set.union(*(chunks(part, grid) for part in found.parts))
    assert isinstance(found, Everywhere | InChunks)
    return set(grid.all_chunks().tolist()) if isinstance(found, Everywhere) else set(found.chunks)


@pytest.mark.parametrize(
    ("where", "most"),
    [
        ("scisql_s2PtInBox(ra, decl, 10, 0, 11, 1) = 1", 4),
        ("ra BETWEEN 10 AND 11 AND decl BETWEEN 0 AND 1", 4),
        ("ra > 10 AND 11 >= ra AND decl >= 0 AND decl < 1", 4),
        ("10 <= ra AND (decl <= +1 AND (ra <= 11 AND 0 < decl))", 4),
        ("f > 3 AND ra BETWEEN 10 AND 12 AND ra BETWEEN 9 AND 11 AND decl BETWEEN 0 AND 1", 4),
        ("ra = 10.5 AND decl = 0.5", 1),
        ("ra BETWEEN -0.5 AND 0.5 AND decl BETWEEN 0 AND 1", 4),
        ("ra > 359.5 AND ra < 360.5 AND decl > 0 AND decl < 1", 4),
        ("(ra BETWEEN 10 AND 11 AND decl BETWEEN 0 AND 1) OR (ra BETWEEN 50 AND 51 AND decl BETWEEN 0 AND 1)", 8),
        ("ra BETWEEN 10 AND 11", 170),  # one or two of each stripe, not all chunks
    ],
)  # fmt: skip
def test_few_chunks_are_asked(where, most):
    assert len(chunks(restriction(where), FINE)) <= most


@pytest.mark.parametrize(
    "where", ["ra > 10", "ra < 350", "ra BETWEEN 5 AND 400", "ra > 11 AND ra < 10", "decl > 95"]
)
def test_no_range_is_no_restriction(where):
    assert restriction(where) == Everywhere()


def points(rng):
    """Return positions as they may be stored: on corners of chunks, at the poles, beyond 0 and 360."""
    lon = [0.0, 360.0, -180.0, 359.9999999, 10.0, 11.0, 725.0, *(rng.uniform(-360, 720) for _ in range(300))]
    lat = [
        -90.0,
        90.0,
        0.0,
        10.0,
        *(rng.uniform(-90, 90) for _ in range(100)),
        *(rng.uniform(85, 90) for _ in range(50)),
    ]
    return [(rng.choice(lon), rng.choice(lat)) for _ in range(4000)]


@pytest.mark.parametrize(
    "grid", [FINE, ChunkGrid(18, 10, 0.1), ChunkGrid(3, 2)], ids=["fine", "middle", "coarse"]
)
def test_no_row_is_lost(grid):
    rng = random.Random(7)
    stored = points(rng)
    homes, _ = grid.locate(np.array([lon % 360.0 for lon, _ in stored]), np.array([lat for _, lat in stored]))
    for _ in range(60):
        west, south = rng.choice(stored)
        east = west + rng.choice([0.0, 1e-9, 0.5, 3.0, 90.0, 359.9999, 360.0, 400.0, math.inf])
        north = south + rng.choice([0.0, 1e-9, 0.5, 20.0, 180.0])
        parts = [f"ra >= {west!r}", f"decl >= {south!r}", f"{north!r} >= decl"]
        parts += [f"ra <= {east!r}"] if east < math.inf else []
        rng.shuffle(parts)
        asked = chunks(restriction(" AND ".join(parts)), grid)
        wanted = {
            home for home, (lon, lat) in zip(homes.tolist(), stored, strict=True)
            if west <= lon <= east and south <= lat <= north
        }  # fmt: skip
        assert wanted, parts
        assert wanted <= asked, parts
