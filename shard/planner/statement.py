"""A statement as the user wrote it: read and proved once, planned when its parameters are known.

The choice of strategy is made here: counter, chunk-local (`planner.plan_select`), or gather.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import msgspec
from sqlglot import exp

from shard.catalog.model import Database, Partitioning, Table
from shard.errors import NOT_SUPPORTED, TOO_DEEP, SkyError, not_supported, too_long
from shard.planner import fragment as writing
from shard.planner import functions, medians, strategies, unions
from shard.planner.branches import bare, find
from shard.planner.constants import Value, integer, write_positions
from shard.planner.context import Context
from shard.planner.ctes import inline
from shard.planner.definable import over_empty
from shard.planner.emit import CHUNK_MARK, KEYS_MARK, construct_name, emit
from shard.planner.fence import SyntaxProblem, parse
from shard.planner.fetch_first import as_limit
from shard.planner.headers import keep_headers, select_headers
from shard.planner.implicit_names import with_names
from shard.planner.lexer import MOST_TOKENS, LexerMode, Token, TokenKind, texts_of, tokenize
from shard.planner.needs import area_calls, area_positions, expand_areas
from shard.planner.plan import (
    Plan,
    Sql,
)
from shard.planner.planner import plan_select
from shard.planner.refusals import (
    MOST_OPEN_JOINS,
    open_joins,
    refuse_meanings,
    refuse_whole,
    refuse_words,
    screen,
)
from shard.planner.roundtrip import prove
from shard.planner.scope import catalogue_tables, flatten_joins, lookup, reads_sharded
from shard.planner.session_parts import may_need, put_session, session_values
from shard.planner.stand_ins import ALL_ROWS
from shard.planner.views import Views, expand


class Statement:
    """A parsed statement on sharded tables: its tree is made once, its plan when parameters are known.

    `tree` is None for a statement that only MariaDB can parse: its tables are gathered whole.
    """

    def __init__(
        self,
        text: str,
        tokens: list[Token],
        tree: exp.Expression | None,
        database: str | None,
        catalogue: Mapping[str, Database],
        heavy: frozenset[tuple[str, str]] = frozenset(),
        original: Statement | None = None,
    ) -> None:
        self._heavy, self._original = heavy, original
        self.text, self.tokens, self.tree = text, tokens, tree
        self.database, self.catalogue = database, catalogue
        self.words = texts_of(tokens)
        """All tokens of the text in upper case: what is not among them need not be looked for in the tree."""
        marked = "?" in self.words
        self.parameters = sum(kind is TokenKind.PARAMETER for kind, _, _ in tokens) if marked else 0
        self.needs = () if tree is None or not may_need(self.words) else session_values(tree)
        """Expressions whose values belong to the session: they are read there and put into fragments."""
        self.own = () if tree is None else _own_tables(tree, self.words, database, catalogue)
        """(database or None, name) of tables that are not the catalogue's: the user's own."""

    def over(
        self, own: Iterable[tuple[str, Table]], heavy: frozenset[tuple[str, str]] = frozenset()
    ) -> Statement:
        """Return the statement with what is known of the user's own tables.

        Parameters
        ----------
        own : iterable of (str, Table)
            Database and table.
        heavy : frozenset of (str, str)
            Database and name of those that cannot be sent to the workers.
        """
        catalogue = dict(self.catalogue)
        for name, table in own:
            before = catalogue.get(name)
            if before is None:
                catalogue[name] = Database(
                    name=name, partitioning=Partitioning(stripes=1, sub_stripes=1), tables=(table,)
                )
            else:
                catalogue[name] = msgspec.structs.replace(before, tables=(*before.tables, table))
        return Statement(self.text, self.tokens, self.tree, self.database, catalogue, heavy, self._original)

    def prepared(self) -> str:
        """Return text with native stand-ins for skyshard's functions, to PREPARE at home."""
        if self._original is not None:
            return self._original.prepared()
        if self.tree is None or not self.uses_functions:
            return self.text
        return writing.logical(self.stand_ins()).text

    def stand_ins(self) -> exp.Expression:
        """Return the tree, views as they were named, with native stand-ins for skyshard's functions."""
        if self._original is not None:
            return self._original.stand_ins()
        if self.tree is None:
            raise TypeError("a statement that only MariaDB can parse has no tree")
        tree = self.tree.copy()
        context = Context(self.database, self.catalogue, ())
        for select in list(tree.find_all(exp.Select)):  # an area reads positions that it does not name
            positions = [place.copy() for pair in area_positions(select, context) for place in pair]
            for call in area_calls(select):
                call.replace(_stand_in(call, positions))
        for call in reversed(find(tree, exp.Anonymous)):  # inner calls first
            if call.name.lower().startswith("scisql_"):
                call.replace(_stand_in(call))
        return tree

    def context(self, values: Sequence[Value], explicit: bool = False) -> Context:
        """Return the context of its queries; `explicit`: its rows fill a table, so that columns must be listed."""
        return Context(self.database, self.catalogue, values, self._heavy, explicit)

    def plan(
        self,
        values: Sequence[Value] = (),
        default_limit: int | None = None,
        session: Mapping[str, str] | None = None,
        explicit: bool = False,
        shown: Mapping[str, str] = MappingProxyType({}),
    ) -> Plan:
        """Return the plan.

        Parameters
        ----------
        values : sequence
            Parameter values.
        default_limit : int or None
            The session's sql_select_limit.
        session : mapping
            SQL literals of what `needs` names; without them, the expressions stay (EXPLAIN).
        explicit : bool
            The rows fill a table, column by column.
        shown : mapping
            For EXPLAIN: SQL literals of what `needs` names, by which polygons in variables are known.
        """
        context = self.context(values, explicit)
        if self.tree is None:
            planned = strategies.whole_tables(self.tokens, Sql(self.text), context, default_limit)
            return replace(planned, counts_all=not planned.never)

        def fresh() -> tuple[exp.Expression, tuple[int, int | None] | None]:
            tree = self.resolved(values, session or {}, shown)
            flatten_joins(tree)
            write_positions(tree, values)
            return tree, _window(tree, context, default_limit)

        try:
            tree, window = fresh()
            if window is not None:
                default_limit = None
            offset, unites = _offset(tree, values), _is_limited_union(tree)
            planned = self._planned(tree, context, default_limit, lambda: fresh()[0], window is None)
        except RecursionError as error:
            raise SkyError(TOO_DEEP) from error
        if window is not None:
            return replace(planned, window=window)
        counts_all = unites and planned.gather is not None and not planned.never
        return replace(planned, offset=offset, counts_all=counts_all) if offset or counts_all else planned

    @property
    def reads_views(self) -> bool:
        """Whether views stood in it, of which its text has the definitions."""
        return self._original is not None

    @property
    def uses_functions(self) -> bool:
        """Whether it may call functions of skyshard's."""
        return any(word.startswith(("SCISQL_", "QSERV_AREASPEC_")) for word in self.words)

    def resolved(
        self,
        values: Sequence[Value],
        session: Mapping[str, str],
        shown: Mapping[str, str] = MappingProxyType({}),
    ) -> exp.Expression:
        """Return a copy of the tree with the session's values, without WITH and without medians."""
        if self.tree is None:
            raise TypeError("a statement that only MariaDB can parse has no tree")
        tree = self.tree.copy()
        if self.needs:
            tree = put_session(tree, session)
        if "WITH" in self.words:
            tree = inline(tree)
        if self.uses_functions:
            medians.unfold(tree, self.context(values))
            functions.unfold_polygons(tree, explained=not session, shown=shown)
        return tree

    def _planned(
        self,
        tree: exp.Expression,
        context: Context,
        default_limit: int | None,
        again: Callable[[], exp.Expression],
        counts: bool,
    ) -> Plan:
        native = native_sql(self, context)
        tables = catalogue_tables(tree, self.database, self.catalogue)
        counted = strategies.counter(tree, context, default_limit, native, tables) if counts else None
        if counted is not None:
            return counted
        refusal = not_supported(construct_name(tree))
        select = tree if isinstance(tree, exp.Select) else unions.as_select(tree)
        if select is not None:
            try:
                return plan_select(
                    select, context, default_limit, native, tables, streams=not context.explicit
                )
            except SkyError as error:
                if error.code is not NOT_SUPPORTED:
                    raise
                refusal = error
            tree = again()  # for the first has been changed
        return strategies.gathered(tree, context, default_limit, native, tables, refusal)


def _window(
    tree: exp.Expression, context: Context, default_limit: int | None
) -> tuple[int, int | None] | None:
    """Take SQL_CALC_FOUND_ROWS and LIMIT out of a tree: (rows to pass over, rows to send), or None."""
    first = _first_select(tree)
    words = first.args.get("operation_modifiers") if first is not None else None
    if first is None or not words or "SQL_CALC_FOUND_ROWS" not in [str(word).upper() for word in words]:
        return None
    rest = [word for word in words if str(word).upper() != "SQL_CALC_FOUND_ROWS"]
    first.set("operation_modifiers", rest or None)
    limit, offset = tree.args.get("limit"), tree.args.get("offset")
    most = integer(limit.expression, context.values) if limit is not None else default_limit
    skip = integer(offset.expression, context.values) if offset is not None else 0
    if skip is None or (limit is not None and most is None):
        raise not_supported("LIMIT of anything but numbers with SQL_CALC_FOUND_ROWS", "write numbers")
    tree.set("limit", None)
    tree.set("offset", None)
    return skip, most


def _offset(tree: exp.Expression, values: Sequence[Value]) -> int:
    """Return the number of rows that a statement passes over; 0 if it is not known, or LIMIT 0 ends it before."""
    query = bare(tree)
    limit, offset = query.args.get("limit"), query.args.get("offset")
    if offset is None or (limit is not None and integer(limit.expression, values) == 0):
        return 0
    return (integer(offset.expression, values) or 0) & ALL_ROWS


def _is_limited_union(tree: exp.Expression) -> bool:
    query = bare(tree)
    return isinstance(query, exp.SetOperation) and query.args.get("limit") is not None


def _own_tables(
    tree: exp.Expression, words: frozenset[str], database: str | None, catalogue: Mapping[str, Database]
) -> tuple[tuple[str | None, str], ...]:
    """Return the names of tables that are neither the catalogue's nor common table expressions."""
    clauses = find(tree, exp.With) if "WITH" in words else ()
    common = {item.alias.lower() for clause in clauses for item in clause.expressions}
    found: dict[tuple[str | None, str], None] = {}
    for node in find(tree, exp.Table):
        home = node.args["db"].name if node.args.get("db") is not None else None
        if home is None and (node.name.lower() in common or node.name.lower() == "dual"):
            continue
        if lookup(node, database, catalogue) is None:
            found[(home or database, node.name)] = None
    return tuple(found)


def _stand_in(call: exp.Expression, reads: Sequence[exp.Expression] = ()) -> exp.Expression:
    """Return a native expression with the call's arguments in order, what else it reads, and its type."""
    if call.name.lower() in medians.NAMES:
        return exp.Anonymous(this="AVG", expressions=[item.copy() for item in call.expressions[:1]])
    is_test = "ptin" in call.name.lower() or "areaspec" in call.name.lower()
    name = "ISNULL" if is_test else "ABS"
    items = [item.copy() for item in [*call.expressions, *reads]]
    parts = exp.Anonymous(this="CONCAT", expressions=items)
    return exp.Anonymous(this=name, expressions=[parts])


def read(
    text: str,
    database: str | None,
    catalogue: Mapping[str, Database],
    mode: LexerMode,
    views: Views = MappingProxyType({}),
) -> Statement | None:
    """Return the statement if it is a query that reads sharded tables, else None.

    Views that read sharded tables are replaced by their definitions.

    Raises
    ------
    SkyError
        If it reads sharded tables in a way that is refused.
    SyntaxProblem
        If it cannot be parsed here and names no sharded table.
    """
    if CHUNK_MARK in text or KEYS_MARK in text:
        raise not_supported("the characters U+E000 and U+E001")
    first = said = tokenize(text, mode, MOST_TOKENS)
    tokens: list[Token] = first
    if first.cut:
        refuse_whole(tokens, database, catalogue, too_long(MOST_TOKENS))
    original: Statement | None = None
    try:
        if open_joins(tokens) > MOST_OPEN_JOINS:
            raise not_supported(f"more than {MOST_OPEN_JOINS} joins without ON", "write CROSS JOIN")
        named = as_limit(with_names(text, tokens))
        tree: exp.Expression | None = parse(named)
        if views and tree is not None:
            text, tokens, original = _unfold(text, tokens, named, tree, database, catalogue, mode, views)
        if tree is not None and not reads_sharded(tree, database, catalogue):
            return None
        if not isinstance(tree, (exp.Select, exp.SetOperation, exp.Subquery)):
            raise not_supported(type(tree).__name__.upper())
        refuse_meanings(said, mode)
        if original is None:
            prove(named, tree, mode)
        if "DUAL" in texts_of(tokens):
            _drop_dual(tree)
    except RecursionError:
        refuse_whole(tokens, database, catalogue, SkyError(TOO_DEEP))
    except (SyntaxProblem, SkyError) as problem:
        tree = None
        refuse_whole(tokens, database, catalogue, problem)
    refuse_words(tokens)
    if tree is not None:
        screen(tree)
    return Statement(text, tokens, tree, database, catalogue, original=original)


def _drop_dual(tree: exp.Expression) -> None:
    """Take ``FROM DUAL``, which is no table, out of a tree."""
    for table in find(tree, exp.Table):
        name = table.this
        if (
            isinstance(name, exp.Identifier) and not name.args.get("quoted") and name.name.upper() == "DUAL"
            and table.args.get("db") is None and isinstance(table.parent, exp.From) and table.parent.parent is not None
        ):  # fmt: skip
            table.parent.parent.set(table.parent.arg_key or "from_", None)


def _unfold(
    text: str,
    tokens: list[Token],
    named: list[Token],
    tree: exp.Expression,
    database: str | None,
    catalogue: Mapping[str, Database],
    mode: LexerMode,
    views: Views,
) -> tuple[str, list[Token], Statement | None]:
    """Put views' definitions into a tree, in place; return the new text and tokens, and what it was before."""
    before = tree.copy()
    if not expand(tree, database, views, catalogue):
        return text, tokens, None
    prove(named, before, mode)
    first = _first_select(tree)
    if first is not None:
        keep_headers(first, select_headers(text, tokens))
    original = Statement(text, tokens, before, database, catalogue)
    text = emit(tree)
    return text, tokenize(text, mode), original


def native(text: str, mode: LexerMode) -> str | None:
    """Return a statement without sharded tables with skyshard's functions made native; None: unchanged."""
    tokens = tokenize(text, mode)
    named = as_limit(with_names(text, tokens))
    try:
        tree = None if open_joins(tokens) > MOST_OPEN_JOINS else parse(named)
    except SyntaxProblem:
        return None
    if tree is None:
        return None
    if not functions.uses_functions(tree):
        return None
    refuse_meanings(tokens, mode)
    prove(named, tree, mode)
    headers = select_headers(text, tokens) if _first_select(tree) is not None else []
    medians.unfold(tree, None)
    tree = functions.rewrite(tree, ())
    first = _first_select(tree)
    if first is not None:
        keep_headers(first, headers)
    return emit(tree)


def native_sql(statement: Statement, context: Context) -> Sql:
    """Return the whole statement over the logical tables, native functions only, as empty tables can define it."""
    shaped = None if "ROLLUP" not in statement.words or statement.tree is None else over_empty(statement.tree)
    if statement.tree is None or not (statement.uses_functions or shaped is not None):
        return Sql(statement.text, tuple(range(statement.parameters)))
    tree = statement.tree.copy() if shaped is None else shaped
    headers = select_headers(statement.text, statement.tokens)
    if statement.uses_functions:
        for select in tree.find_all(exp.Select):
            expand_areas(select, context)
        medians.unfold(tree, context)
        tree = functions.rewrite(tree, context.values)
    first = _first_select(tree)
    if first is not None:
        keep_headers(first, headers)
    return writing.logical(tree)


def _first_select(tree: exp.Expression) -> exp.Select | None:
    node: object = tree
    while isinstance(node, (exp.SetOperation, exp.Subquery)):
        node = node.this
    return node if isinstance(node, exp.Select) else None


__all__ = ["Statement", "SyntaxProblem", "native", "read"]
