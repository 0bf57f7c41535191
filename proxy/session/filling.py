"""Puts values into a statement's text where it asks for them, and keeps the names that its columns have without them.

MariaDB names a column without an alias after its text. So an item of the select list that a value is put into gets
what was written as its alias.
"""

from __future__ import annotations

from collections.abc import Sequence

from shard.planner.headers import nameless_items
from shard.planner.lexer import Token

Value = tuple[int, int, str]
"""First and last token of what is replaced, and the text in its place."""
_BEHIND = frozenset(["", ",", "FROM", "LIMIT", "UNION", "INTO"])
"""What may follow a select item."""
_LONGEST = 256
"""Bytes that no alias may have; such an item has the name of what stands there."""


def put(text: str, tokens: list[Token], values: Sequence[Value]) -> str:
    """Return a text with values in it, which are in order."""
    aliases = _aliases(text, tokens, values)
    if aliases is None:
        aliases = {end: _alias(tokens, start, end, text) for start, end, _ in values}
    places = [(tokens[start].start, _end(tokens[end]), value) for start, end, value in values]
    places += [(_end(tokens[last]), _end(tokens[last]), alias) for last, alias in aliases.items()]
    out, at = "", 0
    for start, end, value in sorted(places, key=lambda place: place[:2]):
        out += text[at:start] + value
        at = end
    return out + text[at:]


def _end(token: Token) -> int:
    return token.start + len(token.text)


def _aliases(text: str, tokens: list[Token], values: Sequence[Value]) -> dict[int, str] | None:
    """Return what to write behind which tokens: the names of items with values; None if it cannot be told."""
    items = nameless_items(tokens)
    if items is None:
        return None
    changed = [start for start, _, _ in values]
    return {
        last: _quoted(text[tokens[first].start : _end(tokens[last])])
        for first, last in items
        if any(first <= start <= last for start in changed)
    }


def _alias(tokens: list[Token], start: int, end: int, text: str) -> str:
    """Return the name that a column has without the value: only where the value is a whole select item."""
    depth = sum((token.text == "(") - (token.text == ")") for token in tokens[:start])
    before = tokens[start - 1].upper if start else ""
    after = tokens[end + 1].upper if end + 1 < len(tokens) else ""
    if depth or before not in ("SELECT", ",") or after not in _BEHIND:
        return ""
    return _quoted(text[tokens[start].start : _end(tokens[end])])


def _quoted(name: str) -> str:
    return " AS `" + name.replace("`", "``") + "`" if len(name) < _LONGEST else ""
