"""Cuts a packet into its statements, and looks through what stands around a statement.

Who answers is decided statement by statement, so a packet must be cut where MariaDB would. A compound statement, or
the body of a routine, has semicolons of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from shard.planner.lexer import LexerMode, LexError, Token, TokenKind, tokenize

_BLOCKS = frozenset({"BEGIN", "DECLARE", "IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR"})
"""What a compound statement begins with."""
_DEFINED = frozenset({"PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"})
"""What may have a body of statements."""


def split_statements(sql: bytes, mode: LexerMode = LexerMode()) -> list[bytes]:  # noqa: B008 - frozen
    """Return the statements of a packet, verbatim, without their semicolons.

    As in MariaDB semicolons and blanks at the end do not count, and comments alone are a statement. Where the
    text no longer lexes the last statement begins, or has begun, so that the server reports it. So does one that has
    statements within: where it ends is only known by its syntax.
    """
    if b";" not in sql:
        return [sql]
    try:
        tokens = tokenize(sql.decode("latin-1"), mode)
    except LexError as error:
        tokens = error.before
    cuts: list[int] = []
    first = 0
    for index, token in enumerate(tokens):
        if token.text != ";":
            continue
        if _goes_on(tokens[first:index]):
            break
        cuts.append(token.start)
        first = index + 1
    parts = [
        sql[start:cut] for start, cut in zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(sql)], strict=True)
    ]
    while len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    return parts


def inner(tokens: Sequence[Token]) -> Sequence[Token]:
    """Return the statement that SET STATEMENT … FOR and ANALYZE run, however often; else all of it.

    Examples
    --------
    >>> from shard.planner.lexer import text_of
    >>> text_of(inner(tokenize("SET STATEMENT a = (SUBSTR('x' FROM 1 FOR 1)) FOR ANALYZE FORMAT=JSON DELETE FROM t")))
    'DELETE FROM t'
    """
    while True:
        words = [_word(token) for token in tokens[:4]]
        if words[:2] == ["SET", "STATEMENT"]:
            at = behind_for(tokens)
        elif words[:1] == ["ANALYZE"]:
            at = 4 if words[1:3] == ["FORMAT", "="] else 1
        else:
            return tokens
        if not at:
            return tokens
        tokens = tokens[at:]


def behind_for(tokens: Sequence[Token]) -> int:
    """Return where the statement of a SET STATEMENT begins, behind its FOR; 0 if there is no FOR."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        if not depth and _word(token) == "FOR":
            return index + 1
    return 0


def defines(tokens: Sequence[Token]) -> bool:
    """Whether a statement makes or alters a routine, trigger or event.

    Examples
    --------
    >>> defines(tokenize("CREATE OR REPLACE DEFINER = 'u'@`h` AGGREGATE FUNCTION f"))
    True
    >>> defines(tokenize("CREATE TABLE event (a INT)"))
    False
    """
    if not tokens or _word(tokens[0]) not in ("CREATE", "ALTER"):
        return False
    words = [_word(token) for token in tokens[:16]]
    at = 3 if words[1:3] == ["OR", "REPLACE"] else 1
    if words[at : at + 2] == ["DEFINER", "="]:
        at += 3
        while at < len(words) and tokens[at].kind is not TokenKind.WORD:
            at += 1
    at += words[at : at + 1] == ["AGGREGATE"]
    return at < len(words) and words[at] in _DEFINED


def has_statements(tokens: Sequence[Token]) -> bool:
    """Whether a statement is a compound one, or one that `defines`: both have statements within."""
    first = _word(tokens[0]) if tokens else ""
    if first == "BEGIN":  # of a transaction, if nothing or WORK follows
        return len(tokens) > 1 and tokens[1].text != ";" and _word(tokens[1]) != "WORK"
    return first in _BLOCKS or defines(tokens)


def _goes_on(tokens: Sequence[Token]) -> bool:
    """Whether a statement that is cut at its first semicolon goes on behind it."""
    tokens = inner(tokens)
    if not has_statements(tokens):
        return False
    words = [*map(_word, tokens), ""]
    return any(
        word in _BLOCKS and (word, words[index + 1]) != ("FOR", "EACH") for index, word in enumerate(words)
    )


def _word(token: Token) -> str:
    """Return a word in upper case, and anything else as it is."""
    return token.upper if token.kind is TokenKind.WORD else token.text
