"""Answers EXPLAIN of a distributed statement: what the plan would ask, of how many chunks and workers."""

from __future__ import annotations

from backend.pool import Pool
from proxy.chunks import find_chunks
from proxy.home.metadata import Catalogue
from proxy.session.session import Session, text_row
from shard.catalog.model import Kind
from shard.planner import explain
from shard.planner.plan import Plan
from shard.wire.packets import ColumnDefinition


class Explainer:
    """Describes plans to clients."""

    def __init__(self, pool: Pool, catalogue: Catalogue) -> None:
        self._pool, self._catalogue = pool, catalogue

    async def send(self, session: Session, plan: Plan, as_json: bool) -> None:
        """Write a plan's steps to the client, as rows or as one JSON text."""
        extents = [await self._extent(inner) for inner in explain.scatters(plan)]
        steps = explain.describe(plan, extents)
        out = session.out
        names = ("EXPLAIN",) if as_json else explain.COLUMNS
        await out.columns([_text_column(name) for name in names])
        if as_json:
            await out.packet(text_row([explain.as_json(steps).encode()]))
        else:
            for step in steps:
                values = [getattr(step, name) for name in explain.COLUMNS]
                await out.packet(
                    text_row([None if value is None else str(value).encode() for value in values])
                )
        await out.end()

    async def _extent(self, plan: Plan) -> explain.Extent:
        placement = {} if plan.never else await find_chunks(self._pool, self._catalogue, plan)
        workers = len({ids[0] for ids in placement.values()})
        total = max(1, len(self._catalogue.replicas(plan.database)))
        largest = max(
            (self._catalogue.table_rows(db, t.name) for db, t in plan.tables if t.kind is not Kind.OWN),
            default=0,
        )
        return explain.Extent(len(placement), workers, largest * len(placement) // total)


def _text_column(name: str) -> bytes:
    return ColumnDefinition(b"def", b"", b"", b"", name.encode(), b"", 45, 65535, 253, 0, 0).encode()
