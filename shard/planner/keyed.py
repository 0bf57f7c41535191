"""What the director index says beyond the chunks to ask: which rows of a user's table, which keys of a list, go to each.

A row of a user's own table that is joined by an integer key has partners in the chunks that the index gives
for the key, and a list of integer keys is, in a chunk, as good as those of its keys that the chunk can hold.
Both are compared as integers by MariaDB and by the index; of other types, all goes to all chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from shard.catalog.model import Kind
from shard.catalog.naming import SCRATCH_DATABASE
from shard.planner import restrict
from shard.planner.branches import find
from shard.planner.chunk_tables import add_condition
from shard.planner.constants import Value, conjuncts, integer
from shard.planner.emit import CHUNK_MARK, KEYS_MARK
from shard.planner.locality import Layout
from shard.planner.nested import PLACE, SPLIT_COLUMN, shipped_name
from shard.planner.plan import ByKey, KeySplit
from shard.planner.scope import Scope, TableRef, from_items

KEYS = "keys"
"""Key of the meta of a list of keys that is cut to each chunk's."""
FEWEST_KEYS = 8
"""A shorter list is sent whole."""
_INTEGER = re.compile(r"(?i)(?:tiny|small|medium|big)?int(?:eger)?\b")
_LARGEST = 1 << 63


@dataclass(frozen=True, slots=True)
class Keyed:
    """A use of a user's own table that is split by key."""

    ref: TableRef
    key: KeySplit

    @property
    def target(self) -> str:
        """The table's name on the workers."""
        return shipped_name(self.ref.database, self.ref.table.name, key=(self.key.column, self.key.director))


def keyed_tables(
    select: exp.Select, scope: Scope, layout: Layout, inner: Sequence[exp.Expression]
) -> tuple[Keyed, ...]:
    """Return the uses of users' own tables that are split by key, and note on their nodes what stands for them.

    Parameters
    ----------
    inner : sequence of Expression
        Conditions that every row satisfies: top-level conjuncts of WHERE and of inner joins' ON.
    """
    if layout.neighbours is not None:
        return ()
    joins = {node.alias_or_name: join for node, join in from_items(select)}
    outer = {ref.alias: items for ref, items in scope.outer_conditions}
    found: list[Keyed] = []
    for ref in scope.refs:
        if ref.table.kind is not Kind.OWN or not isinstance(ref.node, exp.Table):
            continue
        join = joins[ref.alias]
        conditions = inner
        if ref.nullable:  # its rows are chosen in ON, and all rows of the others stay
            if join is None or join.args.get("on") is None or str(join.args.get("side")).upper() != "LEFT":
                continue
            conditions = [part for item in outer.get(ref.alias, ()) for part in conjuncts(item)]
        key = _key_of(ref, conditions, scope, layout)
        if key is not None:
            found.append(Keyed(ref, key))
            ref.node.meta[PLACE] = (SCRATCH_DATABASE, found[-1].target, False)
    return tuple(found)


def _key_of(
    own: TableRef, conditions: Sequence[exp.Expression], scope: Scope, layout: Layout
) -> KeySplit | None:
    """Return by which column a table's rows can be split, if conditions make it equal to a director's key."""
    for item in conditions:
        if not isinstance(item, exp.EQ):
            continue
        for mine, theirs in ((item.this, item.expression), (item.expression, item.this)):
            if scope.owner(mine) is not own or not _is_integer(mine, scope):
                continue
            director = integer_director(theirs, scope, layout)
            if director is not None:
                return KeySplit(mine.name, director, own.nullable)
    return None


def integer_director(node: exp.Expression, scope: Scope, layout: Layout) -> str | None:
    """Return the director whose key a column holds for rows of the chunk, if both are of integer types."""
    director = restrict.key_director(node, scope, layout)
    if director is None or not _is_integer(node, scope):
        return None
    table = scope.database.table(director)
    kinds = {} if table is None else {column.name: column.sql_type for column in table.columns}
    key = None if table is None else table.key
    return director if key is not None and _INTEGER.match(kinds.get(key, "")) else None


def _is_integer(node: exp.Expression, scope: Scope) -> bool:
    """Whether a table's column is of an integer type."""
    ref = scope.owner(node)
    if ref is None:
        return False
    kinds = {column.name.lower(): column.sql_type for column in ref.table.columns}
    return _INTEGER.match(kinds.get(node.name.lower(), "")) is not None


def list_of_keys(
    inner: Sequence[exp.Expression], scope: Scope, layout: Layout, values: Sequence[Value]
) -> ByKey | None:
    """Return the longest list of integer keys that rows must have one of, and mark it; None if there is none."""
    best: tuple[exp.In, ByKey] | None = None
    for item, found in _lists(inner, scope, layout, values):
        if best is None or len(found.keys) > len(best[1].keys):
            best = item, found
    if best is None:
        return None
    best[0].meta[KEYS] = True
    return best[1]


def _lists(
    inner: Sequence[exp.Expression], scope: Scope, layout: Layout, values: Sequence[Value]
) -> Iterator[tuple[exp.In, ByKey]]:
    for item in inner:
        if not isinstance(item, exp.In) or not FEWEST_KEYS <= len(item.expressions) <= restrict.MAX_KEYS:
            continue
        director = integer_director(item.this, scope, layout)
        if director is None:
            continue
        found = [integer(node, values) for node in item.expressions]
        keys = [key for key in found if key is not None and -_LARGEST <= key < _LARGEST]
        if len(keys) == len(found):
            yield item, ByKey(director, tuple(map(str, keys)))


def put_keys(select: exp.Select) -> None:
    """Write a chunk's keys in place of the marked list, in place."""
    for node in find(select, exp.In):
        if KEYS in node.meta:
            node.set("expressions", [exp.Literal(this=KEYS_MARK, is_string=False)])


def put_places(select: exp.Select, layout: Layout) -> None:
    """Read of tables that are split by key the chunk's rows alone, in place."""
    joins = {node.alias_or_name: join for node, join in from_items(select)}
    for alias in layout.placed:
        column = exp.column(SPLIT_COLUMN, table=alias, quoted=True)
        condition = exp.EQ(this=column, expression=exp.Literal(this=CHUNK_MARK, is_string=False))
        join = joins[alias]
        if join is not None and join.args.get("side"):
            on = exp.Paren(this=join.args["on"])
            join.set("on", exp.And(this=on, expression=condition))
        else:
            add_condition(select, condition)
