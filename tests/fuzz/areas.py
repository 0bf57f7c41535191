"""Regions of the sky, as skyshard and as plain MariaDB write them."""

from __future__ import annotations

import random

from tests.fuzz.sources import Source
from tests.fuzz.tree import Node, text


def separation(a: tuple[str, str], b: tuple[str, str]) -> str:
    """Return the haversine formula, in degrees."""
    squares = (
        f"POW(SIN(RADIANS({b[1]} - {a[1]}) / 2), 2) + COS(RADIANS({a[1]})) * COS(RADIANS({b[1]})) * "
        f"POW(SIN(RADIANS({b[0]} - {a[0]}) / 2), 2)"
    )
    return f"DEGREES(2 * ASIN(SQRT(LEAST(1, {squares}))))"


def region(rng: random.Random, source: Source) -> Node:
    """Return a condition on the position of one table of a FROM clause."""
    lon, lat = rng.choice(source.positioned)
    roll = rng.random()
    lo, hi = sorted((round(rng.uniform(-95, 95), 3), round(rng.uniform(-95, 95), 3)))
    if roll < 0.3:
        lo, hi = (min(max(bound, -90), 90) for bound in (lo, hi))
        west, east = round(rng.uniform(0, 360), 3), round(rng.uniform(0, 360), 3)
        wraps = "OR" if west > east else "AND"
        box = f"(({lon} >= {west} {wraps} {lon} <= {east}) AND {lat} BETWEEN {lo} AND {hi})"
        if len(source.positioned) == 1 and "." in lon and rng.random() < 0.3:
            return Node("area", (f"qserv_areaspec_box({west}, {lo}, {east}, {hi})", box))
        call = f"scisql_s2PtInBox({lon}, {lat}, {west}, {lo}, {east}, {hi})"
        return Node("area", rng.choice((
            (call, box), (f"{call} = 1", box), (f"NOT {call}", f"NOT {box}"), (f"{call} = 0", f"NOT {box}"),
            (f"({call} = 1 OR {lat} > 80)", f"({box} OR {lat} > 80)"),
        )))  # fmt: skip
    if roll < 0.6:
        center = (
            f"{round(rng.choice((rng.uniform(0, 360), 0.001)), 3)}",
            f"{round(rng.choice((rng.uniform(-89, 89), 18.3)), 3)}",
        )
        radius = rng.choice((0.513, 3.21, 20.77, 60.003))
        apart = f"({separation((lon, lat), center)} < {radius})"
        circle = f"scisql_s2PtInCircle({lon}, {lat}, {center[0]}, {center[1]}, {radius})"
        return Node("area", rng.choice((
            (f"scisql_angSep({lon}, {lat}, {center[0]}, {center[1]}) < {radius}", apart),
            (f"{circle} = 1", apart), (circle, apart), (f"{circle} = 0", f"NOT {apart}"), (f"NOT {circle} = 1", f"NOT {apart}"),
        )))  # fmt: skip
    return text(rng.choice((
        f"{lat} BETWEEN {lo} AND {hi}", f"{lon} < {abs(lo)}", f"({lon} BETWEEN 350 AND 361 OR {lon} < 1)", f"NOT {lat} < {lo}",
        f"{lat} > {hi}", f"{lon} = 0", f"{lat} IN (90, -90, 18)", f"({lon} > 359 AND {lat} <= {hi})", f"{lat} = 18.0",
    )))  # fmt: skip
