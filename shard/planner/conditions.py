"""Reads conditions that users spell in several ways.

Restricting to chunks, laying out a near-neighbour join and choosing the fast form of a point test must agree on what
a condition says; so each is read here, once, whatever its parentheses and whichever side the constant is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from shard.planner.constants import Value, integer, number

Position = tuple[exp.Expression, exp.Expression]
"""Longitude and latitude."""


@dataclass(frozen=True, slots=True)
class Separation:
    """A condition ``scisql_angSep(lon1, lat1, lon2, lat2) < radius``, in degrees; the radius may be any number."""

    positions: tuple[Position, Position]
    radius: float


def separation(item: exp.Expression, values: Sequence[Value]) -> Separation | None:
    """Return what a condition says if it bounds the distance of two positions by a constant, else None."""
    if isinstance(item, (exp.LT, exp.LTE)):
        call, bound = item.this, item.expression
    elif isinstance(item, (exp.GT, exp.GTE)):
        call, bound = item.expression, item.this
    else:
        return None
    call = call.unnest()
    if not isinstance(call, exp.Anonymous) or call.name.lower() != "scisql_angsep":
        return None
    radius = number(bound, values)
    if len(call.expressions) != 4 or radius is None:
        return None
    lon1, lat1, lon2, lat2 = call.expressions
    return Separation(((lon1, lat1), (lon2, lat2)), radius)


def demanded(item: exp.Expression) -> exp.Anonymous | None:
    """Return the function call that a condition demands to be true: bare, ``= 1`` or ``1 =``; None if it is none."""
    if isinstance(item, exp.EQ):
        for call, one in ((item.this, item.expression), (item.expression, item.this)):
            inner = call.unnest()
            if isinstance(inner, exp.Anonymous) and integer(one.unnest()) == 1:
                return inner
        return None
    call = item.unnest()
    return call if isinstance(call, exp.Anonymous) else None
