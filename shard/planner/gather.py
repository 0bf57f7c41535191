"""Plans statements that are not chunk-local: the rows they need are brought home, and run there.

What is moved is as little as can be proved enough: a whole inner query if it can be answered by
itself, else the joined rows of a chunk-local FROM and WHERE, else of every sharded table the columns
that are named and the rows that pass its own filters. The rest of the statement stays as it is.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from sqlglot import exp

from shard.catalog.model import Kind, Table
from shard.catalog.naming import OWNER_COLUMN, SCRATCH_DATABASE, quote
from shard.errors import NOT_SUPPORTED, SkyError, not_supported
from shard.planner import fragment as writing
from shard.planner import functions
from shard.planner.aggregates import aggregates_rows, has_aggregate
from shard.planner.branches import bare, find, is_query, is_star, own_queries
from shard.planner.collected import (
    expanded,
    joins_by_name,
    keep_name,
    owned_columns,
    rename,
    unused,
    upper_queries,
)
from shard.planner.context import Context
from shard.planner.emit import excerpt
from shard.planner.natures import merges
from shard.planner.needs import (
    closed,
    columns_named,
    compared,
    expand_areas,
    has_no_rows,
    is_useless,
    listed,
    named,
    own_filters,
)
from shard.planner.nested import bind, scope_of
from shard.planner.part_columns import different_names, grouped_by, plain_name, spread_of, types_of
from shard.planner.partials import roomy
from shard.planner.plan import Gather, Part, Plan, Sql
from shard.planner.scope import catalogue_tables, column_names, column_places, from_items, lookup
from shard.planner.stand_ins import (
    ALL_ROWS,
    aliased,
    gives_json,
    must_be_stored,
    number_truths,
    stand_in,
    without_alias,
)
from shard.planner.templates import fill
from shard.planner.volatile import varies
from shard.planner.window_names import settle_windows

_NOT_NULL_DATE = re.compile(r"DATE(TIME(\(\d\))?)? NOT NULL", re.IGNORECASE)
_HIDDEN = ("chunkId", "subChunkId", OWNER_COLUMN)
PlanTree = Callable[[exp.Select], Plan]


def gather(tree: exp.Expression, context: Context, plan_tree: PlanTree) -> Gather:
    """Return the gather of a statement that reads sharded tables.

    Parameters
    ----------
    tree : Expression
        The statement, common table expressions inlined; it is changed.
    context : Context
        Names and parameter values.
    plan_tree : callable
        Plans a chunk-local SELECT; raises 1235 if it is none.

    Raises
    ------
    SkyError
        1235 if it can't be gathered either.
    """
    gatherer = _Gatherer(context, plan_tree)
    holder = exp.Paren(this=tree)
    gatherer.query(tree, whole=True)
    tree = holder.this
    tree.pop()
    native = _at_home(tree, context)
    own = any(
        table.kind is Kind.OWN for _, table in catalogue_tables(native, context.default, context.catalogue)
    )
    return Gather(tuple(gatherer.parts), writing.logical(native), own, native)


def in_place(
    select: exp.Select, context: Context, plan_tree: PlanTree
) -> tuple[tuple[Part, ...], exp.Expression]:
    """Return what is gathered for a SELECT whose FROM must stay as it is but for the sharded tables in it.

    Parameters and errors are those of `gather`; the tree to run over the parts comes instead of its text.
    """
    gatherer = _Gatherer(context, plan_tree)
    gatherer.apart(select)
    return tuple(gatherer.parts), _at_home(select, context)


def _at_home(tree: exp.Expression, context: Context) -> exp.Expression:
    """Return a tree as it runs at home: no databases before columns, native functions."""
    if context.sharded(tree):  # it would read the empty table that stands for it
        named = next((node for node in find(tree, exp.Table) if context.sharded(node)), tree)
        raise not_supported(f"sharded table {excerpt(named)} in this place", "read it in a derived table")
    for column in tree.find_all(exp.Column):
        column.set("db", None)
    return functions.rewrite(tree, context.values)


class _Gatherer:
    """Replaces sharded tables by gathered ones, from the outermost query inwards."""

    def __init__(self, context: Context, plan_tree: PlanTree) -> None:
        self.context, self.plan_tree = context, plan_tree
        self.parts: list[Part] = []
        self._known: dict[tuple[str, bool], Part] = {}
        self._names: dict[str, str] | None = None
        self._useless = False  # no row of what is being replaced can be in the answer

    def query(self, node: exp.Expression, whole: bool = False) -> None:
        """Make a query, and those inside, readable at home."""
        if not self.context.sharded(node):
            return
        with self._asking(any(has_no_rows(item, self.context) for item in (node, bare(node)))):
            self._query(node, whole)

    @contextlib.contextmanager
    def _asking(self, useless: bool) -> Iterator[None]:
        """Ask no chunk for what is gathered meanwhile, if it is `useless`."""
        before, self._useless = self._useless, self._useless or useless
        try:
            yield
        finally:
            self._useless = before

    def _query(self, node: exp.Expression, whole: bool) -> None:
        self._expressions(node)
        if (inside := bare(node)) is not node:
            node = inside
            self._expressions(node)
        if isinstance(node, (exp.SetOperation, exp.Subquery)):
            for child in (node.this, node.args.get("expression")):
                if isinstance(child, exp.Expression) and is_query(child):
                    self.query(child)
            for inner in own_queries(node):
                self.query(inner)
        elif isinstance(node, exp.Select):
            self._select(node, whole)

    def _expressions(self, node: exp.Expression) -> None:
        """Make the common table expressions of a query readable at home."""
        for clause in (node.args.get("with_"), node.args.get("with")):
            for item in clause.expressions if clause is not None else ():
                self.query(item.this)

    def _select(self, select: exp.Select, whole: bool) -> None:
        if not whole and self._closed(select) and self._attempt(self._part, select):
            return
        number_truths(select)
        if self._closed(select) and self._attempt(self._collect, select):
            return
        self.apart(select)

    def apart(self, select: exp.Select) -> None:
        """Make the inner queries of a SELECT and the tables of its FROM readable at home."""
        expand_areas(select, self.context)
        self._name_columns(select)
        for inner in own_queries(select):
            self.query(inner)
        for node, _ in from_items(select):
            with self._asking(is_useless(node, select, self.context)):
                self._from(node, select)

    def _name_columns(self, select: exp.Select) -> None:
        """Put columns in place of stars over joins by name: MariaDB sorts rows of such stars that a NOT IN keeps out."""
        if any(map(is_star, select.expressions)) and joins_by_name(select):
            with contextlib.suppress(SkyError):  # then MariaDB reads the star
                select.set("expressions", expanded(select, scope_of(select.copy(), self.context)))
                self._names = None

    @staticmethod
    def _attempt(way: Callable[[exp.Select], None], select: exp.Select) -> bool:
        """Try a way; it raises 1235 before it has changed anything."""
        try:
            way(select)
        except SkyError as error:
            if error.code is not NOT_SUPPORTED:
                raise
            return False
        return True

    def _from(self, node: exp.Expression, select: exp.Select) -> None:
        if isinstance(node, exp.Table):
            for join in node.args.get("joins") or ():
                self._from(join.this, select)
            if self.context.sharded(exp.Table(this=node.this, db=node.args.get("db"))):
                self._table(node, select)
        elif is_query(node):
            self.query(node)
        elif isinstance(node, exp.Subquery):  # a join in parentheses
            self._from(node.this, select)
            for join in node.args.get("joins") or ():
                self._from(join.this, select)

    # whole inner queries -----------------------------------------------------------------------------

    def _closed(self, select: exp.Select) -> bool:
        """Whether a SELECT names nothing from outside of it."""
        return closed(select, (), self.context)

    def _part(self, select: exp.Select) -> None:
        """Answer an inner SELECT by itself and let the statement read its rows."""
        if any(is_star(item) for item in select.expressions):
            raise not_supported("* in a gathered query")
        names = different_names(select, self._wanted_names(select))
        own = select.copy()
        if own.args.get("limit") is None:
            one = aggregates_rows(own)
            if not one or any(
                map(has_aggregate, own.expressions)
            ):  # else only its order says that it is one row
                own.set("order", None)
            if isinstance(select.parent, exp.Exists) and not one and own.args.get("group") is None:
                own.set("limit", exp.Limit(expression=fill(1)))
        plan = self.plan_tree(own.copy())
        schema = own.copy()
        for key in ("order", "limit", "offset", "having", "distinct"):
            schema.set(key, None)
        columns = tuple(f"p{index}" for index in range(len(names)))
        schema.set("group", grouped_by(own, self.context))
        schema.set(
            "expressions",
            [
                aliased(roomy(without_alias(item)), name)
                for item, name in zip(own.expressions, columns, strict=True)
            ],
        )
        part = self._add(
            own,
            plan,
            types_of(schema, columns, self.context),
            columns,
            (),
            (),
            "a subquery",
            spread_of(own, columns),
        )
        items = [
            stand_in(item, column, select) for item, column in zip(own.expressions, columns, strict=True)
        ]
        in_union = isinstance(
            select.parent, exp.SetOperation
        )  # which is stored anyway, and ends its arms itself
        stored = not in_union and not merges(select)
        if stored and not must_be_stored(select):  # MIN and MAX of JSON are JSON only if it is stored
            stored = any(gives_json(item, select) for item in own.expressions)
        _become(select, [aliased(item, name) for item, name in zip(items, names, strict=True)], part)
        if stored:
            select.set("limit", exp.Limit(expression=fill(ALL_ROWS)))

    def _wanted_names(self, select: exp.Select) -> dict[str, str]:
        """Return the names that the statement around uses, by their text without blanks and quotes."""
        if self._names is None:  # once, for a UNION may have hundreds of queries
            names = {column.name for column in select.root().find_all(exp.Column)}
            self._names = {plain_name(name): name for name in names}
        return self._names

    # joined rows of a chunk-local FROM and WHERE -----------------------------------------------------

    def _collect(self, select: exp.Select) -> None:
        """Bring the columns that the upper clauses name, joined and filtered on the workers."""
        if len(list(from_items(select))) < 2:
            raise not_supported("a single table")  # its own columns and rows are the same thing
        probe = select.copy()
        bound = bind(probe, self.context)
        if any(self.context.sharded(query) for query in upper_queries(select)):
            raise not_supported("a subquery in the upper clauses")
        settle_windows(select, bound.scope)
        items = expanded(select, bound.scope)
        upper: list[exp.Expression] = [*items]
        for key in ("group", "having", "order"):
            if select.args.get(key) is not None:
                upper.append(select.args[key])
        upper += select.args.get("windows") or []
        aliases = {item.alias.lower() for item in items if isinstance(item, exp.Alias)}
        needed = owned_columns(upper, bound, aliases)
        prefix = unused("c", select)
        columns = tuple(f"{prefix}{index}" for index in range(max(1, len(needed))))
        nodes = [node.copy() for node in needed.values()] or [fill(1)]
        source = exp.Select(
            expressions=[aliased(node, name) for node, name in zip(nodes, columns, strict=True)]
        )
        for key in ("from_", "joins", "where"):
            value = select.args.get(key)
            copied = [item.copy() for item in value] if isinstance(value, list) else value and value.copy()
            source.set(key, copied)
        plan = self.plan_tree(source.copy())
        part = self._add(
            source, plan, types_of(source, columns, self.context), columns, (), (), "joined rows"
        )
        rename(upper, dict(zip(needed, columns, strict=False)), bound, select)
        select.set("expressions", [keep_name(item) for item in items])
        select.set("from_", exp.From(this=_table_of(part, None)))
        for key in ("joins", "where"):
            select.set(key, None)

    # single tables -----------------------------------------------------------------------------------

    def _table(self, node: exp.Table, select: exp.Select) -> None:
        """Bring a table's columns that are named and its rows that pass its own filters."""
        found = lookup(node, self.context.default, self.context.catalogue)
        if found is None:
            return
        database, table = found
        alias = node.alias or node.name
        known = column_names(table)
        names = columns_named(select, alias)
        if names is None:
            names = named(select, alias) | column_places(table).keys()
        places = column_places(table)
        columns = [table.columns[at].name for at in sorted(places[name] for name in names & places.keys())]
        hidden = [name for name in _HIDDEN if name.lower() in names & known and name not in columns]
        if not columns:  # a table needs a visible one
            columns = [table.key or table.columns[0].name]
        source = exp.Select(
            expressions=[aliased(exp.column(n, table=alias, quoted=True), n) for n in [*columns, *hidden]]
        )
        reference = exp.Table(
            this=exp.to_identifier(table.name, quoted=True),
            db=exp.to_identifier(database.name, quoted=True),
            alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)),
        )
        source.set("from_", exp.From(this=reference))
        for item in own_filters(node, select, alias, self.context):
            _add_where(source, item)
        everything = (*columns, *hidden)
        schema = types_of(source, everything, self.context)
        plan = self._rows_of_lists(source, listed(node, select, alias, self.context))
        worth = compared(select, alias) - _numbered(table)
        keys = tuple(name for name in everything if name.lower() in worth)
        part = self._add(
            source, plan, schema, everything, tuple(hidden), keys, table.name, declared=_dated(table)
        )
        replacement = _table_of(part, alias)
        replacement.set("joins", node.args.get("joins"))
        node.replace(replacement)

    def _rows_of_lists(self, source: exp.Select, lists: list[exp.Expression]) -> Plan:
        """Plan the rows of a table, if it can be only those that users' own tables list; `source` is used up."""
        if not lists:
            return self.plan_tree(source)
        narrow = source.copy()
        for item in lists:
            _add_where(narrow, item)
        try:
            return self.plan_tree(narrow)
        except SkyError as error:
            if error.code is not NOT_SUPPORTED:
                raise
            return self.plan_tree(source)

    def _add(
        self,
        source: exp.Select,
        plan: Plan,
        schema: Sql,
        columns: tuple[str, ...],
        hidden: tuple[str, ...],
        keys: tuple[str, ...],
        label: str,
        spread: tuple[str, ...] = (),
        declared: tuple[tuple[str, str], ...] = (),
    ) -> Part:
        text = plan.native.text, self._useless
        known = None if varies(source) else self._known.get(text)
        if known is not None and known.columns == columns and not plan.native.parameters:
            return known
        if self._useless:
            plan = replace(plan, never=True)
        target = f"{quote(SCRATCH_DATABASE)}.{quote(f'gather_{len(self.parts)}')}"
        part = Part(target, plan, schema, columns, hidden, keys, label, spread, declared)
        self.parts.append(part)
        self._known[text] = part
        return part


# trees ---------------------------------------------------------------------------------------------


@lru_cache(256)
def _dated(table: Table) -> tuple[tuple[str, str], ...]:
    """Return a table's DATE and DATETIME columns that are NOT NULL, with their types: of such ones IS NULL finds zero dates."""
    found = ((column.name, _NOT_NULL_DATE.match(column.sql_type)) for column in table.columns)
    return tuple((name, matched[0]) for name, matched in found if matched is not None)


@lru_cache(256)
def _numbered(table: Table) -> frozenset[str]:
    """Return a table's columns of ENUM and SET: of an indexed one, MIN and MAX are those of the numbers, not of the texts."""
    numbered = (item for item in table.columns if item.sql_type.upper().startswith(("ENUM", "SET")))
    return frozenset(item.name.lower() for item in numbered)


def _table_of(part: Part, alias: str | None) -> exp.Table:
    name = part.target.rsplit("`", 2)[1]
    table = exp.Table(
        this=exp.to_identifier(name, quoted=True), db=exp.to_identifier(SCRATCH_DATABASE, quoted=True)
    )
    if alias is not None:
        table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    return table


def _become(select: exp.Select, items: list[exp.Expression], part: Part) -> None:
    """Turn a SELECT, in place, into one that reads a part."""
    for key in list(select.args):
        select.set(key, None)
    select.set("expressions", items)
    select.set("from_", exp.From(this=_table_of(part, None)))


def _add_where(select: exp.Select, condition: exp.Expression) -> None:
    where = select.args.get("where")
    if where is None:
        select.set("where", exp.Where(this=exp.Paren(this=condition.copy())))
    else:
        where.set("this", exp.And(this=where.this, expression=exp.Paren(this=condition.copy())))


def whole_tables(
    tables: Sequence[tuple[str, str]], text: Sql, plan_table: Callable[[str, str], Plan]
) -> Gather:
    """Return the gather of a statement that cannot be taken apart: its tables, whole, under their names.

    Parameters
    ----------
    tables : sequence of (database, table)
        The sharded tables that the statement may read.
    text : Sql
        The statement, which runs unchanged.
    """
    parts = []
    for database, name in tables:
        plan = plan_table(database, name)
        columns = tuple(item.alias_or_name for item in _select_of(plan).expressions)
        hidden = tuple(column for column in columns if column in _HIDDEN)
        parts.append(Part(f"{quote(database)}.{quote(name)}", plan, None, columns, hidden, (), name))
    return Gather(tuple(parts), text)


def _select_of(plan: Plan) -> exp.Select:
    if plan.draft is None:
        raise TypeError("the plan has no draft")
    return plan.draft.fragment
