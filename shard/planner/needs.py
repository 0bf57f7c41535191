"""What a SELECT needs of the tables in its FROM: which columns, which rows, which names from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlglot import exp

from shard.catalog.model import Kind
from shard.errors import not_supported
from shard.planner.aggregates import has_aggregate
from shard.planner.branches import bare, is_query, is_star, own_nodes, own_queries
from shard.planner.constants import conjuncts, has_no_groups, integer, is_never
from shard.planner.context import Context
from shard.planner.emit import excerpt
from shard.planner.outputs import output_name
from shard.planner.scope import column_names, from_items, lookup
from shard.planner.volatile import VOLATILE


def closed(select: exp.Select, outer: tuple[object, ...], context: Context) -> bool:
    """Whether every column of a SELECT is one of its own tables' (or of an enclosing one inside the root)."""
    level: list[tuple[str, frozenset[str]]] = []
    for node, _ in from_items(select):
        names = item_names(node, context)
        if names is None:
            return False
        level.append((node.alias_or_name, names))
    levels = (*outer, level)
    aliases = {item.alias.lower() for item in select.expressions if isinstance(item, exp.Alias)}
    for column in own_nodes(select, exp.Column):
        if isinstance(column, exp.Column) and not (
            _known_name(column, levels) or _is_alias(column, aliases, select)
        ):
            return False
    for inner in own_queries(select):
        body = bare(inner)
        for query in [body] if isinstance(body, exp.Select) else list(body.find_all(exp.Select)):
            if isinstance(query, exp.Select) and not closed(query, levels, context):
                return False
    return True


def _is_alias(column: exp.Column, aliases: set[str], select: exp.Select) -> bool:
    """Whether a column is a select item by its alias, which only the clauses behind the rows know."""
    if column.table or column.name.lower() not in aliases:
        return False
    node: exp.Expr = column
    while node.parent is not None and node.parent is not select:
        node = node.parent
    return node.arg_key in ("group", "having", "order")


def _known_name(column: exp.Column, levels: Sequence[object]) -> bool:
    name, qualifier = column.name.lower(), column.table
    if isinstance(column.this, exp.Star):
        return True
    for level in levels:
        if not isinstance(level, list):
            continue
        for alias, names in level:
            if (not qualifier or qualifier == alias) and name in names:
                return True
    return False


def item_names(node: exp.Expression, context: Context) -> frozenset[str] | None:
    """Return the column names of an item of FROM, or None if they are not known."""
    if isinstance(node, exp.Table) and not node.args.get("joins"):
        found = lookup(node, context.default, context.catalogue)
        return None if found is None else column_names(found[1])
    if not isinstance(node, exp.Subquery) or not is_query(node):
        return None
    body = node.this
    while isinstance(body, (exp.SetOperation, exp.Subquery)):
        body = body.this
    if not isinstance(body, exp.Select):
        return None
    names: set[str] = set()
    for item in body.expressions:
        if not is_star(item):
            names.add(output_name(item).lower())
            continue
        for inner, _ in from_items(body):
            found_names = item_names(inner, context)
            if found_names is None:
                return None
            names |= found_names
    return frozenset(names)


def named(select: exp.Select, alias: str) -> set[str]:
    """Return the lower-case names that a SELECT may read of a table, stars aside."""
    return {
        node.name.lower()
        for node in select.find_all(exp.Column)
        if node.table in ("", alias) and not isinstance(node.this, exp.Star)
    } | {name.name.lower() for join in select.find_all(exp.Join) for name in join.args.get("using") or ()}


def columns_named(select: exp.Select, alias: str) -> set[str] | None:
    """Return the names that a SELECT may read of a table, or None for all (a star, a natural join)."""
    for item in select.expressions:
        if isinstance(item, exp.Star):
            return None
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star) and item.table == alias:
            return None
    if any(join.args.get("method") for join in select.find_all(exp.Join)):
        return None
    return named(select, alias)


def compared(select: exp.Select, alias: str) -> set[str]:
    """Return the columns of a table that are compared with other columns."""
    names: set[str] = set()
    for node in select.find_all(exp.EQ):
        if isinstance(node.this, exp.Column) and isinstance(node.expression, exp.Column):
            names |= {side.name.lower() for side in (node.this, node.expression) if side.table in ("", alias)}
    return names


def own_filters(node: exp.Table, select: exp.Select, alias: str, context: Context) -> list[exp.Expression]:
    """Return the conditions on a table alone that every row that can reach the answer satisfies."""
    others = [item_names(item, context) for item, _ in from_items(select) if item is not node]
    found = lookup(node, context.default, context.catalogue)
    own = column_names(found[1]) if found is not None else frozenset()

    def is_own(column: exp.Expression) -> bool:
        if isinstance(column, exp.Column) and column.table:
            return column.table == alias and column.name.lower() in own
        name = column.name.lower()
        return name in own and all(names is not None and name not in names for names in others)

    conditions = _on_rows(node, select)
    return [item for item in conditions if _is_filter(item) and all(map(is_own, item.find_all(exp.Column)))]


def has_no_rows(query: exp.Expression, context: Context) -> bool:
    """Whether LIMIT 0 ends a query before its first row, or HAVING is never true."""
    limit = query.args.get("limit")
    if limit is not None and integer(limit.expression, context.values) == 0:
        return True
    return isinstance(query, exp.Select) and has_no_groups(query, context.values)


def is_useless(node: exp.Expression, select: exp.Select, context: Context) -> bool:
    """Whether no row of an item of FROM can reach the answer: a condition that it must satisfy is never true."""
    return any(is_never(item, context.values) for item in _on_rows(node, select))


def _on_rows(node: exp.Expression, select: exp.Select) -> list[exp.Expression]:
    """Return the conditions that are true of every useful row of a table, joined with rows of others."""
    items = list(from_items(select))
    nullable = _nullable(items)
    index = next((i for i, (item, _) in enumerate(items) if item is node), None)
    if node.args.get("joins"):  # one of its own joins may keep rows of others without it
        return []
    if index is None or (select.args.get("having") is not None and not has_aggregate(select.args["having"])):
        return []
    conditions: list[exp.Expression] = []
    if not nullable[index]:
        if select.args.get("where") is not None:
            conditions += conjuncts(select.args["where"].this)
        if not any(nullable):
            conditions += [c for _, join in items if join is not None for c in conjuncts(join.args.get("on"))]
    join = items[index][1]
    if nullable[index] and join is not None and str(join.args.get("side") or "").upper() == "LEFT":
        conditions += conjuncts(join.args.get("on"))
    if join is not None and len(items) == 2 and str(join.args.get("side") or "").upper() != "RIGHT":
        first, second = (item.alias_or_name for item, _ in items)
        for name in join.args.get("using") or ():
            pair = [exp.column(name.name, table=table, quoted=True) for table in (second, first)]
            conditions.append(exp.EQ(this=pair[0], expression=pair[1]))
    return conditions


def listed(node: exp.Table, select: exp.Select, alias: str, context: Context) -> list[exp.Expression]:
    """Return conditions that only rows with a partner in a user's own table satisfy: ``column IN (SELECT column FROM own)``.

    Both columns are qualified; the own table stands in the same FROM, or in that of a query around.
    """
    found = lookup(node, context.default, context.catalogue)
    known = column_names(found[1]) if found is not None else frozenset()
    tied: list[exp.Expression] = []
    for item in _on_rows(node, select):
        if not isinstance(item, exp.EQ):
            continue
        for mine, other in ((item.this, item.expression), (item.expression, item.this)):
            if not isinstance(mine, exp.Column) or not isinstance(other, exp.Column) or not other.table:
                continue
            if mine.table == alias and mine.name.lower() in known and other.table != alias:
                table = _own_table(other, select, context)
                if table is not None:
                    values = exp.Select(expressions=[exp.column(other.name, table=other.table, quoted=True)])
                    values.set("from_", exp.From(this=table))
                    tied.append(exp.In(this=mine.copy(), query=exp.Subquery(this=values)))
    return tied


def _own_table(column: exp.Column, select: exp.Select, context: Context) -> exp.Table | None:
    """Return the user's own table that a column belongs to, as an item of a FROM; None if it is no such."""
    level: exp.Expr | None = select
    while level is not None:
        for item, _ in from_items(level) if isinstance(level, exp.Select) else ():
            if item.alias_or_name != column.table:
                continue
            found = lookup(item, context.default, context.catalogue) if isinstance(item, exp.Table) else None
            if (
                found is None
                or found[1].kind is not Kind.OWN
                or column.name.lower() not in column_names(found[1])
            ):
                return None
            return exp.Table(
                this=exp.to_identifier(found[1].name, quoted=True),
                db=exp.to_identifier(found[0].name, quoted=True),
                alias=exp.TableAlias(this=exp.to_identifier(column.table, quoted=True)),
            )
        level = level.parent
    return None


def _nullable(items: Sequence[tuple[exp.Expression, exp.Join | None]]) -> list[bool]:
    """Return for every item of FROM whether an outer join may make its columns NULL."""
    flags = [False]
    for _, join in items[1:]:
        side = str(join.args.get("side") or "").upper() if join is not None else ""
        if side in ("RIGHT", "FULL"):
            flags = [True] * len(flags)
        flags.append(side in ("LEFT", "FULL"))
    return flags


def _is_filter(item: exp.Expression) -> bool:
    """Whether a condition reads columns, gives the same each time, and holds no query."""
    if not any(True for _ in item.find_all(exp.Column)):
        return False
    for node in item.walk():
        if is_query(node) or isinstance(node, exp.Window):
            return False
        if isinstance(node, exp.Anonymous) and node.name.lower() in VOLATILE:
            return False
    return True


def area_calls(select: exp.Select) -> list[exp.Anonymous]:
    """Return the qserv_areaspec_* calls of a SELECT."""
    return [
        call
        for call in own_nodes(select, exp.Anonymous)
        if isinstance(call, exp.Anonymous) and call.name.lower().startswith("qserv_areaspec_")
    ]


def area_positions(select: exp.Select, context: Context) -> list[tuple[exp.Expression, exp.Expression]]:
    """Return longitude and latitude of every sharded table that the areas of a SELECT restrict."""
    positions: list[tuple[exp.Expression, exp.Expression]] = []
    for node, outer in _joined(list(from_items(select))):
        found = lookup(node, context.default, context.catalogue) if isinstance(node, exp.Table) else None
        if found is None or outer or not found[1].is_sharded:
            continue
        lon, lat = found[1].longitude, found[1].latitude
        if lon and lat:
            alias = node.alias_or_name
            positions.append(
                (exp.column(lon, table=alias, quoted=True), exp.column(lat, table=alias, quoted=True))
            )
    return positions


def _joined(items: list[tuple[exp.Expression, exp.Join | None]]) -> Iterator[tuple[exp.Expression, bool]]:
    """Yield the items of a FROM, those in parentheses too, with whether an outer join may make them NULL."""
    for (node, _), outer in zip(items, _nullable(items), strict=True):
        inner = node.this if isinstance(node, exp.Subquery) and not node.alias else None
        if isinstance(inner, (exp.Table, exp.Subquery)):
            joins = [*(inner.args.get("joins") or ()), *(node.args.get("joins") or ())]
            yield from ((n, outer or o) for n, o in _joined([(inner, None), *((j.this, j) for j in joins)]))
        else:
            yield node, outer


def expand_areas(select: exp.Select, context: Context) -> None:
    """Replace qserv_areaspec_* of a SELECT that is gathered by point tests on its positioned tables."""
    calls = area_calls(select)
    if not calls:
        return
    from shard.planner.restrict import AREA

    positions = area_positions(select, context)
    for call in calls:
        function = AREA.get(call.name.lower())
        if function is None or not positions:
            raise not_supported(
                f"{excerpt(call)} on tables without positions", "test columns by scisql_s2PtIn…"
            )
        tests: list[exp.Expression] = []
        for lon, lat in positions:
            arguments = [lon.copy(), lat.copy(), *(item.copy() for item in call.expressions)]
            tests.append(exp.Anonymous(this=function, expressions=arguments))
        joined = tests[0]
        for test in tests[1:]:
            joined = exp.And(this=joined, expression=test)
        call.replace(exp.Paren(this=joined))
