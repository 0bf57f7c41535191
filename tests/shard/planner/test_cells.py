"""The grid of near-neighbour joins loses no pair and takes none, poles and 0/360 degrees included."""

import math

import numpy as np
import pytest

from shard.planner.cells import Grid

RADII = [1e-7, 1e-4, 1 / 3600, 1 / 60, 0.5, 3.0, 40.0]


def vectors(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(lon), np.radians(lat)
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def separation(lon: np.ndarray, lat: np.ndarray, lon2: np.ndarray, lat2: np.ndarray) -> np.ndarray:
    """Return degrees, as the condition of a query has them."""
    high = np.sin(np.radians(lat2 - lat) * 0.5) ** 2
    wide = np.cos(np.radians(lat)) * np.cos(np.radians(lat2)) * np.sin(np.radians(lon2 - lon) * 0.5) ** 2
    return 2 * np.degrees(np.arcsin(np.minimum(1, np.sqrt(high + wide))))


def beside(lon: np.ndarray, lat: np.ndarray, angle: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return positions at this angle (degrees) from others, in these directions."""
    lat, angle = np.radians(lat), np.radians(angle)
    lat2 = np.arcsin(np.clip(np.sin(lat) * np.cos(angle) + np.cos(lat) * np.sin(angle) * np.cos(way), -1, 1))
    turn = np.arctan2(np.sin(way) * np.sin(angle) * np.cos(lat), np.cos(angle) - np.sin(lat) * np.sin(lat2))
    return np.mod(lon + np.degrees(turn), 360), np.degrees(lat2)


def pairs(radius: float) -> tuple[np.ndarray, ...]:
    """Return positions all over the sphere and at its difficult places, and others about a radius away."""
    chance = np.random.default_rng(7)
    number = 40_000
    lon = chance.choice([0, 360 - 1e-9, 90, 180, 270, -1], number)
    lon = np.where(lon < 0, chance.uniform(0, 360, number), lon)
    lat = chance.choice([0, 90, -90, 89.9999, 45, 100], number)
    lat = np.where(lat > 90, np.degrees(np.arcsin(chance.uniform(-1, 1, number))), lat)
    factor = chance.choice([0, 0.3, 1 - 1e-7, 1 - 1e-13, 1, 1 + 1e-13, 1 + 1e-7, 1.5], number)
    lon2, lat2 = beside(lon, lat, radius * factor, chance.uniform(0, 2 * math.pi, number))
    return lon, lat, lon2, lat2


@pytest.mark.parametrize("radius", RADII)
def test_every_neighbour_is_in_one_of_the_cells(radius):
    lon, lat, lon2, lat2 = pairs(radius)
    grid = Grid.of(radius)
    first = np.floor((vectors(lon, lat) - grid.reach) / grid.side)
    cell = np.floor(vectors(lon2, lat2) / grid.side)
    steps = cell - first
    found = ((steps == 0) | (steps == 1)).all(axis=0)
    near = separation(lon, lat, lon2, lat2) <= radius
    assert near.sum() > 1000
    assert found[near].all()
    assert len(set(grid.steps())) == 8
    assert grid.cells**3 < 1 << 63
    assert max(grid.steps()) < grid.cells**3
    assert abs(cell).max() <= grid.cells // 2
    assert abs(first).max() < grid.cells // 2


@pytest.mark.parametrize("radius", [*RADII, 0.0, -1.0])
def test_what_is_told_without_the_condition_is_what_it_says(radius):
    lon, lat, lon2, lat2 = pairs(abs(radius) or 1e-5)
    grid = Grid.of(radius)
    one, other = vectors(lon, lat), vectors(lon2, lat2)
    product = one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
    apart = separation(lon, lat, lon2, lat2)
    assert (product > grid.outside)[apart <= radius].all()
    assert (apart < radius)[product > grid.inside].all()


@pytest.mark.parametrize("radius", [1 / 60, 0.5])
def test_few_pairs_need_the_condition(radius):
    grid = Grid.of(radius)
    assert 0 < grid.inside - grid.outside < 1e-8 * math.radians(radius) ** 2 + 1e-13
