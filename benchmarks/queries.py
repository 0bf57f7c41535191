"""What the benchmark asks, in the words of each contestant.

`{k}` is another key of the catalogue at every run, `{keys}` a thousand of them: nothing is answered from
memory alone. Regions are written as skyshard's functions; the others get them as native SQL, which
skyshard's own rewriting makes, behind a range of declinations that an index could use.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from shard.planner.lexer import LexerMode
from shard.planner.statement import native


@dataclass(frozen=True, slots=True)
class Query:
    """One query; a `short` one is asked twenty times as often."""

    name: str
    sql: str
    short: bool = False


_CONE = (
    "SELECT objectId, ra, decl FROM synth.Object WHERE scisql_s2PtInCircle(ra, decl, {ra}, {decl}, %s) = 1"
)
_JOIN = "FROM synth.Object o JOIN synth.Detection d USING (objectId)"

QUERIES = (
    Query("full scan, 10 columns", "SELECT * FROM synth.Object"),
    Query("full scan, 100 columns", "SELECT * FROM wide.Wide"),
    Query("filtered scan", "SELECT * FROM synth.Detection WHERE flux > 20000"),
    Query("COUNT with filter", "SELECT COUNT(*) FROM synth.Detection WHERE flux > 5000"),
    Query("GROUP BY few groups", "SELECT band, COUNT(*), AVG(flux) FROM synth.Detection GROUP BY band"),
    Query("GROUP BY many groups", "SELECT objectId, COUNT(*), AVG(flux) FROM synth.Detection GROUP BY objectId"),
    Query("COUNT(DISTINCT)", "SELECT COUNT(DISTINCT objectId) FROM synth.Detection"),
    Query("top 10", "SELECT objectId, rMag FROM synth.Object ORDER BY rMag LIMIT 10"),
    Query("ORDER BY of everything", "SELECT objectId, rMag FROM synth.Object ORDER BY rMag"),
    Query("point look-up", "SELECT * FROM synth.Object WHERE objectId = {k}", short=True),
    Query("light curve of one star", "SELECT * FROM synth.Detection WHERE objectId = {k}", short=True),
    Query("light curves of 1,000 stars", "SELECT * FROM synth.Detection WHERE objectId IN ({keys})"),
    Query("cone of 0.1°", _CONE % "0.1", short=True),
    Query("cone of 1°", _CONE % "1"),
    Query("cone of 10°", _CONE % "10"),
    Query("director-dependent join with filter", f"SELECT COUNT(*) {_JOIN} WHERE o.rMag < 20 AND d.band = 'r'"),
    Query("user table of 10,000 rows joined by key", "SELECT COUNT(*), AVG(o.rMag) FROM own.Target t JOIN synth.Object o USING (objectId)"),
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
    many = ", ".join(str(chance.randrange(1, keys)) for _ in range(1000))
    sql = query.sql.format(k=chance.randrange(1, keys), keys=many, ra=f"{ra:.4f}", decl=f"{decl:.4f}")
    if rewritten and "scisql_" in sql:
        radius = float(sql.rsplit(",", 1)[1].split(")")[0])
        sql = native(sql, LexerMode()) or sql
        sql += f" AND decl BETWEEN {decl - radius:.4f} AND {decl + radius:.4f}"
    return sql
