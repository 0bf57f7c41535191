"""Binds the names of a SELECT to the catalogue: which tables, whose columns.

Only what planning needs: unknown and ambiguous names are MariaDB's to report, when the
statement is checked at home.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from shard.catalog.model import Database, Kind, Table
from shard.errors import not_supported


@dataclass(frozen=True, slots=True)
class TableRef:
    """One table of FROM: its alias, its catalogue entry, and whether an outer join may null it."""

    alias: str
    database: str
    table: Table
    node: exp.Table
    nullable: bool

    @property
    def is_sharded(self) -> bool:
        """Whether it is split by chunk."""
        return self.table.is_sharded


@dataclass(frozen=True, slots=True)
class Scope:
    """The tables of one SELECT in order of FROM, and the conditions that inner joins add."""

    refs: tuple[TableRef, ...]
    database: Database
    conditions: tuple[exp.Expression, ...]
    outer_conditions: tuple[tuple[TableRef, tuple[exp.Expression, ...]], ...]

    def sharded(self) -> tuple[TableRef, ...]:
        """Return the sharded tables."""
        return tuple(ref for ref in self.refs if ref.is_sharded)

    def owner(self, column: exp.Expression) -> TableRef | None:
        """Return the table that a column belongs to, or None if it is not certain."""
        if not isinstance(column, exp.Column) or isinstance(column.this, exp.Star):
            return None
        qualifier = column.table
        if qualifier:
            found = [ref for ref in self.refs if ref.alias == qualifier]
            return found[0] if len(found) == 1 else None
        name = column.name.lower()
        owners = [ref for ref in self.refs if name in column_names(ref.table)]
        return owners[0] if len(owners) == 1 else None


def column_names(table: Table) -> frozenset[str]:
    """Return the lower-case names of a table's columns, invisible ones included."""
    names = {column.name.lower() for column in table.columns}
    if table.is_sharded:
        names |= {"chunkid", "subchunkid"}
    if table.kind is Kind.MATCH:
        names.add("skyowner")
    return frozenset(names)


def tables_in(tree: exp.Expression) -> list[exp.Table]:
    """Return all table nodes of a tree."""
    return list(tree.find_all(exp.Table))


def lookup(
    node: exp.Table, default: str | None, catalogue: Mapping[str, Database]
) -> tuple[Database, Table] | None:
    """Return a table node's catalogue entry, or None if it is no catalogue table."""
    name = node.args["db"].name if node.args.get("db") is not None else default
    database = catalogue.get(name) if name is not None else None
    table = database.table(node.name) if database is not None else None
    return (database, table) if database is not None and table is not None else None


def read_scope(select: exp.Select, default: str | None, catalogue: Mapping[str, Database]) -> Scope:
    """Return the scope of a SELECT that reads sharded tables.

    Raises
    ------
    SkyError
        1235 for FROM items that cannot be distributed yet.
    """
    source = select.args.get("from_") or select.args.get("from")
    first: exp.Expression = source.this if source is not None else exp.Null()
    joins = select.args.get("joins") or []
    items: list[tuple[exp.Expression, exp.Join | None]] = [
        (first, None),
        *((join.this, join) for join in joins),
    ]
    nullable = _nullable(joins)
    refs: list[TableRef] = []
    databases: dict[str, Database] = {}
    for index, (node, _) in enumerate(items):
        if not isinstance(node, exp.Table):
            raise not_supported("a derived table (subquery in FROM)")
        found = lookup(node, default, catalogue)
        if found is None:
            raise not_supported(
                f"a join of sharded tables with table '{node.name}'", "copy the rows you need first"
            )
        database, table = found
        databases[database.name] = database
        alias = node.alias or node.name
        if any(ref.alias == alias for ref in refs):
            raise not_supported(f"two tables called '{alias}' in FROM", "give each an alias of its own")
        refs.append(TableRef(alias, database.name, table, node, nullable[index]))
    sharded = {ref.database for ref in refs if ref.is_sharded}
    if len(sharded) > 1:
        raise not_supported("a join of sharded tables of two databases")
    inner, outer = _conditions(joins, refs)
    return Scope(tuple(refs), databases[next(iter(sharded))], inner, outer)


def _nullable(joins: list[exp.Join]) -> list[bool]:
    flags = [False]
    for join in joins:
        side = str(join.args.get("side") or "").upper()
        if side == "RIGHT":
            flags = [True] * len(flags)
        flags.append(side == "LEFT")
        if side == "FULL":
            raise not_supported("FULL JOIN")
    return flags


def _conditions(
    joins: list[exp.Join], refs: list[TableRef]
) -> tuple[tuple[exp.Expression, ...], tuple[tuple[TableRef, tuple[exp.Expression, ...]], ...]]:
    """Return (conditions of inner joins, conditions of outer joins by their joined table)."""
    inner: list[exp.Expression] = []
    outer: list[tuple[TableRef, tuple[exp.Expression, ...]]] = []
    for index, join in enumerate(joins, start=1):
        if str(join.args.get("method") or "").upper() == "NATURAL":
            raise not_supported("NATURAL JOIN", "name the columns with USING or ON")
        found = [join.args["on"]] if join.args.get("on") is not None else []
        found += [_using_equality(name, index, refs) for name in join.args.get("using") or ()]
        if join.args.get("side"):
            outer.append((refs[index], tuple(found)))
        else:
            inner += found
    return tuple(inner), tuple(outer)


def _using_equality(name: exp.Expression, index: int, refs: list[TableRef]) -> exp.Expression:
    left = next((ref for ref in refs[:index] if name.name.lower() in column_names(ref.table)), refs[0])
    columns = [
        exp.Column(
            this=exp.to_identifier(name.name, quoted=True), table=exp.to_identifier(ref.alias, quoted=True)
        )
        for ref in (left, refs[index])
    ]
    return exp.EQ(this=columns[0], expression=columns[1])
