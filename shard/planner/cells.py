"""The cell grid of near-neighbour joins: linear in rows plus pairs, exact everywhere on the sphere.

Positions are unit vectors in space, cut into cubes of side 2c, c ≥ 2 sin(r/2). A neighbour within
r differs by at most c in each coordinate, so it lies in one of at most 2 cells per axis. Working in
space instead of longitude and latitude needs no special case at the poles or at 0/360°. The near
table (chunk ∪ overlap) goes into a temporary table with its cell number and an index on it; each
row of the anchor probes at most 8 cells by equality (3.4 on average).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlglot import exp

from shard.catalog.naming import SCRATCH_DATABASE
from shard.planner.locality import Neighbours
from shard.planner.scope import TableRef
from shard.planner.templates import use

NEAR_TABLE = "near_rows"
OFFSET_TABLE = "near_offsets"
OFFSET_ALIAS = "skyOffset"
CELL_COLUMN = "skyCell"
_MIN_SIDE = 2e-6
_AXES = (
    "COS(RADIANS(lat)) * COS(RADIANS(lon))",
    "COS(RADIANS(lat)) * SIN(RADIANS(lon))",
    "SIN(RADIANS(lat))",
)


@dataclass(frozen=True, slots=True)
class Grid:
    """Cube side, reach c (both in units of the sphere's radius) and cells per axis."""

    side: float
    reach: float
    cells: int

    @staticmethod
    def of(radius: float) -> Grid:
        """Return the grid for a radius in degrees; a hair wider, so that rounding loses no pair."""
        reach = 2.0 * math.sin(math.radians(radius) * 0.5) * (1 + 1e-9) + 1e-12
        side = max(2.0 * reach, _MIN_SIDE)
        return Grid(side, reach, 2 * (math.ceil(1.0 / side) + 2) + 1)


def position(
    ref: TableRef, place: tuple[str, str] | None = None
) -> dict[str, exp.Expression | float | int | str]:
    """Return the holes `lon` and `lat` for a table's position columns, or for the columns `place`."""
    lon, lat = place or (ref.table.longitude or "", ref.table.latitude or "")
    return {
        "lon": exp.column(lon, table=ref.alias, quoted=True),
        "lat": exp.column(lat, table=ref.alias, quoted=True),
    }


def _cell_number(grid: Grid, axes: list[exp.Expression]) -> exp.Expression:
    half = grid.cells // 2
    return use(
        f"((ix + {half}) * {grid.cells} + iy + {half}) * {grid.cells} + iz + {half}",
        ix=axes[0],
        iy=axes[1],
        iz=axes[2],
    )


def own_cell(grid: Grid, ref: TableRef) -> exp.Expression:
    """Return the cell of a row of the near table."""
    holes = position(ref)
    return _cell_number(
        grid, [use(f"CAST(FLOOR(({axis}) / side) AS SIGNED)", **holes, side=grid.side) for axis in _AXES]
    )


def probe(
    grid: Grid, neighbours: Neighbours, offset: str = OFFSET_ALIAS
) -> tuple[exp.Expression, list[exp.Expression]]:
    """Return (cell probed by a row of the anchor at an offset, conditions that leave out repeats)."""
    holes = position(neighbours.anchor, neighbours.place)
    axes, conditions = [], []
    for axis, name in zip(_AXES, ("ox", "oy", "oz"), strict=True):
        step = exp.column(name, table=offset, quoted=True)
        axes.append(
            use(
                f"CAST(FLOOR(({axis} + (2 * step - 1) * reach) / side) AS SIGNED)",
                **holes,
                step=step,
                reach=grid.reach,
                side=grid.side,
            )
        )
        conditions.append(
            use(
                f"step = 0 OR FLOOR(({axis} + reach) / side) > FLOOR(({axis} - reach) / side)",
                **holes,
                step=step,
                reach=grid.reach,
                side=grid.side,
            )
        )
    return _cell_number(grid, axes), conditions


def offsets_select() -> str:
    """Return the SELECT of the 8 offsets, in which 0 is the lower and 1 the upper cell of an axis."""
    rows = [f"SELECT {x} AS ox, {y} AS oy, {z} AS oz" for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    return " UNION ALL ".join(rows)


def needed_columns(select: exp.Expression, ref: TableRef, star: bool) -> list[str]:
    """Return the columns of the near table that a statement may read, positions included."""
    table = ref.table
    names = {node.name.lower() for node in select.find_all(exp.Column) if node.table in ("", ref.alias)}
    hidden = [name for name in ("chunkId", "subChunkId") if name.lower() in names]
    own = (table.longitude, table.latitude)
    listed = [c.name for c in table.columns if star or c.name.lower() in names or c.name in own]
    return [*listed, *(name for name in hidden if name not in listed)]


def near_reference(neighbours: Neighbours) -> exp.Table:
    """Return the FROM item that replaces the near table."""
    return exp.Table(
        this=exp.to_identifier(NEAR_TABLE, quoted=True),
        db=exp.to_identifier(SCRATCH_DATABASE, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(neighbours.near.alias, quoted=True)),
    )
