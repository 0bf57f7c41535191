"""scisql functions as native SQL, one entry of the table a function.

Semantics, NULL rules included, are those of the scisql library (docs/sql.md). Constants are folded
here; inside a condition that is a top-level conjunct of WHERE a faster form is used, where NULL and
0 mean the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from shard.catalog.routines import HTM_ID
from shard.errors import BAD_ARGUMENT, SkyError
from shard.planner import sphere
from shard.planner.branches import find
from shard.planner.constants import Value, number
from shard.planner.emit import excerpt
from shard.planner.templates import fill, use

HAVERSINE = (
    "POW(SIN(RADIANS(lat2 - lat1) * 0.5e0), 2) + "
    "COS(RADIANS(lat1)) * COS(RADIANS(lat2)) * POW(SIN(RADIANS(lon2 - lon1) * 0.5e0), 2)"
)
_SEPARATION = (
    "IF(ABS(lat1) > 90 OR ABS(lat2) > 90, NULL, 2e0 * DEGREES(ASIN(LEAST(1e0, SQRT(" + HAVERSINE + ")))))"
)
_SEPARATION_VECTORS = (
    "DEGREES(ATAN2(SQRT(POW(y1*z2 - z1*y2, 2) + POW(z1*x2 - x1*z2, 2) + POW(x1*y2 - y1*x2, 2)), "
    "x1*x2 + y1*y2 + z1*z2))"
)
_CIRCLE = (
    "CASE WHEN lon1 IS NULL OR lat1 IS NULL OR lon2 IS NULL OR lat2 IS NULL OR r IS NULL THEN 0 "
    "WHEN ABS(lat1) > 90 OR ABS(lat2) > 90 OR r < 0 OR r > 180 THEN NULL "
    "ELSE " + HAVERSINE + " <= POW(SIN(RADIANS(r) * 0.5e0), 2) END"
)
_GUARD = "CASE WHEN lon IS NULL OR lat IS NULL THEN 0 WHEN ABS(lat) > 90 THEN NULL ELSE inside END"
_REDUCED = "IF(MOD(lon, 360) < 0, MOD(lon, 360) + 360, MOD(lon, 360))"
ZERO_POINT = 48.6
_K = 10 ** (-0.4 * ZERO_POINT)
_MAG_FACTOR = "1.0857362047581296e0"
_FLUX_FACTOR = "0.9210340371976183e0"


@dataclass(frozen=True, slots=True)
class Call:
    """One call: name as written, arguments, values of parameters, and whether NULL means false here."""

    name: str
    arguments: list[exp.Expression]
    values: Sequence[Value]
    filtering: bool

    def constants(self, start: int) -> list[float]:
        """Return the arguments from `start` on as numbers, or raise 1210."""
        out = []
        for index, node in enumerate(self.arguments[start:], start=start + 1):
            value = number(node, self.values)
            if value is None:
                said = excerpt(node)
                raise self.bad(f"argument {index} must be a constant number, and is {said}")
            out.append(value)
        return out

    def bad(self, reason: str) -> SkyError:
        """Return the 1210 error for this call."""
        return SkyError(BAD_ARGUMENT, function=self.name, reason=reason)


def _angular_separation(call: Call) -> exp.Expression:
    names = ("lon1", "lat1", "lon2", "lat2")
    if len(call.arguments) == 6:
        names6 = ("x1", "y1", "z1", "x2", "y2", "z2")
        return use(_SEPARATION_VECTORS, **dict(zip(names6, call.arguments, strict=True)))
    return use(_SEPARATION, **dict(zip(names, call.arguments, strict=True)))


def circle_filter(
    lon: exp.Expression, lat: exp.Expression, centre: tuple[float, float], radius: float
) -> exp.Expression:
    """Return the fast test (band first, NULL for false) of a constant circle, degrees."""
    clon, clat = centre
    band = use(
        "lat BETWEEN low AND high",
        lat=lat, low=max(-90.0, clat - radius - 1e-9), high=min(90.0, clat + radius + 1e-9),
    )  # fmt: skip
    near = use(
        "POW(SIN(RADIANS(lon - clon) * 0.5e0), 2) * COS(RADIANS(lat)) * cosine"
        " + POW(SIN(RADIANS(lat - clat) * 0.5e0), 2) <= bound",
        lon=lon, lat=lat, clon=clon, clat=clat,
        cosine=math.cos(math.radians(clat)), bound=sphere.half_sine_squared(radius),
    )  # fmt: skip
    return exp.Paren(this=exp.And(this=band, expression=near))


def _circle(call: Call) -> exp.Expression:
    lon, lat = call.arguments[:2]
    fixed = [number(node, call.values) for node in call.arguments[2:]]
    clon, clat, radius = fixed
    if call.filtering and clon is not None and clat is not None and radius is not None:
        if abs(clat) > 90 or not 0 <= radius <= 180:
            return exp.Paren(this=exp.Null())
        return circle_filter(lon, lat, (clon, clat), radius)
    names = ("lon1", "lat1", "lon2", "lat2", "r")
    return use(_CIRCLE, **dict(zip(names, call.arguments, strict=True)))


def _guarded(call: Call, inside: exp.Expression) -> exp.Expression:
    if call.filtering:
        return inside
    return use(_GUARD, lon=call.arguments[0], lat=call.arguments[1], inside=inside)


def _has_null(call: Call, start: int) -> bool:
    return any(isinstance(node, exp.Null) for node in call.arguments[start:])


def _box(call: Call) -> exp.Expression:
    lon, lat = call.arguments[:2]
    if _has_null(call, 2):
        return fill(0)
    lon_min, lat_min, lon_max, lat_max = call.constants(2)
    if abs(lat_min) > 90 or abs(lat_max) > 90:
        return exp.Paren(this=exp.Null())
    if lon_max < lon_min and (lon_max < 0 or lon_min > 360):
        return exp.Paren(this=exp.Null())
    if lat_min > lat_max:
        return _guarded(call, use("FALSE AND lon", lon=lon))
    band = use("lat BETWEEN low AND high", lat=lat, low=lat_min, high=lat_max)
    if lon_max - lon_min >= 360:
        across: exp.Expression = use("lon IS NOT NULL", lon=lon)
    else:
        low, high = sphere.reduce_longitude(lon_min), sphere.reduce_longitude(lon_max)
        test = "BETWEEN low AND high" if low <= high else ">= low OR reduced <= high"
        across = use("reduced " + test, reduced=use(_REDUCED, lon=lon), low=low, high=high)
    return _guarded(call, exp.Paren(this=exp.And(this=band, expression=across)))


def _vertices(call: Call, start: int) -> list[tuple[float, float]]:
    flat = call.constants(start)
    if len(flat) % 2 or not 3 <= len(flat) // 2 <= 20:
        raise call.bad("a convex polygon has 3 to 20 vertices, each a longitude and a latitude")
    vertices = list(zip(flat[::2], flat[1::2], strict=True))
    if any(abs(lat) > 90 for _, lat in vertices):
        raise call.bad("a vertex latitude is outside [-90, 90]")
    try:
        sphere.polygon_edges(vertices)
    except ValueError as error:
        raise call.bad(str(error)) from error
    return vertices


def _polygon(call: Call) -> exp.Expression:
    lon, lat = call.arguments[:2]
    if _has_null(call, 2):
        return fill(0)
    if len(call.arguments) == 3:  # for column definitions; what is planned has vertices (`unfold_polygons`)
        return _guarded(
            call, use("lon = lat AND shape IS NOT NULL", lon=lon, lat=lat, shape=call.arguments[2])
        )
    vertices = _vertices(call, 2)
    low, high = sphere.polygon_band(vertices)
    test = use("lat BETWEEN low AND high", lat=lat, low=low, high=high)
    for ex, ey, ez in sphere.polygon_edges(vertices)[1]:
        edge = use(
            "COS(RADIANS(lat)) * COS(RADIANS(lon)) * ex + COS(RADIANS(lat)) * SIN(RADIANS(lon)) * ey"
            " + SIN(RADIANS(lat)) * ez >= 0",
            lon=lon, lat=lat, ex=ex, ey=ey, ez=ez,
        )  # fmt: skip
        test = exp.And(this=test, expression=edge)
    return _guarded(call, exp.Paren(this=test))


def _polygon_binary(call: Call) -> exp.Expression:
    return fill(f"x'{sphere.polygon_binary(_vertices(call, 0)).hex()}'")


def _ellipse(call: Call) -> exp.Expression:
    lon, lat = call.arguments[:2]
    if _has_null(call, 2):
        return fill(0)
    clon, clat, major, minor, angle = call.constants(2)
    if abs(clat) > 90 or not 0 <= minor <= major <= 36000:
        return exp.Paren(this=exp.Null())
    sin_lat, cos_lat, sin_angle, cos_angle = sphere.ellipse_frame(clon, clat, angle)
    reach = major / 3600 + 1e-9
    holes: dict[str, exp.Expression | float | int | str] = {
        "lat": lat, "d": use("RADIANS(lon - clon)", lon=lon, clon=clon), "sl": sin_lat, "cl": cos_lat,
    }  # fmt: skip
    north = use("cl * SIN(RADIANS(lat)) - sl * COS(d) * COS(RADIANS(lat))", **holes)
    east = use("SIN(d) * COS(RADIANS(lat))", **holes)
    inside = use(
        "lat BETWEEN low AND high AND sl * SIN(RADIANS(lat)) + cl * COS(d) * COS(RADIANS(lat)) > 0"
        " AND POW((sa * east + ca * north) / major, 2) + POW((ca * east - sa * north) / minor, 2) <= 1",
        **holes, low=max(-90.0, clat - reach * 1.02), high=min(90.0, clat + reach * 1.02), north=north, east=east,
        sa=sin_angle, ca=cos_angle, major=max(math.radians(major / 3600), 1e-300),
        minor=max(math.radians(minor / 3600), 1e-300),
    )  # fmt: skip
    return _guarded(call, inside)


def _htm_id(call: Call) -> exp.Expression:
    values = [number(node, call.values) for node in call.arguments]
    lon, lat, level = values
    if lon is None or lat is None or level is None:
        return exp.Anonymous(this=HTM_ID, expressions=list(call.arguments))
    if abs(lat) > 90 or not 0 <= level <= 24 or level != int(level):
        return exp.Paren(this=exp.Null())
    from shard.geometry.regions import htm_id

    return fill(int(htm_id(lon, lat, int(level))))


def _template(text: str, *names: str) -> Callable[[Call], exp.Expression]:
    def build(call: Call) -> exp.Expression:
        return use(text, **dict(zip(names, call.arguments, strict=True)))

    return build


def _k(text: str) -> str:
    return text.replace("kk", repr(_K)).replace("zp", repr(ZERO_POINT))


_DN_FLUX = _k("IF(f0 <= 0, NULL, kk * dn / f0)")
_DN_FLUX_SIGMA = _k(
    "IF(f0 <= 0 OR sd < 0 OR s0 < 0, NULL, kk * SQRT(POW(dn * s0, 2) + POW(sd * f0, 2)) / POW(f0, 2))"
)
_FLUX_DN_SIGMA = _k("IF(f0 <= 0 OR s < 0 OR s0 < 0, NULL, SQRT(POW(f0 * s, 2) + POW(f * s0, 2)) / kk)")
_MAG = _k("-2.5e0 * LOG10(f) - zp")
_FLUX = _k("POW(10e0, -0.4e0 * (m + zp))")
_MAG_NJY = "-2.5e0 * LOG10(f) + 31.4e0"
_FLUX_NJY = "POW(10e0, -0.4e0 * (m - 31.4e0))"
_MAG_SIGMA = f"IF(s < 0, NULL, {_MAG_FACTOR} * s / f)"


def _composed(
    template: str, names: tuple[str, ...], **inner: tuple[str, tuple[str, ...]]
) -> Callable[[Call], exp.Expression]:
    """Return a builder whose template holds other templates."""

    def build(call: Call) -> exp.Expression:
        given = dict(zip(names, call.arguments, strict=True))
        parts = {key: use(text, **{name: given[name] for name in of}) for key, (text, of) in inner.items()}
        return use(template, **given, **parts)

    return build


_BINARY = re.compile(r"(?:[xX]'|0x)([0-9a-fA-F]+)'?")
Builder = Callable[[Call], exp.Expression]
TABLE: dict[str, tuple[tuple[int, ...], Builder]] = {
    "scisql_angsep": ((4, 6), _angular_separation),
    "scisql_s2ptincircle": ((5,), _circle),
    "scisql_s2ptinbox": ((6,), _box),
    "scisql_s2ptincpoly": ((3, *range(8, 43, 2)), _polygon),
    "scisql_s2ptinellipse": ((7,), _ellipse),
    "scisql_s2cpolytobin": (tuple(range(6, 41, 2)), _polygon_binary),
    "scisql_s2htmid": ((3,), _htm_id),
    "scisql_s2htmlevel": (
        (1,),
        _template("IF(i < 8 OR LENGTH(BIN(i)) % 2 = 1 OR LENGTH(BIN(i)) > 52, NULL, (LENGTH(BIN(i)) - 4) DIV 2)", "i"),
    ),
    "scisql_fluxtoabmag": ((1,), _template(_MAG, "f")),
    "scisql_abmagtoflux": ((1,), _template(_FLUX, "m")),
    "scisql_nanojanskytoabmag": ((1,), _template(_MAG_NJY, "f")),
    "scisql_abmagtonanojansky": ((1,), _template(_FLUX_NJY, "m")),
    "scisql_dntoflux": ((2,), _template(_DN_FLUX, "dn", "f0")),
    "scisql_fluxtodn": ((2,), _template(_k("IF(f0 <= 0, NULL, f * f0 / kk)"), "f", "f0")),
    "scisql_dntoabmag": ((2,), _composed(_MAG, ("dn", "f0"), f=(_DN_FLUX, ("dn", "f0")))),
    "scisql_abmagtodn": (
        (2,),
        _composed(_k("IF(f0 <= 0, NULL, f * f0 / kk)"), ("m", "f0"), f=(_FLUX, ("m",))),
    ),
    "scisql_fluxtoabmagsigma": ((2,), _template(_MAG_SIGMA, "f", "s")),
    "scisql_nanojanskytoabmagsigma": ((2,), _template(_MAG_SIGMA, "f", "s")),
    "scisql_abmagtofluxsigma": (
        (2,),
        _composed(f"IF(s < 0, NULL, s * f * {_FLUX_FACTOR})", ("m", "s"), f=(_FLUX, ("m",))),
    ),
    "scisql_abmagtonanojanskysigma": (
        (2,),
        _composed(f"IF(s < 0, NULL, s * f * {_FLUX_FACTOR})", ("m", "s"), f=(_FLUX_NJY, ("m",))),
    ),
    "scisql_dntofluxsigma": ((4,), _template(_DN_FLUX_SIGMA, "dn", "sd", "f0", "s0")),
    "scisql_fluxtodnsigma": ((4,), _template(_FLUX_DN_SIGMA, "f", "s", "f0", "s0")),
    "scisql_dntoabmagsigma": (
        (4,),
        _composed(
            _MAG_SIGMA, ("dn", "sd", "f0", "s0"),
            f=(_DN_FLUX, ("dn", "f0")), s=(_DN_FLUX_SIGMA, ("dn", "sd", "f0", "s0")),
        ),
    ),
    "scisql_abmagtodnsigma": (
        (4,),
        _composed(
            _FLUX_DN_SIGMA, ("m", "sm", "f0", "s0"),
            f=(_FLUX, ("m",)), s=(f"IF(sm < 0, NULL, sm * POW(10e0, -0.4e0 * (m + {ZERO_POINT!r})) * {_FLUX_FACTOR})", ("m", "sm")),
        ),
    ),
}  # fmt: skip
"""Name in lower case → (numbers of arguments allowed, builder)."""


def _number_of(given: int, allowed: Sequence[int]) -> str:
    listed = " or ".join(map(str, allowed))
    if len(allowed) > 3:
        listed = f"{', '.join(map(str, allowed[:3]))} … {allowed[-1]}"
    return f"{given} arguments given, of which it takes {listed}"


def rewrite(
    tree: exp.Expression, values: Sequence[Value], filters: frozenset[int] = frozenset()
) -> exp.Expression:
    """Replace skyshard's functions in a tree, in place, and return it.

    Parameters
    ----------
    tree : Expression
        A statement.
    values : sequence
        Parameter values, for folding.
    filters : frozenset of int
        `id`s of calls that are top-level conjuncts of WHERE.

    Raises
    ------
    SkyError
        1210 for wrong arguments, and for a scisql function that does not exist.
    """
    holder = exp.Paren(this=tree)
    for node in reversed(find(holder, exp.Anonymous)):  # inner calls first
        name = node.name.lower()
        if not name.startswith(("scisql_", "qserv_areaspec_")):
            continue
        entry = TABLE.get(name)
        if entry is None:
            raise SkyError(BAD_ARGUMENT, function=node.name, reason="there is no such function here")
        counts, builder = entry
        arguments = list(node.expressions)
        if len(arguments) not in counts:
            raise SkyError(BAD_ARGUMENT, function=node.name, reason=_number_of(len(arguments), counts))
        node.replace(builder(Call(node.name, arguments, values, id(node) in filters)))
    result: exp.Expression = holder.this
    result.pop()
    return result


def unfold_polygons(tree: exp.Expression, explained: bool, shown: Mapping[str, str]) -> None:
    """Give point tests of a polygon in binary form, which may be a variable's value, its vertices, in place.

    Parameters
    ----------
    explained : bool
        The plan is only shown, without the values of variables.
    shown : mapping
        The values (SQL literals) of variables that are polygons, for a plan that is only shown: by these its chunks are
        known. The polygons of others stay.

    Raises
    ------
    SkyError
        1210 if the form is no constant, or no polygon's.
    """
    for call in find(tree, exp.Anonymous):
        if call.name.lower() != "scisql_s2ptincpoly" or len(call.expressions) != 3:
            continue
        shape = call.expressions[2].unnest()
        if explained and isinstance(shape, exp.Literal) and str(shape.this) in shown:
            shape = exp.Literal(this=shown[str(shape.this)], is_string=False)
        if isinstance(shape, exp.Anonymous) and shape.name.lower() == "scisql_s2cpolytobin":
            vertices: list[exp.Expression] = [item.copy() for item in shape.expressions]
        elif isinstance(shape, exp.Null) or str(shape.this).upper() == "NULL":
            vertices = [exp.Null()] * 6
        elif explained and isinstance(shape, exp.Literal) and str(shape.this).startswith("@"):
            continue
        else:
            given = _BINARY.fullmatch(str(shape.this)) if isinstance(shape, exp.Literal) else None
            reason = "the polygon must be a constant"
            try:
                found = sphere.polygon_vertices(bytes.fromhex(given[1] if given is not None else ""))
            except ValueError as error:
                reason = f"{reason}, and is {excerpt(shape)}" if given is None else str(error)
                raise SkyError(BAD_ARGUMENT, function=call.name, reason=reason) from error
            vertices = [fill(value) for pair in found for value in pair]
        call.set("expressions", [*call.expressions[:2], *vertices])


def uses_functions(tree: exp.Expression) -> bool:
    """Whether a tree calls functions of skyshard's."""
    return any(
        call.name.lower().startswith(("scisql_", "qserv_areaspec_")) for call in find(tree, exp.Anonymous)
    )
