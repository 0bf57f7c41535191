"""Puts aggregates together from partial results: what every chunk computes, and what the merge makes of it.

Partials are columns p0…pn of a temporary table at home, so keys compare there as the server compares them
(collation, NULLs, types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sqlglot import exp

from shard.catalog.naming import SCRATCH_DATABASE
from shard.errors import not_supported
from shard.planner.aggregates import MERGED, SPREAD, has_aggregate, is_aggregate
from shard.planner.branches import is_query
from shard.planner.constants import is_constant
from shard.planner.doubles import read_as_double
from shard.planner.natures import as_truth, in_json, is_boolean, with_nature
from shard.planner.nested import STORED_AS
from shard.planner.notes import CALL, noted
from shard.planner.scope import Scope
from shard.planner.spelling import settled, spelling
from shard.planner.templates import fill, use
from shard.planner.volatile import varies

MERGE_TABLE = "merge_rows"
_READ_AS_DOUBLE = "read as double"


@dataclass(slots=True)
class Partials:
    """The columns of the partial result, each expression once, however it is written."""

    scope: Scope
    expressions: list[exp.Expression] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)

    def add(self, node: exp.Expression) -> exp.Expression:
        """Return the merge table's column for an expression of the fragment."""
        text = spelling(node, self.scope)
        index = self.texts.setdefault(text, len(self.expressions))
        if index == len(self.expressions):
            self.expressions.append(node.copy())
        return exp.Column(this=exp.to_identifier(f"p{index}", quoted=True))

    def place(self, node: exp.Expression) -> int:
        """Return the position, from 1, of an expression that has been added."""
        return self.texts[spelling(node, self.scope)] + 1

    def has(self, node: exp.Expression) -> bool:
        """Whether an expression has been added."""
        return spelling(node, self.scope) in self.texts

    def select(self) -> list[exp.Expression]:
        """Return the fragment's select list, under aliases that no column of FROM is called by.

        The merge table's columns are p0…pn whatever they are called here.
        """
        prefix = "p"
        while any(_has_numbered(ref.names, prefix) for ref in self.scope.refs):
            prefix = f"{prefix}_"
        return [
            exp.Alias(this=roomy(node), alias=exp.to_identifier(f"{prefix}{index}", quoted=True))
            for index, node in enumerate(self.expressions)
        ]


@lru_cache(maxsize=1024)
def _has_numbered(names: frozenset[str], prefix: str) -> bool:
    """Whether some name is the prefix and a number."""
    return any(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in names)


def grouping(items: Sequence[exp.Expression], partials: Partials | None = None) -> exp.Group:
    """Return a fragment's GROUP BY.

    What varies (RAND()) is grouped by where it is selected, for the server would evaluate it twice; a constant number
    would be read as a position.
    """
    found: list[exp.Expression] = []
    for item in items:
        if partials is not None and varies(item) and partials.has(item):
            found.append(fill(partials.place(item)))
        elif is_constant(item):
            found.append(exp.Anonymous(this="COALESCE", expressions=[item.copy()]))
        else:
            found.append(item.copy())
    return exp.Group(expressions=found)


def roomy(node: exp.Expression) -> exp.Expression:
    """Return an expression whose type has room for its values.

    The server gives HOUR two digits, but a TIME has up to 838 hours: as text they would not fit the column.
    """

    def step(item: exp.Expression) -> exp.Expression:
        inside = item.parent is not None and not isinstance(item.parent, exp.Paren)
        if inside and isinstance(item, exp.Anonymous) and item.name.lower() == "hour":
            return use("CAST(value AS SIGNED)", value=item.copy())
        return item

    if not any(item.name.lower() == "hour" for item in node.find_all(exp.Anonymous)):
        return node
    return node.copy().transform(step)


class Merger:
    """Writes expressions of a grouped SELECT over the merge table.

    Parameters
    ----------
    partials : Partials
        Columns of the merge table; more are added as they are needed.
    select : Select
        The statement.
    groups, texts : sequence and mapping
        What is grouped by; its spelling → column.
    additive : bool
        Whether counts of distinct values add up, because no chunk shares them.
    stored : bool
        Whether the server may keep groups in a table on the way, with their averages as DECIMALs.

    Attributes
    ----------
    extra_groups : list
        What the fragment groups by besides, so that distinct values arrive.
    any_value : bool
        Whether the fragment has a value of any row of a group.
    rest : list
        The columns outside of aggregates that are not grouped by.
    shifts : set
        Columns of means about whose smallest the merge computes squares.
    """

    def __init__(
        self,
        partials: Partials,
        select: exp.Select,
        groups: Sequence[exp.Expression],
        texts: Mapping[str, exp.Expression],
        rollup: bool,
        additive: bool,
        stored: bool,
    ) -> None:
        self._partials, self._scope, self._groups, self._texts = partials, partials.scope, groups, texts
        self._select = select
        self._rollup, self._additive, self._stored = rollup, additive, stored
        self._operators = {type(item) for item in groups}
        self.extra_groups: list[exp.Expression] = []
        self.any_value = False
        self.rest: list[exp.Expression] = []
        self.shifts: set[str] = set()

    def over(self, node: exp.Expression, having: bool = False) -> exp.Expression:
        """Return an expression over the merge table that has the value of `node` over all rows.

        In HAVING, what is neither grouped by nor selected must be aggregated to be named.
        """

        def step(item: exp.Expression) -> exp.Expression:
            if (
                is_query(item)
                or isinstance(item, exp.Exists)
                or (isinstance(item, exp.In) and item.args.get("query"))
            ):
                return self._subquery(item, having)
            column = None
            if self._may_be_grouped(item):
                column = self._texts.get(spelling(item, self._scope))
            if column is not None:
                if self._rollup and not isinstance(item, exp.Column) and item.parent is not None:
                    raise not_supported(
                        "WITH ROLLUP of an expression inside another"
                    )  # in totals it isn't NULL
                return self._natural(column.copy(), item)
            if is_aggregate(item):
                return self._merged(item)
            if isinstance(item, exp.Column):
                if having and not self._partials.has(item):
                    raise not_supported(
                        f"the name '{item.name}' in HAVING, which is neither grouped by nor selected"
                    )
                self.rest.append(item)
                self.any_value = True
                return self._natural(self._partials.add(item), item)
            return item

        copied = node.copy()
        if not self._stored:
            for call in copied.find_all(exp.Anonymous):
                if call.name.lower() == "avg" and read_as_double(call, self._scope):
                    call.meta[_READ_AS_DOUBLE] = True
        return copied.transform(step, copy=False)

    def _natural(self, column: exp.Expression, item: exp.Expression) -> exp.Expression:
        """Return a merge table's column for an item as a JSON function around it is to see it."""
        return with_nature(column, item, self._select) if in_json(item) else column

    def _may_be_grouped(self, item: exp.Expression) -> bool:
        if not self._texts or isinstance(item, exp.Identifier):
            return False
        if isinstance(item, exp.Binary) and type(item) not in self._operators:
            return False  # of a chain of operators, each is as long as all before it
        # A constant in an expression may be syntax: IS NULL.
        return item.parent is None or not is_constant(item)

    def _subquery(self, node: exp.Expression, having: bool) -> exp.Expression:
        """Return a condition with a subquery, or a scalar one, computed with the rows of its group."""
        query = node.args["query"] if isinstance(node, exp.In) else node
        linked = any(self._scope.owner(column) for column in query.find_all(exp.Column))
        if not linked and all(map(_is_replicated, query.find_all(exp.Table))):
            copied = node.copy()  # the home server has these tables, too
            if isinstance(node, exp.In):
                copied.set("this", self.over(node.this, having))
            return copied
        if has_aggregate(node):
            raise not_supported("aggregates compared with a subquery across chunks")
        if not self._groups:
            raise not_supported("a correlated subquery beside aggregates")
        self.any_value = True
        column = self._partials.add(node)
        return call_of("MIN", column) if having else column

    def _merged(self, call: exp.Expression) -> exp.Expression:
        """Return the merge of one aggregate call's partials."""
        name = call.name.lower()
        if len(call.expressions) == 1 and isinstance(call.expressions[0], exp.Distinct):
            return self._merged_distinct(call, name)
        if len(call.expressions) != 1 or has_aggregate(call.expressions[0]):
            raise not_supported(f"these arguments of {name.upper()}")
        argument = call.expressions[0]
        if name == "count":
            return use("CAST(COALESCE(SUM(part), 0) AS SIGNED)", part=self._partials.add(call))
        if name == "avg":
            total = self._partials.add(call_of("SUM", argument))
            count = self._partials.add(call_of("COUNT", argument))
            # The server divides as what reads the average wants it, unless groups keep it in a table.
            real = " * 1e0" if noted(call, _READ_AS_DOUBLE) else ""
            return use(f"SUM(total){real} / NULLIF(SUM(number), 0)", total=total, number=count)
        if name in SPREAD:
            return self._merged_spread(call, argument)
        if name not in MERGED:
            raise not_supported(f"the aggregate {name.upper()} across chunks")
        merged = use(f"{name.upper()}(part)", part=self._partials.add(call))
        truth = name in ("min", "max") and not self._stored and is_boolean(argument, self._select)
        return as_truth(merged) if truth and in_json(call) else merged

    def _merged_spread(self, call: exp.Expression, argument: exp.Expression) -> exp.Expression:
        """Merge a standard deviation or variance from (count, mean, variance) of the parts.

        Chan, Golub and LeVeque (1979): M2 = sum(n v) + sum(n (a - A)^2). The squares are taken about
        the smallest mean of the group (a window in the merge's FROM), so that nothing cancels.
        """
        if self._rollup:
            raise not_supported(f"{call.name.upper()} WITH ROLLUP across chunks")
        exact = use("x * 1e0", x=argument)
        number = self._partials.add(call_of("COUNT", argument))
        mean = self._partials.add(exp.Anonymous(this="AVG", expressions=[exact.copy()]))
        variance = self._partials.add(exp.Anonymous(this="VAR_POP", expressions=[exact.copy()]))
        shift = exp.Column(this=exp.to_identifier(f"s{mean.name[1:]}", quoted=True))
        self.shifts.add(mean.name)
        kind, root = SPREAD[call.name.lower()]
        squares = "SUM(n * v + n * POW(a - c, 2)) - POW(SUM(n * (a - c)), 2) / SUM(n)"
        below = "NULLIF(SUM(n), 0)" if kind == "pop" else "IF(SUM(n) > 1, SUM(n) - 1, NULL)"
        text = f"GREATEST(0e0, {squares}) / {below}"
        return use(f"SQRT({text})" if root else text, n=number, v=variance, a=mean, c=shift)

    def _merged_distinct(self, call: exp.Expression, name: str) -> exp.Expression:
        """Ship the distinct keys by grouping finer, or add counts that no chunk shares."""
        arguments = call.expressions[0].expressions
        if name == "count" and self._additive:
            return use("CAST(COALESCE(SUM(part), 0) AS SIGNED)", part=self._partials.add(call))
        if name in ("min", "max"):
            return self._merged(call_of(name.upper(), arguments[0]))
        columns = []
        for item in arguments:
            column = self._partials.add(item)
            columns.append(with_nature(column, item, self._select) if name.startswith("json") else column)
            grouped = [*self._groups, *self.extra_groups]
            if spelling(item, self._scope) not in {spelling(group, self._scope) for group in grouped}:
                self.extra_groups.append(settled(item, self._scope))
        merged = exp.Anonymous(this=call.name, expressions=[exp.Distinct(expressions=columns)])
        merged.args[CALL] = call.args.get(CALL)  # SEPARATOR, LIMIT
        return merged

    def add_shifts(self, merge: exp.Select, groups: list[exp.Expression]) -> None:
        """Read the merge table through a window function that gives every row the smallest mean of its group."""
        table = merge.args["from_"].this
        columns: list[exp.Expression] = [
            exp.Column(this=exp.to_identifier(f"p{i}", quoted=True))
            for i in range(len(self._partials.expressions))
        ]
        for name in sorted(self.shifts):
            lowest = exp.Anonymous(
                this="MIN", expressions=[exp.Column(this=exp.to_identifier(name, quoted=True))]
            )
            window = exp.Window(this=lowest, partition_by=[column.copy() for column in groups], over="OVER")
            columns.append(exp.Alias(this=window, alias=exp.to_identifier(f"s{name[1:]}", quoted=True)))
        inner = exp.Select(expressions=columns)
        inner.set("from_", exp.From(this=table))
        alias = exp.TableAlias(this=exp.to_identifier(MERGE_TABLE, quoted=True))
        merge.set("from_", exp.From(this=exp.Subquery(this=inner, alias=alias)))


def call_of(name: str, argument: exp.Expression) -> exp.Expression:
    """Return a call of a function with one argument."""
    return exp.Anonymous(this=name, expressions=[argument.copy()])


def _is_replicated(table: exp.Table) -> bool:
    """Whether an inner query's table is the same at home as on a worker: neither sharded nor a user's own."""
    database, _, sharded = noted(table, STORED_AS) or (SCRATCH_DATABASE, "", True)
    return not sharded and database != SCRATCH_DATABASE


def own_calls(node: exp.Expression) -> list[exp.Expression]:
    """Return the calls in an expression, those of inner queries excepted."""
    found: list[exp.Expression] = []
    stack = [node]
    while stack:
        item = stack.pop()
        if is_query(item):
            continue
        if isinstance(item, exp.Anonymous):
            found.append(item)
        stack += [child for child in item.iter_expressions() if isinstance(child, exp.Expression)]
    return found
