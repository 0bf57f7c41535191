"""Column headers: an item that is rewritten keeps the name that MariaDB would give the user's text."""

from __future__ import annotations

import re

from sqlglot import exp

from shard.errors import SkyError
from shard.planner.branches import is_star
from shard.planner.fence import SyntaxProblem, parse
from shard.planner.lexer import Token, TokenKind

_INTRODUCED = re.compile(r"_\w+\s*['\"]")
_MODIFIERS = frozenset(
    ["DISTINCT", "DISTINCTROW", "ALL", "SQL_NO_CACHE", "SQL_CACHE", "SQL_CALC_FOUND_ROWS", "HIGH_PRIORITY",
     "STRAIGHT_JOIN", "SQL_SMALL_RESULT", "SQL_BIG_RESULT", "SQL_BUFFER_RESULT"]
)  # fmt: skip
_BEHIND = frozenset(
    ["FROM", "INTO", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "LOCK",
     "UNION", "EXCEPT", "INTERSECT"]
)  # fmt: skip
"""Words that may follow the select list; none is an alias without quotes."""


def select_headers(text: str, tokens: list[Token]) -> list[str | None]:
    """Return the source text of every select item without an alias (None: it has a name of its own)."""
    items = select_items(tokens)
    return [text[tokens[a].start : tokens[b].start + len(tokens[b].text)] for a, b in items]


def select_items(tokens: list[Token], select: int | None = None) -> list[tuple[int, int]]:
    """Return the first and last token of every select item: of the SELECT at a place, or the one that names columns."""
    start = (_main_select(tokens) if select is None else select) + 1
    while start < len(tokens) and tokens[start].upper in _MODIFIERS:
        start += 1
    depth, first, items = 0, start, []
    for index in range(start, len(tokens) + 1):
        token = tokens[index] if index < len(tokens) else None
        ends = token is None or (depth == 0 and _ends(token, tokens[index - 1]))
        if ends or (depth == 0 and token is not None and token.text == ","):
            items.append((first, index - 1))
            first = index + 1
            if ends:
                break
        elif token is not None:
            depth += (token.text == "(") - (token.text == ")")
    return items


def nameless_items(tokens: list[Token]) -> list[tuple[int, int]] | None:
    """Return the first and last token of every select item without an alias; None if it is not understood here."""
    try:
        tree: object = parse(tokens)
    except (SyntaxProblem, SkyError, RecursionError):
        return None
    while isinstance(tree, (exp.SetOperation, exp.Subquery)):
        tree = tree.this
    items = select_items(tokens) if isinstance(tree, exp.Select) else []
    if not isinstance(tree, exp.Select) or len(items) != len(tree.expressions):
        return None
    pairs = zip(items, tree.expressions, strict=True)
    return [place for place, item in pairs if not isinstance(item, exp.Alias)]


def _ends(token: Token, before: Token) -> bool:
    """Whether the select list is over before a token outside of its parentheses."""
    return token.text == ")" or (
        token.kind is TokenKind.WORD and token.upper in _BEHIND and before.text != "."
    )


def _main_select(tokens: list[Token]) -> int:
    """Return where the SELECT is that names the columns: the first, or the first after WITH's queries."""
    depth = 0
    behind = tokens[0].upper == "WITH"
    for index, token in enumerate(tokens):
        if token.upper == "SELECT" and (depth == 0 or not behind):
            return index
        depth += (token.text == "(") - (token.text == ")")
    return next(index for index, token in enumerate(tokens) if token.upper == "SELECT")


def keep_headers(tree: exp.Select, headers: list[str | None]) -> None:
    """Name rewritten select items as MariaDB would name the user's text."""
    if len(headers) != len(tree.expressions):
        return
    items: list[exp.Expression] = []
    for item, header in zip(tree.expressions, headers, strict=True):
        bare = item.unnest() if isinstance(item, exp.Paren) else item
        named = isinstance(bare, (exp.Alias, exp.Column, exp.Star))
        if isinstance(bare, (exp.Literal, exp.Null, exp.Boolean)):  # as it was written, or a folded call
            named = "scisql_" not in (header or "").lower()
        named = named or (header is not None and _INTRODUCED.match(header) is not None)
        if header and not named:
            items.append(exp.Alias(this=item, alias=exp.to_identifier(header[:255], quoted=True)))
        else:
            items.append(item)
    tree.set("expressions", items)


def aliases(tree: object) -> tuple[str | None, ...]:
    """Return the aliases of a SELECT's items, None where there is none; nothing if it has stars or is none."""
    if not isinstance(tree, exp.Select) or any(map(is_star, tree.expressions)):
        return ()
    return tuple(item.alias if isinstance(item, exp.Alias) else None for item in tree.expressions)
