"""Finds the query inside a statement that stores its rows: INSERT, REPLACE, CREATE TABLE, INTO @x, SET @x.

The query is distributed like any other; what stands around it runs on the session's own connection
over a table with the query's rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shard.errors import not_supported
from shard.planner.lexer import Token, TokenKind


class Stores(StrEnum):
    """Where the rows go."""

    INSERT = "insert"
    CREATE = "create"
    VARIABLES = "variables"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A statement in three: text before the query, the query, text after it.

    `before` is how many parameters stand in the head. `within` says that the tail, INTO, stood before the query's FROM:
    MariaDB warns of one behind it.
    """

    stores: Stores
    head: str
    query: str
    tail: str
    before: int = 0
    within: bool = False

    def over(self, table: str) -> str:
        """Return the statement with all rows of a table in the place of its query's."""
        if self.within:
            return f"SELECT * {self.tail} FROM {table}"
        return self.around(f"SELECT * FROM {table}")

    def around(self, query: str) -> str:
        """Return the statement with another query in it."""
        return f"{self.head} {query} {self.tail}"


def find(text: str, tokens: list[Token]) -> Envelope | None:
    """Return the envelope of a statement, or None if it stores nothing.

    Raises
    ------
    SkyError
        1235 for a SELECT that writes a file on the server.
    """
    verb = next((token.upper for token in tokens if token.text != "("), "")
    if verb in ("INSERT", "REPLACE"):
        return _insert(text, tokens)
    if verb == "CREATE" and any(token.upper == "TABLE" for token in tokens[:5]):
        return _cut(text, tokens, Stores.CREATE, _query_start(tokens, 1))
    if verb in ("SELECT", "WITH"):
        return _into(text, tokens)
    if verb == "SET":
        return _assignment(text, tokens)
    return None


def _insert(text: str, tokens: list[Token]) -> Envelope | None:
    start = _query_start(tokens, 1)
    if start is None:
        return None
    depth = 0
    for token in tokens[:start]:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0 and token.kind is TokenKind.WORD and token.upper in ("VALUES", "VALUE", "SET"):
            return None
    return _cut(text, tokens, Stores.INSERT, start)


def _query_start(tokens: list[Token], first: int) -> int | None:
    """Return where the query begins: its SELECT, WITH or opening parenthesis outside of all others."""
    depth = 0
    for index in range(first, len(tokens)):
        token = tokens[index]
        if depth == 0 and _begins_query(tokens, index):
            return index
        depth += (token.text == "(") - (token.text == ")")
    return None


def _begins_query(tokens: list[Token], index: int) -> bool:
    while index < len(tokens) and tokens[index].text == "(":
        index += 1
    if index >= len(tokens) or tokens[index].kind is not TokenKind.WORD:
        return False
    following = tokens[index + 1].upper if index + 1 < len(tokens) else ""
    return tokens[index].upper == "SELECT" or (tokens[index].upper == "WITH" and following != "SYSTEM")


def _cut(text: str, tokens: list[Token], stores: Stores, start: int | None) -> Envelope | None:
    if start is None:
        return None
    depth, end = 0, len(tokens)
    for index in range(start, len(tokens)):
        token = tokens[index]
        following = tokens[index + 1].upper if index + 1 < len(tokens) else ""
        tail = (token.upper == "ON" and following == "DUPLICATE") or token.upper == "RETURNING"
        if tail and depth == 0 and token.kind is TokenKind.WORD and stores is Stores.INSERT:
            end = index
            break
        depth += (token.text == "(") - (token.text == ")")
    at = tokens[start].start
    stop = tokens[end].start if end < len(tokens) else len(text)
    if any(token.upper == "SELECT" for token in tokens[end:]):
        raise not_supported("a subquery after the SELECT of an INSERT")
    before = sum(token.kind is TokenKind.PARAMETER for token in tokens[:start])
    return Envelope(stores, text[:at], text[at:stop], text[stop:], before)


def _into(text: str, tokens: list[Token]) -> Envelope | None:
    depth = 0
    for index, token in enumerate(tokens):
        if depth == 0 and token.kind is TokenKind.WORD and token.upper == "INTO":
            if index and tokens[index - 1].text == ".":
                continue
            if tokens[index + 1 : index + 2] and tokens[index + 1].kind is not TokenKind.VARIABLE:
                raise not_supported(
                    f"SELECT … INTO {tokens[index + 1].upper}", "send the SELECT and write the file yourself"
                )
            end = index + 1
            while end + 1 < len(tokens) and tokens[end + 1].text == ",":
                end += 2
            last = tokens[min(end, len(tokens) - 1)]
            stop = last.start + len(last.text)
            query, tail = f"{text[: token.start]} {text[stop:]}", text[token.start : stop]
            return Envelope(Stores.VARIABLES, "", query, tail, within=bool(text[stop:].strip()))
        depth += (token.text == "(") - (token.text == ")")
    return None


def _assignment(text: str, tokens: list[Token]) -> Envelope | None:
    """Return the envelope of ``SET @x = (SELECT …)`` with one variable."""
    if len(tokens) < 6 or tokens[1].kind is not TokenKind.VARIABLE or tokens[2].text not in ("=", ":="):
        return None
    if tokens[3].text != "(" or not _begins_query(tokens, 3) or tokens[-1].text != ")":
        return None
    depth = 0
    for token in tokens[3:-1]:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            return None
    return Envelope(
        Stores.VARIABLES,
        text[: tokens[3].start + 1],
        text[tokens[4].start : tokens[-1].start],
        text[tokens[-1].start :],
    )


__all__ = ["Envelope", "Stores", "find"]
