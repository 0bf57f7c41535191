"""What stands for the items of a gathered query in the statement that reads it at home.

Mostly the gathered table's columns. But a column has a type and a collation of its own, where a constant
gives way, NULL has none, a truth value is more than a number and JSON more than a text: those stay what they are.
"""

from __future__ import annotations

from sqlglot import exp

from shard.planner.aggregates import has_aggregate, is_aggregate
from shard.planner.branches import bare, own_nodes
from shard.planner.natures import as_json, as_truth, is_boolean, is_derived, is_json, merges
from shard.planner.scope import from_items
from shard.planner.templates import fill
from shard.planner.volatile import VOLATILE

ALL_ROWS = 2**64 - 1
"""A LIMIT that limits nothing, but keeps a derived table from being merged into the query around it."""
_NULL_OF_NULLS = frozenset({"coalesce", "ifnull", "greatest", "least"})


def without_alias(item: exp.Expression) -> exp.Expression:
    """Return a copy of an item's expression."""
    inner = item.this if isinstance(item, exp.Alias) else item
    return inner.copy()


def aliased(node: exp.Expression, name: str) -> exp.Expression:
    """Return an expression under a name."""
    return exp.Alias(this=node, alias=exp.to_identifier(name, quoted=True))


def column_named(name: str) -> exp.Expression:
    """Return a reference to a column."""
    return exp.Column(this=exp.to_identifier(name, quoted=True))


def stand_in(item: exp.Expression, column: str, select: exp.Expression) -> exp.Expression:
    """Return what stands for an item of a gathered query: itself if it needs no row, else its column."""
    if _always_null(item):
        return exp.Null()
    if _is_null_text(item):  # a table has no such column: CHAR(0) would make others fixed, too
        nothing = exp.Is(this=column_named(column), expression=exp.Null())
        return exp.Anonymous(this="IF", expressions=[nothing, exp.Null(), exp.Null()])
    truth = isinstance(select.parent, exp.Subquery) and is_boolean(item, select)
    stored = truth and is_derived(select) and not merges(select)
    if (
        _is_constant(item) and not stored and not _rolls_up(select)
    ):  # which makes a constant that it groups by NULL
        return without_alias(item)
    if truth and not stored:
        return as_truth(column_named(column))
    return as_json(column_named(column)) if gives_json(item, select) else column_named(column)


def gives_json(item: exp.Expression, select: exp.Expression) -> bool:
    """Whether an item of an inner query is JSON, and a JSON function of a query around may be given it."""
    if not is_json(item, select):
        return False
    inside = {id(node) for node in select.find_all(exp.Anonymous)}
    calls = select.root().find_all(exp.Anonymous)
    return any(call.name.lower().startswith("json") and id(call) not in inside for call in calls)


def _is_constant(item: exp.Expression) -> bool:
    """Whether an item is the same for all rows: it stays as it is.

    A constant's type and collation give way to those of other sides of a UNION; a table's column does not,
    and NULL has no type in a table at all.
    """
    if has_aggregate(item):
        return False
    return not any(
        isinstance(node, (exp.Column, exp.Star, exp.Window, exp.Placeholder, exp.Select, exp.SetOperation))
        or (isinstance(node, exp.Anonymous) and node.name.lower() in VOLATILE)
        for node in item.walk()
    )


def _always_null(item: exp.Expression) -> bool:
    """Whether an item is NULL by its form and has NULL's type, as ``NULLIF(NULL, x)``.

    ``IF(x, NULL, NULL)`` is a text to the server; if one of the two is an expression, it has that one's type.
    """
    if isinstance(item, (exp.Paren, exp.Alias)):
        return _always_null(item.this)
    if isinstance(item, exp.Case):
        values = [branch.args["true"] for branch in item.args["ifs"]]
        return all(_always_null(value) for value in (*values, item.args.get("default") or exp.Null()))
    if isinstance(item, exp.Anonymous) and item.expressions:
        name = item.name.lower()
        if name == "nullif":
            return _always_null(item.expressions[0])
        if name == "if":
            values = item.expressions[1:]
            return all(map(_always_null, values)) and not all(map(_is_null, values))
        return name in _NULL_OF_NULLS and all(map(_always_null, item.expressions))
    return isinstance(item, exp.Null)


def _is_null(item: exp.Expression) -> bool:
    """Whether an item is the word NULL."""
    return _is_null(item.this) if isinstance(item, exp.Paren) else isinstance(item, exp.Null)


def _is_null_text(item: exp.Expression) -> bool:
    """Whether an item is NULL by its form but for an ``IF(x, NULL, NULL)`` in it, which makes it a text."""
    if isinstance(item, (exp.Paren, exp.Alias)):
        return _is_null_text(item.this)
    if _always_null(item):
        return True
    if isinstance(item, exp.Case):
        values = [branch.args["true"] for branch in item.args["ifs"]]
        return all(_is_null_text(value) for value in (*values, item.args.get("default") or exp.Null()))
    if not isinstance(item, exp.Anonymous) or not item.expressions:
        return False
    name = item.name.lower()
    if name == "nullif":
        return _is_null_text(item.expressions[0])
    values = item.expressions[1:] if name == "if" else item.expressions
    return name in _NULL_OF_NULLS | {"if"} and all(map(_is_null_text, values))


def number_truths(select: exp.Select) -> None:
    """Let JSON functions write 1 and 0 for truth values that joined rows are grouped by, in place.

    The server has stored those with the joined rows; over rows that come joined it would not.
    """
    group = select.args.get("group")
    if group is None or _tables(select) < 2:
        return
    keys = [_meant(key, select) for key in group.expressions]
    for call in own_nodes(select, exp.Anonymous):
        if call.name.lower().startswith("json_") and is_aggregate(call):
            for value in call.expressions:
                value = value.this if isinstance(value, exp.Order) else value  # noqa: PLW2901
                if is_boolean(value, select) and any(_same(value, key) for key in keys):
                    value.replace(exp.Add(this=exp.Paren(this=value.copy()), expression=fill(0)))


def _tables(select: exp.Select) -> int:
    """Return how many tables the server joins for a SELECT."""
    sources = [bare(source) for source, _ in from_items(select)]
    return sum(
        _tables(source) if isinstance(source, exp.Select) and merges(source) else 1 for source in sources
    )


def _meant(key: exp.Expression, select: exp.Select) -> exp.Expression:
    """Return what a key of GROUP BY stands for: an item by its position or alias, or itself."""
    if isinstance(key, exp.Literal) and not key.is_string and key.name.isdigit():
        at = int(key.name) - 1
        items = select.expressions[at : at + 1]
    else:
        bare_name = key.name.lower() if isinstance(key, exp.Column) and not key.table else None
        items = [item for item in select.expressions if item.alias and item.alias.lower() == bare_name]
    return items[0].unalias() if items else key


def _same(one: exp.Expression, other: exp.Expression) -> bool:
    """Whether two expressions are written alike; a column may be named without its table."""
    if isinstance(one, exp.Column) and isinstance(other, exp.Column):
        near = one.table.lower() == other.table.lower() or not one.table or not other.table
        return near and one.name.lower() == other.name.lower()
    return one == other


def _rolls_up(select: exp.Expression) -> bool:
    group = select.args.get("group")
    return group is not None and bool(group.args.get("rollup"))


def must_be_stored(select: exp.Select) -> bool:
    """Whether MariaDB may answer wrongly if it merges what stands for a derived table into a query around it.

    Under WITH ROLLUP it may take the NULL out of the rows; with window functions beside a condition
    with a subquery it may read another row than the one it has tested.
    """
    outer = select.find_ancestor(exp.Select)
    while outer is not None:
        if _rolls_up(outer) or own_nodes(outer, exp.Window):
            return True
        outer = outer.find_ancestor(exp.Select)
    return False
