"""Finds out whether the queries inside a SELECT are chunk-local, and marks them for the fragment.

A derived table whose rows over all chunks are just its rows in each chunk behaves like a dependent
table: its columns that hold director keys tie it to the chunk. A subquery linked to the outer row on
a director key sees all its rows in the outer row's chunk. Everything else is refused here and
answered by another strategy.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import msgspec
from sqlglot import exp

from shard.catalog.model import Column, Kind, Table
from shard.catalog.naming import CHUNK_COLUMN, OWNER_COLUMN, SCRATCH_DATABASE, SUB_CHUNK_COLUMN
from shard.errors import SYSTEM_TABLE, SkyError, not_supported
from shard.planner import restrict
from shard.planner.aggregates import has_aggregate
from shard.planner.branches import bare, find, is_query, is_star, own_nodes, own_queries
from shard.planner.constants import conjuncts, has_no_groups
from shard.planner.context import Bound, Context
from shard.planner.locality import Layout, chunk_links, layout_of
from shard.planner.names import Names
from shard.planner.notes import noted
from shard.planner.outer_aggregates import refuse_outer_aggregates
from shard.planner.outputs import (
    check_windows,
    is_chunk_key,
    null_keys,
    output_columns,
    output_links,
    output_name,
    stand_in_table,
    type_of,
)
from shard.planner.plan import Everywhere
from shard.planner.scope import (
    DERIVED,
    Derived,
    Scope,
    from_items,
    lookup,
    read_scope,
)
from shard.planner.templates import use
from shard.planner.volatile import refuse_unsettled
from shard.planner.window_names import settle_windows

STORED_AS = "stored as"
"""Key of a table node's meta: (database, table, whether it is a chunk table)."""
SPLIT_COLUMN = "skyChunk"
"""Column that a user's own table has on the workers if it is split: a chunk where its row can have partners."""
SYSTEM_DATABASES = frozenset({"information_schema", "performance_schema", "mysql", "sys"})
Query = exp.Select | exp.SetOperation | exp.Subquery
_OWN_COLUMNS = frozenset(name.lower() for name in (CHUNK_COLUMN, SUB_CHUNK_COLUMN, OWNER_COLUMN))


# FROM and WHERE ------------------------------------------------------------------------------------


def scope_of(select: exp.Select, context: Context) -> Scope:
    """Return the tables of a SELECT's FROM and their columns, and mark them, in place.

    Raises
    ------
    SkyError
        1235 if a derived table is not chunk-local.
    """
    for node, _ in from_items(select):
        if isinstance(node, exp.Subquery) and node.alias and is_query(node):
            node.meta[DERIVED] = derive(node.this, context)
        elif isinstance(node, exp.Table):
            mark(node, context)
    refuse_outer_aggregates(select, context)
    return read_scope(select, context.default, context.catalogue)


def bind(select: exp.Select, context: Context, outer: Scope | None = None) -> Bound:
    """Analyse a SELECT's FROM and WHERE and the queries inside, and mark its tables, in place.

    Raises
    ------
    SkyError
        1235 if it is not chunk-local.
    """
    scope = scope_of(select, context)
    if restrict.expand_area_specs(select, scope):
        scope = read_scope(select, context.default, context.catalogue)
    where = conjuncts(select.args["where"].this if select.args.get("where") is not None else None)
    layout = layout_of(scope, where, context.values)
    _own_columns_of_pairs(select, layout, scope)
    settle_windows(select, scope)
    inner = [*where, *(part for item in scope.conditions for part in conjuncts(item))]
    certain = [*where, *(part for item in scope.certain for part in conjuncts(item))]
    restriction = restrict.restriction(scope, layout, certain, context.values)
    if has_no_groups(select, context.values):
        restriction = restrict.NOWHERE
    for query in own_queries(select):
        _subquery(query, scope, layout, inner, context)
    _one_database(select, scope)
    return Bound(scope, layout, restriction)


def _own_columns_of_pairs(select: exp.Select, layout: Layout, scope: Scope) -> None:
    """Refuse a match table's chunkId, subChunkId and skyOwner where its rows are read by the second director.

    Those are copies, which have the second partner's chunk; the pair belongs to the first one's.
    """
    if layout.side == 0:
        return
    for column in own_nodes(select, exp.Column):
        if column.name.lower() not in _OWN_COLUMNS:
            continue
        owner = scope.owner(column)
        if owner is None or owner.table.kind is Kind.MATCH:
            raise not_supported(
                f"the column '{column.name}' of pairs that are joined with their second director"
            )


def _one_database(select: exp.Select, scope: Scope) -> None:
    """Refuse marked tables of other databases than that of the chunks.

    A worker that has a chunk has its database's replicated tables as they are now; those of another database it need not
    have, or has as they were (`skyshard/ingest/change.py: members`), and the chunks of that one lie elsewhere.
    """
    for node in find(select, exp.Table):
        stored = noted(node, STORED_AS)
        if stored is not None and stored[0] not in (scope.database.name, SCRATCH_DATABASE):
            raise not_supported(
                f"chunk-local work on table '{stored[0]}.{node.name}' beside chunks of database '{scope.database.name}'",
                "copy the table into that database",
            )


def arrays_of_joined_rows(select: exp.Select) -> None:
    """Refuse chunk-local groups of joined rows with JSON_ARRAYAGG.

    MariaDB writes texts in them as latin1 where its plan stores the groups; over one table, as at home, not.
    """
    if select.args.get("group") is None or len(list(from_items(select))) < 2:
        return
    for key in ("expressions", "having", "order"):
        value = select.args.get(key)
        for item in value if isinstance(value, list) else [value]:
            if item is not None and any(
                call.name.lower() == "json_arrayagg" for call in item.find_all(exp.Anonymous)
            ):
                raise not_supported("JSON_ARRAYAGG of joined rows inside the chunks")


def mark(node: exp.Table, context: Context) -> None:
    """Note on a table node what stands for it on a worker."""
    found = lookup(node, context.default, context.catalogue)
    if found is None:
        raise not_supported(f"a join of sharded tables with table '{node.name}'", "copy the rows you need")
    if found[1].kind is Kind.OWN:
        if found[0].name.lower() in SYSTEM_DATABASES:
            raise SkyError(SYSTEM_TABLE, database=found[0].name)
        if (found[0].name, found[1].name) in context.heavy:
            raise not_supported(f"chunk-local work on your own table '{node.name}', which is large")
        node.meta[STORED_AS] = (SCRATCH_DATABASE, shipped_name(found[0].name, found[1].name), False)
    else:
        node.meta[STORED_AS] = (found[0].name, found[1].stored, found[1].is_sharded)
    node.set("hints", None)  # chunk tables have indexes of their own


def shipped_name(database: str, table: str, split: bool = False, key: tuple[str, str] | None = None) -> str:
    """Return the name that a user's own table has on the workers.

    Parameters
    ----------
    split : bool
        With the chunks where its rows have neighbours.
    key : (str, str) or None
        With the chunks that the keys in this column are in, by the index of this director.
    """
    name = f"{database}\0{table}" if key is None else "\0".join((database, table, *key))
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"own_{digest}{'_split' if split else '' if key is None else '_keyed'}"


# derived tables ------------------------------------------------------------------------------------


def derive(query: exp.Expression, context: Context) -> Derived:
    """Return how a derived table looks from outside, if its rows are those that it has in each chunk, put together.

    Raises
    ------
    SkyError
        1235 if its rows in one chunk depend on other chunks.
    """
    query = bare(query)
    if not context.sharded(query):
        return _replicated(query, context)
    if any(query.args.get(key) for key in ("limit", "offset")):
        raise not_supported("LIMIT in a derived table of sharded rows")
    if isinstance(query, exp.Union):
        return _union(query, context)
    if not isinstance(query, exp.Select):
        raise not_supported(f"{type(query).__name__.upper()} in a derived table")
    query.set("locks", None)  # nobody locks the rows of a chunk
    arrays_of_joined_rows(query)
    bound = bind(query, context)
    _simple(bound)
    outputs = output_columns(query, bound.scope)
    links = output_links(outputs, bound)
    _concatenates(query, bound, links)
    _owners(query, bound.layout)
    table = stand_in_table(outputs, Kind.DEPENDENT, bound)
    return Derived(bound.scope.database, table, links, bound.restriction)


def _replicated(query: exp.Expression, context: Context) -> Derived:
    """Return a derived table over replicated tables only: the same rows in every chunk."""
    refuse_unsettled(query, context)
    for node in query.find_all(exp.Table):
        mark(node, context)
    first = query
    while isinstance(first, (exp.SetOperation, exp.Subquery)):
        first = first.this
    if not isinstance(first, exp.Select):
        raise not_supported("this derived table")
    names: list[str] = []
    for item in first.expressions:
        if is_star(item):
            names += _star_names(item, first, context)
        else:
            names.append(output_name(item))
    columns = tuple(Column(name=name, sql_type="") for name in names)
    return Derived(None, Table(name="", kind=Kind.REPLICATED, columns=columns), (), Everywhere())


def _star_names(star: exp.Expression, select: exp.Select, context: Context) -> list[str]:
    names: list[str] = []
    qualifier = star.table if isinstance(star, exp.Column) else ""
    for node, _ in from_items(select):
        found = lookup(node, context.default, context.catalogue) if isinstance(node, exp.Table) else None
        if found is None:
            raise not_supported("* over a derived table inside a derived table", "name the columns")
        if not qualifier or (node.alias or node.name) == qualifier:
            names += [column.name for column in found[1].columns]
    return names


def _union(query: exp.Union, context: Context) -> Derived:
    """Return the analysis of a UNION, whose first query is as deep as it has queries."""
    chain = [query]
    node = bare(query.this)
    while isinstance(node, exp.Union):
        if any(node.args.get(key) for key in ("limit", "offset")):
            raise not_supported("LIMIT in a derived table of sharded rows")
        chain.append(node)
        node = bare(node.this)
    found = derive(node, context)
    for union in reversed(chain):
        found = _united(union, (found, derive(union.expression, context)))
    return found


def _united(query: exp.Union, sides: tuple[Derived, Derived]) -> Derived:
    first, second = sides
    databases = {side.database.name: side.database for side in sides if side.database is not None}
    if len(databases) != 1 or any(side.database is None for side in sides):
        raise not_supported("a UNION of sharded and other rows in a derived table")
    links = tuple(
        (director, name)
        for director, name in first.links
        for at, column in enumerate(first.table.columns)
        if column.name.lower() == name
        and at < len(second.table.columns)
        and (director, second.table.columns[at].name.lower()) in second.links
        and _once(first, name)
        and _once(second, second.table.columns[at].name.lower())
    )
    nulls = any(side.table.null_keys for side in sides)
    if query.args.get("distinct") and (not links or nulls):
        raise not_supported("UNION across chunks in a derived table")
    spanning = any(side.table.key_spans_chunks for side in sides)
    columns = tuple(  # of a column that is united of two types, the server decides
        column if column.sql_type == other.sql_type else msgspec.structs.replace(column, sql_type="")
        for column, other in itertools.zip_longest(
            first.table.columns,
            second.table.columns[: len(first.table.columns)],
            fillvalue=Column(name="", sql_type=""),
        )
    )
    table = Table(
        name="",
        kind=Kind.DEPENDENT,
        columns=columns,
        key_spans_chunks=spanning,
        null_keys=nulls,
    )
    where = restrict.any_of([side.restriction for side in sides])
    return Derived(next(iter(databases.values())), table, links, where)


def _once(derived: Derived, name: str) -> bool:
    """Whether a name, by which a link is known, means one column."""
    return sum(column.name.lower() == name for column in derived.table.columns) == 1


def _simple(bound: Bound) -> None:
    neighbours = bound.layout.neighbours
    if bound.layout.partner is not None or (neighbours is not None and neighbours.own_position is None):
        raise not_supported("a near-neighbour or two-sided match join inside a subquery")


def _owners(select: exp.Select, layout: Layout) -> None:
    """Write the condition on owner rows of match tables into a nested SELECT."""
    for ref in layout.owners:
        condition = use("own = 1", own=exp.column(OWNER_COLUMN, table=ref.alias, quoted=True))
        where = select.args.get("where")
        if where is None:
            select.set("where", exp.Where(this=condition))
        else:
            where.set("this", exp.And(this=exp.Paren(this=where.this), expression=condition))


def _concatenates(select: exp.Select, bound: Bound, links: Sequence[tuple[str, str]]) -> None:
    """Refuse a SELECT whose rows are not simply those of all chunks together."""
    group = select.args.get("group")
    clauses = [
        *select.expressions,
        *(select.args[key] for key in ("having", "order") if select.args.get(key)),
    ]
    aggregated = group is not None or any(has_aggregate(item) for item in clauses)
    if aggregated:
        keys = group.expressions if group is not None and not group.args.get("rollup") else []
        names = Names(select, bound.scope)
        meant = [names.group_item(item) for item in keys]
        if not any(is_chunk_key(item, bound) for item in meant):
            raise not_supported("groups that span chunks in a subquery")
    if select.args.get("distinct") is not None and (not links or null_keys(bound)):
        raise not_supported("DISTINCT across chunks in a subquery")
    check_windows(select, bound)


# subqueries in expressions -------------------------------------------------------------------------


def _subquery(
    query: exp.Expression, scope: Scope, layout: Layout, inner: Sequence[exp.Expression], context: Context
) -> None:
    """Mark a subquery that sees all its rows in the outer row's chunk, or refuse it."""
    body = bare(query)
    if not context.sharded(body):
        if body.find(exp.From) is not None:
            refuse_unsettled(query, context)
        for node in body.find_all(exp.Table):
            mark(node, context)
        return
    if not isinstance(body, exp.Select):
        raise not_supported(f"{type(body).__name__.upper()} in a subquery")
    bound = bind(body, context, scope)
    _simple(bound)
    if not (
        _correlated(body, bound, scope, layout) or _linked_by_in(query, body, bound, scope, layout, inner)
    ):
        raise not_supported("a subquery that is not linked on the director key")
    _owners(body, bound.layout)


def _correlated(body: exp.Select, bound: Bound, scope: Scope, layout: Layout) -> bool:
    """Whether a top-level equality ties the subquery's chunk to the outer row's."""
    where = conjuncts(body.args["where"].this if body.args.get("where") is not None else None)
    for item in [*where, *(part for cond in bound.scope.conditions for part in conjuncts(cond))]:
        if not isinstance(item, exp.EQ):
            continue
        for mine, theirs in ((item.this, item.expression), (item.expression, item.this)):
            if bound.scope.owner(theirs) is not None or _hidden(theirs, bound.scope):
                continue
            if _same_chunk(mine, bound, theirs, scope, layout):
                return True
    return False


def _hidden(node: exp.Expression, scope: Scope) -> bool:
    """Whether a name could mean a column of the inner scope, so that it is not certainly the outer one's."""
    if not isinstance(node, exp.Column):
        return True
    if node.table:
        return any(ref.alias == node.table for ref in scope.refs)
    return any(node.name.lower() in ref.names for ref in scope.refs)


def _same_chunk(
    mine: exp.Expression, bound: Bound, theirs: exp.Expression, scope: Scope, layout: Layout
) -> bool:
    ref, other = bound.scope.owner(mine), scope.owner(theirs)
    if ref is None or other is None or ref.nullable:
        return False
    left = {d for d, column in chunk_links(ref, bound.layout) if column == mine.name.lower()}
    right = {d for d, column in chunk_links(other, layout) if column == theirs.name.lower()}
    return bool(left & right)


def _linked_by_in(
    query: exp.Expression,
    body: exp.Select,
    bound: Bound,
    scope: Scope,
    layout: Layout,
    inner: Sequence[exp.Expression],
) -> bool:
    """Whether it is the right side of ``key IN (SELECT key …)``, where NULL and false mean the same."""
    test = query.parent
    if not isinstance(test, exp.In) or test.args.get("query") is not query:
        return False
    if any(body.args.get(key) for key in ("limit", "offset")):
        return False
    outputs = output_columns(body, bound.scope)
    mine = test.this.expressions if isinstance(test.this, exp.Tuple) else [test.this]
    if len(mine) != len(outputs):
        return False
    positive = any(test is item for item in inner)
    for theirs, (_, column) in zip(mine, outputs, strict=True):
        if not _same_chunk(column, bound, theirs, scope, layout):
            continue
        exact = len(mine) == 1 and _not_null(column, bound.scope) and _not_null(theirs, scope)
        if positive or exact:
            _concatenates(body, bound, output_links(outputs, bound))
            return True
    return False


def _not_null(node: exp.Expression, scope: Scope) -> bool:
    return "NOT NULL" in type_of(node, scope).upper()
