"""Tells from the tokens of a statement whether, and how, it may touch sharded tables.

A cheap test on the bytes comes first: a statement that mentions no sharded table and no function of
skyshard's goes home untouched. What slips past (views, routines, dynamic SQL) meets the trap tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from shard.catalog.model import Database
from shard.planner.lexer import Token, TokenKind, unquote

CHANGES = re.compile(rb"(?i)\b(truncate|alter|drop|rename|import|insert|update|delete|replace|load)\b")
"""Words in dynamic SQL that could change a sharded table's trap."""
_WRITES = frozenset(
    [
        "INSERT",
        "REPLACE",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "ALTER",
        "DROP",
        "RENAME",
        "LOAD",
        "OPTIMIZE",
        "REPAIR",
        "HANDLER",
    ]
)


@dataclass(frozen=True, slots=True)
class Mentions:
    """What to look for in a statement's bytes, for one version of the catalogue."""

    version: int
    pattern: re.Pattern[bytes]

    @staticmethod
    def of(
        databases: Mapping[str, Database], version: int, views: Iterable[tuple[str, str]] = ()
    ) -> Mentions:
        """Return the pattern for a catalogue and the views that read its sharded tables."""
        names = {
            re.escape(table.name.encode())
            for database in databases.values()
            for table in database.tables
            if table.is_sharded
        } | {re.escape(name.encode()) for _, name in views}
        words = [*sorted(names), rb"(?i:scisql_)", rb"(?i:qserv_areaspec_)"]
        return Mentions(version, re.compile(b"|".join(words)))


def first_word(tokens: list[Token]) -> str:
    """Return the first word in upper case, parentheses passed over."""
    return next((token.upper for token in tokens if token.text != "("), "")


def sharded_names(
    tokens: list[Token], default: str | None, databases: Mapping[str, Database]
) -> Iterator[tuple[int, str]]:
    """Yield (token index, table name) wherever a name could mean a sharded table."""
    for index, token in enumerate(tokens):
        if token.kind not in (TokenKind.WORD, TokenKind.QUOTED):
            continue
        name = unquote(token)
        qualified = index >= 2 and tokens[index - 1].text == "."
        database = unquote(tokens[index - 2]) if qualified else default
        found = databases[database].table(name) if database is not None and database in databases else None
        if found is not None and found.is_sharded:
            yield index, name


def names_any(tokens: list[Token], names: set[str]) -> bool:
    """Whether a name in a statement is one of those."""
    return any(
        unquote(token) in names for token in tokens if token.kind in (TokenKind.WORD, TokenKind.QUOTED)
    )


def has_functions(tokens: list[Token]) -> bool:
    """Whether a name could mean one of skyshard's functions."""
    return any(
        token.upper.lstrip('`"').startswith(("SCISQL_", "QSERV_AREASPEC_"))
        for token in tokens
        if token.kind in (TokenKind.WORD, TokenKind.QUOTED)
    )


def write_target(
    tokens: list[Token], default: str | None, databases: Mapping[str, Database]
) -> tuple[str, str] | None:
    """Return (verb, table) if a statement writes to, or changes, a sharded table."""
    verb = first_word(tokens)
    create_index = verb == "CREATE" and any(token.upper == "INDEX" for token in tokens[:4])
    if verb not in _WRITES and not create_index:
        return None
    for index, name in sharded_names(tokens, default, databases):
        before = {token.upper for token in tokens[:index] if token.kind is TokenKind.WORD}
        if verb in ("INSERT", "REPLACE") and "SELECT" in before:
            continue
        return verb, name
    return None
