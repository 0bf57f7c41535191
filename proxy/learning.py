"""Learns the shapes of look-ups that have been answered, so that the next one of a shape is not planned."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from proxy.chunks import Placement
from proxy.execute.work import chunk_tables
from proxy.fill import Filler
from proxy.home.metadata import Catalogue
from proxy.request import Request
from proxy.session.engine import Distributed
from proxy.session.prepared import planner_values
from proxy.shapes import LookUpShape, Memory, Shapes
from shard.planner import planner, shape
from shard.planner.constants import Value
from shard.planner.plan import Plan
from shard.planner.statement import Statement, read
from shard.wire import frames
from shard.wire.packets import ColumnDefinition


@dataclass(frozen=True, slots=True)
class Learner:
    """Puts the shapes of answered look-ups into `shapes`."""

    shapes: Shapes
    filler: Filler
    catalogue: Catalogue

    async def learn(
        self, memory: Memory | None, request: Request, route: Distributed, views: Collection[str]
    ) -> None:
        """Remember the shape of a look-up that has just been answered, if it has one.

        Parameters
        ----------
        memory : Memory or None
            Of the session.
        views : collection of str
            Names of views over sharded tables: a text with one of them is no look-up.
        """
        settings = request.settings
        if memory is None or memory.settings is not settings or route.envelope or route.change:
            return
        if settings.limit is not None or settings.timestamp is not None:
            return
        if request.contents is not self.catalogue.contents:
            return
        if request.binary and request.parameters:
            await self._learn_marked(memory, request, route, views)
        elif not request.binary and not request.parameters:
            await self._learn_text(memory, request, route.statement, views)

    async def _learn_text(
        self, memory: Memory, request: Request, statement: Statement, views: Collection[str]
    ) -> None:
        """Learn from a statement whose key stands in its text."""
        settings, plan = request.settings, request.plan
        place = shape.place_of(statement, plan)
        if place is None or any(_names(statement.text, view) for view in views):
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
        learnt = None if found is None else await self._look_up_shape(request, found)
        if self.catalogue.contents is request.contents:
            self.shapes.learn(memory, text, start, end, learnt)

    async def _learn_marked(
        self, memory: Memory, request: Request, route: Distributed, views: Collection[str]
    ) -> None:
        """Learn from a prepared statement whose key is a parameter."""
        statement, plan, parameters = route.statement, request.plan, request.parameters
        values = planner_values(parameters)
        mark = shape.mark_of(statement, plan, values)
        if mark is None or any(_names(statement.text, view) for view in views):
            return
        if self.shapes.tried_marked(memory, self.catalogue.version, route, parameters):
            return

        def again(others: Sequence[Value]) -> Plan:
            return statement.plan(others, None, {})

        found = shape.marked_shape_of(statement, plan, values, mark, again)
        learnt = None if found is None else await self._look_up_shape(request, found, mark)
        if self.catalogue.contents is request.contents:
            self.shapes.learn_marked(memory, statement.text, parameters, learnt)

    async def _look_up_shape(
        self, request: Request, proved: shape.Shape, mark: int | None = None
    ) -> LookUpShape:
        plan, encoding = request.plan, request.settings.encoding
        columns = await self.filler.columns(request, plan.native)
        kinds = tuple(ColumnDefinition.decode(payload).type for payload in columns)
        fragment = None if plan.merge is None else planner.whole(plan)
        job = self.filler.forwarded_work(request, Placement({}), kinds, fragment).job
        settings = {name: value for name, value in job.settings.items() if name != "timestamp"}
        main = frames.Template((), job.main.parameters)
        return LookUpShape(
            database=plan.database,
            version=request.catalogue()[plan.database],
            director=proved.director,
            prepared=tuple(piece.encode(*encoding) for piece in proved.prepared),
            main=tuple(tuple(piece.encode(*encoding) for piece in pieces) for pieces in proved.main),
            job=msgspec.structs.replace(job, settings=settings, main=main, parameters=()),
            columns=columns,
            kinds=kinds,
            limit=None if plan.merge is not None else plan.limit,
            offset=plan.offset,
            answers_empty=proved.answers_empty,
            chunk_tables=chunk_tables(job),
            mark=mark,
        )


def _names(text: str, view: str) -> bool:
    """Whether a text has a view's name as a whole word."""
    return re.search(rf"(?<!\w){re.escape(view)}(?!\w)", text, re.IGNORECASE) is not None
