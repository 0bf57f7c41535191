"""Spherical formulas whose constants the planner folds: circles, boxes, polygons, ellipses.

Angles in degrees; vectors are unit vectors. Sources: the semantics of the scisql library, and
haversine for small separations.
"""

from __future__ import annotations

import math
import struct

Vector = tuple[float, float, float]
_BAND_MARGIN = 2e-6
"""Degrees by which a band is wider than computed; near the poles a cosine's rounding is that much."""


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
    _, edges = polygon_edges(vertices)
    points = [unit(lon, lat) for lon, lat in vertices]
    latitudes = [lat for _, lat in vertices]
    for index, begin in enumerate(points):
        latitudes += _bulge(begin, points[(index + 1) % len(points)])
    if all(edge[2] >= 0 for edge in edges):  # the pole is inside
        latitudes.append(90.0)
    if all(edge[2] <= 0 for edge in edges):
        latitudes.append(-90.0)
    return max(-90.0, min(latitudes) - _BAND_MARGIN), min(90.0, max(latitudes) + _BAND_MARGIN)


def _bulge(begin: Vector, end: Vector) -> list[float]:
    """Return the declinations (degrees) of the highest and lowest point of a great circle that an arc of it has."""
    normal = cross(begin, end)
    length = math.sqrt(dot(normal, normal))
    x, y, z = (part / length for part in normal)
    level = math.hypot(x, y)  # the sine of the angle between the circle's plane and the equator's
    if level < 1e-12:
        return []
    found = []
    for sign in (1.0, -1.0):
        top = (-sign * x * z / level, -sign * y * z / level, sign * level)
        if min(dot(cross(begin, top), normal), dot(cross(top, end), normal)) >= -1e-12:
            found.append(math.degrees(math.asin(max(-1.0, min(1.0, top[2])))))
    return found


def polygon_binary(vertices: list[tuple[float, float]]) -> bytes:
    """Return scisql_s2CPolyToBin's value: vertex sum, then edge normals, little-endian doubles."""
    total, edges = polygon_edges(vertices)
    return b"".join(struct.pack("<3d", *vector) for vector in [total, *edges])


def polygon_vertices(binary: bytes) -> list[tuple[float, float]]:
    """Return the vertices (degrees) of a polygon from its binary form.

    Raises
    ------
    ValueError
        If it is no such form.
    """
    if len(binary) % 24 or not 4 <= len(binary) // 24 <= 21:
        raise ValueError("it is no value of scisql_s2CPolyToBin")
    total, *edges = struct.iter_unpack("<3d", binary)
    corners = []
    for before, edge in zip([edges[-1], *edges[:-1]], edges, strict=True):
        x, y, z = cross(before, edge)  # both edges' planes hold the vertex between them
        size = math.sqrt(x * x + y * y + z * z)
        if not size:
            raise ValueError("two neighbouring edges are one")
        corners.append((x / size, y / size, z / size))
    # Vertices given clockwise turn every product round. One vertex alone may be more than 90° from
    # the sum of all; all together are not.
    sign = math.copysign(1.0, sum(dot(corner, total) for corner in corners))
    return [_position((sign * x, sign * y, sign * z)) for x, y, z in corners]


def _position(vector: Vector) -> tuple[float, float]:
    """Return (longitude, latitude) of a unit vector, degrees."""
    x, y, z = vector
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.asin(max(-1.0, min(1.0, z))))


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
