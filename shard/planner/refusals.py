"""What no strategy can answer rightly, refused by name before anything is planned."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from sqlglot import exp

from shard.catalog.model import Database
from shard.errors import NOT_SUPPORTED, TOO_DEEP, TOO_LONG, SkyError, not_supported
from shard.planner import strategies
from shard.planner.branches import find
from shard.planner.emit import excerpt
from shard.planner.fence import MAX_NESTING, SyntaxProblem
from shard.planner.lexer import LexerMode, Token, TokenKind, texts_of
from shard.planner.session_parts import PER_SESSION

_ACTS = frozenset(
    ["sleep", "benchmark", "get_lock", "release_lock", "release_all_locks", "nextval", "setval"]
)
"""What is called for its effect."""
_REFUSED = _ACTS | frozenset(
    """
    found_rows row_count uuid_short is_free_lock is_used_lock load_file lastval master_pos_wait
    master_gtid_wait rownum
    """.split()
)
_AFTER_NOT = frozenset(
    ["IN", "LIKE", "BETWEEN", "REGEXP", "RLIKE", "NULL", "TRUE", "FALSE", "UNKNOWN", "EXISTS"]
)


def refuse_meanings(tokens: list[Token], mode: LexerMode) -> None:
    """Refuse operators that a sql_mode gives another meaning than the parser does: MariaDB's own has to read them."""
    if mode.pipes_as_concat and any(token.text == "||" for token in tokens):
        raise not_supported("|| as a concatenation", "write CONCAT(…)")
    if mode.high_not_precedence and any(
        token.upper == "NOT" and after.upper not in _AFTER_NOT for token, after in itertools.pairwise(tokens)
    ):
        raise not_supported("NOT under HIGH_NOT_PRECEDENCE", "take that sql_mode off")


def open_joins(tokens: list[Token]) -> int:
    """Return how long the longest chain of joins without ON is: the parser tries all 2ⁿ ways to nest one."""
    most, waiting, before = 0, 0, ""
    if texts_of(tokens).isdisjoint(_JOINS):
        return 0
    for token in tokens:
        if token.kind is not TokenKind.WORD:
            continue
        word = token.upper
        if word in _JOINS and before not in ("CROSS", "NATURAL"):
            waiting += 1
            most = max(most, waiting)
        elif word in ("ON", "USING"):
            waiting = max(0, waiting - 1)
        elif word == "SELECT":
            waiting = 0
        before = word
    return most


_JOINS = frozenset({"JOIN", "STRAIGHT_JOIN"})
MOST_OPEN_JOINS = 12
_STORES = frozenset({"INTO", "PROCEDURE"})


def refuse_words(tokens: list[Token]) -> None:
    """Refuse what stores rows or asks the server about itself."""
    if texts_of(tokens).isdisjoint(_STORES):
        return
    for index, token in enumerate(tokens):
        if token.upper in _STORES and token.kind is TokenKind.WORD:
            if index and tokens[index - 1].text == ".":
                continue
            raise not_supported(f"SELECT … {token.upper}")


def refuse_whole(
    tokens: list[Token], database: str | None, catalogue: Mapping[str, Database], problem: Exception
) -> None:
    """Raise unless a statement that was not understood can run at home over whole tables."""
    if not strategies.mentioned(tokens, database, catalogue):
        if isinstance(problem, SkyError) and problem.code in (TOO_DEEP, TOO_LONG):
            raise SyntaxProblem from problem
        raise problem
    if (isinstance(problem, SkyError) and problem.code is not NOT_SUPPORTED) or _depth(tokens) > MAX_NESTING:
        raise problem
    for index, token in enumerate(tokens):
        call = index + 1 < len(tokens) and tokens[index + 1].text == "("
        word = token.text.lower()
        if token.kind in (TokenKind.VARIABLE, TokenKind.PARAMETER) or token.text == ":=":
            raise _beside(token.text, problem)
        if token.kind is TokenKind.WORD and (
            word in ("current_user", "current_role")
            or (call and (word in PER_SESSION or word in _REFUSED or word.startswith(("scisql_", "qserv_"))))
        ):
            raise _beside(f"{token.text}()" if call else token.text, problem)


def _beside(text: str, problem: Exception) -> SkyError:
    """Return the error of a statement that only MariaDB can read, but whose tables cannot be gathered whole."""
    if isinstance(problem, SkyError):
        return problem
    return not_supported(
        f"this statement's syntax beside {text}", f"write the value of {text}, or other syntax"
    )


def _depth(tokens: list[Token]) -> int:
    """Return how deep parentheses are nested."""
    depth = deepest = 0
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        deepest = max(deepest, depth)
    return deepest


def screen(tree: exp.Expression) -> None:
    """Refuse by name what no strategy can answer rightly."""
    for node in find(tree, exp.Anonymous):
        name = node.name.lower()
        if name in _REFUSED or (name in PER_SESSION and node.expressions):
            advice = "send it in a statement of its own" if name in _ACTS else "write its value"
            if name == "rownum":
                advice = "use LIMIT, or ROW_NUMBER() OVER (ORDER BY …)"
            raise not_supported(excerpt(node), advice)
