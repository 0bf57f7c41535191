"""Which sharded tables of a FROM have their rows in one chunk, by the equalities that hold for these rows.

An equality in ON of an outer join says something only of rows that the join has found: in
``a JOIN b ... LEFT JOIN v ON v.k = a.k AND v.k = b.k`` rows of v lie with those of a and of b, but those of a
and b need not lie together. So every table has equalities of its own: those that hold where it is not NULL.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from shard.planner.constants import conjuncts
from shard.planner.scope import Scope, TableRef

_Node = tuple[int, str]
"""A table's place in FROM, and a column of it."""
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "integer", "bigint"})


_COMPARES = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.In)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A comparison that is true: the tables whose columns it compares, which are not NULL, and two that are equal."""

    tables: tuple[int, ...]
    equal: tuple[_Node, _Node] | None


class _Equal:
    """Columns in classes of equal ones."""

    def __init__(self, comparisons: Iterable[_Comparison]) -> None:
        self._parent: dict[_Node, _Node] = {}
        for item in comparisons:
            if item.equal is not None:
                a, b = map(self.find, item.equal)
                if a != b:
                    self._parent[a] = b

    def find(self, node: _Node) -> _Node:
        """Return what stands for the class of a column."""
        while node in self._parent:
            node = self._parent[node]
        return node


class Links:
    """What the equalities of WHERE and of joins say of where rows lie.

    Parameters
    ----------
    scope : Scope
        The tables and their joins.
    where : sequence of Expression
        Top-level conjuncts of WHERE.
    """

    def __init__(self, scope: Scope, where: Sequence[exp.Expression]) -> None:
        self._scope = scope
        self._at = {ref.alias: index for index, ref in enumerate(scope.refs)}
        self._where = self._comparisons(where)
        self._steps = [
            self._comparisons(part for item in step.conditions for part in conjuncts(item))
            for step in scope.steps
        ]
        self._any = _Equal([*self._where, *(item for step in self._steps for item in step)])

    def alike(self, left: TableRef, one: str, right: TableRef, other: str) -> bool:
        """Whether two columns are equal if all tables have rows."""
        return self._any.find((self._at[left.alias], one)) == self._any.find((self._at[right.alias], other))

    def groups(self) -> list[list[TableRef]]:
        """Return the sharded tables in groups: in each row of the join, the rows of one group's tables lie in one chunk.

        The join is chunk-local if there is one group. An outer join finds all its rows in the chunk then: one that lies
        elsewhere would have passed ON, and with what the rest of the row passes its key would be one of this chunk.
        """
        refs = self._scope.refs
        sharded = [index for index, ref in enumerate(refs) if ref.is_sharded]
        if len(sharded) == 1:
            return [[refs[sharded[0]]]]
        known, equal = self._where_not_null(None)
        groups: list[list[int]] = []
        for index in (index for index in sharded if index in known):
            touching = [group for group in groups if any(self._joined(index, item, equal) for item in group)]
            merged = [item for group in touching for item in group]
            groups = [*(group for group in groups if group not in touching), [*merged, index]]
        rest = [index for index in sharded if index not in known]
        found = True
        while found:
            found = False
            for index in list(rest):
                _, equal = self._where_not_null(index)
                # tied to tables of two groups, it joins one of them: it does not bring them together
                near = next((g for g in groups if any(self._joined(index, item, equal) for item in g)), None)
                if near is not None:
                    near.append(index)
                    rest.remove(index)
                    found = True
        return [[refs[index] for index in sorted(group)] for group in (*groups, *([index] for index in rest))]

    def _joined(self, one: int, other: int, equal: _Equal) -> bool:
        left, right = self._scope.refs[one], self._scope.refs[other]
        return any(
            director == same and equal.find((one, column)) == equal.find((other, their))
            for director, column in left.links
            for same, their in right.links
        )

    def _where_not_null(self, index: int | None) -> tuple[set[int], _Equal]:
        """Return the tables that have a row where that of a table is not NULL, and the columns equal there.

        Of a whole row of the join, if no table is given.
        """
        known: set[int] = set()
        held: list[_Comparison] = []
        todo = [at for at, ref in enumerate(self._scope.refs) if not ref.nullable]
        if index is not None:
            todo += [index, *self._kept(index)]
        while todo:
            at = todo.pop()
            if at not in known:
                known.add(at)
                given = self._given(at)
                held += given
                todo += [table for item in given for table in item.tables]
        return known, _Equal(held)

    def _given(self, index: int) -> list[_Comparison]:
        """Return the comparisons that rows of a table have passed: of the join that adds it, and of later ones.

        A LEFT JOIN lets all rows before it pass, and a RIGHT JOIN those of the table that it adds.
        """
        passed = list(self._where)
        for at, (step, items) in enumerate(zip(self._scope.steps, self._steps, strict=True), start=1):
            if (at == index and step.side != "RIGHT") or (at > index and step.side != "LEFT"):
                passed += items
        return passed

    def _kept(self, index: int) -> list[int]:
        """Return the tables that have a row wherever the join that adds a table finds one, as it stands there."""
        kept = [0]
        for at, step in enumerate(self._scope.steps[:index], start=1):
            if step.side == "RIGHT":
                kept = []
            if step.side != "LEFT":
                kept.append(at)
        return kept

    def _comparisons(self, conditions: Iterable[exp.Expression]) -> list[_Comparison]:
        out: list[_Comparison] = []
        for item in conditions:
            if not isinstance(item, _COMPARES):
                continue
            sides = [item.this, item.expression] if isinstance(item, exp.Binary) else [item.this]
            if any(isinstance(side, exp.All) for side in sides):
                continue  # of an empty set: true, of NULL too
            owners = [self._scope.owner(side) for side in sides]
            tables = tuple(self._at[ref.alias] for ref in owners if ref is not None)
            equal = None
            if isinstance(item, exp.EQ) and len(set(tables)) == 2:
                one, other = (
                    (ref, side.name.lower())
                    for ref, side in zip(owners, sides, strict=True)
                    if ref is not None
                )
                if _same_key(*one, *other) or _same_type(*one, *other):
                    equal = (tables[0], one[1]), (tables[1], other[1])
            if tables:
                out.append(_Comparison(tables, equal))
        return out


def _same_key(left: TableRef, one: str, right: TableRef, other: str) -> bool:
    """Whether two columns hold keys of the same director."""
    mine = {director for director, column in left.links if column == one}
    return any(director in mine for director, column in right.links if column == other)


def _same_type(left: TableRef, one: str, right: TableRef, other: str) -> bool:
    """Whether what is equal to one of two columns is equal to the other.

    A text and an integer are compared as DOUBLE: integers that are equal to one text need not be equal.
    """
    kinds = [
        next((item.sql_type.lower() for item in ref.table.columns if item.name.lower() == name), "")
        for ref, name in ((left, one), (right, other))
    ]
    words = [kind.split("(")[0].split()[:1] for kind in kinds]
    if all(word and word[0] in _INTEGERS for word in words):
        return True
    return kinds[0] == kinds[1] != ""


__all__ = ["Links"]
