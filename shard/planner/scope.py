"""Binds the names of a SELECT to the catalogue: which tables, whose columns.

Only what planning needs: unknown and ambiguous names are MariaDB's to report, when the
statement is checked at home.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlglot import exp

from shard.catalog.model import Database, Kind, Table
from shard.errors import not_supported
from shard.planner.branches import find
from shard.planner.notes import noted
from shard.planner.plan import Everywhere, Restriction

_TABLES = 256
"""Tables whose columns are kept by name: of a thousand columns, looking them up anew took longer than all of the rest."""
DERIVED = "derived"
"""Key of a subquery node's meta under which its analysis is kept."""
Links = tuple[tuple[str, str], ...]
"""(director, lower-case column) pairs by which rows are tied to a director's chunk."""


class Derived:
    """A chunk-local derived table, seen from outside: like a dependent (or replicated) table.

    Attributes
    ----------
    database : Database or None
        That of its sharded tables; None if it has none.
    table : Table
        A stand-in with the derived table's columns.
    links : Links
        Its columns that hold director keys of the chunk.
    restriction : Restriction
        The chunks that can hold rows of it.
    """

    def __init__(
        self, database: Database | None, table: Table, links: Links, restriction: Restriction
    ) -> None:
        self.database, self.table, self.links, self.restriction = database, table, links, restriction

    def __deepcopy__(self, memo: dict[int, Any]) -> Derived:
        return self  # immutable: copies of a tree share it


@dataclass(frozen=True, slots=True)
class TableRef:
    """One table of FROM: its alias, its catalogue entry, and whether an outer join may null it.

    `names` are its lower-case column names, invisible ones included; `derived` is set for a derived table.
    """

    alias: str
    database: str
    table: Table
    node: exp.Expression
    nullable: bool
    names: frozenset[str]
    links: Links
    derived: Derived | None = None

    @property
    def is_sharded(self) -> bool:
        """Whether it is split by chunk."""
        return self.table.is_sharded


@dataclass(frozen=True, slots=True)
class Step:
    """One join of FROM: the table it adds, its side (LEFT, RIGHT, or "" of an inner one), its conditions."""

    ref: TableRef
    side: str
    conditions: tuple[exp.Expression, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """The tables of one SELECT in order of FROM, and the joins that add all but the first of them.

    `united` says whose an unqualified column is, by its lower-case name, that USING or NATURAL has united.
    """

    refs: tuple[TableRef, ...]
    database: Database
    steps: tuple[Step, ...]
    united: Mapping[str, TableRef] = field(default_factory=dict)

    @property
    def conditions(self) -> tuple[exp.Expression, ...]:
        """The conditions that inner joins add."""
        return tuple(item for step in self.steps if not step.side for item in step.conditions)

    @property
    def certain(self) -> tuple[exp.Expression, ...]:
        """Those that every row satisfies: none before a RIGHT JOIN, which keeps rows without them."""
        last = max((at for at, step in enumerate(self.steps) if step.side == "RIGHT"), default=-1)
        return tuple(item for step in self.steps[last + 1 :] if not step.side for item in step.conditions)

    def sharded(self) -> tuple[TableRef, ...]:
        """Return the sharded tables."""
        return tuple(ref for ref in self.refs if ref.is_sharded)

    def owner(self, column: exp.Expression) -> TableRef | None:
        """Return the table that a column belongs to, or None if it is not certain."""
        if not isinstance(column, exp.Column) or isinstance(column.this, exp.Star):
            return None
        qualifier = column.table
        name = column.name.lower()
        if qualifier:
            found = [ref for ref in self.refs if ref.alias == qualifier and name in ref.names]
            return found[0] if len(found) == 1 else None
        owners = [ref for ref in self.refs if name in ref.names]
        return owners[0] if len(owners) == 1 else self.united.get(name)


@lru_cache(_TABLES)
def column_places(table: Table) -> Mapping[str, int]:
    """Return where a table's visible columns are, from 0, by their lower-case names, in order."""
    return {column.name.lower(): index for index, column in enumerate(table.columns)}


def sql_type_of(table: Table, name: str) -> str:
    """Return the SQL type of a table's visible column; an empty text if it has none of that name."""
    place = column_places(table).get(name.lower())
    return "" if place is None else table.columns[place].sql_type


@lru_cache(_TABLES)
def column_names(table: Table) -> frozenset[str]:
    """Return the lower-case names of a table's columns, invisible ones included."""
    names = set(column_places(table))
    if table.is_sharded:
        names |= {"chunkid", "subchunkid"}
    if table.kind is Kind.MATCH:
        names.add("skyowner")
    return frozenset(names)


def table_links(table: Table) -> Links:
    """Return the columns by which a catalogue table's rows are tied to a director's chunk."""
    if table.kind is Kind.DIRECTOR and table.key is not None:
        return ((table.name, table.key.lower()),)
    if table.kind is Kind.DEPENDENT and table.director is not None and table.director_key is not None:
        return ((table.director, table.director_key.lower()),)
    return tuple((side.table, side.foreign_key.lower()) for side in table.sides)


def tables_in(tree: exp.Expression) -> list[exp.Table]:
    """Return all table nodes of a tree."""
    return find(tree, exp.Table)


def lookup(
    node: exp.Table, default: str | None, catalogue: Mapping[str, Database]
) -> tuple[Database, Table] | None:
    """Return a table node's catalogue entry, or None if it is no catalogue table."""
    name = node.args["db"].name if node.args.get("db") is not None else default
    database = catalogue.get(name) if name is not None else None
    table = database.table(node.name) if database is not None else None
    return (database, table) if database is not None and table is not None else None


def reads_sharded(tree: exp.Expression, default: str | None, catalogue: Mapping[str, Database]) -> bool:
    """Whether any table of a tree, at any depth, is sharded."""
    for node in tables_in(tree):
        found = lookup(node, default, catalogue)
        if found is not None and found[1].is_sharded:
            return True
    return False


def catalogue_tables(
    tree: exp.Expression, default: str | None, catalogue: Mapping[str, Database]
) -> tuple[tuple[str, Table], ...]:
    """Return (database, table) of every catalogue table in a tree, each once, in order."""
    found = (lookup(node, default, catalogue) for node in tables_in(tree))
    return tuple(dict.fromkeys((pair[0].name, pair[1]) for pair in found if pair is not None))


def from_items(select: exp.Expression) -> Iterator[tuple[exp.Expression, exp.Join | None]]:
    """Yield the items of FROM in order, each with the join that adds it."""
    source = select.args.get("from_") or select.args.get("from")
    if source is not None:
        yield source.this, None
    for join in select.args.get("joins") or ():
        yield join.this, join


def flatten_joins(tree: exp.Expression) -> None:
    """Take the parentheses off a join that begins a FROM, in place: ``FROM (a JOIN b) JOIN c``."""
    for select in find(tree, exp.Select):
        source = select.args.get("from_") or select.args.get("from")
        _name_full(select)
        while source is not None:
            item = source.this
            if (
                not isinstance(item, exp.Subquery)
                or item.alias
                or not isinstance(item.this, (exp.Table, exp.Subquery))
            ):
                break
            inner = item.this
            if isinstance(inner, exp.Subquery) and inner.alias:
                break
            if not _spell_commas(inner):
                break
            joins = [*(inner.args.get("joins") or []), *(item.args.get("joins") or [])]
            for node in (inner, item):
                node.set("joins", None)
            source.set("this", inner)
            select.set("joins", [*joins, *(select.args.get("joins") or [])])


def _name_full(select: exp.Select) -> None:
    """Take the FULL of ``a FULL JOIN b`` for what it is to MariaDB, in place: an alias of the table before it."""
    before: exp.Expression | None = None
    for item, join in from_items(select):
        full = join is not None and join.args.get("side") == "FULL" and not join.args.get("kind")
        if join is not None and full and isinstance(before, exp.Table) and not before.alias:
            before.set("alias", exp.TableAlias(this=exp.to_identifier("FULL")))
            join.set("side", None)
        before = item


def _spell_commas(first: exp.Expression) -> bool:
    """Make the commas of a join in parentheses CROSS JOINs, in place: a comma binds less than what would follow it.

    Returns False if a join in there takes its meaning from that: ``(a, b RIGHT JOIN c)``, ``(a, b NATURAL JOIN c)``.
    """
    commas: list[exp.Expression] = []
    for join in first.args.get("joins") or ():
        if _is_comma(join):
            commas.append(join)
        elif commas and (
            join.args.get("side") == "RIGHT" or join.args.get("method") or join.args.get("using")
        ):
            return False
    for join in commas:
        join.set("kind", "CROSS")
    return True


def read_scope(select: exp.Select, default: str | None, catalogue: Mapping[str, Database]) -> Scope:
    """Return the scope of a SELECT that reads sharded tables.

    Derived tables must have been analysed before (`nested.bind`).

    Raises
    ------
    SkyError
        1235 for FROM items that are not chunk-local.
    """
    joins = select.args.get("joins") or []
    nullable = _nullable(joins)
    refs: list[TableRef] = []
    databases: dict[str, Database] = {}
    for index, (node, _) in enumerate(from_items(select)):
        ref = _reference(node, nullable[index], default, catalogue, databases)
        if any(other.alias == ref.alias for other in refs):
            raise not_supported(f"two tables called '{ref.alias}' in FROM", "give each an alias of its own")
        refs.append(ref)
    sharded = {ref.database for ref in refs if ref.is_sharded}
    if not sharded:
        raise not_supported("sharded tables in subqueries only")
    if len(sharded) > 1:
        raise not_supported("a join of sharded tables of two databases")
    steps, united = _steps(joins, refs)
    return Scope(tuple(refs), databases[next(iter(sharded))], steps, united)


def _reference(
    node: exp.Expression,
    nullable: bool,
    default: str | None,
    catalogue: Mapping[str, Database],
    databases: dict[str, Database],
) -> TableRef:
    if isinstance(node, exp.Subquery) and node.alias and noted(node, DERIVED) is not None:
        derived: Derived = node.meta[DERIVED]
        name = derived.database.name if derived.database is not None else ""
        if derived.database is not None:
            databases[name] = derived.database
        names = frozenset(column.name.lower() for column in derived.table.columns)
        return TableRef(node.alias, name, derived.table, node, nullable, names, derived.links, derived)
    if not isinstance(node, exp.Table):
        raise not_supported("a derived table (subquery in FROM) that is not chunk-local")
    found = lookup(node, default, catalogue)
    if found is None:
        raise not_supported(f"a join of sharded tables with table '{node.name}'", "copy the rows you need")
    if node.args.get("joins"):
        raise not_supported("a join in parentheses")
    database, table = found
    databases[database.name] = database
    return TableRef(
        node.alias or node.name,
        database.name,
        table,
        node,
        nullable,
        column_names(table),
        table_links(table),
    )


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


def _steps(joins: list[exp.Join], refs: list[TableRef]) -> tuple[tuple[Step, ...], dict[str, TableRef]]:
    """Return the joins of FROM, USING and NATURAL as equalities, and whose the columns are that these unite."""
    if not any(join.args.get("using") or _is_natural(join) for join in joins):
        pairs = zip(joins, refs[1:], strict=True)
        return tuple(Step(ref, _side(join), tuple(_condition(join))) for join, ref in pairs), {}
    steps: list[Step] = []
    meant = dict.fromkeys(refs[0].names, refs[0])
    united: set[str] = set()
    commas = False
    for join, ref in zip(joins, refs[1:], strict=True):
        side = _side(join)
        common = [item.name for item in join.args.get("using") or ()]
        if _is_natural(join):
            common += _common(len(steps) + 1, refs)
        if common and commas:  # which binds less than JOIN: the columns are united with those behind it alone
            raise not_supported("USING or NATURAL behind a comma in FROM", "write CROSS JOIN for the comma")
        commas = commas or _is_comma(join)
        found = _condition(join)
        for name in common:
            found.append(
                exp.EQ(
                    this=column_of(meant.get(name.lower(), refs[0]), name), expression=column_of(ref, name)
                )
            )
            if side == "RIGHT":  # whose common columns are those of the table that is kept
                meant[name.lower()] = ref
        here = {name.lower() for name in common}
        united = (united | here) - {name for name in ref.names if name in meant and name not in here}
        for name in ref.names:
            meant.setdefault(name, ref)
        steps.append(Step(ref, side, tuple(found)))
    return tuple(steps), {name: meant[name] for name in united}


def _side(join: exp.Join) -> str:
    return str(join.args.get("side") or "").upper()


def _is_natural(join: exp.Join) -> bool:
    return str(join.args.get("method") or "").upper() == "NATURAL"


def _condition(join: exp.Join) -> list[exp.Expression]:
    return [join.args["on"]] if join.args.get("on") is not None else []


def _is_comma(join: exp.Join) -> bool:
    words = ("method", "side", "kind", "on", "using")
    return not any(join.args.get(word) for word in words) and not noted(join, "plain")


def columns_of(ref: TableRef) -> list[exp.Column]:
    """Return the columns of ``t.*``.

    Raises
    ------
    SkyError
        1235 for a derived table that has a column without a name of its own: how it is called hangs on its text.
    """
    if isinstance(ref.node, exp.Subquery) and not (ref.node.args["alias"].args.get("columns")):
        query = ref.node.this
        while isinstance(query, (exp.SetOperation, exp.Subquery)):
            query = query.this
        for item in query.expressions if isinstance(query, exp.Select) else ():
            if not isinstance(item, (exp.Alias, exp.Column, exp.Star)):
                raise not_supported("* over a column without a name", "name it with AS")
    return [column_of(ref, column.name) for column in ref.table.columns]


def star_columns(select: exp.Expression, scope: Scope) -> list[exp.Column]:
    """Return the columns of ``*`` in MariaDB's order: of a join with USING, its common columns first.

    Raises
    ------
    SkyError
        1235 for a RIGHT JOIN with USING, whose order is another one, and as of `columns_of`.
    """
    joins = select.args.get("joins") or []
    columns: list[exp.Column] = []
    refs = list(scope.refs)
    for index, ref in enumerate(refs):
        join = joins[index - 1] if index else None
        common = {item.name.lower() for item in join.args.get("using") or ()} if join is not None else set()
        if join is not None and str(join.args.get("method") or "").upper() == "NATURAL":
            common = {name.lower() for name in _common(index, refs)}
        if common and join is not None and str(join.args.get("side") or "").upper() == "RIGHT":
            raise not_supported("* over a RIGHT JOIN with USING", "name the columns")
        first = [column for column in columns if column.name.lower() in common]
        rest = [column for column in columns if column.name.lower() not in common]
        own = [column for column in columns_of(ref) if column.name.lower() not in common]
        columns = [*first, *rest, *own]
    return columns


def _common(index: int, refs: list[TableRef]) -> list[str]:
    """Return the visible column names that a table shares with those before it (NATURAL JOIN)."""
    before = {column.name.lower() for ref in refs[:index] for column in ref.table.columns}
    return [column.name for column in refs[index].table.columns if column.name.lower() in before]


def column_of(ref: TableRef, name: str) -> exp.Column:
    """Return a column of a table of FROM, qualified with its alias."""
    return exp.Column(
        this=exp.to_identifier(name, quoted=True), table=exp.to_identifier(ref.alias, quoted=True)
    )


__all__ = [
    "DERIVED",
    "Derived",
    "Everywhere",
    "Scope",
    "Step",
    "TableRef",
    "columns_of",
    "read_scope",
    "star_columns",
]
