"""A picture of a benchmark's table: for every query, how long each contestant took as a multiple of plain MariaDB.

    python benchmarks/plot.py TABLE.md PICTURE.svg

reads the first table of a report that `bench.py` has written.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "skyshard"  # the same table gives the same file
from matplotlib import pyplot as plt  # noqa: E402 - after the choice of what it draws with

_RATIO = re.compile(r"\((<?)([\d.]+)x(, \w+)?\)")
_COLOURS = {"skyshard": "#1f5fa8", "Spider": "#c8893c", "Spider, direct aggregates": "#e3c08a"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One contestant's time for one query as a multiple of plain MariaDB's.

    Attributes
    ----------
    below : bool
        Whether the ratio is only a bound, since plain MariaDB was given up.
    note : str
        What is said of the answer, if it was not found right.
    """

    ratio: float
    below: bool
    note: str


def read(report: str) -> tuple[list[str], dict[str, list[Bar | str]]]:
    """Return the queries of a report's first table, and the bars of each contestant, or why there is none.

    Raises
    ------
    ValueError
        If the report has no table of queries.
    """
    lines = report.splitlines()
    at = next((i for i, line in enumerate(lines) if line.startswith("| query |")), None)
    if at is None:
        raise ValueError("there is no table that begins with a column 'query'")
    head = _cells(lines[at])
    names = {index: title.removesuffix(" ms") for index, title in enumerate(head)}
    queries: list[str] = []
    bars: dict[str, list[Bar | str]] = {name: [] for name in names.values() if name in _COLOURS}
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        cells = _cells(line)
        queries.append(cells[0])
        for index, name in names.items():
            if name in bars:
                found = _RATIO.search(cells[index])
                bars[name].append(
                    Bar(float(found[2]), bool(found[1]), found[3] or "") if found else cells[index]
                )
    return queries, bars


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def draw(report: str, path: Path) -> None:
    """Write the picture of a report's first table as SVG."""
    queries, bars = read(report)
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(queries) + 1.2), layout="constrained")
    height = 0.8 / max(1, len(bars))
    for rank, name in enumerate(sorted(bars, key=lambda one: one != "skyshard")):
        for row, bar in enumerate(bars[name]):
            place = row + rank * height - 0.4 + height / 2
            if isinstance(bar, str):
                axes.text(1, place, f" {name}: {bar}", va="center", fontsize=6, color=_COLOURS[name])
                continue
            axes.barh(place, max(bar.ratio, 0.01) - 1, height, left=1, color=_COLOURS[name])
            mark = f" {'<' if bar.below else ''}{bar.ratio:g}{bar.note}"
            side = "left" if bar.ratio >= 1 else "right"
            axes.text(max(bar.ratio, 0.01), place, f"{mark} ", va="center", ha=side, fontsize=6)
        axes.barh(0, 0, color=_COLOURS[name], label=name)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(queries)), queries, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("time as a multiple of one plain MariaDB's (to the left is faster)")
    axes.xaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside upper center", ncols=len(bars), fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    """Draw from the command line."""
    if len(sys.argv) != 3:
        print("usage: python benchmarks/plot.py TABLE.md PICTURE.svg", file=sys.stderr)
        return 2
    draw(Path(sys.argv[1]).read_text(), Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
