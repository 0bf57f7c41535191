"""KILL and the SHOW statements that the proxy answers whatever the catalogue has, recognised on the lexer's tokens.

Comments may stand anywhere in them, and executable ones are code, as for MariaDB's parser. Whatever is not
exactly one of these statements is None here: the home server answers it, or says what is wrong with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shard.planner.lexer import (
    LexerMode,
    LexError,
    Token,
    TokenKind,
    opening_word,
    text_of,
    tokenize,
    unquote,
    without_end,
)

_MAY = re.compile(rb"(?i)\s*+(?:kill|show|[/#-])")
"""What one of them begins with; after a comment, its first word is looked for."""

_MOST_TOKENS = 5000
"""Words, signs and values that such a statement may have; a longer one is left to the home server."""


@dataclass(frozen=True, slots=True)
class Kill:
    """KILL of a thread: the expression that is its id."""

    thread: str


@dataclass(frozen=True, slots=True)
class ShowProcesses:
    """SHOW [FULL] PROCESSLIST."""

    full: bool


@dataclass(frozen=True, slots=True)
class ShowConditions:
    """SHOW WARNINGS or ERRORS: their number, or those from `skip` on, `most` at most."""

    errors_only: bool
    counted: bool = False
    skip: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class ShowTableStatus:
    """SHOW TABLE STATUS of a database; None is the session's own."""

    database: str | None


@dataclass(frozen=True, slots=True)
class ShowListed:
    """SHOW VARIABLES or STATUS: which, of what scope ("": none is written), and its LIKE or WHERE as text."""

    what: str
    scope: str
    condition: str


Owned = Kill | ShowProcesses | ShowConditions | ShowTableStatus | ShowListed


def read(sql: bytes, mode: LexerMode) -> Owned | None:
    """Return which of these statements a text is; None if it is another, at next to no cost.

    Examples
    --------
    >>> read(b"/* tool */ KILL /*!50000 QUERY */ 7 -- now", LexerMode())
    Kill(thread='7')
    """
    if _MAY.match(sql) is None or opening_word(sql) not in ("KILL", "SHOW"):
        return None
    text = sql.decode("latin-1")
    try:
        known = tokenize(text, mode, _MOST_TOKENS)
        if known.cut:
            return None
        _, tokens = without_end(text, known, mode)
    except LexError:
        return None
    words = [token.upper for token in tokens]
    if words[0] == "KILL":
        return _kill(tokens, words)
    if words[1:] in (["PROCESSLIST"], ["FULL", "PROCESSLIST"]):
        return ShowProcesses(len(words) == 3)
    if words[1:3] == ["TABLE", "STATUS"]:
        named = tokens[4] if words[3:4] in (["FROM"], ["IN"]) and len(tokens) > 4 else None
        return ShowTableStatus(None if named is None else _name(named))
    return _conditions(words) or _listed(tokens, words)


def _name(token: Token) -> str:
    return unquote(token).encode("latin-1").decode("utf-8", "replace")


def _kill(tokens: list[Token], words: list[str]) -> Kill | None:
    at = 2 if words[1:2] in (["HARD"], ["SOFT"]) else 1
    at += words[at : at + 1] in (["QUERY"], ["CONNECTION"])
    rest = tokens[at:]
    if not rest or rest[0].upper in ("ID", "USER") or any(one.kind is TokenKind.PARAMETER for one in rest):
        return None
    return Kill(text_of(rest))


def _conditions(words: list[str]) -> ShowConditions | None:
    match words[1:]:
        case ["COUNT", "(", "*", ")", ("WARNINGS" | "ERRORS") as what]:
            return ShowConditions(what == "ERRORS", counted=True)
        case [("WARNINGS" | "ERRORS") as what]:
            return ShowConditions(what == "ERRORS")
        case [("WARNINGS" | "ERRORS") as what, "LIMIT", most] if most.isdigit():
            return ShowConditions(what == "ERRORS", most=int(most))
        case [("WARNINGS" | "ERRORS") as what, "LIMIT", first, ("," | "OFFSET") as between, second] if (
            first.isdigit() and second.isdigit()
        ):
            skip, most = (first, second) if between == "," else (second, first)
            return ShowConditions(what == "ERRORS", skip=int(skip), most=int(most))
    return None


def _listed(tokens: list[Token], words: list[str]) -> ShowListed | None:
    scope = words[1] if words[1:2] in (["GLOBAL"], ["SESSION"], ["LOCAL"]) else ""
    at = 2 if scope else 1
    if words[at : at + 1] not in (["VARIABLES"], ["STATUS"]):
        return None
    if words[at + 1 : at + 2] not in ([], ["LIKE"], ["WHERE"]):
        return None
    return ShowListed(words[at], scope, text_of(tokens[at + 1 :]))
