"""Leaves out of a statement's tokens what changes nothing: advice to the server, signs without effect.

The parser drops both, and so must whoever compares its tree with the text. The user's text itself, and
with it the names of columns, stays as it is.
"""

from __future__ import annotations

from shard.planner.lexer import Token, TokenKind, texts_of

_ADVICE = frozenset(
    """
    SQL_NO_CACHE SQL_CACHE HIGH_PRIORITY SQL_BUFFER_RESULT SQL_SMALL_RESULT SQL_BIG_RESULT ALL
    STRAIGHT_JOIN
    """.split()
)
_OPENS = frozenset(
    ["(", ",", "+", "-", "*", "/", "%", "=", "<", ">", "<=", ">=", "<>", "!=", "<=>", "&&", "||", "!", "~", "&", "|",
     "^", "<<", ">>"]
)  # fmt: skip
"""Operators that a value follows."""
_BEFORE_VALUE = frozenset(
    ["SELECT", "DISTINCT", "DISTINCTROW", "SQL_CALC_FOUND_ROWS", "WHERE", "ON", "HAVING", "BY", "AND", "OR", "XOR",
     "NOT", "BETWEEN", "LIKE", "REGEXP", "RLIKE", "DIV", "MOD", "CASE", "WHEN", "THEN", "ELSE", "INTERVAL", "BINARY"]
)  # fmt: skip
"""Reserved words that a value follows."""


def without_silent(tokens: list[Token]) -> list[Token]:
    """Leave out advice after SELECT, and plus signs that stand before a value.

    Examples
    --------
    >>> from shard.planner.lexer import tokenize
    >>> [token.text for token in without_silent(tokenize("SELECT SQL_NO_CACHE +a - + 1"))]
    ['SELECT', 'a', '-', '1']
    """
    return _drop_signs(_drop_advice(tokens))


def _drop_advice(tokens: list[Token]) -> list[Token]:
    """Leave out the words after SELECT that only advise the server's cache and buffers."""
    if _ADVICE.isdisjoint(texts_of(tokens)):
        return tokens
    out: list[Token] = []
    after_select = False
    for token in tokens:
        if after_select and token.kind is TokenKind.WORD and token.upper in _ADVICE:
            continue
        after_select = token.upper == "SELECT"
        out.append(token)
    return out


def _drop_signs(tokens: list[Token]) -> list[Token]:
    """Leave out plus signs that stand before a value: MariaDB reads ``+x`` as ``x``, text or number."""
    if "+" not in texts_of(tokens):
        return tokens
    out: list[Token] = []
    for token in tokens:
        if not (token.text == "+" and token.kind is TokenKind.OPERATOR and out and _awaits_value(out)):
            out.append(token)
    return out


def _awaits_value(tokens: list[Token]) -> bool:
    """Whether a value must follow the last of these tokens, so that a sign there is no operator."""
    last = tokens[-1]
    if last.kind is TokenKind.OPERATOR:
        return last.text in _OPENS
    if last.kind is not TokenKind.WORD or last.upper not in _BEFORE_VALUE:
        return False
    return len(tokens) < 2 or tokens[-2].text != "."  # after a dot it is a name
