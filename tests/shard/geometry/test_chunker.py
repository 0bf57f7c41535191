"""Chunk numbers against lsst-sphgeom's Chunker; overlap against brute force."""

import numpy as np
import pytest
from lsst import sphgeom

from shard.geometry.chunker import ChunkGrid, PositionError
from shard.geometry.regions import Box, Circle, Polygon, cover, widen

GRIDS = [(85, 12), (18, 10), (340, 3), (9, 4), (1, 1), (3, 7)]


def points(n, seed=1):
    rng = np.random.default_rng(seed)
    lon = rng.uniform(-360, 720, n)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    special = [
        (0, 0),
        (360, 0),
        (-0.0, 10),
        (359.9999999999999, -10),
        (0, 90),
        (0, -90),
        (123, 89.99999),
        (540, -89.9999),
    ]
    return np.append(lon, [p[0] for p in special]), np.append(lat, [p[1] for p in special])


@pytest.mark.parametrize(("stripes", "subs"), GRIDS)
def test_every_row_is_in_its_chunk_and_sub_chunk(stripes, subs):
    grid, chunker = ChunkGrid(stripes, subs), sphgeom.Chunker(stripes, subs)
    lon, lat = points(300)
    chunks, sub_chunks = grid.locate(lon, lat)
    for x, y, chunk, sub in zip(np.mod(lon, 360.0) % 360.0, lat, chunks, sub_chunks, strict=True):
        found = chunker.getSubChunksIntersecting(
            sphgeom.Circle(sphgeom.UnitVector3d(sphgeom.LonLat.fromDegrees(x, y)), sphgeom.Angle(1e-12))
        )
        pairs = {(c, s) for c, subs_ in found for s in subs_}
        assert (int(chunk), int(sub)) in pairs


@pytest.mark.parametrize(("stripes", "subs"), GRIDS)
def test_the_grids_have_the_same_chunks(stripes, subs):
    assert sorted(ChunkGrid(stripes, subs).all_chunks()) == sorted(
        sphgeom.Chunker(stripes, subs).getAllChunks()
    )


@pytest.mark.parametrize(("lon", "lat"), [(np.nan, 0), (0, 91), (np.inf, 0), (0, np.nan)])
def test_no_position_is_an_error_that_names_the_row(lon, lat):
    with pytest.raises(PositionError) as caught:
        ChunkGrid(18, 10).locate(np.array([1.0, lon]), np.array([1.0, lat]))
    assert caught.value.row == 1


@pytest.mark.parametrize(
    "centre", [(0.0, 90.0), (0.0, -89.7), (10.0, 0.0), (0.0, 45.0), (359.9, -60.0), (200.0, 80.1)]
)
def test_every_neighbour_across_a_border_is_in_the_overlap(centre):
    grid = ChunkGrid(18, 10, 0.3)
    rng = np.random.default_rng(5)
    n = 500
    lat = np.clip(centre[1] + rng.uniform(-1, 1, n), -90, 90)
    lon = (
        rng.uniform(0, 360, n)
        if abs(centre[1]) > 88
        else centre[0] + rng.uniform(-1, 1, n) / np.cos(np.radians(lat))
    )
    chunk, _ = grid.locate(lon, lat)
    rows, chunks = grid.overlap_rows(lon, lat)
    have = set(zip(rows.tolist(), chunks.tolist(), strict=True))
    assert len(have) == len(rows)
    assert all(chunk[row] != other for row, other in have)
    v = np.stack(
        [
            np.cos(np.radians(lat)) * np.cos(np.radians(lon)),
            np.cos(np.radians(lat)) * np.sin(np.radians(lon)),
            np.sin(np.radians(lat)),
        ]
    )
    near = (
        np.degrees(2 * np.arcsin(np.minimum(1, np.linalg.norm(v[:, :, None] - v[:, None, :], axis=0) / 2)))
        <= 0.3
    )
    pairs = [(i, int(chunk[j])) for i, j in np.argwhere(near) if chunk[i] != chunk[j]]
    assert all(pair in have for pair in pairs)


@pytest.mark.parametrize(
    ("stripes", "subs", "overlap"),
    [(18, 10, 0.3), (85, 12, 0.1), (10, 6, 3.0), (3, 2, 10.0), (2, 1, 5.0), (1, 2, 1.0), (12, 4, 0.0)],
)
def test_rows_of_an_overlap_are_within_reach(stripes, subs, overlap):
    """A circle of that radius around a row touches every chunk in whose overlap it is."""
    grid = ChunkGrid(stripes, subs, overlap)
    rng = np.random.default_rng(2)
    edges = np.arange(grid.count + 1) * grid.height - 90.0
    near = rng.choice(edges, 2000) + rng.uniform(-1, 1, 2000) * (overlap + 1e-6)
    polar = 90 - rng.uniform(0, 3 * grid.height, 1000)
    lat = np.clip(np.concatenate([near, polar, -polar]), -90, 90)
    k = np.minimum((lat + 90) // grid.height, grid.count - 1).astype(int)
    sides = rng.integers(0, 400, lat.size) * grid.width[k]
    lon = (sides + rng.uniform(-1.5, 1.5, lat.size) * grid.alpha[k]) % 360
    rows, chunks = grid.overlap_rows(lon, lat)
    assert (rows.size > 0) == (overlap > 0 and len(grid.all_chunks()) > 1)
    assert overlap <= grid.reach <= 5 * overlap
    for row in np.unique(rows):
        reached = cover(Circle(lon[row], lat[row], grid.reach + 1e-9), grid)
        assert set(chunks[rows == row]) <= set(reached.tolist()), (lon[row], lat[row])


def test_covers_hold_their_points():
    grid = ChunkGrid(85, 12)
    lon, lat = points(3000, 3)
    chunk, _ = grid.locate(lon, lat)
    circle = cover(Circle(10, 20, 15), grid)
    box = cover(Box(350, -20, 30, 40), grid)
    poly = cover(widen(Polygon(((0, 0), (30, 0), (30, 30))), 0.00001), grid)
    x = np.mod(lon, 360)
    assert set(chunk[((x >= 350) | (x <= 30)) & (lat >= -20) & (lat <= 40)]) <= set(box.tolist())
    d = np.degrees(
        np.arccos(
            np.clip(
                np.sin(np.radians(lat)) * np.sin(np.radians(20))
                + np.cos(np.radians(lat)) * np.cos(np.radians(20)) * np.cos(np.radians(lon - 10)),
                -1,
                1,
            )
        )
    )
    assert set(chunk[d < 15]) <= set(circle.tolist())
    assert len(poly) < len(grid.all_chunks()) / 20


def test_an_overlap_wider_than_a_sub_stripe_is_refused():
    with pytest.raises(ValueError, match="overlap_deg"):
        ChunkGrid(85, 12, 1.0)
