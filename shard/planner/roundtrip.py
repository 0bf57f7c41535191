"""Proves that a parsed tree says what the text says.

The tree is written again and both texts are compared token by token, under the few spellings
that the parser unifies. A statement that does not survive is refused by name: a rewrite that
cannot be proved right is never run.
"""

from __future__ import annotations

from itertools import product

from sqlglot import exp

from shard.errors import not_supported
from shard.planner.branches import find
from shard.planner.emit import BARE, emit
from shard.planner.lexer import LexerMode, Token, TokenKind, texts_of, tokenize, unquote
from shard.planner.silent import without_silent

_SAME = {
    "<>": "!=",
    "&&": "AND",
    "||": "OR",
    "!": "NOT",
    "MOD": "%",
    "RLIKE": "REGEXP",
    "SOME": "ANY",
    "UNKNOWN": "NULL",
    "DISTINCTROW": "DISTINCT",
    "KEY": "INDEX",
    "MINUS": "EXCEPT",
}
_DROPPED = frozenset({"AS", "ASC", "OUTER"})
_BEFORE_CALL = frozenset({"", ",", "(", "+", "-", "*", "/"})
_WORDS = frozenset({*_SAME, *_DROPPED, "NOT", "DISTINCT"})
"""Words that are more than their text."""
_SET_WORDS = frozenset({"union", "except", "intersect"})
_MOST_BOUND = 6
"""INTERSECTs in parentheses of which each is tried with and without; of more, all without."""
_ADVICE = "spell it otherwise, or write the values of variables, parameters and functions of the session"


def prove(tokens: list[Token], tree: exp.Expression, mode: LexerMode = LexerMode()) -> None:  # noqa: B008 - frozen
    """Raise 1235 unless `tree`, written again, has the tokens of the text, read under the same sql_mode.

    Examples
    --------
    ``SELECT a b FROM t WHERE x != 1`` and ``SELECT `a` AS `b` FROM `t` WHERE `x` <> 1`` are the same.
    """
    before, before_nots = _canonical(without_silent(tokens))
    try:
        written = emit(tree)
    except (AttributeError, KeyError, TypeError, IndexError) as error:  # a tree that was not foreseen
        raise not_supported("this statement's syntax", _ADVICE) from error
    after, after_nots = _canonical(tokenize(written, mode))
    if before_nots == after_nots and _alike(before, after, tree):
        return
    # The parser puts parentheses around an INTERSECT that binds tighter than the UNION before it.
    bound = [node for node in find(tree, exp.Subquery) if _binds(node)]
    some = len(bound) <= _MOST_BOUND
    for marks in product((True, False), repeat=len(bound)) if some else [(True,) * len(bound)]:
        for node, mark in zip(bound, marks, strict=True):
            node.meta[BARE] = mark
        again, nots = _canonical(tokenize(emit(tree), mode))
        if nots == before_nots and _alike(before, again, tree):
            return
    place = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(after))
    near = " ".join(map(_shown, before[max(0, place - 3) : place + 6]))
    raise not_supported(f"this spelling near '{near[:80]}'", _ADVICE)


def _binds(node: exp.Subquery) -> bool:
    """Whether a query in parentheses is an INTERSECT beside UNION or EXCEPT, where they may be the parser's own."""
    return (
        isinstance(node.this, exp.Intersect) and isinstance(node.parent, exp.SetOperation) and not node.alias
    )


def _shown(text: str) -> str:
    """Return a canonical token as it may be shown."""
    return f"{text}'" if text.startswith("'") else text.removeprefix("#")


def _canonical(tokens: list[Token]) -> tuple[list[str], int]:
    out: list[str] = []
    nots = 0
    previous = ""
    quoted, word, operator = TokenKind.QUOTED, TokenKind.WORD, TokenKind.OPERATOR
    for token in _limits(tokens):
        kind, text, _ = token
        upper = text.upper()
        if (kind is word or kind is operator) and upper not in _WORDS:
            previous = upper.lower()
            out.append(previous)
            continue
        if kind is quoted:
            out.append(unquote(token).lower())
            previous = "name"
            continue
        if kind is word or kind is operator:
            text = upper
            if text == "NOT":
                nots += 1
                continue
            if not (text == "MOD" and previous in _BEFORE_CALL):
                text = _SAME.get(text, text)
            if text in _DROPPED or (text == "DISTINCT" and previous in _SET_WORDS):
                continue
            if text == "NOT":  # written otherwise
                nots += 1
                continue
            text = text.lower()
        elif kind is TokenKind.STRING and len(text) > 2:
            text = f"'{text[1:-1].lower()}"
        elif kind is TokenKind.NUMBER:
            text = f"#{text}"
        elif kind is TokenKind.PARAMETER:
            text = "?"
        out.append(text)
        previous = text
    return out, nots


def _alike(before: list[str], after: list[str], tree: exp.Expression) -> bool:
    """Whether canonical tokens are the same; an alias may be written as a string, and is a name then."""
    if before == after:
        return True
    if len(before) != len(after):
        return False
    differing = {pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]}
    if any(one != f"'{other}" for one, other in differing):
        return False
    aliases = {node.alias.lower() for node in tree.find_all(exp.Alias)}
    return all(other in aliases for _, other in differing)


def _limits(tokens: list[Token]) -> list[Token]:
    """Return the tokens with every ``LIMIT a, b`` turned into ``LIMIT b OFFSET a``."""
    if "LIMIT" not in texts_of(tokens):
        return tokens
    last = len(tokens) - 3
    swapped = [
        index for index, (_, text, _) in enumerate(tokens)
        if len(text) == 5 and index < last and text.upper() == "LIMIT" and tokens[index + 2].text == ","
    ]  # fmt: skip
    if not swapped:
        return tokens
    out: list[Token] = []
    behind = 0
    for index in swapped:
        offset, count = tokens[index + 1], tokens[index + 3]
        word = Token(TokenKind.WORD, "OFFSET", offset.start)
        out += [*tokens[behind : index + 1], count, word, offset]
        behind = index + 4
    out += tokens[behind:]
    return out
