"""scisql_median and scisql_percentile as native SQL: rows are numbered in their group by a window.

The value at (N - 1)·p/100 of the sorted values that are not NULL, linearly between its neighbours
(geometry-and-functions: aggregates). MariaDB's own PERCENTILE_CONT rounds to ten decimals.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from shard.errors import BAD_ARGUMENT, SkyError, not_supported
from shard.planner.branches import find, is_star, own_queries
from shard.planner.constants import Value, number
from shard.planner.context import Context
from shard.planner.emit import excerpt
from shard.planner.needs import item_names
from shard.planner.part_columns import group_items
from shard.planner.scope import from_items
from shard.planner.templates import use
from shard.planner.volatile import varies

NAMES = frozenset({"scisql_median", "scisql_percentile"})
_UPPER = ("expressions", "group", "having", "order")


def unfold(tree: exp.Expression, context: Context | None) -> None:
    """Replace the aggregates in a tree, in place; `context` is None if its tables are not known.

    Raises
    ------
    SkyError
        1210 for wrong arguments, 1235 beside ROLLUP, ``*``, windows or subqueries.
    """
    for call in find(tree, exp.Anonymous):
        if call.name.lower() in NAMES:
            select = call.find_ancestor(exp.Select)
            if isinstance(select, exp.Select):
                _unfold(select, context)


def _unfold(select: exp.Select, context: Context | None) -> None:
    calls = [call for call in _upper(select, exp.Anonymous) if call.name.lower() in NAMES]
    if not calls:
        return
    group = select.args.get("group")
    if group is not None and group.args.get("rollup"):
        raise not_supported(
            f"{excerpt(calls[0])} WITH ROLLUP", "ask for the totals in a query of their own (UNION ALL)"
        )
    where = select.args.get("where")
    inside = {id(node) for node in where.walk()} if where is not None else set()
    for join in select.args.get("joins") or ():
        inside |= {id(node) for node in join.walk()}
    if any(is_star(item) for item in select.expressions) or _upper(select, exp.Window):
        raise not_supported(
            f"{excerpt(calls[0])} beside * or window functions", "put it into a derived table"
        )
    if any(id(query) not in inside for query in own_queries(select)):
        raise not_supported(f"{excerpt(calls[0])} beside subqueries", "put it into a derived table")
    keys = group_items(select, context)
    if any(map(varies, keys)):
        raise not_supported(
            f"{excerpt(calls[0])} by a value that varies with each evaluation", "store it first"
        )
    tables = _tables(select, context)
    select.set("group", exp.Group(expressions=keys) if keys else None)
    inner = exp.Select()
    for key in ("from_", "from", "joins", "where"):
        if select.args.get(key):
            inner.set(key, select.args[key])
            select.set(key, None)
    items: list[exp.Expression] = []
    for index, call in enumerate(calls):
        items += _ranks(call, keys, index, () if context is None else context.values)
    items += _columns(select, tables)
    inner.set("expressions", items or [use("1")])
    alias = exp.TableAlias(this=exp.to_identifier("ranked", quoted=True))
    select.set("from_", exp.From(this=exp.Subquery(this=inner, alias=alias)))


def _upper(select: exp.Select, kind: type[exp.Expression]) -> list[exp.Expression]:
    found: list[exp.Expression] = []
    for key in _UPPER:
        value = select.args.get(key)
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, exp.Expression):
                found += list(node.find_all(kind))
    return found


def _ranks(
    call: exp.Expression, keys: Sequence[exp.Expression], index: int, values: Sequence[Value]
) -> list[exp.Expression]:
    """Put the value's expression in the place of a call; return the columns that it reads."""
    arguments = list(call.expressions)
    median = call.name.lower() == "scisql_median"
    if len(arguments) != (1 if median else 2):
        raise SkyError(
            BAD_ARGUMENT,
            function=call.name,
            reason=f"{len(arguments)} arguments given, of which it takes {1 if median else 2}",
        )
    percent = 50.0 if median else number(arguments[1], values)
    if percent is None or not 0 <= percent <= 100:
        raise SkyError(
            BAD_ARGUMENT,
            function=call.name,
            reason=f"the percentage is a constant from 0 to 100, and not {excerpt(arguments[1])}",
        )
    value = use("CAST(x AS DOUBLE)", x=arguments[0].copy())
    names = [f"{letter}{index}" for letter in ("x", "r", "n")]
    partition = [key.copy() for key in keys]
    order = [exp.Ordered(this=use("ISNULL(x)", x=value.copy())), exp.Ordered(this=value.copy())]
    rank = exp.Window(
        this=exp.Anonymous(this="ROW_NUMBER"), partition_by=partition, order=exp.Order(expressions=order)
    )
    count = exp.Window(
        this=exp.Anonymous(this="COUNT", expressions=[value.copy()]), partition_by=[k.copy() for k in keys]
    )
    columns = {name: exp.column(name, table="ranked", quoted=True) for name in names}
    at = use("(n - 1) * part", n=columns[names[2]], part=percent / 100)
    holes: dict[str, exp.Expression | float | int | str] = {
        "v": columns[names[0]], "r": columns[names[1]], "at": exp.Paren(this=at),
    }  # fmt: skip
    low = use("MAX(IF(r = FLOOR(at) + 1, v, NULL))", **holes)
    high = use("MAX(IF(r = CEIL(at) + 1, v, NULL))", **holes)
    rest = use("MAX(at - FLOOR(at))", **holes)
    call.replace(exp.Paren(this=use("low + (high - low) * rest", low=low, high=high, rest=rest)))
    return [
        exp.Alias(this=node, alias=exp.to_identifier(name, quoted=True))
        for node, name in zip((value, rank, count), names, strict=True)
    ]


_Tables = tuple[tuple[str, frozenset[str]], ...]
"""The tables of FROM, by alias, with the lower-case names of their columns."""


def _tables(select: exp.Select, context: Context | None) -> _Tables:
    """Return the tables of FROM; none if they are not all known."""
    if context is None:
        return ()
    found = [(node.alias_or_name, item_names(node, context)) for node, _ in from_items(select)]
    known = tuple((alias, names) for alias, names in found if names is not None)
    return known if len(known) == len(found) else ()


def _source(column: exp.Column, tables: _Tables) -> tuple[str, str]:
    """Return whose a column is, and its lower-case name; the table is its qualifier if that is not certain."""
    name = column.name.lower()
    owners = [alias for alias, names in tables if name in names and column.table in ("", alias)]
    return (owners[0] if len(owners) == 1 else column.table, name)


def _shown(select: exp.Select) -> tuple[set[str], set[str]]:
    """Return the names of select items, and those of them that GROUP BY gives to columns of FROM's."""
    items = (item for item in select.expressions if isinstance(item, exp.Alias | exp.Column))
    shown = {item.alias_or_name.lower(): item for item in items}
    group = select.args.get("group")
    grouped = (
        {item.name.lower() for item in group.expressions if isinstance(item, exp.Column)} if group else set()
    )
    others = {
        name for name, item in shown.items()
        if name in grouped and isinstance(item, exp.Alias) and item.this.name.lower() != name
    }  # fmt: skip
    return set(shown), others


def _columns(select: exp.Select, tables: _Tables) -> list[exp.Expression]:
    """Let the upper clauses read the derived table; return the columns that they read."""
    known: dict[tuple[str, str], str] = {}
    out: list[exp.Expression] = []
    shown, others = _shown(select)
    for key in _UPPER:
        value = select.args.get(key)
        trees = value if isinstance(value, list) else [value]
        for tree in [tree for tree in trees if isinstance(tree, exp.Expression)]:
            for column in list(tree.find_all(exp.Column)):
                if column.table == "ranked":
                    continue
                name = column.name.lower()
                named_item = not column.table and name in shown
                if named_item and (key == "order" or (key == "having" and name not in others)):
                    continue
                source = _source(column, tables)
                if source not in known:
                    known[source] = f"c{len(known)}"
                    named = exp.to_identifier(known[source], quoted=True)
                    out.append(exp.Alias(this=column.copy(), alias=named))
                renamed = exp.column(known[source], table="ranked", quoted=True)
                if column is tree and key == "expressions":
                    column.replace(exp.Alias(this=renamed, alias=exp.to_identifier(column.name, quoted=True)))
                else:
                    column.replace(renamed)
    return out
