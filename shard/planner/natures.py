"""What values are to the JSON functions of MariaDB beyond their types: truth values, and JSON itself.

JSON functions write a truth value as true and false where another number is 1 and 0, and put the value of another JSON
function in as it is where another text is quoted. A column of a temporary table has neither nature, so where partial
or gathered values are given to a JSON function they get it back.
"""

from __future__ import annotations

from sqlglot import exp

from shard.planner.aggregates import aggregates_rows
from shard.planner.branches import bare, is_query, is_star
from shard.planner.outputs import output_name
from shard.planner.scope import from_items
from shard.planner.templates import fill, use

_TRUTHS = frozenset(
    "isnull json_valid json_contains json_contains_path json_exists json_overlaps json_equals st_contains st_crosses"
    " st_disjoint st_equals st_intersects st_overlaps st_touches st_within st_isclosed st_isring st_issimple".split()
)
"""Functions whose value is a truth value, operators and conditions excepted."""
_JSON = frozenset(
    "json_array json_arrayagg json_array_append json_array_insert json_compact json_detailed json_pretty json_extract"
    " json_insert json_loose json_merge json_merge_patch json_merge_preserve json_normalize json_object json_objectagg"
    " json_query json_remove json_replace json_search json_set".split()
)
"""Functions whose value is JSON: those of MariaDB that JSON_ARRAY puts in without quotes."""
_EITHER = {"if": 1, "ifnull": 0, "coalesce": 0, "greatest": 0, "least": 0}
"""Functions that are of the nature that all of their arguments are of, and the place of the first such argument."""


def is_boolean(item: exp.Expression, select: exp.Expression) -> bool:
    """Whether an item of a SELECT is a truth value."""
    item = _inside(item)
    if isinstance(item, exp.Column):
        return any(is_boolean(own, inner) for own, inner in _meant(item, select) if merges(inner))
    if (query := _scalar(item)) is not None:
        return is_boolean(query.expressions[0], query)
    choices = _choices(item)
    if choices:
        return all(is_boolean(choice, select) for choice in choices)
    if isinstance(item, exp.Anonymous):
        if item.name.lower() in ("min", "max") and len(item.expressions) == 1:  # groups are stored
            return select.args.get("group") is None and is_boolean(item.expressions[0], select)
        return item.name.lower() in _TRUTHS
    return isinstance(item, (exp.Predicate, exp.Connector, exp.Not, exp.RegexpLike, exp.Boolean))


def is_json(item: exp.Expression, select: exp.Expression) -> bool:
    """Whether an item of a SELECT is JSON: the server keeps that nature in its own temporary tables."""
    item = _inside(item)
    if isinstance(item, exp.Column):
        found = list(_meant(item, select))
        return bool(found) and all(is_json(own, inner) for own, inner in found)
    if (query := _scalar(item)) is not None:
        return is_json(query.expressions[0], query)
    choices = _choices(item)
    if choices:
        return all(is_json(choice, select) for choice in choices)
    if not isinstance(item, exp.Anonymous):
        return False
    if item.name.lower() in ("min", "max") and len(item.expressions) == 1:  # of an expression they are a text
        of = item.expressions[0]
        stored = isinstance(of, exp.Column) and not any(merges(inner) for _, inner in _meant(of, select))
        return stored and is_json(of, select)
    return item.name.lower() in _JSON


def as_truth(column: exp.Expression) -> exp.Expression:
    """Return a stored truth value as one: NULL stays NULL."""
    return exp.Paren(this=exp.NEQ(this=column, expression=fill(0)))


def as_json(column: exp.Expression) -> exp.Expression:
    """Return stored JSON as such, letter for letter: JSON_QUERY has no scalars, JSON_COMPACT no blanks to lose in them."""
    return use("COALESCE(JSON_QUERY(value, '$'), JSON_COMPACT(value))", value=column)


def with_nature(column: exp.Expression, item: exp.Expression, select: exp.Expression) -> exp.Expression:
    """Return a stored item of a SELECT, or what stands for it, with the nature that JSON functions see in the item."""
    if is_boolean(item, select):
        return as_truth(column)
    return as_json(column) if is_json(item, select) else column


def in_json(node: exp.Expression) -> bool:
    """Whether a node is in an argument of a JSON function, perhaps as what IF chooses from."""
    call = node.find_ancestor(exp.Anonymous)
    while call is not None and call.name.lower() in _EITHER:
        call = call.find_ancestor(exp.Anonymous)
    return call is not None and call.name.lower().startswith("json")


def merges(query: exp.Expression) -> bool:
    """Whether the server merges a derived table into the query around it: else a truth value is stored as 1 or 0."""
    if not isinstance(query, exp.Select):
        return False
    stored = any(query.args.get(key) for key in ("group", "having", "distinct", "limit", "offset"))
    return not stored and not aggregates_rows(query) and query.find(exp.Window) is None


def is_derived(select: exp.Expression) -> bool:
    """Whether a query is a derived table, not a value or a condition."""
    node = select.parent
    while isinstance(node, exp.Subquery):
        node = node.parent
    return isinstance(node, (exp.From, exp.Join))


def _inside(item: exp.Expression) -> exp.Expression:
    """Return an item without its alias and parentheses."""
    while isinstance(item, (exp.Paren, exp.Alias, exp.Escape)):
        item = item.this
    return item


def _scalar(item: exp.Expression) -> exp.Select | None:
    """Return the query of a scalar subquery of one SELECT."""
    if not isinstance(item, exp.Subquery) or not is_query(item):
        return None
    inner = bare(item.this)
    return inner if isinstance(inner, exp.Select) and len(inner.expressions) == 1 else None


def _choices(item: exp.Expression) -> list[exp.Expression]:
    """Return what an item's value is one of, as for IF and CASE, NULL excepted; none if it is another expression."""
    if isinstance(item, exp.Case):
        found = [branch.args["true"] for branch in item.args["ifs"]]
        found += [item.args["default"]] if item.args.get("default") is not None else []
    elif isinstance(item, exp.Anonymous) and item.name.lower() in _EITHER:
        found = item.expressions[_EITHER[item.name.lower()] :]
    else:
        return []
    return [choice for choice in found if not isinstance(_inside(choice), exp.Null)]


def _meant(column: exp.Column, select: exp.Expression) -> list[tuple[exp.Expression, exp.Select]]:
    """Return the items of derived tables, one for every arm of a UNION, that a column of a SELECT may be."""
    found = []
    for source, _ in from_items(select) if isinstance(select, exp.Select) else ():
        if isinstance(source, exp.Subquery) and column.table in ("", source.alias):
            found += _items_named(bare(source.this), column.name.lower())
    return found


def _items_named(query: exp.Expression, name: str) -> list[tuple[exp.Expression, exp.Select]]:
    """Return a query's items of a name, of a UNION those of its first arm and all in the same place."""
    if isinstance(query, exp.SetOperation):
        arms = _arms(query)
        first = next((index for index, item in enumerate(arms[0].expressions) if _is_named(item, name)), None)
        if first is None:
            return []
        return [(arm.expressions[first], arm) for arm in arms if first < len(arm.expressions)]
    if not isinstance(query, exp.Select):
        return []
    return [(item, query) for item in query.expressions if _is_named(item, name)]


def _is_named(item: exp.Expression, name: str) -> bool:
    return not is_star(item) and output_name(item).lower() == name


def _arms(query: exp.Expression) -> list[exp.Select]:
    """Return the SELECTs of a UNION in order."""
    found: list[exp.Select] = []
    stack = [query]
    while stack:
        node = bare(stack.pop())
        if isinstance(node, exp.SetOperation):
            stack += [node.expression, node.this]
        elif isinstance(node, exp.Select):
            found.append(node)
    return found
