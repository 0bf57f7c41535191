"""A plan's description: what EXPLAIN prints and what golden tests keep."""

from __future__ import annotations

import json
from dataclasses import dataclass

from shard.planner import planner
from shard.planner.emit import CHUNK_MARK
from shard.planner.plan import Plan

COLUMNS = ("id", "step", "strategy", "chunks", "workers", "rows_estimate", "sql")
CHUNK_TEXT = "%CHUNK%"


@dataclass(frozen=True, slots=True)
class Step:
    """One row of EXPLAIN."""

    id: int
    step: str
    strategy: str
    chunks: int | None
    workers: int | None
    rows_estimate: int | None
    sql: str


def describe(plan: Plan, chunks: int, workers: int, rows: int) -> list[Step]:
    """Return the steps of a plan.

    Parameters
    ----------
    chunks, workers : int
        How many it would touch now.
    rows : int
        Estimate of the rows read.
    """
    fragment = planner.fragment(plan)
    strategy = plan.strategy.value
    steps: list[tuple[str, int | None, int | None, int | None, str]] = [
        ("prepare", chunks, workers, None, item.text) for item in fragment.setup
    ]
    steps.append(("fragment", chunks, workers, rows, fragment.main.text))
    if plan.merge is not None:
        steps.append(("merge", None, None, None, plan.merge.statement.text))
    return [
        Step(index, step, strategy, count, on, estimate, text.replace(CHUNK_MARK, CHUNK_TEXT))
        for index, (step, count, on, estimate, text) in enumerate(steps, start=1)
    ]


def as_json(steps: list[Step]) -> str:
    """Return the steps as EXPLAIN FORMAT=JSON prints them."""
    return json.dumps(
        {"skyshard": [{name: getattr(step, name) for name in COLUMNS} for step in steps]}, indent=2
    )
