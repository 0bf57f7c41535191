"""What the benchmark asks, in the words of each contestant.

`{k}` is another key of the catalogue at every run, `{keys}` a thousand of them: nothing is answered from
memory alone. Distances and regions are written as skyshard's functions; the others get them as native SQL, which
skyshard's own rewriting makes, behind a range of declinations that an index could use.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.near import QUERY as NEAR
from benchmarks.near import RADIUS
from shard.planner.lexer import LexerMode
from shard.planner.statement import native


@dataclass(frozen=True, slots=True)
class Query:
    """One query.

    Attributes
    ----------
    table : str
        The table whose rows a chunk the report tells.
    short : bool
        Whether it is asked twenty times as often.
    ordered : bool
        Whether it decides the order of all rows.
    binary : bool
        Whether it is prepared and executed: binary rows.
    others : str
        A condition that only those get who do not know skyshard's functions.
    """

    name: str
    sql: str
    table: str = "synth.Object"
    short: bool = False
    ordered: bool = False
    binary: bool = False
    others: str = ""

    @property
    def varies(self) -> bool:
        """Whether each run has a text of its own."""
        return "{" in self.sql


NEAR_ROWS = 60_000
MATCH_DEG = 0.002
FULL_SCAN, WIDE_SCAN, FEW, COUNT = (
    "full scan, 10 columns", "full scan, 100 columns", "GROUP BY few groups", "COUNT with filter",
)  # fmt: skip
MANY, MANY_MERGED, EVERYTHING = (
    "GROUP BY many groups, by key", "GROUP BY many groups, merged", "ORDER BY of everything",
)  # fmt: skip
JOIN, NEIGHBOURS, MATCH = (
    "director-dependent join with filter", "near neighbours within 1 arcmin", "cross-match of a table of 10,000 places",
)  # fmt: skip
_DETECTION = "synth.Detection"
_JOIN = "FROM synth.Object o JOIN synth.Detection d USING (objectId)"
_MATCH = (
    "SELECT COUNT(*) FROM own.Place p, synth.Object o "
    f"WHERE scisql_angSep(o.ra, o.decl, p.ra, p.decl) < {MATCH_DEG}"
)


def _cone(radius: str, short: bool = False) -> Query:
    inside = f"scisql_s2PtInCircle(ra, decl, {{ra}}, {{decl}}, {radius}) = 1"
    return Query(
        f"cone of {radius}°", f"SELECT objectId, ra, decl FROM synth.Object WHERE {inside}", short=short,
        others=f"decl BETWEEN {{decl}} - {radius} AND {{decl}} + {radius}",
    )  # fmt: skip


QUERIES = (
    Query(FULL_SCAN, "SELECT * FROM synth.Object"),
    Query(f"{FULL_SCAN}, binary rows", "SELECT * FROM synth.Object", binary=True),
    Query(WIDE_SCAN, "SELECT * FROM wide.Wide", "wide.Wide"),
    Query("filtered scan", "SELECT * FROM synth.Detection WHERE flux > 20000", _DETECTION),
    Query(COUNT, "SELECT COUNT(*) FROM synth.Detection WHERE flux > 5000", _DETECTION),
    Query(FEW, "SELECT band, COUNT(*), AVG(flux) FROM synth.Detection GROUP BY band", _DETECTION),
    Query(MANY, "SELECT objectId, COUNT(*), AVG(flux) FROM synth.Detection GROUP BY objectId", _DETECTION),
    Query(MANY_MERGED, "SELECT FLOOR(flux * 10) f, COUNT(*), AVG(mjd) FROM synth.Detection GROUP BY f", _DETECTION),
    Query("COUNT(DISTINCT), by key", "SELECT COUNT(DISTINCT objectId) FROM synth.Detection", _DETECTION),
    Query("COUNT(DISTINCT), merged", "SELECT COUNT(DISTINCT FLOOR(flux * 10)) FROM synth.Detection", _DETECTION),
    Query("top 10", "SELECT objectId, rMag FROM synth.Object ORDER BY rMag, objectId LIMIT 10", ordered=True),
    Query(EVERYTHING, "SELECT objectId, rMag FROM synth.Object ORDER BY rMag, objectId", ordered=True),
    Query("point look-up", "SELECT * FROM synth.Object WHERE objectId = {k}", short=True),
    Query("light curve of one star", "SELECT * FROM synth.Detection WHERE objectId = {k}", _DETECTION, short=True),
    Query("light curves of 1,000 stars", "SELECT * FROM synth.Detection WHERE objectId IN ({keys})", _DETECTION),
    _cone("0.1", short=True),
    _cone("1"),
    _cone("10"),
    Query(JOIN, f"SELECT COUNT(*) {_JOIN} WHERE o.rMag < 20 AND d.band = 'r'", _DETECTION),
    Query(
        NEIGHBOURS, NEAR.format(n=NEAR_ROWS), f"near{NEAR_ROWS}.Object",
        others=f"b.decl BETWEEN a.decl - {RADIUS} AND a.decl + {RADIUS}",
    ),
    Query(MATCH, _MATCH, others=f"o.decl BETWEEN p.decl - {MATCH_DEG} AND p.decl + {MATCH_DEG}"),
    Query(
        "user table of 10,000 rows joined by key",
        "SELECT COUNT(*), AVG(o.rMag) FROM own.Target t JOIN synth.Object o USING (objectId)",
    ),
    Query("empty answer", "SELECT * FROM synth.Object WHERE rMag < -100"),
)  # fmt: skip


def text(query: Query, seed: int, keys: int, rewritten: bool) -> str:
    """Return a query's text for one run; the same for all contestants of that run.

    Parameters
    ----------
    seed : int
        Number of the run.
    keys : int
        How many keys the director has.
    rewritten : bool
        Whether skyshard's functions must be native SQL.
    """
    chance = random.Random(f"{query.name} {seed}")
    ra, decl = chance.uniform(20, 340), chance.uniform(-50, 50)
    many = ", ".join(str(chance.randrange(1, keys + 1)) for _ in range(1000))
    values = {"k": chance.randrange(1, keys + 1), "keys": many, "ra": f"{ra:.4f}", "decl": f"{decl:.4f}"}
    sql = query.sql.format(**values)
    if rewritten and "scisql_" in sql:
        sql = native(sql, LexerMode()) or sql
        sql += f" AND {query.others.format(**values)}"
    return sql
