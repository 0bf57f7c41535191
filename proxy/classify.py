"""Tells from the tokens of a statement whether, and how, it may touch sharded tables.

A cheap test on the bytes comes first: a statement that mentions no catalogue, none of its tables and no
function of skyshard's goes home untouched. What slips past (views, routines, dynamic SQL) meets the trap tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxy import writes
from proxy.words import Words
from shard.catalog.model import Database
from shard.planner.lexer import Token, TokenKind, unquote

CHANGES = re.compile(
    rb"(?i)\b(truncate|alter|drop|rename|import|insert|update|delete|replace|load|create|optimize|repair)\b"
)
"""Words in dynamic SQL that could change a catalogue."""
_FUNCTIONS = (b"scisql_", b"qserv_areaspec_")


@dataclass(frozen=True, slots=True)
class Mentions:
    """What to look for in a statement's bytes, for one version of the catalogue."""

    version: int
    pattern: Words

    @staticmethod
    def of(
        databases: Mapping[str, Database], version: int, views: Iterable[tuple[str, str]] = ()
    ) -> Mentions:
        """Return the pattern for a catalogue and the views that read its tables."""
        names = {
            name.encode()
            for database in databases.values()
            for name in (database.name, *(table.name for table in database.tables))
        } | {name.encode() for _, name in views}
        exact = [re.escape(name) for name in sorted(names)]
        folded = [b"(?i:" + name + b")" for name in _FUNCTIONS]
        return Mentions(version, Words(b"|".join([*exact, *folded]), _FUNCTIONS, names))


def first_word(tokens: Sequence[Token]) -> str:
    """Return the first word in upper case, parentheses passed over."""
    return next((token.upper for token in tokens if token.text != "("), "")


def sharded_names(
    tokens: list[Token], default: str | None, databases: Mapping[str, Database]
) -> Iterator[tuple[int, str]]:
    """Yield (token index, table name) wherever a name could mean a sharded table."""
    return (
        (index, table.name)
        for index, table in writes.catalogue_names(tokens, default, databases)
        if table.is_sharded
    )


def names_any(tokens: list[Token], names: set[str]) -> bool:
    """Whether a name in a statement is one of those."""
    return any(
        unquote(token) in names for token in tokens if token.kind in (TokenKind.WORD, TokenKind.QUOTED)
    )


def quotient(tokens: list[Token]) -> str | None:
    """Return where a text divides a number (or parameter) by another; None if it does nowhere."""
    constant = (TokenKind.NUMBER, TokenKind.PARAMETER)
    for index, token in enumerate(tokens):
        if token.text != "/" or not index:
            continue
        before = next((t for t in reversed(tokens[:index]) if t.text != ")"), token)
        after = next((t for t in tokens[index + 1 :] if t.text not in ("(", "-", "+")), token)
        if before.kind in constant and after.kind in constant:
            return f"{before.text} / {after.text}"
    return None


def has_functions(tokens: list[Token]) -> bool:
    """Whether a name could mean one of skyshard's functions."""
    return any(
        token.upper.lstrip('`"').startswith(("SCISQL_", "QSERV_AREASPEC_"))
        for token in tokens
        if token.kind in (TokenKind.WORD, TokenKind.QUOTED)
    )
