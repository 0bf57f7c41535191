"""The planner: a statement and the catalogue in, a plan out, without IO.

Read `plan_select` to know its passes; each is a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from shard.catalog.model import Database
from shard.errors import not_supported
from shard.planner import fragment as writing
from shard.planner import functions, restrict
from shard.planner.constants import Value, conjuncts, integer
from shard.planner.emit import CHUNK_MARK, emit
from shard.planner.fence import SyntaxProblem, parse
from shard.planner.lexer import LexerMode, Token, TokenKind, tokenize
from shard.planner.locality import Layout, layout
from shard.planner.plan import (
    AllOf,
    AnyOf,
    ByKey,
    Fragment,
    InChunks,
    Merge,
    PartialType,
    Plan,
    Restriction,
    Sql,
    Strategy,
)
from shard.planner.roundtrip import prove
from shard.planner.scope import Scope, lookup, read_scope, tables_in
from shard.planner.split import Draft, split

# Functions whose value belongs to the session or the query, not to a worker.
_PER_SESSION = frozenset(
    [
        "user",
        "current_user",
        "session_user",
        "system_user",
        "current_role",
        "database",
        "schema",
        "connection_id",
        "found_rows",
        "row_count",
        "last_insert_id",
        "uuid_short",
        "get_lock",
        "release_lock",
        "is_free_lock",
        "is_used_lock",
        "release_all_locks",
        "sleep",
        "benchmark",
        "load_file",
        "nextval",
        "lastval",
        "setval",
        "master_pos_wait",
        "version",
    ]
)


class Statement:
    """A parsed SELECT on sharded tables: its tree is made once, its plan when parameters are known."""

    def __init__(
        self,
        text: str,
        tokens: list[Token],
        tree: exp.Select,
        database: str | None,
        catalogue: Mapping[str, Database],
    ) -> None:
        self.text, self.tokens, self.tree = text, tokens, tree
        self.database, self.catalogue = database, catalogue
        self.parameters = sum(token.kind is TokenKind.PARAMETER for token in tokens)

    def prepared(self) -> str:
        """Return text with native stand-ins for skyshard's functions, to PREPARE at home."""
        if not uses_functions(self.tree):
            return self.text
        tree = self.tree.copy()
        for call in list(tree.find_all(exp.Anonymous)):
            if call.name.lower().startswith(("scisql_", "qserv_areaspec_")):
                call.replace(_stand_in(call))
        return writing.logical(tree).text

    def plan(self, values: Sequence[Value] = (), default_limit: int | None = None) -> Plan:
        """Return the plan for these parameter values."""
        return plan_select(self, values, default_limit)


def _stand_in(call: exp.Expression) -> exp.Expression:
    """Return a native expression with the call's arguments in order and the type of its value."""
    is_test = "ptin" in call.name.lower() or "areaspec" in call.name.lower()
    name = "ISNULL" if is_test else "ABS"
    parts = exp.Anonymous(this="CONCAT", expressions=[item.copy() for item in call.expressions])
    return exp.Anonymous(this=name, expressions=[parts])


def uses_functions(tree: exp.Expression) -> bool:
    """Whether a tree calls functions of skyshard's."""
    return any(
        call.name.lower().startswith(("scisql_", "qserv_areaspec_")) for call in tree.find_all(exp.Anonymous)
    )


def read(
    text: str, database: str | None, catalogue: Mapping[str, Database], mode: LexerMode
) -> Statement | None:
    """Return the statement if it is a SELECT that reads sharded tables, else None.

    Raises
    ------
    SkyError
        If it reads sharded tables in a way that is refused.
    SyntaxProblem
        If it cannot be parsed here.
    """
    if CHUNK_MARK in text:
        raise not_supported("the character U+E000")
    tokens = tokenize(text, mode)
    tree = parse(tokens)
    sharded = False
    for node in tables_in(tree):
        found = lookup(node, database, catalogue)
        sharded = sharded or (found is not None and found[1].is_sharded)
    if not sharded:
        return None
    if not isinstance(tree, exp.Select):
        raise not_supported(type(tree).__name__.upper())
    _screen(tree)
    prove(tokens, tree)
    return Statement(text, tokens, tree, database, catalogue)


def native(text: str, mode: LexerMode) -> str | None:
    """Return a statement without sharded tables with skyshard's functions made native; None: unchanged."""
    tokens = tokenize(text, mode)
    try:
        tree = parse(tokens)
    except SyntaxProblem:
        return None
    if not uses_functions(tree):
        return None
    prove(tokens, tree)
    if isinstance(tree, exp.Select):
        headers = select_headers(text, tokens)
        tree = _as_select(functions.rewrite(tree, ()))
        _keep_headers(tree, headers)
    else:
        tree = functions.rewrite(tree, ())
    return emit(tree)


def _screen(tree: exp.Select) -> None:
    """Refuse by name what is not distributed."""
    for node in tree.walk():
        if node is not tree and isinstance(node, (exp.Select, exp.Subquery, exp.SetOperation)):
            raise not_supported("a subquery", "write it as a join")
        if isinstance(node, exp.Window):
            raise not_supported("a window function")
        if isinstance(node, exp.Literal) and str(node.this).startswith("@"):
            raise not_supported(f"the variable {node.this}", "write its value")
        if isinstance(node, exp.Literal) and str(node.this).upper() in ("CURRENT_USER", "CURRENT_ROLE"):
            raise not_supported(str(node.this).upper())
        if isinstance(node, exp.Anonymous):
            name = node.name.lower()
            if name in _PER_SESSION or (name == "rand" and node.expressions):
                raise not_supported(f"{node.name}()", "write its value")


def plan_select(statement: Statement, values: Sequence[Value], default_limit: int | None) -> Plan:
    """Return the plan of a SELECT.

    The passes: names → regions → layout → restriction → native functions → split → plan.
    """
    tree = statement.tree.copy()
    scope = read_scope(tree, statement.database, statement.catalogue)
    if restrict.expand_area_specs(tree, scope):
        scope = read_scope(tree, statement.database, statement.catalogue)
    where = conjuncts(tree.args["where"].this if tree.args.get("where") is not None else None)
    place = layout(scope, where, values)
    inner = [*where, *(part for item in scope.conditions for part in conjuncts(item))]
    restriction = restrict.restriction(scope, place, inner, values)
    if any(_is_false(item, values) for item in where):
        restriction = InChunks(())
    rewritten = uses_functions(tree)
    if rewritten:
        headers = select_headers(statement.text, statement.tokens)
        filters = frozenset(id(call) for item in inner for call in _tests(item))
        tree = _as_select(functions.rewrite(tree, values, filters))
        _keep_headers(tree, headers)
        scope = read_scope(tree, statement.database, statement.catalogue)
        place = _same_layout(place, scope)
    draft = split(tree, scope, place, values, default_limit)
    return _plan(statement, tree, scope, draft, restriction, rewritten)


def _plan(
    statement: Statement,
    tree: exp.Select,
    scope: Scope,
    draft: Draft,
    restriction: Restriction,
    rewritten: bool,
) -> Plan:
    native = writing.logical(tree) if rewritten else Sql(statement.text, tuple(range(statement.parameters)))
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
        tables=tuple(dict.fromkeys((ref.database, ref.table) for ref in scope.refs)),
        restriction=restriction,
        merge=merge,
        limit=draft.limit,
        skip=draft.skip,
        interactive=routed or _is_small(restriction),
        never=draft.limit == 0 and merge is None,
        draft=draft,
    )


def _partial(fragment: exp.Select) -> Sql:
    select = fragment.copy()
    select.set("limit", None)
    select.set("offset", None)
    select.set("order", None)
    return writing.logical(select)


def fragment(plan: Plan, types: Sequence[PartialType] = ()) -> Fragment:
    """Return the SQL that workers run for each chunk; `types` are the partial columns' (second step)."""
    if not isinstance(plan.draft, Draft):
        raise TypeError("the plan has no draft")
    return writing.write(plan.draft, types)


def _as_select(tree: exp.Expression) -> exp.Select:
    if not isinstance(tree, exp.Select):
        raise TypeError("a SELECT stays a SELECT")
    return tree


def _same_layout(place: Layout, scope: Scope) -> Layout:
    """Return the layout with the tables of a scope that was read again."""
    from dataclasses import replace

    by = {ref.alias: ref for ref in scope.refs}
    neighbours = place.neighbours
    if neighbours is not None:
        neighbours = replace(neighbours, anchor=by[neighbours.anchor.alias], near=by[neighbours.near.alias])
    return replace(
        place,
        anchor=by[place.anchor.alias],
        owners=tuple(by[ref.alias] for ref in place.owners),
        partner=None if place.partner is None else by[place.partner.alias],
        neighbours=neighbours,
    )


def _tests(item: exp.Expression) -> list[exp.Expression]:
    """Return the point test that a conjunct is, bare or `= 1`."""
    if isinstance(item, exp.EQ):
        for call, one in ((item.this, item.expression), (item.expression, item.this)):
            if integer(one) == 1 and isinstance(call, exp.Anonymous):
                return [call]
        return []
    return [item] if isinstance(item, exp.Anonymous) else []


def _is_false(item: exp.Expression, values: Sequence[Value]) -> bool:
    return (isinstance(item, exp.Boolean) and not item.this) or integer(item, values) == 0


def _routes(restriction: Restriction) -> bool:
    if isinstance(restriction, (ByKey, InChunks)):
        return True
    if isinstance(restriction, AllOf):
        return any(_routes(part) for part in restriction.parts)
    return isinstance(restriction, AnyOf) and all(_routes(part) for part in restriction.parts)


def _is_small(restriction: Restriction) -> bool:
    from shard.geometry.regions import Circle
    from shard.planner.plan import InRegion

    if isinstance(restriction, AllOf):
        return any(_is_small(part) for part in restriction.parts)
    region = restriction.region if isinstance(restriction, InRegion) else None
    return isinstance(region, Circle) and region.radius <= 1.0


def select_headers(text: str, tokens: list[Token]) -> list[str | None]:
    """Return the source text of every select item without an alias (None: it has a name of its own)."""
    start = next(index for index, token in enumerate(tokens) if token.upper == "SELECT") + 1
    while start < len(tokens) and tokens[start].upper in ("DISTINCT", "ALL", "SQL_NO_CACHE", "SQL_CACHE"):
        start += 1
    depth, first, headers = 0, start, []
    for index in range(start, len(tokens) + 1):
        token = tokens[index] if index < len(tokens) else None
        ends = token is None or (depth == 0 and token.kind is TokenKind.WORD and token.upper == "FROM")
        if ends or (depth == 0 and token is not None and token.text == ","):
            last = tokens[index - 1]
            headers.append(text[tokens[first].start : last.start + len(last.text)])
            first = index + 1
            if ends:
                break
        elif token is not None:
            depth += (token.text == "(") - (token.text == ")")
    return list(headers)


def _keep_headers(tree: exp.Select, headers: list[str | None]) -> None:
    """Name rewritten select items as MariaDB would name the user's text."""
    if len(headers) != len(tree.expressions):
        return
    items: list[exp.Expression] = []
    for item, header in zip(tree.expressions, headers, strict=True):
        if isinstance(item, exp.Paren) and header and "scisql_" in header.lower():
            name = exp.to_identifier(header[:255], quoted=True)
            items.append(exp.Alias(this=item, alias=name))
        elif (
            header and "scisql_" in header.lower() and not isinstance(item, (exp.Alias, exp.Column, exp.Star))
        ):
            items.append(exp.Alias(this=item, alias=exp.to_identifier(header[:255], quoted=True)))
        else:
            items.append(item)
    tree.set("expressions", items)


__all__ = ["Statement", "SyntaxProblem", "fragment", "plan_select", "read"]
