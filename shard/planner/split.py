"""Splits a chunk-local SELECT into a fragment for every chunk and, if needed, a merge of partials.

The fragment and the merge are trees over the *logical* tables; `fragment` puts in chunk tables.
`partials` writes aggregates and keys over the merge table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from shard.catalog.naming import SCRATCH_DATABASE
from shard.errors import not_supported
from shard.planner.aggregates import has_aggregate, is_aggregate
from shard.planner.branches import is_star, own_nodes, sharing
from shard.planner.constants import Value, integer, is_constant
from shard.planner.context import Bound
from shard.planner.locality import Layout, group_links
from shard.planner.names import Names, bare_item
from shard.planner.ordered import EVERY, FEW, ordered
from shard.planner.outputs import check_windows
from shard.planner.partials import MERGE_TABLE, Merger, Partials, grouping, own_calls
from shard.planner.plan import Everywhere, Ordered
from shard.planner.scope import Scope
from shard.planner.spelling import own_names
from shard.planner.stand_ins import ALL_ROWS
from shard.planner.templates import fill, use
from shard.planner.volatile import varies


@dataclass(slots=True)
class Draft:
    """The fragment as a tree, the merge as a tree, and what the proxy does itself.

    Attributes
    ----------
    fragment : Select
        What each chunk is asked.
    merge : Select or None
        What makes the answer of the partial results; None: the rows of chunks are the answer.
    width : int
        Columns of the partial results.
    limit, skip : int or None, int
        Rows wanted and rows to pass over, where the proxy counts them.
    whole : Select or None
        The statement itself, to ask the one chunk that has all its rows; None if it cannot be asked of one chunk.
    ordered : Ordered or None
        Alternative to a merge that only sorts.
    never : bool
        No row is wanted: no chunk is asked.
    """

    fragment: exp.Select
    merge: exp.Select | None = None
    width: int = 0
    limit: int | None = None
    skip: int = 0
    layout: Layout | None = None
    scope: Scope | None = None
    whole: exp.Select | None = None
    ordered: Ordered | None = None
    never: bool = False


def split(
    select: exp.Select,
    scope: Scope,
    layout: Layout,
    values: Sequence[Value],
    default_limit: int | None,
    explicit: bool = False,
    streams: bool = False,
) -> Draft:
    """Return the draft of a SELECT whose work is chunk-local.

    Parameters
    ----------
    select : Select
        The statement, with native functions; it is not changed.
    default_limit : int or None
        The session's sql_select_limit, for a statement without LIMIT.
    explicit : bool
        The rows fill a table: no ``*`` may stay.
    streams : bool
        Its rows go to the client, and may be merged from sorted streams.
    """
    splitter = _Splitter(select, scope, layout, values, default_limit)
    splitter.explicit = explicit or layout.neighbours is not None
    splitter.streams = streams and layout.neighbours is None and layout.partner is None
    return splitter.draft()


class _Splitter(Names):
    """One statement's split; the methods are its cases."""

    def __init__(
        self,
        select: exp.Select,
        scope: Scope,
        layout: Layout,
        values: Sequence[Value],
        default_limit: int | None,
    ) -> None:
        super().__init__(select, scope)
        self.layout, self.values = layout, values
        self.limit, self.skip = self._limits(default_limit)
        order = select.args.get("order")
        self.order: list[exp.Expression] = list(order.expressions) if order is not None else []
        group = select.args.get("group")
        self.rollup = bool(group is not None and group.args.get("rollup"))
        self.having = select.args["having"].this if select.args.get("having") is not None else None
        self.distinct = select.args.get("distinct") is not None
        if group is not None:
            self.groups = [self.group_item(item) for item in group.expressions]
        self.partials = Partials(scope)
        self.explicit = self.streams = False

    def _limits(self, default_limit: int | None) -> tuple[int | None, int]:
        limit, offset = self.select.args.get("limit"), self.select.args.get("offset")
        count = default_limit if limit is None else integer(limit.expression, self.values)
        skip = 0 if offset is None else integer(offset.expression, self.values)
        if (limit is not None and count is None) or skip is None:
            raise not_supported("LIMIT of anything but numbers")
        return None if count is None else count & ALL_ROWS, skip & ALL_ROWS  # a parameter is read as unsigned

    def draft(self) -> Draft:
        expressions = [*self.items, *self.order, *([self.having] if self.having is not None else [])]
        aggregated = bool(self.groups) or any(has_aggregate(item) for item in expressions)
        windows = own_nodes(self.select, exp.Window)
        if windows:
            check_windows(self.select, Bound(self.scope, self.layout, Everywhere()))
        if self.select.args.get("operation_modifiers"):
            raise not_supported("SQL_CALC_FOUND_ROWS in pieces")
        if self.having is not None and not aggregated:
            raise not_supported("HAVING without GROUP BY or aggregates", "use WHERE")
        across = aggregated and not self._local_groups()
        if across or self.order or (self.distinct and not self._local_distinct()):
            self._check_varying()
            if across and windows:
                raise not_supported("window functions over groups that span chunks")
            draft = self._aggregate() if across else self._sorted()
        else:
            draft = self._plain()
        draft.fragment.set("locks", None)
        draft.layout, draft.scope, draft.never = self.layout, self.scope, self.limit == 0
        if draft.merge is not None and self.streams and not (aggregated or windows or self.distinct):
            draft.ordered = self._ordered()
        if draft.merge is not None and self._asks_one_chunk():
            draft.whole = self.select  # the fragment of a merge is a copy
            draft.whole.set("locks", None)
        return draft

    def _check_varying(self) -> None:
        """Refuse values that vary (RAND()) in two places: partials know expressions by their spelling, and would have them equal."""
        varying = [self.key(bare_item(item)) for item in self.items if varies(item)]
        if not varying:
            return
        again = [self.inside(item.this, "ORDER BY") for item in self.order if not self._is_item(item.this)]
        if self.having is not None:
            again.append(self._having(self.having))
        if len(set(varying)) < len(varying) or any(map(varies, again)):
            raise not_supported("values that vary with each evaluation in two places")

    def _is_item(self, node: exp.Expression) -> bool:
        """Whether what is ordered by is the value of a select item, by position or name."""
        return isinstance(node, (exp.Literal, exp.Column))

    def _asks_one_chunk(self) -> bool:
        """Whether one chunk can answer the whole statement, if no other has rows of it.

        Not if it is split within the chunk, or if the session's sql_select_limit ends it. MariaDB forgets the
        OFFSET of a SELECT DISTINCT where a table of one row makes all its columns constants.
        """
        if self.layout.partner is not None or self.layout.neighbours is not None:
            return False
        limited = self.limit is not None and self.select.args.get("limit") is None
        return not limited and not (self.distinct and self.skip)

    def _is_chunk_key(self, node: exp.Expression) -> bool:
        """Whether equal values of an expression lie in one chunk: the anchor's director key."""
        if isinstance(node, exp.Alias):
            node = node.this
        ref = self.scope.owner(node)
        if ref is None or ref.nullable or self.layout.partner is not None:
            return False
        return any(column == node.name.lower() for _, column in group_links(ref, self.layout))

    def _local_groups(self) -> bool:
        return bool(self.groups) and not self.rollup and any(self._is_chunk_key(item) for item in self.groups)

    def _local_distinct(self) -> bool:
        return any(self._is_chunk_key(item) for item in self.items)

    def _reach(self) -> int | None:
        return None if self.limit is None else min(self.limit + self.skip, ALL_ROWS)

    def _plain(self) -> Draft:
        """Rows need no merge: they are forwarded as chunks commit."""
        fragment = self.select
        fragment.set("order", None)
        if self.explicit and any(is_star(item) for item in self.items):
            fragment.set("expressions", [item.copy() for item in self.expand_stars()])
        _set_limit(fragment, self._reach())
        return Draft(fragment, limit=self.limit, skip=self.skip)

    def _sorted(self) -> Draft:
        """Order, or make distinct, rows that are otherwise final."""
        self.items = self.expand_stars()
        keys = [(self.order_item(item.this), bool(item.args.get("desc"))) for item in self.order]
        columns = [self.partials.add(bare_item(item)) for item in self.items]
        visible = len(self.partials.expressions)
        order = [(self.partials.add(key), descending) for key, descending in keys]
        if self.distinct and len(self.partials.expressions) > visible:  # it would be of the hidden ones, too
            raise not_supported("SELECT DISTINCT with ORDER BY of an expression that is not selected")
        fragment = sharing(self.select)
        fragment.set("expressions", self.partials.select())
        if self.groups:  # positions and aliases of the user's select list mean nothing in this one
            fragment.set("group", grouping(self.groups, self.partials))
        if self.having is not None:
            fragment.set("having", exp.Having(this=self._having(self.having)))
        fragment.set("limit", None)
        fragment.set("offset", None)
        if self.limit is not None and keys:
            # By position: of a DISTINCT ordered by an expression that it selects, the server loses rows at a LIMIT.
            varying = [
                _ordered(fill(self.partials.place(key)), down) for key, down in keys if not is_constant(key)
            ]
            fragment.set("order", exp.Order(expressions=varying) if varying else None)
        else:
            fragment.set("order", None)
        _set_limit(fragment, self._reach())
        merge = self._merge_select(columns, order)
        if self.distinct and not self._local_distinct():
            merge.set("distinct", exp.Distinct())
        return Draft(fragment, merge, len(self.partials.expressions))

    def _ordered(self) -> Ordered | None:
        """Return how rows come sorted from every chunk; None if few are wanted, or they cannot be compared here."""
        reach, limit = self._reach(), self.limit
        if reach is not None and reach <= FEW:
            return None
        if varies(self.select):  # a chunk that is run again would have other rows
            return None
        if reach is not None and reach > EVERY:  # OFFSET cannot be written without a LIMIT
            reach = limit = None
        keys = [(self.order_item(item.this), bool(item.args.get("desc"))) for item in self.order]
        found = ordered(self.items, keys, self.scope)
        if found is None:
            return None
        items, order, sort_keys = found
        fragment = sharing(self.select)
        fragment.set("expressions", items)
        fragment.set("order", exp.Order(expressions=order))
        fragment.set("locks", None)
        _set_limit(fragment, reach)
        draft = Draft(fragment, layout=self.layout, scope=self.scope)
        return Ordered(sort_keys, len(items) - len(self.items), limit, self.skip, draft)

    def _aggregate(self) -> Draft:
        """Groups may span chunks: partial aggregates, merged per group."""
        self.items = self.expand_stars()
        if self.distinct and self.order:
            self._distinct_order_check()
        keys = [(self.order_item(item.this), bool(item.args.get("desc"))) for item in self.order]
        groups = [(self.key(item), self.partials.add(item)) for item in self.groups]
        texts = dict(groups)
        if self.rollup:
            # 'a' stands for 'A', too: the server finds those.
            if any(is_constant(item) for item in self.groups):
                raise not_supported("WITH ROLLUP of a constant")
            selected = [self.key(bare_item(item)) for item in self.items]
            if any(selected.count(text) > 1 for text in texts) or len(groups) > len(texts):
                raise not_supported("WITH ROLLUP of a column that is selected or grouped by twice")
        additive = self._distincts_are_additive([*self.items, *(key for key, _ in keys)])
        # Groups with distinct values are kept in a table only to be sorted by something else.
        distinct = self._distinct_calls([*self.items, *(key for key, _ in keys)])
        sorted_so = all(self.key(key) in texts for key, _ in keys)
        stored = bool(self.groups) and not (distinct and sorted_so)
        merger = Merger(self.partials, self.select, self.groups, texts, bool(self.rollup), additive, stored)
        columns = [merger.over(bare_item(item)) for item in self.items]
        having = None if self.having is None else merger.over(self._having(self.having), having=True)
        order = [(merger.over(key), down) for key, down in keys]
        if self.rollup:
            self._rollup_check(merger.rest)
        if not self.partials.expressions:
            self.partials.add(fill(1))
        fragment = sharing(self.select)
        for key in ("order", "limit", "offset", "having", "distinct"):
            fragment.set(key, None)
        fragment.set("expressions", self.partials.select())
        grouped = [*self.groups, *merger.extra_groups]
        fragment.set("group", grouping(grouped, self.partials) if grouped else None)
        if not grouped and merger.any_value:
            fragment.set("having", exp.Having(this=use("COUNT(*) > 0")))
        merge = self._merge_select(columns, order)
        if groups:
            merge.set(
                "group", exp.Group(expressions=[column.copy() for _, column in groups], rollup=self._rollup())
            )
        if having is not None:
            merge.set("having", exp.Having(this=having))
        if self.distinct:
            merge.set("distinct", exp.Distinct())
        if merger.shifts:
            merger.add_shifts(merge, [column for _, column in groups])
        return Draft(fragment, merge, len(self.partials.expressions))

    def _rollup(self) -> list[exp.Expression] | None:
        return [exp.Rollup()] if self.rollup else None

    def _rollup_check(self, rest: Sequence[exp.Expression]) -> None:
        """Refuse columns that may be what is grouped by, in words that are not known again: in totals those are NULL."""
        inside = {
            self.key(column) for item in self.groups if not isinstance(item, exp.Column)
            for column in own_names(item) if isinstance(column, exp.Column)
        }  # fmt: skip
        for column in [*rest, *(item for item in self.groups if isinstance(item, exp.Column))]:
            if self.scope.owner(column) is None or self.key(column) in inside:
                raise not_supported(f"the name '{column.name}' beside WITH ROLLUP")

    def _distinct_order_check(self) -> None:
        selected = {self.key(bare_item(item)) for item in self.items}
        if any(self.key(self.order_item(item.this)) not in selected for item in self.order):
            raise not_supported("SELECT DISTINCT with ORDER BY of an expression that is not selected")

    def _having(self, node: exp.Expression) -> exp.Expression:
        return self.inside(node, "HAVING")

    def _distincts_are_additive(self, expressions: list[exp.Expression]) -> bool:
        """Whether every COUNT(DISTINCT …) counts keys that no two chunks share, so that counts add up.

        One that is not makes the fragment group finer, and then no count of distinct values adds up.
        """
        return not self.rollup and all(
            call.name.lower() == "count"
            and any(self._is_chunk_key(item) for item in call.expressions[0].expressions)
            for call in self._distinct_calls(expressions)
        )

    def _distinct_calls(self, expressions: list[exp.Expression]) -> list[exp.Expression]:
        """Return the aggregates of distinct values in these expressions and HAVING."""
        if self.having is not None:
            expressions = [*expressions, self.having]
        return [
            call for item in expressions for call in own_calls(item)
            if is_aggregate(call) and len(call.expressions) == 1 and isinstance(call.expressions[0], exp.Distinct)
            and call.name.lower() not in ("min", "max")
        ]  # fmt: skip

    def _merge_select(
        self, columns: list[exp.Expression], order: list[tuple[exp.Expression, bool]]
    ) -> exp.Select:
        merge = exp.Select(expressions=columns)
        table = exp.Table(
            this=exp.to_identifier(MERGE_TABLE, quoted=True),
            db=exp.to_identifier(SCRATCH_DATABASE, quoted=True),
        )
        merge.set("from_", exp.From(this=table))
        if order:
            merge.set("order", exp.Order(expressions=[_ordered(key, down) for key, down in order]))
        _set_limit(merge, self.limit, self.skip)
        return merge


def _ordered(node: exp.Expression, descending: bool) -> exp.Expression:
    return exp.Ordered(this=node, desc=descending)


def _set_limit(select: exp.Select, limit: int | None, skip: int = 0) -> None:
    select.set("limit", None)
    select.set("offset", None)
    if limit is not None:
        select.set("limit", exp.Limit(expression=fill(limit)))
        if skip:
            select.set("offset", exp.Offset(expression=fill(skip)))
    elif skip:
        select.set("limit", exp.Limit(expression=fill(ALL_ROWS)))
        select.set("offset", exp.Offset(expression=fill(skip)))
