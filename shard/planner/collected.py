"""Which columns the clauses above a chunk-local FROM and WHERE name, when its joined rows are gathered.

They travel under names of their own; the clauses above are written over those.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from shard.errors import not_supported
from shard.planner.branches import is_star, own_queries
from shard.planner.context import Bound
from shard.planner.natures import in_json, with_nature
from shard.planner.notes import noted
from shard.planner.scope import Scope, columns_of, star_columns
from shard.planner.stand_ins import aliased


def upper_queries(select: exp.Select) -> list[exp.Expression]:
    """Return the inner queries outside of FROM and WHERE."""
    lower: set[int] = set()
    where = select.args.get("where")
    if where is not None:
        lower = {id(node) for node in where.walk()}
    for join in select.args.get("joins") or ():
        lower |= {id(node) for node in join.walk()}
    return [query for query in own_queries(select) if id(query) not in lower]


def joins_by_name(select: exp.Select) -> bool:
    """Whether tables of FROM are joined with USING or NATURAL."""
    return any(join.args.get("using") or join.args.get("method") for join in select.args.get("joins") or ())


def expanded(select: exp.Select, scope: Scope) -> list[exp.Expression]:
    """Return the select list with every star replaced by the columns it stands for.

    Raises
    ------
    SkyError
        1235 as of `star_columns`, and for another spelling of a table's name.
    """
    items: list[exp.Expression] = []
    for item in select.expressions:
        if not is_star(item):
            items.append(item)
            continue
        qualifier = item.table if isinstance(item, exp.Column) else ""
        meant = [ref for ref in scope.refs if ref.alias == qualifier]
        if qualifier and not meant:
            raise not_supported(f"{qualifier}.*", "spell the table's name as FROM does")
        items += (column for ref in meant for column in columns_of(ref))
        if not qualifier:
            items += star_columns(select, scope)
    return items


def owned_columns(
    upper: Sequence[exp.Expression], bound: Bound, aliases: set[str]
) -> dict[tuple[str, str], exp.Expression]:
    """Return the columns of FROM's tables in the upper clauses: (alias, name) → column."""
    needed: dict[tuple[str, str], exp.Expression] = {}
    for tree in upper:
        for column in tree.find_all(exp.Column):
            if isinstance(column.this, exp.Star):
                raise not_supported("* here")
            ref = bound.scope.owner(column)
            if ref is not None:
                if not column.table and column.name.lower() in aliases and not _is_item(column, tree):
                    raise not_supported(f"the name '{column.name}', which is both a column and an alias")
                needed.setdefault((ref.alias, column.name.lower()), column)
            elif column.table or column.name.lower() not in aliases:
                raise not_supported(f"the name '{column.name}'")
    return needed


def _is_item(column: exp.Expression, tree: exp.Expression) -> bool:
    """Whether a column stands in the select list, where aliases mean nothing, or is the alias' own column."""
    return isinstance(tree, (exp.Alias, exp.Column)) or not isinstance(
        tree, (exp.Group, exp.Having, exp.Order)
    )


def rename(
    upper: Sequence[exp.Expression], names: dict[tuple[str, str], str], bound: Bound, select: exp.Select
) -> None:
    """Let the upper clauses name the collected columns, in place."""
    for tree in upper:
        for column in list(tree.find_all(exp.Column)):
            ref = bound.scope.owner(column)
            if ref is None:
                continue
            column.meta["was"] = column.name
            given = column.copy() if in_json(column) else None
            name = names[(ref.alias, column.name.lower())]
            column.set("this", exp.to_identifier(name, quoted=True))
            column.set("table", None)
            column.set("db", None)
            if given is not None:
                column.replace(with_nature(column.copy(), given, select))


def unused(prefix: str, select: exp.Select) -> str:
    """Return a prefix that no name in a query begins with: a column must not be taken for an alias."""
    names = [name.name.lower() for name in select.find_all(exp.Identifier)]
    while any(name.startswith(prefix) for name in names):
        prefix = f"{prefix}_"
    return prefix


def keep_name(item: exp.Expression) -> exp.Expression:
    """Give a renamed column its name back, as a select item: ORDER BY and outer queries may use it."""
    if isinstance(item, exp.Column) and noted(item, "was") is not None:
        return aliased(item.copy(), item.meta["was"])
    return item
