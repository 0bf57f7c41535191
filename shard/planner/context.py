"""What the passes of the planner hand on: names and values of a statement, and a SELECT whose names are bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from shard.catalog.model import Database
from shard.planner.constants import Value
from shard.planner.locality import Layout
from shard.planner.plan import Restriction
from shard.planner.scope import Scope, reads_sharded


@dataclass(frozen=True, slots=True)
class Context:
    """What all queries inside one statement share: default database, catalogue, parameter values."""

    default: str | None
    catalogue: Mapping[str, Database]
    values: Sequence[Value]
    heavy: frozenset[tuple[str, str]] = frozenset()
    """(database, name) of users' own tables that are too large to be sent to the workers."""
    explicit: bool = False
    """The rows fill a table, column by column."""

    def sharded(self, node: exp.Expression) -> bool:
        """Whether a tree reads sharded tables."""
        return reads_sharded(node, self.default, self.catalogue)


@dataclass(frozen=True, slots=True)
class Bound:
    """A SELECT whose FROM and WHERE are chunk-local: its names, layout and chunk restriction."""

    scope: Scope
    layout: Layout
    restriction: Restriction
