"""Learns the shapes of look-ups that have been answered, so that the next one of a shape is not planned."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from proxy.execute.work import chunk_tables
from proxy.fill import Filler
from proxy.home.metadata import Catalogue
from proxy.request import Request
from proxy.shapes import Known, Memory, Shapes
from shard.planner import planner, shape
from shard.planner.plan import Plan
from shard.planner.statement import Statement, read
from shard.wire import frames
from shard.wire.packets import ColumnDefinition


@dataclass(frozen=True, slots=True)
class Learner:
    """What it learns goes into `shapes`."""

    shapes: Shapes
    filler: Filler
    catalogue: Catalogue

    async def learn(
        self, memory: Memory | None, request: Request, statement: Statement, views: Collection[str]
    ) -> None:
        """Remember the shape of a look-up that has just been answered, if it has one.

        Parameters
        ----------
        memory : Memory or None
            Of the session.
        views : collection of str
            Names of views over sharded tables: a text with one of them is no look-up.
        """
        settings, plan = request.settings, request.plan
        if request.contents is not self.catalogue.contents:
            return
        place = shape.place_of(statement, plan)
        if place is None or memory is None or memory.settings is not settings:
            return
        if (
            settings.limit is not None
            or settings.timestamp is not None
            or any(_names(statement.text, view) for view in views)
        ):
            return
        text = statement.text.encode(*settings.encoding)
        start = len(statement.text[: place[0]].encode(*settings.encoding))
        end = start + len(place[1])
        if self.shapes.tried(memory, self.catalogue.version, text, start, end):
            return
        catalogue = self.catalogue.databases

        def again(other: str) -> tuple[Statement, Plan] | None:
            twin = read(other, settings.database, catalogue, settings.mode, {})
            return None if twin is None else (twin, twin.plan((), None, {}))

        found = shape.shape_of(statement, plan, place, again)
        known = None if found is None else await self._known(request, found)
        if self.catalogue.contents is request.contents:
            self.shapes.learn(memory, text, start, end, known)

    async def _known(self, request: Request, proved: shape.Shape) -> Known:
        plan, encoding = request.plan, request.settings.encoding
        columns = await self.filler.columns(request, plan.native)
        kinds = tuple(ColumnDefinition.decode(payload).type for payload in columns)
        fragment = None if plan.merge is None else planner.whole(plan)
        job = self.filler.work(request, plan, {}, (), wanted=kinds, fragment=fragment).job
        settings = {name: value for name, value in job.settings.items() if name != "timestamp"}
        return Known(
            database=plan.database,
            version=request.catalogue()[plan.database],
            director=proved.director,
            prepared=tuple(piece.encode(*encoding) for piece in proved.prepared),
            main=tuple(tuple(piece.encode(*encoding) for piece in pieces) for pieces in proved.main),
            job=msgspec.structs.replace(job, settings=settings, main=frames.Template(())),
            columns=columns,
            kinds=kinds,
            limit=None if plan.merge is not None else plan.limit,
            answers_empty=proved.answers_empty,
            chunk_tables=chunk_tables(job),
        )


def _names(text: str, view: str) -> bool:
    """Whether a text has a view's name as a word; a view ``v`` is none of a text's letters."""
    return re.search(rf"(?<!\w){re.escape(view)}(?!\w)", text, re.IGNORECASE) is not None
