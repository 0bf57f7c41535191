"""Which chunks can hold rows that satisfy a condition: always a superset, never a guess.

Only conditions on a table's own position columns, its director key and chunkId restrict, and those
of constants that no row satisfies; AND intersects, OR unites, everything else (NOT, `= 0`, expressions)
restricts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from shard.catalog.model import Kind
from shard.errors import not_supported
from shard.geometry import regions
from shard.geometry.regions import Region
from shard.planner import director_keys
from shard.planner.branches import find
from shard.planner.conditions import demanded, separation
from shard.planner.constants import (
    Value,
    conjuncts,
    integer,
    is_never,
    number,
    operands,
    values_of,
)
from shard.planner.director_keys import MAX_KEYS
from shard.planner.emit import excerpt
from shard.planner.locality import Layout, position_owner
from shard.planner.plan import AllOf, AnyOf, ByKey, ByRange, Everywhere, InChunks, InRegion, Restriction
from shard.planner.scope import Scope, TableRef, column_of

MARGIN = 1e-4
"""Degrees by which every region is widened: positions may be stored as FLOAT or rounded DECIMAL."""
NOWHERE = InChunks(())
"""No chunk has a row that satisfies a condition."""

AREA = {
    "qserv_areaspec_box": "scisql_s2PtInBox",
    "qserv_areaspec_circle": "scisql_s2PtInCircle",
    "qserv_areaspec_ellipse": "scisql_s2PtInEllipse",
    "qserv_areaspec_poly": "scisql_s2PtInCPoly",
}


def expand_area_specs(tree: exp.Expression, scope: Scope) -> bool:
    """Replace qserv_areaspec_* by point tests on every positioned table, in place.

    Returns whether any was there.
    """
    found = False
    for call in find(tree, exp.Anonymous):
        function = AREA.get(call.name.lower())
        if function is None or call.find_ancestor(exp.Select) is not tree:
            continue
        found = True
        tests: list[exp.Expression] = []
        for ref in scope.sharded():
            table = ref.table
            if ref.nullable or not table.longitude or not table.latitude:
                continue
            position = [column_of(ref, table.longitude), column_of(ref, table.latitude)]
            arguments = [*position, *(item.copy() for item in call.expressions)]
            tests.append(exp.Anonymous(this=function, expressions=arguments))
        if not tests:
            raise not_supported(
                f"{excerpt(call)} on tables without positions", "test columns by scisql_s2PtIn…"
            )
        joined = tests[0]
        for test in tests[1:]:
            joined = exp.And(this=joined, expression=test)
        call.replace(exp.Paren(this=joined) if len(tests) > 1 else joined)
    return found


def restriction(
    scope: Scope, layout: Layout, inner: Sequence[exp.Expression], values: Sequence[Value]
) -> Restriction:
    """Return the chunk restriction of a SELECT.

    Parameters
    ----------
    inner : sequence of Expression
        Conditions that every row satisfies: top-level conjuncts of WHERE and of inner joins' ON.
    """
    parts = _all(inner, scope, layout, values)
    parts += [ref.derived.restriction for ref in scope.refs if ref.derived is not None and not ref.nullable]
    wanted = [part for part in parts if not isinstance(part, Everywhere)]
    if not wanted:
        return Everywhere()
    if NOWHERE in wanted:
        return NOWHERE
    return wanted[0] if len(wanted) == 1 else AllOf(tuple(wanted))


def _all(
    items: Sequence[exp.Expression], scope: Scope, layout: Layout, values: Sequence[Value]
) -> list[Restriction]:
    """Return the restrictions of conditions that all hold.

    Those on a table's two coordinates are one box, those on a key one range.
    """
    parts: list[Restriction] = []
    bands: dict[str, list[_Band]] = {}
    ends: list[director_keys.Bounds] = []
    for item in items:
        band = _band(item, scope, values)
        end = director_keys.bounds(item, scope, layout, values) if band is None else None
        if band is not None:
            bands.setdefault(band.ref.alias, []).append(band)
        elif end is not None:
            ends.append(end)
        else:
            parts.append(_simplify(_neither(item, scope, layout, values)))
    boxes = [_box_of(found, layout) for found in bands.values()]
    return [*parts, *(box for box in boxes if box is not None), *director_keys.ranges(ends)]


def any_of(sides: Sequence[Restriction]) -> Restriction:
    """Return where rows are that satisfy one of several conditions."""
    flat = [part for side in sides for part in (side.parts if isinstance(side, AnyOf) else (side,))]
    return _simplify(AnyOf(_one_list(flat)))


def _one_list(sides: Sequence[Restriction]) -> tuple[Restriction, ...]:
    """Return alternatives with the keys of each director and kind in one list, its ranges in another.

    Each is looked up at once.
    """
    lists: dict[tuple[str, str], dict[str, None]] = {}
    for side in sides:
        if isinstance(side, ByKey):
            for key in side.keys:  # in a list of several kinds, MariaDB need not compare as in comparisons
                kind = "text" if key.startswith("'") else "whole" if key.lstrip("-").isdigit() else "number"
                lists.setdefault((side.director, kind), {})[key] = None
    if any(len(keys) > MAX_KEYS for keys in lists.values()):
        return (Everywhere(),)
    known = [ByKey(director, tuple(keys)) for (director, _), keys in lists.items()]
    wide = director_keys.united([side for side in sides if isinstance(side, ByRange)])
    others = [side for side in sides if not isinstance(side, (ByKey, ByRange)) and side != NOWHERE]
    return (*known, *wide, *others) or (NOWHERE,)


def _simplify(part: Restriction) -> Restriction:
    if isinstance(part, AnyOf) and any(isinstance(item, Everywhere) for item in part.parts):
        return Everywhere()
    if isinstance(part, AnyOf) and all(item == NOWHERE for item in part.parts):
        return NOWHERE
    if isinstance(part, AnyOf) and len(part.parts) == 1:
        return part.parts[0]
    if isinstance(part, AllOf) and NOWHERE in part.parts:
        return NOWHERE
    return Everywhere() if part == AllOf(()) else part


def _of(item: exp.Expression, scope: Scope, layout: Layout, values: Sequence[Value]) -> Restriction:
    band = _band(item, scope, values)
    if band is not None:
        return _box_of([band], layout) or Everywhere()
    end = director_keys.bounds(item, scope, layout, values)
    if end is not None:
        return next(director_keys.ranges([end]))
    return _neither(item, scope, layout, values)


def _neither(item: exp.Expression, scope: Scope, layout: Layout, values: Sequence[Value]) -> Restriction:
    """Return the restriction of a condition that bounds neither one coordinate nor one key."""
    if isinstance(item, exp.Paren):
        return _of(item.this, scope, layout, values)
    if isinstance(item, exp.And):
        sides = _all(conjuncts(item), scope, layout, values)
        return _simplify(AllOf(tuple(part for part in sides if not isinstance(part, Everywhere))))
    if isinstance(item, exp.Or):
        sides = [_of(side, scope, layout, values) for side in operands(item, exp.Or)]
        return any_of(sides)
    for reader in (_spatial, _separation, director_keys.keys, _chunk):
        found = reader(item, scope, layout, values)
        if found is not None:
            return found
    return NOWHERE if is_never(item, values) else Everywhere()


def _region(ref: TableRef, region: Region, layout: Layout) -> Restriction:
    """Return the chunks of the anchor for rows of `ref` in a region."""
    margin = MARGIN
    if layout.partner is ref:
        margin += layout.reach
    elif layout.neighbours is not None and layout.is_elsewhere(ref):
        margin += layout.neighbours.radius
    return InRegion(regions.widen(region, margin))


def _spatial(
    item: exp.Expression, scope: Scope, layout: Layout, values: Sequence[Value]
) -> Restriction | None:
    call = demanded(item)
    if call is None or len(call.expressions) < 3:
        return None
    name = call.name.lower()
    if not name.startswith("scisql_s2ptin"):
        return None
    ref = position_owner(scope, call.expressions[0], call.expressions[1])
    if ref is None or ref.table.kind is Kind.MATCH:
        return None
    fixed = [number(node, values) for node in call.expressions[2:]]
    if any(value is None for value in fixed):
        return None
    region = _shape(name, [value for value in fixed if value is not None])
    return None if region is None else _region(ref, region, layout)


def _shape(name: str, a: list[float]) -> Region | None:
    """Return the region of a point test; None where the test is never true or not valid (no restriction)."""
    if name == "scisql_s2ptincircle" and len(a) == 3 and abs(a[1]) <= 90 and 0 <= a[2] <= 180:
        return regions.Circle(a[0] % 360.0, a[1], a[2])
    if name == "scisql_s2ptinbox" and len(a) == 4:
        return _box(*a)
    if name == "scisql_s2ptinellipse" and len(a) == 5 and abs(a[1]) <= 90 and 0 <= a[3] <= a[2] <= 36000:
        return regions.Circle(a[0] % 360.0, a[1], a[2] / 3600 * 1.02)
    if name == "scisql_s2ptincpoly" and len(a) >= 6 and len(a) % 2 == 0:
        return regions.Polygon(tuple(zip(a[::2], a[1::2], strict=True)))
    return None


def _box(lon_min: float, lat_min: float, lon_max: float, lat_max: float) -> Region | None:
    if lat_min > lat_max or (lon_max < lon_min and (lon_max < 0 or lon_min > 360)):
        return None
    lat_min, lat_max = max(-90.0, lat_min), min(90.0, lat_max)
    if lat_min > lat_max:
        return None
    if lon_max - lon_min >= 360:
        return regions.Box(0.0, lat_min, 360.0, lat_max)
    return regions.Box(lon_min % 360.0, lat_min, lon_max % 360.0, lat_max)


def _separation(
    item: exp.Expression, scope: Scope, layout: Layout, values: Sequence[Value]
) -> Restriction | None:
    found = separation(item, values)
    if found is None or not 0 <= found.radius <= 180:
        return None
    for position, centre in (found.positions, found.positions[::-1]):
        ref = position_owner(scope, *position)
        lon, lat = (number(node, values) for node in centre)
        if ref is not None and lon is not None and lat is not None and abs(lat) <= 90:
            return _region(ref, regions.Circle(lon % 360.0, lat, found.radius), layout)
    return None


def _position(node: exp.Expression, scope: Scope) -> tuple[TableRef, bool] | None:
    """Return (table, is longitude) if `node` is a table's own position column."""
    ref = scope.owner(node)
    if ref is None or not ref.table.longitude or not ref.table.latitude:
        return None
    name = node.name.lower()
    if name == ref.table.longitude.lower():
        return ref, True
    return (ref, False) if name == ref.table.latitude.lower() else None


@dataclass(frozen=True, slots=True)
class _Band:
    """What a condition says of one coordinate of a table's position (degrees)."""

    ref: TableRef
    is_longitude: bool
    low: float = -math.inf
    high: float = math.inf


def _band(item: exp.Expression, scope: Scope, values: Sequence[Value]) -> _Band | None:
    """Read BETWEEN and comparisons of a position column with constants."""
    low: float | None = None
    high: float | None = None
    if isinstance(item, exp.Between):
        node = item.this
        low, high = number(item.args["low"], values), number(item.args["high"], values)
        if low is None or high is None:
            return None
    elif isinstance(item, (exp.LT, exp.LTE, exp.GT, exp.GTE, exp.EQ)):
        found = _comparison(item, values)
        if found is None:
            return None
        node, low, high = found
    else:
        return None
    position = _position(node, scope)
    if position is None:
        return None
    return _Band(*position, -math.inf if low is None else low, math.inf if high is None else high)


def _box_of(bands: Sequence[_Band], layout: Layout) -> Restriction | None:
    """Return the chunks of rows whose coordinates are in all of these bands; None if they say nothing.

    Longitudes are compared as they are stored, and may be stored beyond 0 and 360; a row's chunk is that of
    the longitude modulo 360. So only a range with both ends restricts, and may wrap around.
    """
    ref = bands[0].ref
    lon, lat = (
        (max(band.low for band in side), min(band.high for band in side)) if side else (-math.inf, math.inf)
        for side in (
            [band for band in bands if band.is_longitude],
            [band for band in bands if not band.is_longitude],
        )
    )
    if lon[0] > lon[1] or lat[0] > lat[1] or lat[0] > 90 or lat[1] < -90:
        return None
    elsewhere = layout.neighbours is not None and layout.is_elsewhere(ref)
    # What is stored differs from what the chunk was found by in each coordinate, near the poles too; other
    # tables' rows are within an angle.
    margin = 0.0 if layout.partner is ref or elsewhere else MARGIN
    south, north = max(-90.0, lat[0] - margin), min(90.0, lat[1] + margin)
    width = lon[1] - lon[0] + 2 * margin
    ends = (0.0, 360.0)
    if math.isfinite(width) and width < 360:
        ends = ((lon[0] - margin) % 360.0, (lon[1] + margin) % 360.0)
    elif (south, north) == (-90.0, 90.0):
        return None
    box = regions.Box(ends[0], south, ends[1], north)
    return InRegion(box) if margin else _region(ref, box, layout)


def _comparison(
    item: exp.Expression, values: Sequence[Value]
) -> tuple[exp.Expression, float | None, float | None] | None:
    """Return (column, low, high) of a comparison with a constant."""
    left, right = number(item.this, values), number(item.expression, values)
    node, value, flipped = (item.this, right, False) if right is not None else (item.expression, left, True)
    if value is None:
        return None
    if isinstance(item, exp.EQ):
        return node, value, value
    below = isinstance(item, (exp.LT, exp.LTE)) != flipped
    return (node, None, value) if below else (node, value, None)


def _chunk(item: exp.Expression, scope: Scope, layout: Layout, values: Sequence[Value]) -> Restriction | None:
    if not isinstance(item, (exp.EQ, exp.In)):
        return None
    node = item.this
    if not isinstance(node, exp.Column) or node.name.lower() != "chunkid":
        return None
    nodes = values_of(item) if isinstance(item, exp.In) else [item.expression]
    if not nodes:
        return None
    ref = scope.owner(node) or (scope.sharded()[0] if len(scope.sharded()) == 1 and not node.table else None)
    if ref is None or not ref.is_sharded or ref.derived is not None or layout.is_elsewhere(ref):
        return None
    chunks = [integer(value, values) for value in nodes]
    return None if None in chunks else InChunks(tuple(value for value in chunks if value is not None))
