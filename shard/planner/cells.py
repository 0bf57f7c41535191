"""The cell grid of near-neighbour joins: linear in rows plus pairs, exact everywhere on the sphere.

Positions are unit vectors in space, cut into cubes of side 2c, c ≥ 2 sin(r/2). A neighbour within
r differs by at most c in each coordinate, so it lies in one of 2 cells per axis: the one that holds
the coordinate less c, and the next. Working in space instead of longitude and latitude needs no special
case at the poles or at 0/360°.

Candidates are told by the scalar product of the vectors, which costs a fifth of the separation itself:
below `Grid.outside` no pair is within r, above `Grid.inside` every pair is, and between the two, a hair
apart, the user's own condition decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlglot import exp

from shard.errors import not_supported
from shard.planner.scope import TableRef
from shard.planner.templates import use

CELL, STEP, ROW = "skyCell", "skyStep", "skyRow"
VECTOR = ("skyX", "skyY", "skyZ")
_MIN_SIDE = 2e-6
_SURE = 4e-15
"""More than rounding can add to a scalar product of unit vectors."""
_AXES = (
    "COS(RADIANS(lat)) * COS(RADIANS(lon))",
    "COS(RADIANS(lat)) * SIN(RADIANS(lon))",
    "SIN(RADIANS(lat))",
)


@dataclass(frozen=True, slots=True)
class Grid:
    """Cube side, reach c (both in units of the sphere's radius), cells per axis, and scalar products.

    Attributes
    ----------
    outside : float
        A pair whose scalar product is less is farther apart than the radius, rounding considered.
    inside : float
        A pair whose scalar product is more is closer than the radius; 2 where that cannot be told.
    """

    side: float
    reach: float
    cells: int
    outside: float
    inside: float

    @staticmethod
    def of(radius: float) -> Grid:
        """Return the grid for a radius in degrees; a hair wider, so that rounding loses no pair."""
        chord = 2.0 * math.sin(math.radians(radius) * 0.5)
        reach = chord * (1 + 1e-9) + 1e-12
        side = max(2.0 * reach, _MIN_SIDE)
        outside = 1.0 - reach * reach / 2 - _SURE
        sure = chord * (1 - 1e-9) - 1e-12
        inside = 1.0 - sure * sure / 2 + _SURE if sure > 0 else 2.0
        return Grid(side, reach, 2 * (math.ceil(1.0 / side) + 2) + 1, outside, inside)

    def steps(self) -> list[int]:
        """Return what leads from a row's first cell to each of the 8 that its neighbours can be in."""
        n = self.cells
        return [(x * n + y) * n + z for x in (0, 1) for y in (0, 1) for z in (0, 1)]


LonLat = tuple[str, str]
"""Longitude and latitude columns."""


def position(ref: TableRef, lon_lat: LonLat | None = None) -> dict[str, exp.Expression | float | int | str]:
    """Return the holes `lon` and `lat` for a table's position columns, or for the columns `lon_lat`."""
    lon, lat = lon_lat or (ref.table.longitude or "", ref.table.latitude or "")
    return {
        "lon": exp.column(lon, table=ref.alias, quoted=True),
        "lat": exp.column(lat, table=ref.alias, quoted=True),
    }


def vector(ref: TableRef, lon_lat: LonLat | None = None) -> list[exp.Expression]:
    """Return the unit vector of a row, each coordinate named."""
    return [
        exp.Alias(this=use(axis, **position(ref, lon_lat)), alias=exp.to_identifier(name, quoted=True))
        for axis, name in zip(_AXES, VECTOR, strict=True)
    ]


def cell(grid: Grid, ref: TableRef, lon_lat: LonLat | None = None, reach: float = 0.0) -> exp.Expression:
    """Return the number of a row's cell; with a reach, of the first cell that its neighbours can be in."""
    half = grid.cells // 2
    less = " - reach" if reach else ""
    axes = [
        use(
            f"CAST(FLOOR(({axis}{less}) / side) AS SIGNED)",
            **position(ref, lon_lat), reach=reach, side=grid.side,
        )
        for axis in _AXES
    ]  # fmt: skip
    number = use(
        f"((ix + {half}) * {grid.cells} + iy + {half}) * {grid.cells} + iz + {half}",
        ix=axes[0], iy=axes[1], iz=axes[2],
    )  # fmt: skip
    return exp.Alias(this=number, alias=exp.to_identifier(CELL, quoted=True))


def has_position(ref: TableRef, lon_lat: LonLat | None = None) -> exp.Expression:
    """Return the condition that a row has a place on the sphere; others are near nothing."""
    return use("ABS(lat) <= 90 AND lon IS NOT NULL", **position(ref, lon_lat))


def tested(grid: Grid, one: str, other: str, exact: exp.Expression) -> exp.Expression:
    """Return a condition that says what `exact` does, for tables of vectors with these aliases."""
    product = use(
        " + ".join(f"{name}1 * {name}2" for name in VECTOR),
        **{f"{name}1": exp.column(name, table=one, quoted=True) for name in VECTOR},
        **{f"{name}2": exp.column(name, table=other, quoted=True) for name in VECTOR},
    )
    return use(
        "product > outside AND (product > inside OR exact)",
        product=product, outside=grid.outside, inside=grid.inside, exact=exact,
    )  # fmt: skip


def needed_columns(select: exp.Select, ref: TableRef, lon_lat: LonLat | None = None) -> list[str]:
    """Return the columns of a table that a statement may read, positions included."""
    table = ref.table
    names = {node.name.lower() for node in select.find_all(exp.Column) if node.table in ("", ref.alias)}
    names |= {name.lower() for name in lon_lat or (table.longitude or "", table.latitude or "")}
    joins = select.args.get("joins") or ()
    natural = any(join.args.get("method") for join in joins)
    names |= {item.name.lower() for join in joins for item in join.args.get("using") or ()}
    hidden = [name for name in ("chunkId", "subChunkId") if name.lower() in names]
    if natural and hidden:
        raise not_supported("a near-neighbour join with NATURAL JOIN and a chunk's number")
    listed = [column.name for column in table.columns if natural or column.name.lower() in names]
    return [*listed, *(name for name in hidden if name not in listed)]
