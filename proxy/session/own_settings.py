"""The session settings that skyshard adds to MariaDB's: skyshard_gather_limit and skyshard_ship_limit.

MariaDB does not know them. They are taken out of a SET, and the rest of it goes home; where a statement reads
them, their values are written in their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from proxy.session import filling
from proxy.session.limits import RowLimits
from proxy.words import parts
from shard.errors import SESSION_SETTING, SESSION_SETTING_SET, SkyError
from shard.planner.lexer import LexerMode, LexError, Token, TokenKind, text_of, tokenize

PATTERN = parts(b"skyshard_gather_limit", b"skyshard_ship_limit")
"""What every statement about them contains; others may, too."""
FIELDS = {"SKYSHARD_GATHER_LIMIT": "gather", "SKYSHARD_SHIP_LIMIT": "ship"}
_SCOPES = frozenset({"SESSION", "LOCAL", "GLOBAL"})


class Named(NamedTuple):
    """A system variable at some token: its scope ("" if none is written), its name, the token behind it."""

    scope: str
    name: str
    end: int


@dataclass(frozen=True, slots=True)
class Assigned:
    """One of our settings, and the text of its new value."""

    name: str
    value: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """A SET with settings of ours among its items, and the texts of the others."""

    ours: tuple[Assigned, ...]
    others: tuple[str, ...]
    marks: int


def values(limits: RowLimits) -> dict[str, int]:
    """Return the settings by name."""
    return {name.lower(): getattr(limits, field) for name, field in FIELDS.items()}


def variable_at(tokens: Sequence[Token], at: int) -> Named | None:
    """Return the system variable that is written with ``@@`` at a token; None if none is.

    Examples
    --------
    >>> variable_at(tokenize("@@Session . `sql_mode` = 5"), 0)
    Named(scope='SESSION', name='SQL_MODE', end=3)
    """
    if not tokens[at].text.startswith("@@"):
        return None
    text, end = tokens[at].text[2:], at + 1
    while end < len(tokens) and (tokens[end].text == "." or text.endswith(".")):
        text, end = text + tokens[end].text, end + 1
    scope, _, name = text.replace("`", "").upper().rpartition(".")
    return Named(scope, name, end)


def find(tokens: Sequence[Token]) -> Setting | None:
    """Return what a SET (or the SET STATEMENT before its FOR) says of our settings; None if it sets none.

    Parameters
    ----------
    tokens : sequence of Token
        What follows SET or SET STATEMENT.

    Raises
    ------
    SkyError
        For SET GLOBAL of one of them.
    """
    ours: list[Assigned] = []
    others: list[str] = []
    scope = ""
    for item in items_of(tokens):
        own, bare = "", item
        if not item:
            others.append("")
            continue
        if len(item) > 2 and item[0].upper in _SCOPES and item[1].text not in (".", "=", ":="):
            scope, bare = item[0].upper, item[1:]  # it holds for what follows, too
        target = variable_at(bare, 0)
        if target is not None:
            own = target.scope
        elif len(bare) > 1 and bare[1].text in (".", "=", ":="):
            own, target = scope, Named(scope, bare[0].upper.strip("`"), 1)
        at = 0 if target is None else _behind_equals(bare, target.end)
        if target is None or not at or target.name not in FIELDS:
            named = target is not None and bare[0].text[0] != "@"
            others.append(f"{scope} {text_of(bare)}" if named and scope else text_of(item))
            continue
        if own == "GLOBAL":
            raise SkyError(SESSION_SETTING_SET, name=target.name.lower())
        ours.append(Assigned(target.name, tuple(bare[at:])))
    marks = sum(token.kind is TokenKind.PARAMETER for token in tokens)
    return Setting(tuple(ours), tuple(others), marks) if ours else None


def _behind_equals(tokens: Sequence[Token], at: int) -> int:
    """Return the token behind ``=`` or ``:=``; 0 if there is none."""
    return at + 1 if at < len(tokens) and tokens[at].text in ("=", ":=") else 0


def items_of(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield what stands between commas that are in no parentheses."""
    item: list[Token] = []
    depth = 0
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if token.text == "," and not depth:
            yield item
            item = []
        else:
            item.append(token)
    yield item


def filled(text: str, tokens: list[Token], limits: RowLimits) -> str:
    """Return a statement with the values of our settings where it reads them.

    Raises
    ------
    SkyError
        If it asks for their global values: there are none.
    """
    values, depth = [], 0
    sets = bool(tokens) and tokens[0].upper == "SET"
    for at, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        found = variable_at(tokens, at) if token.kind is TokenKind.VARIABLE else None
        if found is None or found.name not in FIELDS:
            continue
        first = at == 1 or tokens[at - 1].text == "," or tokens[at - 1].upper == "STATEMENT"
        if sets and not depth and first and _behind_equals(tokens, found.end):
            continue
        if found.scope == "GLOBAL":
            raise SkyError(SESSION_SETTING, name=found.name.lower())
        value = f"({getattr(limits, FIELDS[found.name])}|0)"  # a BIGINT UNSIGNED, whatever the number
        values.append((at, found.end - 1, value))
    return filling.put(text, tokens, values) if values else text


def fill_in(sql: bytes, limits: RowLimits, mode: LexerMode) -> bytes:
    """Return a statement for the home server with the values of our settings where it reads them."""
    if PATTERN.search(sql) is None:
        return sql
    text = sql.decode("latin-1")
    try:
        return filled(text, tokenize(text, mode), limits).encode("latin-1")
    except LexError:
        return sql
