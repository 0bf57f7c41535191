"""What the director index says beyond the chunks to ask: which rows of a user's table, which keys of a list, go to each.

A row of a user's own table that is joined by an integer key has partners in the chunks that the index gives
for the key, and a list of integer keys is, in a chunk, as good as those of its keys that the chunk can hold.
Both are compared as integers by MariaDB and by the index; of other types, all goes to all chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from shard.catalog.model import Kind, Table
from shard.catalog.naming import SCRATCH_DATABASE
from shard.planner.branches import bare, find
from shard.planner.chunk_tables import add_condition
from shard.planner.constants import Value, conjuncts, integer, length_of, values_of
from shard.planner.context import Bound, Context
from shard.planner.director_keys import INTEGER, MAX_KEYS, integer_director, is_integer
from shard.planner.emit import CHUNK_MARK, KEYS_MARK
from shard.planner.locality import Layout
from shard.planner.nested import SPLIT_COLUMN, STORED_AS, shipped_name
from shard.planner.notes import noted
from shard.planner.plan import ByKey, KeySplit
from shard.planner.scope import Scope, TableRef, from_items, lookup, sql_type_of

KEYS = "keys"
"""Key of the meta of a list of keys that is cut to each chunk's."""
FEWEST_KEYS = 8
"""A shorter list is sent whole."""
PLACED = "placed"
"""Key of the meta of an inner query that reads a split table: its name there."""
_LARGEST = 1 << 63


@dataclass(frozen=True, slots=True)
class Keyed:
    """A use of a user's own table that is split by key; `alias` is its name in FROM, None of an inner query's."""

    database: str
    table: Table
    key: KeySplit
    alias: str | None

    @property
    def target(self) -> str:
        """The table's name on the workers."""
        return shipped_name(self.database, self.table.name, key=(self.key.column, self.key.director))


def keyed_tables(
    select: exp.Select, bound: Bound, certain: Sequence[exp.Expression], context: Context
) -> tuple[Keyed, ...]:
    """Return the uses of users' own tables that are split by key, and note on their nodes what stands for them.

    Parameters
    ----------
    certain : sequence of Expression
        Conditions that every row satisfies: top-level conjuncts of WHERE and of inner joins' ON.
    """
    if bound.layout.neighbours is not None:
        return ()
    return (*_joined(select, bound, certain), *_listed(bound, certain, context))


def _joined(select: exp.Select, bound: Bound, certain: Sequence[exp.Expression]) -> Iterator[Keyed]:
    """Yield the tables of FROM that conditions tie to a director's key."""
    scope = bound.scope
    joins = {node.alias_or_name: join for node, join in from_items(select)}
    outer = {step.ref.alias: step.conditions for step in scope.steps if step.side}
    for ref in scope.refs:
        if ref.table.kind is not Kind.OWN or not isinstance(ref.node, exp.Table):
            continue
        join = joins[ref.alias]
        conditions = certain
        if ref.nullable:  # its rows are chosen in ON, and all rows of the others stay
            if join is None or join.args.get("on") is None or str(join.args.get("side")).upper() != "LEFT":
                continue
            conditions = [part for item in outer.get(ref.alias, ()) for part in conjuncts(item)]
        key = _key_of(ref, conditions, bound)
        if key is not None:
            found = Keyed(ref.database, ref.table, key, ref.alias)
            ref.node.meta[STORED_AS] = (SCRATCH_DATABASE, found.target, False)
            yield found


def _key_of(own: TableRef, conditions: Sequence[exp.Expression], bound: Bound) -> KeySplit | None:
    """Return by which column a table's rows can be split, if conditions make it equal to a director's key."""
    for item in conditions:
        if not isinstance(item, exp.EQ):
            continue
        for mine, theirs in ((item.this, item.expression), (item.expression, item.this)):
            if bound.scope.owner(mine) is not own or not is_integer(mine, bound.scope):
                continue
            director = integer_director(theirs, bound.scope, bound.layout)
            if director is not None:
                return KeySplit(mine.name, director, own.nullable)
    return None


def _listed(bound: Bound, certain: Sequence[exp.Expression], context: Context) -> Iterator[Keyed]:
    """Yield the tables of ``key IN (SELECT column FROM table …)``: of other keys, no row of the chunk can be."""
    for item in certain:
        query = item.args.get("query") if isinstance(item, exp.In) else None
        director = None if query is None else integer_director(item.this, bound.scope, bound.layout)
        body = None if query is None else bare(query)
        if director is None or not isinstance(body, exp.Select) or not _is_plain(body):
            continue
        node = body.args["from_"].this
        found = lookup(node, context.default, context.catalogue) if isinstance(node, exp.Table) else None
        column = body.expressions[0].unalias()
        if found is None or found[1].kind is not Kind.OWN or not isinstance(column, exp.Column):
            continue
        qualified = column.table in ("", node.alias_or_name) and column.args.get("db") is None
        if qualified and INTEGER.match(sql_type_of(found[1], column.name)):
            keyed = Keyed(found[0].name, found[1], KeySplit(column.name, director, False), None)
            node.meta[STORED_AS] = (SCRATCH_DATABASE, keyed.target, False)
            body.meta[PLACED] = node.alias_or_name
            yield keyed


def _is_plain(body: exp.Select) -> bool:
    """Whether a query has the rows of one table, with a condition at most: fewer of them are fewer of its rows."""
    clauses = {key for key, value in body.args.items() if value}
    return clauses <= {"expressions", "from_", "where", "kind"} and len(body.expressions) == 1


def list_of_keys(
    inner: Sequence[exp.Expression], scope: Scope, layout: Layout, values: Sequence[Value]
) -> ByKey | None:
    """Return the longest list of integer keys in an IN that every row satisfies, and mark it; None if there is none."""
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
        if not isinstance(item, exp.In) or not FEWEST_KEYS <= length_of(item) <= MAX_KEYS:
            continue
        director = integer_director(item.this, scope, layout)
        if director is None:
            continue
        found = [integer(node, values) for node in values_of(item)]
        keys = [key for key in found if key is not None and -_LARGEST <= key < _LARGEST]
        if len(keys) == len(found):
            yield item, ByKey(director, tuple(map(str, keys)))


def put_keys(select: exp.Select) -> None:
    """Write a chunk's keys in place of the marked list, in place."""
    for node in find(select, exp.In):
        if noted(node, KEYS):
            node.set("expressions", [exp.Literal(this=KEYS_MARK, is_string=False)])


def put_places(select: exp.Select, layout: Layout) -> None:
    """Make a fragment read, of users' own tables that are split by key, only the rows of its own chunk, in place."""
    joins = {node.alias_or_name: join for node, join in from_items(select)}
    for alias in layout.keyed:
        condition = _of_chunk(alias)
        join = joins[alias]
        if join is not None and str(join.args.get("side")).upper() == "LEFT":
            on = exp.Paren(this=join.args["on"])
            join.set("on", exp.And(this=on, expression=condition))
        else:
            add_condition(select, condition)
    for query in find(select, exp.Select):
        if noted(query, PLACED) is not None:
            add_condition(query, _of_chunk(query.meta[PLACED]))


def _of_chunk(alias: str) -> exp.Expression:
    column = exp.column(SPLIT_COLUMN, table=alias, quoted=True)
    return exp.EQ(this=column, expression=exp.Literal(this=CHUNK_MARK, is_string=False))
