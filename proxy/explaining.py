"""Answers EXPLAIN of a distributed statement: what the plan would ask, of how many chunks and workers."""

from __future__ import annotations

from backend.pool import Pool
from proxy.chunks import find_chunks
from proxy.home.metadata import Catalogue, CatalogueSnapshot
from proxy.session.rows import binary_row, text_row
from proxy.session.session import Session
from shard.catalog.model import Kind
from shard.catalog.naming import quote
from shard.planner import explain
from shard.planner.plan import Plan
from shard.wire.packets import ColumnDefinition
from shard.wire.protocol import FieldType


class Explainer:
    """Describes plans to clients."""

    def __init__(self, pool: Pool, catalogue: Catalogue) -> None:
        self._pool, self._catalogue = pool, catalogue

    async def send(
        self,
        session: Session,
        contents: CatalogueSnapshot,
        plan: Plan,
        as_json: bool,
        binary: bool,
        status: int,
    ) -> int:
        """Write a plan's steps to the client, as rows or as one JSON text; return how many rows."""
        extents = [await self._extent(contents, inner) for inner in explain.scatters(plan)]
        steps = explain.describe(plan, extents)
        out = session.out
        names = names_of(as_json)
        found: list[list[object]] = [[explain.as_json(steps)]]
        if not as_json:
            found = [[getattr(step, name) for name in names] for step in steps]
        await out.columns([_text_column(name) for name in names], status)
        for row in found:
            values = [
                None if value is None else str(value).encode("utf-8", "surrogateescape") for value in row
            ]
            await out.packet(
                binary_row(values, [FieldType.VAR_STRING] * len(names)) if binary else text_row(values)
            )
        await out.end(0, status)
        return len(found)

    async def _extent(self, contents: CatalogueSnapshot, plan: Plan) -> explain.Extent:
        placement = (
            {} if plan.never else await find_chunks(self._pool, contents, self._catalogue.workers, plan)
        )
        workers = min(len(placement), len({worker for ids in placement.values() for worker in ids}))
        total = max(1, len(contents.replicas.get(plan.database, {})))
        largest = max(
            (contents.table_rows(db, t.name) for db, t in plan.tables if t.kind is not Kind.OWN),
            default=0,
        )
        return explain.Extent(len(placement), workers, largest * len(placement) // total)


def _text_column(name: str) -> bytes:
    return ColumnDefinition(
        b"def", b"", b"", b"", name.encode(), b"", 45, 65535, FieldType.VAR_STRING, 0, 0
    ).encode()


def names_of(as_json: bool) -> tuple[str, ...]:
    """Return the names of EXPLAIN's columns."""
    return ("EXPLAIN",) if as_json else explain.COLUMNS


def stand_in(as_json: bool, parameters: int) -> str:
    """Return a statement to PREPARE for an EXPLAIN: with its columns, and as many parameters."""
    items = ", ".join(f"CAST(NULL AS CHAR) AS {quote(name)}" for name in names_of(as_json))
    return f"SELECT {items} FROM DUAL" + (" WHERE " + " <=> ".join("?" * parameters) if parameters else "")
