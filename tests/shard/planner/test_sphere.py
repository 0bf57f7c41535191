"""Polygons on the sphere: their declination bands hold all of them, and their binary form gives them back."""

import math

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from shard.planner import sphere

picky = settings(suppress_health_check=[HealthCheck.filter_too_much])
"""Of random corners most are of no polygon; narrow ones are worth the search."""


@st.composite
def polygons(draw):
    """Return the vertices of a convex polygon: points on a circle, in the order of their position angles."""
    lon, lat = draw(st.floats(0, 360)), draw(st.floats(-90, 90))
    radius = math.radians(draw(st.floats(0.001, 60)))
    angles = sorted(draw(st.lists(st.floats(0, 360), min_size=3, max_size=8, unique=True)))
    gaps = [b - a for a, b in zip(angles, [*angles[1:], angles[0] + 360], strict=True)]
    assume(min(gaps) > 1 and max(gaps) < 170)
    centre = sphere.unit(lon, lat)
    east = (-math.sin(math.radians(lon)), math.cos(math.radians(lon)), 0.0)
    north = sphere.cross(centre, east)
    found = []
    for angle in map(math.radians, angles):
        x, y, z = (
            math.cos(radius) * c + math.sin(radius) * (math.sin(angle) * e + math.cos(angle) * n)
            for c, e, n in zip(centre, east, north, strict=True)
        )
        found.append((math.degrees(math.atan2(y, x)), math.degrees(math.asin(max(-1.0, min(1.0, z))))))
    return found


def along(begin, end, steps=50):
    """Return the declinations of points along an edge."""
    for step in range(steps + 1):
        part = step / steps
        x, y, z = ((1 - part) * a + part * b for a, b in zip(begin, end, strict=True))
        yield math.degrees(math.atan2(z, math.hypot(x, y)))


@picky
@given(polygons())
def test_a_band_holds_its_polygon(vertices):
    low, high = sphere.polygon_band(vertices)
    points = [sphere.unit(*vertex) for vertex in vertices]
    for begin, end in zip(points, [*points[1:], points[0]], strict=True):
        assert all(low <= lat <= high for lat in along(begin, end))
    _, edges = sphere.polygon_edges(vertices)
    for pole in (90.0, -90.0):
        if all(sphere.dot(edge, sphere.unit(0, pole)) >= 1e-9 for edge in edges):
            assert low <= pole <= high


def test_a_band_is_no_wider_than_it_must_be():
    low, high = sphere.polygon_band([(10, 2), (20, 2), (20, 12), (10, 12)])
    assert 2 - 1e-5 < low < 2
    assert 12 < high < 12.05  # the northern edge bulges
    low, high = sphere.polygon_band([(0, 80), (120, 80), (240, 80)])
    assert (80 - 1e-5 < low < 80, high) == (True, 90)


@picky
@given(polygons())
@example(
    [
        (0.0, 56.00000000000001),
        (2.961878631261895, 55.94828870339634),
        (29.0467908, 50.2346283),
        (-15.7954638, -54.4694544),
    ]
)
def test_the_binary_form_gives_the_vertices_back(vertices):
    found = sphere.polygon_vertices(sphere.polygon_binary(vertices))
    points = [sphere.unit(*vertex) for vertex in vertices]
    shortest = min(math.dist(a, b) for a, b in zip(points, [*points[1:], points[0]], strict=True))
    for point, again in zip(points, found, strict=True):  # the shorter an edge, the less its normal says
        assert math.dist(point, sphere.unit(*again)) < max(1e-9, 1e-14 / shortest)


@pytest.mark.parametrize("value", [b"", b"abc", bytes(24), bytes(96)])
def test_what_is_no_polygon(value):
    with pytest.raises(ValueError, match=r"scisql_s2CPolyToBin|one"):
        sphere.polygon_vertices(value)
