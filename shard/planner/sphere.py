"""Spherical formulas whose constants the planner folds: circles, boxes, polygons, ellipses.

Angles in degrees; vectors are unit vectors. Sources: the semantics of the scisql library, and
haversine for small separations.
"""

from __future__ import annotations

import math
import struct

Vector = tuple[float, float, float]


def unit(lon: float, lat: float) -> Vector:
    """Return the unit vector of a position."""
    lon, lat = math.radians(lon), math.radians(lat)
    return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)


def cross(a: Vector, b: Vector) -> Vector:
    """Return a × b."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def dot(a: Vector, b: Vector) -> float:
    """Return a · b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def polygon_edges(vertices: list[tuple[float, float]]) -> tuple[Vector, list[Vector]]:
    """Return (vertex sum, edge normals) of a convex polygon; normals point inside.

    Raises
    ------
    ValueError
        If two vertices coincide or the polygon is not convex.
    """
    points = [unit(lon, lat) for lon, lat in vertices]
    total = (sum(p[0] for p in points), sum(p[1] for p in points), sum(p[2] for p in points))
    edges: list[Vector] = []
    for index, point in enumerate(points):
        normal = cross(point, points[(index + 1) % len(points)])
        if math.sqrt(dot(normal, normal)) < 1e-15:
            raise ValueError("two neighbouring vertices are equal or opposite")
        edges.append(normal if dot(total, normal) >= 0 else (-normal[0], -normal[1], -normal[2]))
    if any(dot(edge, point) < -1e-12 for edge in edges for point in points):
        raise ValueError("the polygon is not convex")
    return total, edges


def polygon_band(vertices: list[tuple[float, float]]) -> tuple[float, float]:
    """Return a declination band (degrees) that holds a convex polygon, edges' bulges included."""
    total, edges = polygon_edges(vertices)
    low = min(lat for _, lat in vertices)
    high = max(lat for _, lat in vertices)
    for normal in edges:  # a great circle's extreme declination is 90° minus its pole's
        length = math.sqrt(dot(normal, normal))
        extreme = 90.0 - math.degrees(math.asin(min(1.0, abs(normal[2]) / length)))
        if total[2] >= 0:
            high = max(high, min(extreme, 90.0))
        if total[2] <= 0:
            low = min(low, max(-extreme, -90.0))
    if all(edge[2] >= 0 for edge in edges):
        high = 90.0
    if all(edge[2] <= 0 for edge in edges):
        low = -90.0
    # An edge may bulge towards either pole when the polygon straddles the equator.
    if low < 0 < high:
        extremes = [90.0 - math.degrees(math.asin(min(1.0, abs(n[2]) / math.sqrt(dot(n, n))))) for n in edges]
        high, low = max(high, *extremes), min(low, *(-value for value in extremes))
    return max(-90.0, low - 1e-9), min(90.0, high + 1e-9)


def polygon_binary(vertices: list[tuple[float, float]]) -> bytes:
    """Return scisql_s2CPolyToBin's value: vertex sum, then edge normals, little-endian doubles."""
    total, edges = polygon_edges(vertices)
    return b"".join(struct.pack("<3d", *vector) for vector in [total, *edges])


def reduce_longitude(lon: float) -> float:
    """Return a longitude in [0, 360)."""
    value = math.fmod(lon, 360.0)
    if value < 0:
        value += 360.0
    return 0.0 if value == 360.0 else value


def half_sine_squared(radius: float) -> float:
    """Return sin²(r/2), what haversine is compared with."""
    return math.sin(math.radians(radius) * 0.5) ** 2


def ellipse_frame(lon: float, lat: float, angle: float) -> tuple[float, float, float, float]:
    """Return (sin lat, cos lat, sin angle, cos angle) of an ellipse's centre and position angle."""
    lat, angle = math.radians(lat), math.radians(angle)
    return math.sin(lat), math.cos(lat), math.sin(angle), math.cos(angle)
