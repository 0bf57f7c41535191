"""Regions of the sky as values, and the chunks they touch (by lsst-sphgeom).

A cover is always a superset: polygons are taken as convex hulls and everything is widened a little,
so pruning never loses a row. Angles are degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from lsst import sphgeom

from shard.geometry.chunker import ChunkGrid


@dataclass(frozen=True, slots=True)
class Circle:
    """All points within `radius` of a centre."""

    lon: float
    lat: float
    radius: float


@dataclass(frozen=True, slots=True)
class Box:
    """A longitude and latitude range; it wraps across 0/360° when lon_min > lon_max."""

    lon_min: float
    lat_min: float
    lon_max: float
    lat_max: float


@dataclass(frozen=True, slots=True)
class Polygon:
    """A convex polygon; its vertices' hull is taken."""

    vertices: tuple[tuple[float, float], ...]
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Everything:
    """The whole sky."""


Region: TypeAlias = Circle | Box | Polygon | Everything


def widen(region: Region, degrees: float) -> Region:
    """Return a region that holds every point within `degrees` of `region`."""
    if isinstance(region, Circle):
        return Circle(region.lon, region.lat, min(180.0, region.radius + degrees))
    if isinstance(region, Polygon):
        return Polygon(region.vertices, region.margin + degrees)
    if isinstance(region, Box):
        box = _box(region).dilatedBy(sphgeom.Angle.fromDegrees(degrees))
        lon, lat = box.getLon(), box.getLat()
        if lon.isFull():
            return Box(0.0, lat.getA().asDegrees(), 360.0, lat.getB().asDegrees())
        return Box(
            lon.getA().asDegrees(), lat.getA().asDegrees(), lon.getB().asDegrees(), lat.getB().asDegrees()
        )
    return region


def _box(region: Box) -> sphgeom.Box:
    if region.lon_max - region.lon_min >= 360.0:
        lon = sphgeom.NormalizedAngleInterval.full()
    else:
        lon = sphgeom.NormalizedAngleInterval.fromDegrees(region.lon_min % 360.0, region.lon_max % 360.0)
    lat = sphgeom.AngleInterval.fromDegrees(max(-90.0, region.lat_min), min(90.0, region.lat_max))
    return sphgeom.Box(lon, lat)


def _vector(lon: float, lat: float) -> sphgeom.UnitVector3d:
    return sphgeom.UnitVector3d(sphgeom.LonLat.fromDegrees(lon % 360.0, lat))


def _shape(region: Region) -> sphgeom.Region:
    if isinstance(region, Circle):
        return sphgeom.Circle(_vector(region.lon, region.lat), sphgeom.Angle.fromDegrees(region.radius))
    if isinstance(region, Box):
        return _box(region)
    if isinstance(region, Polygon):
        hull = sphgeom.ConvexPolygon([_vector(lon, lat) for lon, lat in region.vertices])
        if not region.margin:
            return hull
        return (
            hull.getBoundingCircle().dilatedBy(sphgeom.Angle.fromDegrees(region.margin))
            if (region.margin > 0.1)
            else _dilated_hull(hull, region.margin)
        )
    return sphgeom.Circle.full()


def _dilated_hull(hull: sphgeom.ConvexPolygon, margin: float) -> sphgeom.Region:
    """Return the smaller of a polygon's dilated bounding shapes."""
    box = hull.getBoundingBox().dilatedBy(sphgeom.Angle.fromDegrees(margin))
    circle = hull.getBoundingCircle().dilatedBy(sphgeom.Angle.fromDegrees(margin))
    return sphgeom.IntersectionRegion(box, circle)


@lru_cache(maxsize=16)
def _chunker(stripes: int, sub_stripes: int) -> sphgeom.Chunker:
    return sphgeom.Chunker(stripes, sub_stripes)


def cover(region: Region, grid: ChunkGrid) -> npt.NDArray[np.int32]:
    """Return the chunks that a region touches, sorted: a superset of those that hold its points."""
    if isinstance(region, Everything):
        return np.sort(grid.all_chunks())
    found = _chunker(grid.stripes, grid.sub_stripes).getChunksIntersecting(_shape(region))
    return np.unique(np.asarray(found, dtype=np.int32))


def htm_id(lon: float, lat: float, level: int) -> int:
    """Return the HTM id of a position at a subdivision level (0 to 24)."""
    return int(sphgeom.HtmPixelization(level).index(_vector(lon, lat)))
