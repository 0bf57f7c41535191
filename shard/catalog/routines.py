"""The stored functions: HTM ids of columns, which no expression of fixed size can give, and what a session sees.

HTM ids: the search of lsst-sphgeom's HtmPixelization: the root triangle by the signs of the vector, then at each level the
child whose edges have the vector on their inner side. In double precision: a position within some 1e-16 of
an edge may get the neighbour's id where sphgeom's exact arithmetic decides.
"""

from __future__ import annotations

from shard.catalog.naming import META_DATABASE, SCRATCH_DATABASE, quote

HTM_ID = f"{quote(SCRATCH_DATABASE)}.{quote('s2_htm_id')}"
CHANGED_OF = f"{quote(SCRATCH_DATABASE)}.{quote('changed_of')}"


def changed_in(database: str, table: str) -> str:
    """Return the SELECT of the revision in which rows of a replicated table last came or went; names as SQL."""
    meta = quote(META_DATABASE)
    return (
        f"SELECT COALESCE(CAST(JSON_VALUE(t.definition, '$.changed') AS UNSIGNED), 0) FROM {meta}.`tables` t "
        f"JOIN {meta}.`databases` d ON d.db_id = t.db_id WHERE d.name = {database} AND d.state = 'published' "
        f"AND t.name = {table}"
    )


def create_changed_of() -> tuple[str, ...]:
    """Return the CREATE FUNCTION of the same query, for a session whose open transaction may still see earlier rows.

    Every account may call it, so it takes the number of a table, of which nobody learns which names are published.
    """
    meta = quote(META_DATABASE)
    return (
        f"DROP FUNCTION IF EXISTS {quote(SCRATCH_DATABASE)}.{quote('changed_in')}",  # an earlier one took names
        f"CREATE FUNCTION IF NOT EXISTS {CHANGED_OF}(the_table INT) RETURNS BIGINT "
        "NOT DETERMINISTIC READS SQL DATA SQL SECURITY DEFINER RETURN "
        f"(SELECT COALESCE(CAST(JSON_VALUE(t.definition, '$.changed') AS UNSIGNED), 0) FROM {meta}.`tables` t "
        f"JOIN {meta}.`databases` d ON d.db_id = t.db_id WHERE d.state = 'published' AND t.kind = 'replicated' "
        "AND t.table_id = the_table)",
        f"GRANT EXECUTE ON FUNCTION {CHANGED_OF} TO PUBLIC",
    )


def _midpoint(name: str, a: str, b: str) -> str:
    """Return the statements that set vector `name` to the midpoint of two, on the sphere."""
    parts = [f"SET {name}{axis} = {a}{axis} + {b}{axis}" for axis in "xyz"]
    parts.append(f"SET l = SQRT({' + '.join(f'{name}{axis} * {name}{axis}' for axis in 'xyz')})")
    parts += [f"SET {name}{axis} = {name}{axis} / l" for axis in "xyz"]
    return "; ".join(parts) + "; "


def _inside(a: str, b: str) -> str:
    """Return whether the position is on the inner side of the edge between two vectors: v · (a × b) >= 0."""
    return f"vx * ({a}y * {b}z - {a}z * {b}y) + vy * ({a}z * {b}x - {a}x * {b}z) + vz * ({a}x * {b}y - {a}y * {b}x) >= 0"


def _move(**moves: str) -> str:
    return (
        "; ".join(f"SET {to}{axis} = {source}{axis}" for to, source in moves.items() for axis in "xyz") + "; "
    )


def _roots() -> str:
    """Return the statements that choose the root triangle: its number and its three corners."""
    axes = {"X": "1e0 0e0 0e0", "Y": "0e0 1e0 0e0", "Z": "0e0 0e0 1e0"}
    axes |= {f"-{name}": numbers.replace("1e0", "-1e0") for name, numbers in axes.items()}
    corners = ["X -Z Y", "Y -Z -X", "-X -Z -Y", "-Y -Z X", "X Z -Y", "-Y Z -X", "-X Z Y", "Y Z X"]
    cases = []
    for number, names in enumerate(corners):
        values = [axes[name].split() for name in names.split()]
        sets = [
            f"SET {corner}{axis} = {value}"
            for corner, vector in zip("pqs", values, strict=True)
            for axis, value in zip("xyz", vector, strict=True)
        ]
        cases.append(f"WHEN {number} THEN " + "; ".join(sets) + "; ")
    return "CASE r " + "".join(cases) + "END CASE; "


def create_htm_id() -> str:
    """Return the CREATE FUNCTION: (longitude, latitude in degrees, level 0 to 24) → HTM id, or NULL."""
    names = ", ".join(f"{vector}{axis}" for vector in ("v", "p", "q", "s", "m", "n", "o") for axis in "xyz")
    return (
        f"CREATE FUNCTION IF NOT EXISTS {HTM_ID}(lon DOUBLE, lat DOUBLE, depth INT) RETURNS BIGINT "
        "DETERMINISTIC NO SQL SQL SECURITY INVOKER BEGIN "
        f"DECLARE {names}, l DOUBLE; DECLARE r, k INT DEFAULT 0; DECLARE id BIGINT; "
        "IF lon IS NULL OR lat IS NULL OR depth IS NULL OR ABS(lat) > 90 OR depth < 0 OR depth > 24 THEN RETURN NULL; "
        "END IF; "
        "SET vx = COS(RADIANS(lat)) * COS(RADIANS(lon)); SET vy = COS(RADIANS(lat)) * SIN(RADIANS(lon)); "
        "SET vz = SIN(RADIANS(lat)); "
        "SET r = IF(vz < 0, IF(vy > 0, IF(vx > 0, 0, 1), IF(vy = 0, IF(vx >= 0, 0, 2), IF(vx < 0, 2, 3))), "
        "IF(vy > 0, IF(vx > 0, 7, 6), IF(vy = 0, IF(vx >= 0, 7, 5), IF(vx < 0, 5, 4)))); "
        f"SET id = r + 8; {_roots()}"
        "WHILE k < depth DO SET k = k + 1; "
        f"{_midpoint('m', 'p', 'q')}{_midpoint('n', 'q', 's')}{_midpoint('o', 's', 'p')}"
        f"IF {_inside('m', 'o')} THEN SET id = id * 4; {_move(q='m', s='o')}"
        f"ELSEIF {_inside('n', 'm')} THEN SET id = id * 4 + 1; {_move(p='q', q='n', s='m')}"
        f"ELSEIF {_inside('o', 'n')} THEN SET id = id * 4 + 2; {_move(p='s', q='o', s='n')}"
        f"ELSE SET id = id * 4 + 3; {_move(p='n', q='o', s='m')}"
        "END IF; END WHILE; RETURN id; END"
    )
