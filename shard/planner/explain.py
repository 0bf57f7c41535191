"""A plan's description: what EXPLAIN prints and what golden tests keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from shard.planner import planner
from shard.planner.emit import CHUNK_MARK, KEYS_MARK
from shard.planner.ordered import order_text
from shard.planner.plan import Plan, Strategy

COLUMNS = ("id", "step", "strategy", "chunks", "workers", "rows_estimate", "sql")
CHUNK_TEXT = "%CHUNK%"
KEYS_TEXT = "%KEYS%"
"""Stands for the keys of a list that a chunk can hold."""


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


@dataclass(frozen=True, slots=True)
class Extent:
    """What a plan, or a part of one, would touch now: chunks, workers, and an estimate of the rows read."""

    chunks: int
    workers: int
    rows: int


def scatters(plan: Plan) -> list[Plan]:
    """Return the plans that ask workers: the plan itself or, of a gather, those of its parts."""
    if plan.gather is not None:
        return [part.plan for part in plan.gather.parts]
    return [plan]


def describe(plan: Plan, extents: Sequence[Extent]) -> list[Step]:
    """Return the steps of a plan.

    Parameters
    ----------
    plan : Plan
        The plan.
    extents : sequence of Extent
        One for each of `scatters`.
    """
    steps: list[Step] = []
    strategy = plan.strategy.value

    def add(step: str, extent: Extent | None, rows: int | None, sql: str) -> None:
        chunks = extent.chunks if extent is not None else None
        workers = extent.workers if extent is not None else None
        text = sql.replace(CHUNK_MARK, CHUNK_TEXT).replace(KEYS_MARK, KEYS_TEXT)
        steps.append(Step(len(steps) + 1, step, strategy, chunks, workers, rows, text))

    if plan.strategy is Strategy.COUNTER:
        add("counter", None, 1, plan.native.text)
        return steps
    labels = [part.label for part in plan.gather.parts] if plan.gather is not None else [""]
    for label, inner, extent in zip(labels, scatters(plan), extents, strict=True):
        ordered = inner.ordered
        fragment = planner.fragment(inner) if ordered is None else planner.ordered(ordered)
        for ship in inner.ships:
            split = " with the chunks that each row reaches" if ship.split is not None else ""
            if ship.key is not None:
                split = f" split by director index of {ship.key.director}"
            add(f"send {ship.database}.{ship.table.name} to the workers{split}", extent, None, ship.target)
        suffix = f" of {label}" if label else ""
        for item in fragment.setup:
            add("prepare" + suffix, extent, None, item.text)
        add("fragment" + suffix, extent, extent.rows, fragment.main.text)
        if ordered is not None:
            add("merge of sorted streams", None, None, order_text(ordered.keys, ordered.limit, ordered.skip))
        elif inner.merge is not None:
            add("merge" + suffix, None, None, inner.merge.statement.text)
    if plan.gather is not None:
        add(
            "statement in the session" if plan.gather.own else "statement at home",
            None,
            None,
            plan.gather.statement.text,
        )
    return steps


def as_json(steps: list[Step]) -> str:
    """Return the steps as EXPLAIN FORMAT=JSON prints them."""
    return json.dumps(
        {"skyshard": [{name: getattr(step, name) for name in COLUMNS} for step in steps]}, indent=2
    )
