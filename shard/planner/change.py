"""Takes an UPDATE or DELETE of a user's own tables apart, and plans it if it reads sharded tables.

Its tables, values and conditions are read as a SELECT (``SELECT a, 1, b, x FROM … WHERE …`` for ``SET a = 1,
b = x``), whose sharded tables are gathered like those of any other; put together again, the statement runs
in the user's session over the gathered rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from shard.catalog.model import Kind
from shard.errors import READ_ONLY, SkyError, not_supported
from shard.planner import fragment as writing
from shard.planner import gather as gathering
from shard.planner.constants import Value
from shard.planner.context import Context
from shard.planner.lexer import Token, TokenKind, unquote
from shard.planner.needs import item_names
from shard.planner.plan import Gather, Plan, Sql, Strategy
from shard.planner.planner import plan_select
from shard.planner.scope import catalogue_tables, column_names, flatten_joins, from_items, lookup
from shard.planner.stand_ins import without_alias
from shard.planner.statement import Statement

_MODIFIERS = frozenset({"LOW_PRIORITY", "QUICK", "IGNORE"})
_REST = frozenset({"WHERE", "ORDER", "LIMIT"})
_NAMES = (TokenKind.WORD, TokenKind.QUOTED)
_QUERY = frozenset({"SELECT", "WITH", "VALUES", "TABLE"})
_SEVERAL = frozenset({",", "JOIN", "STRAIGHT_JOIN"})
_NO_ITEM = "SELECT 1"


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the pieces of an UPDATE or DELETE stand, as numbers of tokens.

    Attributes
    ----------
    refs, items, rest : tuple of int
        First token, and the first behind: table references; what SET assigns; WHERE, ORDER BY and LIMIT.
    columns : tuple of (str, str)
        What SET assigns to, in lower case: the table as it is named there (or nothing), and the column.
    listed : frozenset of str
        The tables that DELETE lists before its table references, in lower case.
    several : bool
        Whether there may be more than one table.
    """

    refs: tuple[int, int]
    items: tuple[int, int]
    rest: tuple[int, int]
    columns: tuple[tuple[str, str], ...]
    listed: frozenset[str]
    several: bool

    def writes(self, names: Sequence[str], columns: frozenset[str] | None) -> bool:
        """Whether a table is written.

        Parameters
        ----------
        names : sequence of str
            What it may be called in the statement.
        columns : frozenset of str or None
            Its columns in lower case; None if they are not known.
        """
        if not self.several:
            return True
        called = {name.lower() for name in names}
        return not called.isdisjoint(self.listed) or any(
            table in called if table else columns is None or column in columns
            for table, column in self.columns
        )


def cut(tokens: Sequence[Token]) -> Cut | None:
    """Return where the pieces of an UPDATE or DELETE stand; None for what is neither, or is not understood."""
    verb = tokens[0].upper if tokens and tokens[0].kind is TokenKind.WORD else ""
    start = 1
    while start < len(tokens) and tokens[start].upper in _MODIFIERS:
        start += 1
    found: dict[str, int] = {}
    for index, word in _words(tokens, start):
        found.setdefault(word, index)
    end = min((found[word] for word in (*_REST, "RETURNING") if word in found), default=len(tokens))
    stop = found.get("RETURNING", len(tokens))
    listed: frozenset[str] = frozenset()
    items = (end, end)
    if verb == "UPDATE" and found.get("SET", end) < end:
        items = (found["SET"] + 1, end)
        refs = (start, found["SET"])
    elif verb == "DELETE" and found.get("FROM", end) < end:
        begin = found["FROM"] + 1
        refs = (begin, end)
        if found["FROM"] > start:
            listed = _listed(tokens[start : found["FROM"]])
        elif (using := found.get("USING", end)) < end:
            listed, refs = _listed(tokens[begin:using]), (using + 1, end)
    else:
        return None
    columns = [_assigned(tokens[slice(*item)]) for item in _split(tokens, *items)]
    if None in columns:
        return None
    several = bool(listed) or any(token.upper in _SEVERAL for token in tokens[slice(*refs)])
    return Cut(refs, items, (end, stop), tuple(item for item in columns if item), listed, several)


def _words(tokens: Sequence[Token], start: int) -> Iterator[tuple[int, str]]:
    """Yield number and upper case of the words that stand in no parentheses."""
    depth = 0
    for index in range(start, len(tokens)):
        token = tokens[index]
        if depth == 0 and token.kind is TokenKind.WORD and tokens[index - 1].text != ".":
            yield index, token.upper
        depth += (token.text == "(") - (token.text == ")")


def _listed(tokens: Sequence[Token]) -> frozenset[str]:
    """Return the last parts of a list of tables, ``a, b.c, d.*``."""
    return frozenset(
        unquote(token).lower()
        for index, token in enumerate(tokens)
        if token.kind in _NAMES and (tokens[index + 1].text if index + 1 < len(tokens) else ",") in (",", ".")
    )


def _split(tokens: Sequence[Token], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield where the pieces between commas stand."""
    depth, first = 0, start
    for index in range(start, stop):
        text = tokens[index].text
        if depth == 0 and text == ",":
            yield first, index
            first = index + 1
        depth += (text == "(") - (text == ")")
    if start < stop:
        yield first, stop


def _assigned(tokens: Sequence[Token]) -> tuple[str, str] | None:
    """Return the table (or nothing) and the column that ``a.b = …`` assigns to."""
    at = next((index for index, token in enumerate(tokens) if token.text in ("=", ":=")), 0)
    names = [unquote(token).lower() for token in tokens[:at] if token.kind in _NAMES]
    if not names or tokens[at].text != "=":
        return None
    return (names[-2] if len(names) > 1 else "", names[-1])


def written_names(tokens: Sequence[Token], where: Cut) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number of each token that may name a written table, and what the table may be called.

    What stands in subqueries is only read. Any other name counts: no table is missed, though it may be a column.
    """
    inside: list[bool] = []
    for index in range(1, where.refs[1]):
        token = tokens[index]
        if token.text == "(":
            after = next((item.upper for item in tokens[index:] if item.text != "("), "")
            inside.append(after in _QUERY or (bool(inside) and inside[-1]))
        elif token.text == ")" and inside:
            inside.pop()
        elif token.kind in _NAMES and not (inside and inside[-1]):
            following = [item for item in tokens[index + 1 : index + 3] if item.upper != "AS"][:1]
            names = [token, *(item for item in following if item.kind in _NAMES)]
            yield index, tuple(unquote(item) for item in names)


# planning ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """The text of an UPDATE or DELETE in pieces.

    Attributes
    ----------
    head : str
        What stands before the table references.
    items : tuple of (str, str or None)
        Column and value of each assignment; None for ``DEFAULT``.
    query : str
        The SELECT that reads what the statement reads.
    tail : str
        RETURNING.
    order : tuple of int
        The statement's parameters in the order of `query`, those of `tail` behind.
    """

    verb: str
    head: str
    items: tuple[tuple[str, str | None], ...]
    query: str
    tail: str
    order: tuple[int, ...]
    where: Cut

    def around(self, tree: exp.Select, inner: int) -> Sql:
        """Return the statement over the tables that a tree of `query` has now; `inner`: parameters of `query`."""
        tree = tree.copy()
        bare = exp.Select(expressions=[exp.Literal(this="1", is_string=False)])
        refs, rest = bare.copy(), bare
        for key, value in tree.args.items():
            if key in ("from_", "joins"):
                refs.set(key, value)
            elif key != "expressions":
                rest.set(key, value)
        behind = writing.logical(rest)
        before = writing.logical(refs)
        values = iter(tree.expressions)
        pieces: list[Sql] = [Sql(self.head), _without(before, f"{_NO_ITEM} FROM ")]
        for index, (column, value) in enumerate(self.items):
            pieces.append(Sql(" SET " if index == 0 else ", "))
            if value is None:
                pieces.append(Sql(f"{column} = DEFAULT"))
            else:
                pieces += [writing.logical(next(values)), Sql(" = "), writing.logical(next(values))]
        pieces += [_without(behind, _NO_ITEM), Sql(f" {self.tail}", tuple(range(inner, len(self.order))))]
        return Sql(
            "".join(piece.text for piece in pieces),
            tuple(number for piece in pieces for number in piece.parameters),
        )


def _without(sql: Sql, head: str) -> Sql:
    if not sql.text.startswith(head):
        raise ValueError("a SELECT is written otherwise than it was")
    return Sql(sql.text[len(head) :], sql.parameters)


def find(text: str, tokens: Sequence[Token]) -> Change | None:
    """Return the pieces of an UPDATE or DELETE; None for any other statement."""
    where = cut(tokens)
    if where is None:
        return None
    places = [token.start for token in tokens] + [len(text)]

    def piece(start: int, stop: int) -> str:
        return text[places[start] : places[stop]].strip()

    def numbers(start: int, stop: int) -> list[int]:
        return [index for index in marks if start <= index < stop]

    marks = [index for index, token in enumerate(tokens) if token.kind is TokenKind.PARAMETER]
    items: list[tuple[str, str | None]] = []
    listed: list[str] = []
    for start, stop in _split(tokens, *where.items):
        at = next(index for index in range(start, stop) if tokens[index].text == "=")
        column, value = piece(start, at), piece(at + 1, stop).rstrip(", ")
        default = at + 2 == stop and tokens[at + 1].upper == "DEFAULT"
        items.append((column, None if default else value))
        listed += [] if default else [column, value]
    if any(token.upper == "SELECT" for token in tokens[where.rest[1] :]):
        raise not_supported("a subquery after RETURNING")
    query = f"SELECT {', '.join(listed) or '1'} FROM {piece(*where.refs)} {piece(*where.rest)}"
    used = [*numbers(*where.items), *numbers(*where.refs), *numbers(where.rest[0], len(tokens))]
    head = text[: places[where.refs[0]]]
    order = tuple(marks.index(index) for index in used)
    tail = text[places[where.rest[1]] :]
    return Change(tokens[0].upper, head, tuple(items), query, tail, order, where)


def prepared(change: Change, statement: Statement) -> Sql:
    """Return a statement to PREPARE at home: as it was, with native stand-ins for skyshard's functions."""
    if statement.tree is None:
        raise not_supported(f"{change.verb} in this syntax")
    return change.around(_select(change, statement.stand_ins()), statement.parameters)


def plan(
    change: Change, statement: Statement, values: Sequence[Value], session: Mapping[str, str] | None
) -> Plan:
    """Return the plan of a change; its gather's statement is the change itself, to run in the session.

    Parameters
    ----------
    statement : Statement
        Of `change.query`.
    values : sequence
        Parameter values in the order of `change.query`.
    session : mapping or None
        SQL literals of what the statement needs of its session.

    Raises
    ------
    SkyError
        1290 if it writes a catalogue's table, 1235 if it can't be taken apart.
    """
    context = statement.context(values)
    tree = _select(change, statement.resolved(values, session or {}))
    flatten_joins(tree)
    for node, _ in from_items(tree):
        _check_reference(change, node, context)
    tables = catalogue_tables(tree, statement.database, statement.catalogue)
    parts, native = gathering.in_place(tree, context, lambda select: plan_select(select, context, None))
    bare = _select(change, native)
    bare.set("expressions", [without_alias(item) for item in bare.expressions])  # given where views unfold
    text = change.around(bare, statement.parameters)
    return Plan(
        strategy=Strategy.GATHER,
        database=next(database for database, table in tables if table.is_sharded),
        native=Sql(change.query),
        tables=tables,
        gather=Gather(parts, text, own=True),
    )


def _select(change: Change, tree: exp.Expression) -> exp.Select:
    if not isinstance(tree, exp.Select):
        raise not_supported(f"{change.verb} in this syntax")
    return tree


def _check_reference(change: Change, node: exp.Expression, context: Context) -> None:
    """Raise 1290 if a catalogue's table, or a view of some, is written."""
    if isinstance(node, exp.Table):
        for join in node.args.get("joins") or ():
            _check_reference(change, join.this, context)
        found = lookup(node, context.default, context.catalogue)
        if found is None or found[1].kind is Kind.OWN:
            return
        columns: frozenset[str] | None = column_names(found[1])
    elif isinstance(node, exp.Subquery) and not node.alias:
        _check_reference(change, node.this, context)
        for join in node.args.get("joins") or ():
            _check_reference(change, join.this, context)
        return
    else:
        columns = item_names(node, context)
    if change.where.writes((node.alias_or_name, node.name), columns):
        raise SkyError(READ_ONLY, verb=change.verb, table=node.alias_or_name)


__all__ = ["Change", "Cut", "cut", "find", "plan", "prepared", "written_names"]
