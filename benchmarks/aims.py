"""The aims of the project's speed, and which of them a run of the benchmark has met.

A figure that a run did not measure (a smaller run, Spider not installed, no root for cold scans) is said to be missing, not met.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import chunks, lookups, queries
from benchmarks.findings import table


@dataclass(frozen=True, slots=True)
class Aim:
    """One aim: a figure and its bound.

    Attributes
    ----------
    figure : str
        Its name in the findings.
    bound : float
        The most it may be; the least, if `least`.
    unit : str
        Behind the numbers.
    provided : str
        Name of a figure that must be at least `enough`, or the aim is not what was measured.
    """

    what: str
    figure: str
    bound: float
    unit: str = "x"
    least: bool = False
    provided: str = ""
    enough: float = 0.0

    def line(self, figures: Mapping[str, float]) -> tuple[str, str, str, str]:
        """Return what, aim, measured, met."""
        aim = f"{'≥' if self.least else '≤'} {self.bound:g}{_unit(self.unit)}"
        value = figures.get(self.figure)
        if value is None:
            return self.what, aim, "", "not measured"
        met = value >= self.bound if self.least else value <= self.bound
        said = "yes" if met else "**no**"
        if self.provided and figures.get(self.provided, 0.0) < self.enough:
            said = (
                f"only at {_short(figures.get(self.provided, 0.0))} instead of {_short(self.enough)}: {said}"
            )
        return self.what, aim, _short(value) + _unit(self.unit), said


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _unit(unit: str) -> str:
    return unit if unit in ("x", "%") else f" {unit}".rstrip()


ROWS = 10_000
"""Rows a chunk, of the largest table that a query reads, from which some aims hold."""


def _ratio(name: str, bound: float, dense: bool = False) -> Aim:
    return Aim(
        name + (", ≥ 10,000 rows a chunk" if dense else ""), f"{name}: ratio", bound,
        provided=f"{name}: rows a chunk" if dense else "", enough=ROWS if dense else 0,
    )  # fmt: skip


_SHORT = tuple(query.name for query in queries.QUERIES if query.short)
AIMS = (
    Aim("answers of skyshard that were wrong or missing", "wrong", 0, ""),
    _ratio(queries.FULL_SCAN, 0.8),
    _ratio(f"{queries.FULL_SCAN}, binary rows", 0.8),
    _ratio(queries.WIDE_SCAN, 0.8),
    *(
        Aim(f"{name}: proxy and agents of all processor time", f"{name}: share", 20, "%")
        for name in (queries.FULL_SCAN, queries.WIDE_SCAN)
    ),
    *(_ratio(name, 0.65, dense=True) for name in (queries.FEW, queries.COUNT, queries.JOIN)),
    *(_ratio(name, 1.2) for name in (queries.MANY, queries.MANY_MERGED, queries.EVERYTHING)),
    *(
        Aim(f"look-up, {client}, {keys} keys", f"look-up, {client}, {keys} keys", 2)
        for client in lookups.CLIENTS[1:3]
        for keys in ("new", "known")
    ),
    Aim(
        "look-ups a second, 8 connections, 2 processes",
        f"look-ups a second, 8 connections, {lookups.TWO}", 0.5, least=True,
    ),
    Aim("first row of a full scan", f"{queries.FULL_SCAN}: first ms", 100, "ms"),
    Aim(
        "empty answer over 10,000 chunks", f"tiny {chunks.EMPTY} s", 1, "s",
        provided="tiny chunks", enough=9500,
    ),
    Aim("near neighbours, 60,000 rows in 4 deg²", "near s", 1, "s"),
    Aim("sub-chunk nested loops beside them", "near: loops", 8, least=True),
    Aim(
        "time a row of the largest area beside 60,000 rows'", "near: growth", 1.2,
        provided="near: rows", enough=1_000_000,
    ),
    *(
        aim
        for name in _SHORT
        for aim in (
            Aim(f"{name} beside 5 scans, 95 %", f"beside: {name} ratio", 3),
            Aim(f"{name} beside 5 scans, 95 %", f"beside: {name} s", 1, "s"),
        )
    ),
    Aim("30 cold scans, bytes beside those of one", "cold: ratio", 1.2),
    Aim("queries for which Spider was as fast", "as fast as Spider", 0, ""),
    Aim("proxy at a large result", "large result MB", 200, "MB", provided="large result GB", enough=9.9),
    Aim("proxy at 64 slow readers", "slow readers MB", 200, "MB"),
)  # fmt: skip


def lines(figures: Mapping[str, float]) -> list[str]:
    """Return the closing table."""
    return ["### Aims", "", *table(["what", "aim", "measured", "met"], [aim.line(figures) for aim in AIMS])]
