"""Tables of the queries: times, first rows, processor seconds, memory; and the figures that aims are about."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence

from benchmarks.asking import Contest, Taken
from benchmarks.contest import PLAIN, SKYSHARD, SPIDERS
from benchmarks.findings import Findings, table
from benchmarks.queries import QUERIES, Query
from benchmarks.usage import AGENTS, CLIENT, HOME, PROXY, SPIDER, WORKERS, Usage

_OURS = (PROXY, AGENTS, WORKERS, HOME)


async def run(
    contest: Contest, names: Sequence[str], rows: Mapping[str, int], repeats: int, wanted: Sequence[str]
) -> Findings:
    """Ask all queries and return their tables.

    Parameters
    ----------
    rows : mapping
        Table → its rows a chunk.
    wanted : sequence of str
        Parts of names of queries; only those are asked, if there are any.
    """
    out = Findings()
    times, firsts, used = [], [], []
    behind: list[str] = []
    await contest.start()
    for query in QUERIES:
        if wanted and not any(part in query.name for part in wanted):
            continue
        taken = await contest.measure(query, repeats)
        times.append(
            [query.name, f"{rows[query.table]:,}", *(_time(taken[name], taken[PLAIN]) for name in names)]
        )
        firsts.append([query.name, *(_first(taken[name]) for name in names)])
        if not query.short:
            used.append(_used(query, taken, names))
        _note(query, taken, rows, out, behind)
        print(" | ".join(times[-1]), file=sys.stderr)
    if set(names) & set(SPIDERS):
        out.figures["as fast as Spider"] = len(behind)
    out.lines = [
        *table(["query", "rows a chunk", *(f"{name} ms" for name in names)], times), "",
        *([f"Spider was as fast or faster: {', '.join(behind)}.", ""] if behind else []),
        "### First row", "", *table(["first row of", *(f"{name} ms" for name in names)], firsts), "",
        "### Processor seconds of a query, by process", "",
        "The benchmark's own client takes rows without decoding them; its part is given for each contestant. The share of proxy and "
        "agents is of what skyshard's processes take together, without the client.", "",
        *table(_used_head(names), used),
    ]  # fmt: skip
    return out


def _time(mine: Taken, plain: Taken) -> str:
    if mine.too_long:
        return f"> {mine.too_long:.0f} s"
    if not mine.answered:
        return "fails"
    notes = ", wrong" if mine.wrong else ", unchecked" if mine.unchecked else ""
    if mine is plain:
        return f"{mine.median * 1e3:.2f}{notes}"
    if plain.answered:
        return f"{mine.median * 1e3:.2f} ({mine.median / plain.median:.2f}x{notes})"
    bound = f"<{mine.median / plain.too_long:.4f}x" if plain.too_long else "no ratio"
    return f"{mine.median * 1e3:.2f} ({bound}{notes})"


def _first(mine: Taken) -> str:
    return f"{statistics.median(mine.first) * 1e3:.1f}" if mine.answered else ""


def _used_head(names: Sequence[str]) -> list[str]:
    head = ["query", "plain: client", "server"]
    for name in names:
        head += [f"{name}: client", "head", "workers"] if name in SPIDERS else []
    return [*head, "skyshard: client", *_OURS, "share of proxy and agents"]


def _used(query: Query, taken: Mapping[str, Taken], names: Sequence[str]) -> list[str]:
    cells = [query.name]
    for name in names:
        kinds = (
            (CLIENT, PLAIN)
            if name == PLAIN
            else (CLIENT, SPIDER, WORKERS)
            if name in SPIDERS
            else (CLIENT, *_OURS)
        )
        mine = taken[name]
        number = max(1, len(mine.whole))
        cells += [f"{mine.used[kind] / number:.2f}" if mine.answered else "" for kind in kinds]
    return [*cells, f"{_share(taken[SKYSHARD]):.0%}" if taken[SKYSHARD].answered else ""]


def _share(mine: Taken) -> float:
    return (mine.used[PROXY] + mine.used[AGENTS]) / max(1e-9, sum(mine.used[kind] for kind in _OURS))


def _note(
    query: Query, taken: Mapping[str, Taken], rows: Mapping[str, int], out: Findings, behind: list[str]
) -> None:
    """Note what aims are about, and what skyshard did not answer, or answered wrongly."""
    plain, ours, name = taken[PLAIN], taken[SKYSHARD], query.name
    if ours.wrong or not ours.answered:
        out.wrong.append(f"{name}: {'wrong' if ours.wrong else ours.error or 'too long'}")
    if not ours.answered:
        return
    if plain.answered:
        out.figures[f"{name}: ratio"] = ours.median / plain.median
    out.figures[f"{name}: rows a chunk"] = rows[query.table]
    out.figures[f"{name}: share"] = 100 * _share(ours)
    out.figures[f"{name}: first ms"] = statistics.median(ours.first) * 1e3
    others = [taken[one] for one in SPIDERS if one in taken]
    if any(one.answered and one.median <= ours.median for one in others):
        behind.append(name)


def memory(usage: Usage) -> list[str]:
    """Return the table of the most memory that each process has had."""
    cells = [
        [kind, ", ".join(f"{peak:.0f}" for peak in peaks)]
        for kind, peaks in usage.peaks().items()
        if kind != CLIENT
    ]
    return [
        "### Most memory of each process so far", "",
        "The workers' servers hold Spider's tables and answer its queries, too.", "",
        *table(["processes", "peak MB of each"], cells),
    ]  # fmt: skip
