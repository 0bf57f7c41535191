"""What has another value each time it is evaluated, and what servers that hold the same rows may differ in.

Such a thing is to be evaluated as often as plain MariaDB does it, not once in every chunk. A replicated
table's rows may lie in another order on each worker: which of them a LIMIT takes may not depend on that.
"""

from __future__ import annotations

from sqlglot import exp

from shard.errors import not_supported
from shard.planner.aggregates import has_aggregate
from shard.planner.branches import find
from shard.planner.context import Context
from shard.planner.scope import from_items, lookup

VOLATILE = frozenset({"rand", "uuid", "uuid_v4", "uuid_v7", "sys_guid", "random_bytes", "sysdate", "encrypt"})
"""Functions that may have another value for every row."""
_OF_ORDER = frozenset({"group_concat", "json_arrayagg", "json_objectagg"})
_EXACT = tuple("tinyint smallint mediumint int bigint decimal date time year double float".split())
"""Types whose equal values are the same: of texts, 'a' and 'A' may be equal."""


def varies(node: exp.Expression) -> bool:
    """Whether a tree has other values each time it is evaluated."""
    return any(call.name.lower() in VOLATILE for call in find(node, exp.Anonymous))


def refuse_seeded(tree: exp.Expression) -> None:
    """Refuse RAND with a seed that is the same for all rows: its values are one sequence over them."""
    for call in find(tree, exp.Anonymous):
        if call.name.lower() == "rand" and call.expressions and call.find(exp.Column) is None:
            raise not_supported("RAND with a constant seed in several chunks")


def refuse_unsettled(query: exp.Expression, context: Context) -> None:
    """Refuse a query over tables that each worker has, if its rows may be others on each of them, or each time."""
    if varies(query):
        raise not_supported("an inner query with other values each time it is evaluated")
    kinds = (exp.Select, exp.SetOperation, exp.Subquery)
    for node in (node for kind in kinds for node in find(query, kind)):
        if isinstance(node, exp.Select) and _is_loose(node, context):
            raise not_supported("an inner query whose values depend on the order of rows")
        if (node.args.get("limit") or node.args.get("offset")) and not _is_settled(node, context):
            raise not_supported(
                "an inner query whose LIMIT takes any of its rows", "order it by all columns that it selects"
            )


def _is_settled(query: exp.Expression, context: Context) -> bool:
    """Whether it does not matter which of the rows that a query orders alike it takes."""
    if isinstance(query.parent, exp.Exists):
        return True
    if not isinstance(query, exp.Select):
        return False
    if query.args.get("group") is None and any(map(has_aggregate, query.expressions)):
        return True  # one row
    order = query.args.get("order")
    keys = [item.this for item in order.expressions] if order is not None else []
    return all(
        _is_exact(item.unalias(), query, context) and any(_means(key, item, at, query) for key in keys)
        for at, item in enumerate(query.expressions, start=1)
    )


def _is_loose(select: exp.Select, context: Context) -> bool:
    """Whether a query's values may be others where its tables' rows lie in another order: of rows that are alike."""
    if find(select, exp.Window) or any(
        call.name.lower() in _OF_ORDER for call in find(select, exp.Anonymous)
    ):
        return True
    if find(select, exp.GroupConcat):
        return True
    group = select.args.get("group")
    outside = select.parent.parent if isinstance(select.parent, exp.Subquery) else select.parent
    if group is None and (select.args.get("distinct") is None or isinstance(outside, exp.In | exp.Exists)):
        return False
    keys = list(group.expressions) if group is not None else []
    return any(
        not has_aggregate(item)
        and not (
            _is_exact(item.unalias(), select, context)
            and (group is None or any(_means(key, item, at, select) for key in keys))
        )
        for at, item in enumerate(select.expressions, start=1)
    )


def _means(key: exp.Expression, item: exp.Expression, at: int, select: exp.Select) -> bool:
    """Whether a key is a select item: its place, its alias, or itself if no other item has its name as alias."""
    if isinstance(key, exp.Literal):
        return str(key.this) == str(at)
    if isinstance(key, exp.Column) and not key.table:
        name = key.name.lower()
        aliased = [
            one for one in select.expressions if isinstance(one, exp.Alias) and one.alias.lower() == name
        ]
        if aliased:
            return any(one is item for one in aliased)
    return key == item.unalias()


def _is_exact(node: exp.Expression, select: exp.Select, context: Context) -> bool:
    """Whether values of an expression that are equal are the same: of columns of the right types."""
    if not isinstance(node, exp.Column):
        return isinstance(node, exp.Literal)
    found = False
    for item, _ in from_items(select):
        entry = lookup(item, context.default, context.catalogue) if isinstance(item, exp.Table) else None
        if entry is None:
            return False
        if node.table in ("", item.alias_or_name):
            kinds = [
                one.sql_type.lower() for one in entry[1].columns if one.name.lower() == node.name.lower()
            ]
            if any(not kind.startswith(_EXACT) for kind in kinds):
                return False
            found = found or bool(kinds)
    return found


__all__ = ["VOLATILE", "refuse_seeded", "refuse_unsettled", "varies"]
