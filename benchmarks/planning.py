"""Time that the planner takes: typical statements, and one with a thousand columns and 40 KB of text.

``python benchmarks/planning.py`` prints processor milliseconds from text to the workers' SQL: the quickest
and the median of many runs, for the cores are shared; a second time with tables of 1,500 columns. The collector is
set as the proxy sets it.
"""

from __future__ import annotations

import statistics
import time

from proxy.main import settle
from shard.catalog.model import Column, Database, Kind, Partitioning, Table
from shard.planner import planner
from shard.planner.lexer import LexerMode
from shard.planner.statement import read

_OBJECT = ("objectId", "ra", "decl", "mag", "flags")
_SOURCE = ("sourceId", "objectId", "flux")
STATEMENTS = {
    "look-up by key": "SELECT * FROM Object WHERE objectId = 5",
    "cone": "SELECT objectId, ra, decl FROM Object WHERE scisql_s2PtInCircle(ra, decl, 10, 10, 1) = 1",
    "groups": "SELECT flags, COUNT(*), AVG(mag) FROM Object WHERE mag < 20 GROUP BY flags",
    "join, top 10": "SELECT o.objectId, s.flux FROM Object o JOIN Source s ON o.objectId = s.objectId "
    "WHERE o.mag < 15 AND s.flux > 3 ORDER BY s.flux LIMIT 10",
    "gathered join": "SELECT a.objectId FROM Object a JOIN Object b ON a.mag = b.mag",
    "1,000 columns, 42 KB": "SELECT "
    + ", ".join(f"mag AS a_rather_long_alias_for_column_{number}" for number in range(1000))
    + " FROM Object WHERE objectId = 5",
}


WIDE = 1500
"""Columns of a wide table: about those of Rubin's Object."""


def catalogue(more: int = 0) -> dict[str, Database]:
    """Return a director and a dependent table, with so many columns `more`."""
    others = tuple(Column(name=f"another_one_{number}", sql_type="DOUBLE") for number in range(more))
    tables = (
        Table(
            name="Object", kind=Kind.DIRECTOR, key="objectId", longitude="ra", latitude="decl",
            columns=tuple(Column(name=name, sql_type="DOUBLE") for name in _OBJECT) + others,
        ),
        Table(
            name="Source", kind=Kind.DEPENDENT, key="sourceId", director="Object", director_key="objectId",
            columns=tuple(Column(name=name, sql_type="DOUBLE") for name in _SOURCE) + others,
        ),
    )  # fmt: skip
    return {"sky": Database(name="sky", partitioning=Partitioning(stripes=85, sub_stripes=12), tables=tables)}


def measure(sql: str, runs: int, databases: dict[str, Database]) -> tuple[float, float]:
    """Return the quickest and the median run, processor milliseconds."""
    times = []
    for _ in range(runs):
        started = time.process_time()
        plan = read(sql, "sky", databases, LexerMode()).plan()  # type: ignore[union-attr]
        if plan.gather is None:
            planner.fragment(plan)
        times.append((time.process_time() - started) * 1e3)
    return min(times), statistics.median(times)


def main() -> None:
    """Print the table."""
    settle()
    print("| statement | quickest ms | median ms |\n|---|---|---|")
    for title, databases in (("", catalogue()), (f", tables of {WIDE} columns", catalogue(WIDE))):
        for name, sql in STATEMENTS.items():
            quickest, median = measure(sql, 30 if len(sql) > 1000 else 500, databases)
            print(f"| {name}{title} | {quickest:.2f} | {median:.2f} |")


if __name__ == "__main__":
    main()
