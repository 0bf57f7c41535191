"""What the names in GROUP BY, HAVING and ORDER BY mean: positions, aliases, select items, columns of FROM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from shard.errors import not_supported
from shard.planner.branches import is_query, is_star
from shard.planner.constants import integer
from shard.planner.scope import Scope, columns_of, star_columns
from shard.planner.spelling import settled, spelling
from shard.planner.templates import wrap


class Names:
    """The names of one SELECT.

    Attributes
    ----------
    items : list
        The select list; its stars are replaced once a name needs it.
    groups : list
        What is grouped by.
    """

    def __init__(self, select: exp.Select, scope: Scope) -> None:
        self.select, self.scope = select, scope
        self.items = list(select.expressions)
        self.groups: list[exp.Expression] = []

    def _aliases(self) -> dict[str, exp.Expression]:
        named = [item for item in self.items if isinstance(item, exp.Alias)]
        found = {item.alias.lower(): item_named(item.alias, named) for item in named}
        return {name: item for name, item in found.items() if item is not None}

    def _named(self, node: exp.Expression) -> exp.Expression | None:
        """Return the select item that a bare name is the name of: by its alias, or as a column."""
        if not isinstance(node, exp.Column) or node.table:
            return None
        self._expand()
        return item_named(node.name, self.items)

    def _behind_alias(self, node: exp.Expression) -> exp.Expression | None:
        """Return the selected column whose own name a bare name is."""
        if not isinstance(node, exp.Column) or node.table:
            return None
        meant = (bare_item(item) for item in self.items if isinstance(item, exp.Alias))
        return next(
            (c for c in meant if isinstance(c, exp.Column) and c.name.lower() == node.name.lower()), None
        )

    def _expand(self) -> None:
        if any(is_star(item) for item in self.items):
            self.items = self.expand_stars()

    def key(self, node: exp.Expression) -> str:
        """Return the text by which an expression is known again, however it is written."""
        return spelling(node, self.scope)

    def _position(self, node: exp.Expression) -> exp.Expression | None:
        """Return the select item that a bare number stands for."""
        index = integer(node) if isinstance(node, exp.Literal) else None
        if index is None:
            return None
        self._expand()
        if not 1 <= index <= len(self.items):
            raise not_supported(f"position {index} outside of the select list")
        item = self.items[index - 1]
        return bare_item(item)

    def _is_column(self, node: exp.Expression) -> bool:
        name = node.name.lower()
        return any(name in ref.names for ref in self.scope.refs)

    def group_item(self, node: exp.Expression) -> exp.Expression:
        """Return what a GROUP BY item means: a position, a column, else a select item of that name."""
        at = self._position(node)
        if at is not None:
            return at
        if not isinstance(node, exp.Column):
            self._check_group(node)
            return settled(node, self.scope)
        if self.scope.owner(node) is None:  # unknown to FROM, or a column of several of its tables
            return self._named(node) or node
        if not node.table and node.name.lower() in self.scope.united:
            return self._named(node) or settled(node, self.scope)
        return node

    def order_item(self, node: exp.Expression) -> exp.Expression:
        """Return what an ORDER BY item means: a position, a select item of that name, else an expression."""
        at = self._position(node)
        if at is not None:
            return at
        return self._named(node) or self._behind_alias(node) or self.inside(node, "ORDER BY")

    def inside(self, node: exp.Expression, clause: str) -> exp.Expression:
        """Return an expression with the aliases inside it replaced by what they stand for."""
        aliases = self._aliases()

        def step(item: exp.Expression) -> exp.Expression:
            if is_query(item):
                self._check_inner(item, clause, aliases)
                return item.copy()  # a copy is not entered: inner queries have names of their own
            if not isinstance(item, exp.Column) or item.table:
                return item
            if item.name.lower() not in aliases:
                unsettled = clause == "HAVING" and self.scope.owner(item) is None
                return self._grouped_or_selected(item).copy() if unsettled else item
            meant = aliases[item.name.lower()]
            if self._is_column(item) and not (
                isinstance(meant, exp.Column) and meant.name.lower() == item.name.lower()
            ):
                raise not_supported(
                    f"the name '{item.name}' in {clause}, which is both a column and an alias"
                )
            return wrap(meant.copy())

        return node.transform(step)

    def _check_group(self, node: exp.Expression) -> None:
        """Refuse an expression in GROUP BY that names select items by their aliases."""
        aliases = self._aliases()
        for column in node.find_all(exp.Column) if aliases else ():
            if column.name.lower() in aliases and not column.table and self.scope.owner(column) is None:
                raise not_supported(f"the alias '{column.name}' in an expression of GROUP BY")

    def _check_inner(self, query: exp.Expr, clause: str, aliases: Mapping[str, exp.Expression]) -> None:
        """Refuse an inner query that may name a select item by its alias: on its own it would not know it."""
        for column in query.find_all(exp.Column):
            meant = None if column.table else aliases.get(column.name.lower())
            same = isinstance(meant, exp.Column) and meant.name.lower() == column.name.lower()
            if meant is not None and not same:
                raise not_supported(f"the name '{column.name}' in an inner query of {clause}")

    def _grouped_or_selected(self, node: exp.Expression) -> exp.Expression:
        """Return the group column, else the select item, of a name in HAVING that several tables have."""
        name = node.name.lower()
        grouped = (item for item in self.groups if isinstance(item, exp.Column) and item.name.lower() == name)
        return next(grouped, None) or self._named(node) or node

    def expand_stars(self) -> list[exp.Expression]:
        """Return the select list with every star replaced by the columns it stands for."""
        out: list[exp.Expression] = []
        for item in self.items:
            if not is_star(item):
                out.append(item)
                continue
            qualifier = item.table if isinstance(item, exp.Column) else ""
            if qualifier:
                refs = [ref for ref in self.scope.refs if ref.alias == qualifier]
                out += [column for ref in refs for column in columns_of(ref)]
            else:
                out += star_columns(self.select, self.scope)
        return out


def item_named(name: str, items: Sequence[exp.Expression]) -> exp.Expression | None:
    """Return what the select item of a name is, without its alias.

    Of several, MariaDB takes the first that is not a column, wherever the columns of that name stand.
    """
    named = (item for item in items if isinstance(item, exp.Alias | exp.Column))
    meant = [bare_item(item) for item in named if item.alias_or_name.lower() == name.lower()]
    computed = (item for item in meant if not isinstance(item.unnest(), exp.Column))
    return next(computed, meant[0] if meant else None)


def bare_item(item: exp.Expression) -> exp.Expression:
    """Return a select item without its alias."""
    inner = item.this if isinstance(item, exp.Alias) else item
    if not isinstance(inner, exp.Expression):
        raise TypeError("a select item is an expression")
    return inner
