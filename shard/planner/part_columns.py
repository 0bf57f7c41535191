"""The columns of what is gathered from an inner query: their names, their types, what is grouped by."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from shard.errors import not_supported
from shard.planner import fragment as writing
from shard.planner import functions
from shard.planner.aggregates import SPREAD, is_aggregate
from shard.planner.context import Context
from shard.planner.needs import expand_areas
from shard.planner.outputs import output_name
from shard.planner.plan import Sql
from shard.planner.split import grouping
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


def group_items(select: exp.Select) -> list[exp.Expression]:
    """Return the expressions of GROUP BY, its positions and aliases replaced by what they mean."""
    group = select.args.get("group")
    if group is None:
        return []
    aliases = {item.alias.lower(): item.this for item in select.expressions if isinstance(item, exp.Alias)}
    out: list[exp.Expression] = []
    for node in group.expressions:
        if isinstance(node, exp.Literal) and str(node.this).isdigit():
            index = int(str(node.this))
            if not 1 <= index <= len(select.expressions):
                raise not_supported("this position in GROUP BY")
            out.append(without_alias(select.expressions[index - 1]))
        elif isinstance(node, exp.Column) and not node.table and node.name.lower() in aliases:
            out.append(aliases[node.name.lower()].copy())
        else:
            out.append(node.copy())
    return out


def grouped_by(select: exp.Select) -> exp.Expression | None:
    """Return a GROUP BY of what a SELECT groups by; None if it does not."""
    items = group_items(select)
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
