"""The planner: a statement and the catalogue in, a plan out, without IO.

Read `plan_select` to know its passes; each is a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from shard.catalog.model import Kind, Table
from shard.catalog.naming import SCRATCH_DATABASE
from shard.errors import not_supported
from shard.geometry.regions import Circle
from shard.planner import fragment as writing
from shard.planner import functions
from shard.planner.branches import find
from shard.planner.conditions import demanded
from shard.planner.constants import conjuncts
from shard.planner.context import Context
from shard.planner.keyed import Keyed, keyed_tables, list_of_keys
from shard.planner.locality import Layout
from shard.planner.needs import expand_areas
from shard.planner.nested import STORED_AS, arrays_of_joined_rows, bind, shipped_name
from shard.planner.notes import noted
from shard.planner.plan import (
    AllOf,
    AnyOf,
    ByKey,
    Fragment,
    InChunks,
    InRegion,
    Merge,
    Ordered,
    PartialType,
    Plan,
    Restriction,
    Ship,
    Sql,
    Strategy,
)
from shard.planner.scope import Scope, catalogue_tables, read_scope
from shard.planner.split import Draft, split
from shard.planner.volatile import refuse_seeded
from shard.wire.protocol import NOT_FIXED

_WHOLE = frozenset({"floor", "ceil", "ceiling"})
"""Functions that make integers of DECIMALs, if those are not too long."""
INTERACTIVE_RADIUS_DEG = 1.0
"""A query in a circle of at most this radius reads few chunks, and need not wait behind scans."""


def plan_select(
    tree: exp.Select,
    context: Context,
    default_limit: int | None,
    native: Sql | None = None,
    tables: tuple[tuple[str, Table], ...] | None = None,
    streams: bool = False,
) -> Plan:
    """Return the plan of a SELECT whose work is chunk-local; the tree is changed.

    Its rows may come as merged streams if they go to the client (`streams`).

    The passes: names, inner queries, layout and restriction (`bind`) → native functions → split → plan.

    Raises
    ------
    SkyError
        1235 if it is not chunk-local.
    """
    values = context.values
    if tree.find(exp.With) is not None:
        raise not_supported("WITH RECURSIVE")
    if tables is None:
        tables = catalogue_tables(tree, context.default, context.catalogue)
    if native is None:
        native = _own_native(tree, context)
    refuse_seeded(tree)
    arrays_of_joined_rows(tree)
    bound = bind(tree, context)
    where = conjuncts(tree.args["where"].this if tree.args.get("where") is not None else None)
    inner = [*where, *(part for item in bound.scope.conditions for part in conjuncts(item))]
    restriction = bound.restriction
    scope, layout = bound.scope, bound.layout
    certain = [*where, *(part for item in scope.certain for part in conjuncts(item))]
    keyed = keyed_tables(tree, bound, certain, context)
    layout = replace(layout, keyed=tuple(use.alias for use in keyed if use.alias is not None))
    keys = list_of_keys(certain, scope, layout, values)
    if functions.uses_functions(tree):
        filters = frozenset(id(call) for call in map(demanded, inner) if call is not None)
        tree = _as_select(functions.rewrite(tree, values, filters))
        scope = read_scope(tree, context.default, context.catalogue)
        layout = _same_layout(layout, scope)
    ships = (*_ships(tree, layout, tables), *_split_by_key(keyed))
    draft = split(
        tree, scope, layout, values, default_limit, context.explicit, streams and not _routes(restriction)
    )
    _merge_reads_replicated(draft, context)
    plan = replace(_plan(native, tables, scope, draft, restriction), ships=ships, keys=keys)
    if draft.ordered is not None:
        plan = replace(plan, ordered=draft.ordered, strategy=Strategy.SCATTER_SORT)
    return plan


def _merge_reads_replicated(draft: Draft, context: Context) -> None:
    """Refuse a merge that reads other tables than replicated ones.

    A service connection may not see users' own, and has no rows of sharded ones.
    """
    if draft.merge is not None:
        for _, table in catalogue_tables(draft.merge, context.default, context.catalogue):
            if table.kind is Kind.OWN:
                raise not_supported(f"your own table '{table.name}' in what is done with merged rows")
            if table.is_sharded:
                raise not_supported(f"table '{table.name}' in what is done with merged rows")


def _ships(tree: exp.Select, layout: Layout, tables: tuple[tuple[str, Table], ...]) -> tuple[Ship, ...]:
    """Return the users' own tables that go to the workers."""
    names = [
        node.meta[STORED_AS][1]
        for node in find(tree, exp.Table)
        if (noted(node, STORED_AS) or ("",))[0] == SCRATCH_DATABASE
    ]
    out: list[Ship] = []
    neighbours = layout.neighbours
    for database, table in tables:
        if table.kind is not Kind.OWN:
            continue
        target = shipped_name(database, table.name)
        uses = names.count(target)
        if neighbours is not None and neighbours.own_position is not None:
            anchor = neighbours.anchor
            if (anchor.database, anchor.table.name) == (database, table.name):
                split_name = shipped_name(database, table.name, True)
                out.append(Ship(database, table, split_name, (*neighbours.own_position, neighbours.radius)))
                uses -= 1
        if uses:
            out.append(Ship(database, table, target))
    return tuple(out)


def _split_by_key(keyed: Sequence[Keyed]) -> tuple[Ship, ...]:
    """Return the users' own tables that are split by the director index, each once for all its uses."""
    out: dict[str, Ship] = {}
    for use in keyed:
        before = out.get(use.target)
        every = use.key.every and (before is None or before.key is None or before.key.every)
        ship = Ship(use.database, use.table, use.target, key=replace(use.key, every=every))
        out[use.target] = ship
    return tuple(out.values())


def _own_native(tree: exp.Select, context: Context) -> Sql:
    """Return a part's own statement over the logical tables."""
    if not functions.uses_functions(tree):
        return writing.logical(tree)
    copied = tree.copy()
    for select in copied.find_all(exp.Select):
        expand_areas(select, context)
    return writing.logical(functions.rewrite(copied, context.values))


def _plan(
    native: Sql,
    tables: tuple[tuple[str, Table], ...],
    scope: Scope,
    draft: Draft,
    restriction: Restriction,
) -> Plan:
    merge = None
    if draft.merge is not None:
        merge = Merge(_partial(draft.fragment), draft.width, writing.logical(draft.merge))
    routed = _routes(restriction)
    strategy = (
        Strategy.SCATTER_MERGE if merge is not None else Strategy.ROUTED if routed else Strategy.SCATTER
    )
    return Plan(
        strategy=strategy,
        database=scope.database.name,
        native=native,
        tables=tables,
        restriction=restriction,
        merge=merge,
        limit=draft.limit,
        skip=draft.skip,
        interactive=routed or _is_small(restriction),
        never=draft.never,
        draft=draft,
    )


def _partial(fragment: exp.Select) -> Sql:
    """Return the fragment without its order and limit, which are put back: a copy of the tree costs more."""
    if fragment.expressions and fragment.expressions[0].alias != "p0":  # the tables have columns p0…pn
        fragment = fragment.copy()
        fragment.set("having", None)  # in which those names would mean other columns
        for index, item in enumerate(fragment.expressions):
            item.set("alias", exp.to_identifier(f"p{index}", quoted=True))
    held = {key: fragment.args.pop(key, None) for key in ("limit", "offset", "order")}
    try:
        return writing.logical(fragment)
    finally:
        fragment.args.update({key: node for key, node in held.items() if node is not None})


def fragment(plan: Plan, types: Sequence[PartialType] = ()) -> Fragment:
    """Return the SQL that workers run for each chunk; `types` are the partial columns' (second step)."""
    return writing.write(_draft_of(plan), types)


def ordered(plan: Ordered) -> Fragment:
    """Return the SQL that workers run for each chunk whose rows come sorted."""
    return writing.write(_draft_of(plan))


def whole(plan: Plan) -> Fragment | None:
    """Return the SQL that answers a merged statement on the one chunk that has all its rows; None if none does."""
    draft = plan.draft
    if draft is None or draft.whole is None or plan.ships or plan.window is not None:
        return None
    return writing.write(replace(draft, fragment=draft.whole, merge=None))


def shipped(plan: Plan, types: Sequence[PartialType]) -> list[PartialType]:
    """Return the types that the columns of a fragment travel as, from those that they have."""
    return writing.shipped(_draft_of(plan), types)


def merged(plan: Plan, decimals: Sequence[int], integers: Sequence[str]) -> Sql:
    """Return the merge's statement for an answer whose columns have these numbers of decimals (in text) and types.

    MariaDB writes ROUND of a DOUBLE, and STD and VARIANCE of integers and DECIMALs, with a fixed number of
    decimals; the value put together from partial results has all of them, and is rounded here as the
    server would. FLOOR of an average is an integer to the server, and of a sum of sums a DECIMAL: `integers` has SIGNED
    or UNSIGNED for columns of integers, and "" for others.
    """
    written = _draft_of(plan).merge
    if written is None or plan.merge is None:
        raise TypeError("the plan has no merge")
    if len(decimals) != len(written.expressions):
        return plan.merge.statement
    cut = [
        kind if kind and any(call.name.lower() in _WHOLE for call in find(item, exp.Anonymous)) else ""
        for item, kind in zip(written.expressions, integers, strict=True)
    ]
    if all(scale >= NOT_FIXED for scale in decimals) and not any(cut):
        return plan.merge.statement
    tree = written.copy()
    items: list[exp.Expression] = []
    for item, scale, kind in zip(tree.expressions, decimals, cut, strict=True):
        if scale < NOT_FIXED:
            items.append(writing.with_decimals(item, scale))
        else:
            items.append(writing.with_type(item, kind) if kind else item)
    tree.set("expressions", items)
    return writing.logical(tree)


def sorting(merge: Sql) -> Sql:
    """Return a merge's statement that finds its groups by sorting its rows, which is faster if they are many.

    MariaDB looks each row's group up in a temporary table otherwise: of five million rows in two million groups,
    7.6 s beside 4.8 s; of few groups the look-up is faster.
    """
    head = "SELECT "
    if not merge.text.startswith(head):
        raise ValueError("a merge is a SELECT")
    return replace(merge, text=f"{head}SQL_BIG_RESULT {merge.text.removeprefix(head)}")


def _draft_of(plan: Plan | Ordered) -> Draft:
    if plan.draft is None:
        raise TypeError("the plan has no draft")
    return plan.draft


def _as_select(tree: exp.Expression) -> exp.Select:
    if not isinstance(tree, exp.Select):
        raise TypeError("a SELECT stays a SELECT")
    return tree


def _same_layout(layout: Layout, scope: Scope) -> Layout:
    """Return the layout with the tables of a scope that was read again."""
    by = {ref.alias: ref for ref in scope.refs}
    neighbours = layout.neighbours
    if neighbours is not None:
        neighbours = replace(neighbours, anchor=by[neighbours.anchor.alias], near=by[neighbours.near.alias])
    return replace(
        layout,
        anchor=by[layout.anchor.alias],
        owners=tuple(by[ref.alias] for ref in layout.owners),
        partner=None if layout.partner is None else by[layout.partner.alias],
        neighbours=neighbours,
    )


def _routes(restriction: Restriction) -> bool:
    if isinstance(restriction, (ByKey, InChunks)):
        return True
    if isinstance(restriction, AllOf):
        return any(_routes(part) for part in restriction.parts)
    return isinstance(restriction, AnyOf) and all(_routes(part) for part in restriction.parts)


def _is_small(restriction: Restriction) -> bool:
    if isinstance(restriction, AllOf):
        return any(_is_small(part) for part in restriction.parts)
    region = restriction.region if isinstance(restriction, InRegion) else None
    return isinstance(region, Circle) and region.radius <= INTERACTIVE_RADIUS_DEG


__all__ = ["fragment", "merged", "ordered", "plan_select", "shipped", "whole"]
