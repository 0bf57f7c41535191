"""The columns of what is gathered from an inner query: their names, their types, what is grouped by."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from shard.errors import not_supported
from shard.planner import fragment as writing
from shard.planner import functions
from shard.planner.aggregates import SPREAD, is_aggregate
from shard.planner.context import Context
from shard.planner.names import item_named
from shard.planner.needs import expand_areas, item_names
from shard.planner.outputs import output_name
from shard.planner.partials import grouping
from shard.planner.plan import Sql
from shard.planner.scope import from_items
from shard.planner.stand_ins import without_alias
from shard.planner.templates import fill


def plain_name(name: str) -> str:
    """Return a name without blanks and quotes, in lower case."""
    return "".join(name.split()).replace("`", "").lower()


def different_names(select: exp.Select, wanted: dict[str, str]) -> list[str]:
    """Return the column names of an inner SELECT, repeated ones made different."""
    names: list[str] = []
    for index, item in enumerate(select.expressions):
        name = output_name(item)
        if not isinstance(item, (exp.Alias, exp.Column)):
            name = wanted.get(plain_name(name), f"c{index}")
        names.append(name if name.lower() not in {n.lower() for n in names} else f"{name} {index}")
    return names


def group_items(select: exp.Select, context: Context | None) -> list[exp.Expression]:
    """Return the expressions of GROUP BY, its positions and the names of select items replaced by what they mean.

    As for MariaDB, a name is a column of FROM's if one of its tables has it, and else a select item's; `context` is
    None where FROM's tables are not known.

    Raises
    ------
    SkyError
        1235 for a position that is none, and a name that could mean either.
    """
    group = select.args.get("group")
    if group is None:
        return []
    tables = None if context is None else [item_names(node, context) for node, _ in from_items(select)]
    out: list[exp.Expression] = []
    for node in group.expressions:
        if isinstance(node, exp.Literal) and str(node.this).isdigit():
            index = int(str(node.this))
            if not 1 <= index <= len(select.expressions):
                raise not_supported("this position in GROUP BY")
            out.append(without_alias(select.expressions[index - 1]))
        else:
            item = _item_named(node, select)
            kept = item is None or _is_from_column(node, item, tables)
            out.append(node.copy() if item is None or kept else item.copy())
    return out


def _item_named(node: exp.Expression, select: exp.Select) -> exp.Expression | None:
    """Return the select item that a bare name is the name of."""
    if not isinstance(node, exp.Column) or node.table:
        return None
    return item_named(node.name, select.expressions)


def _is_from_column(
    node: exp.Expression, item: exp.Expression, tables: Sequence[frozenset[str] | None] | None
) -> bool:
    """Whether a name that a select item has is first of all a column of one table of FROM."""
    name = node.name.lower()
    if tables is not None and None not in tables:
        return sum(name in names for names in tables if names is not None) == 1
    if isinstance(item, exp.Column) and item.name.lower() == name:
        return False  # it is the same
    raise not_supported(
        f"GROUP BY '{node.name}', which names a select item and perhaps a column",
        "group by what it stands for",
    )


def grouped_by(select: exp.Select, context: Context) -> exp.Expression | None:
    """Return a GROUP BY of what a SELECT groups by; None if it does not."""
    items = group_items(select, context)
    return grouping(items) if items else None


def types_of(source: exp.Select, columns: Sequence[str], context: Context) -> Sql:
    """Return the SELECT that gives a gathered table its types: all columns nullable, never a row."""
    copied = source.copy()
    for select in copied.find_all(exp.Select):
        expand_areas(select, context)
    inner = functions.rewrite(copied, context.values)
    one = exp.Subquery(
        this=exp.Select(expressions=[fill(1)]),
        alias=exp.TableAlias(this=exp.to_identifier("one", quoted=True)),
    )
    rows = exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier("part", quoted=True)))
    outer = exp.Select(
        expressions=[
            exp.Column(
                this=exp.to_identifier(name, quoted=True), table=exp.to_identifier("part", quoted=True)
            )
            for name in columns
        ]
    )
    outer.set("from_", exp.From(this=one))
    outer.set("joins", [exp.Join(this=rows, side="LEFT", on=exp.Boolean(this=False))])
    return writing.logical(outer)


def spread_of(select: exp.Select, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns that are deviations or variances."""
    items = [item.this if isinstance(item, exp.Alias) else item for item in select.expressions]
    return tuple(
        name
        for item, name in zip(items, columns, strict=True)
        if is_aggregate(item) and item.name.lower() in SPREAD
    )
