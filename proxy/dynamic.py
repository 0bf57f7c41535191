"""PREPARE, EXECUTE and EXECUTE IMMEDIATE as SQL: the text they run is decided about like any other.

The home server keeps what is prepared, and says what is wrong with it; a text on sharded tables is kept here
as well, and answered here, with the values of USING written into it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from proxy.home import session_values
from proxy.home.link import HomeLink
from proxy.home.settings import SessionSettings
from proxy.session.engine import Distributed, Local, Route
from proxy.session.prepared import PreparedText
from proxy.words import words
from shard.catalog.naming import literal, quote
from shard.planner.lexer import LexerMode, LexError, Token, TokenKind, tokenize

if TYPE_CHECKING:
    from proxy.session.session import Session

PATTERN = words(b"prepare", b"execute", b"deallocate")
"""What every such statement contains; others may, too."""
STARTS = re.compile(rb"(?i)\s*(?:prepare|execute|deallocate)\b")
"""What one of them begins with."""
VERBS = frozenset({"PREPARE", "EXECUTE", "DEALLOCATE", "DROP"})
MOST_TEXTS, MOST_BYTES = 100, 1 << 20
"""Prepared texts that are kept of one session, and the length of each; the others stay at home."""
_WHOLE = re.compile(r"CAST\((-?\d+) AS (?:UN)?SIGNED\)")
_OPTIONS = frozenset(
    {"ALL", "DISTINCT", "DISTINCTROW", "HIGH_PRIORITY", "STRAIGHT_JOIN", "SQL_SMALL_RESULT", "SQL_BIG_RESULT",
     "SQL_BUFFER_RESULT", "SQL_CACHE", "SQL_NO_CACHE", "SQL_CALC_FOUND_ROWS"}
)  # fmt: skip
_ENDS = frozenset(
    {"FROM", "INTO", "UNION", "EXCEPT", "INTERSECT", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "FOR", ";"}
)
_EXPRESSION_ENDS = frozenset({"END", "NULL", "TRUE", "FALSE", "UNKNOWN"})
_OPERATORS = frozenset(
    {"AND", "OR", "XOR", "NOT", "IS", "IN", "LIKE", "RLIKE", "REGEXP", "BETWEEN", "DIV", "MOD", "INTERVAL", "COLLATE",
     "BINARY", "ESCAPE", "SOUNDS"}
)  # fmt: skip
_LONGEST_ALIAS = 256
_VALUES = frozenset({TokenKind.STRING, TokenKind.NUMBER, TokenKind.VARIABLE})


class Dynamic:
    """Answers such statements.

    Parameters
    ----------
    mentions : callable
        Whether a text could be about sharded tables.
    check : callable
        Returns who answers a text on them, or raises what is wrong with it.
    """

    def __init__(
        self, mentions: Callable[[bytes], bool], check: Callable[[Session, bytes], Awaitable[Route]]
    ) -> None:
        self._mentions, self._check = mentions, check

    async def answer(
        self, session: Session, tokens: Sequence[Token], settings: SessionSettings
    ) -> Local | str | None:
        """Return what answers a statement, or the text that it runs; None if that is the home server's matter."""
        words = [token.upper if token.kind is TokenKind.WORD else token.text for token in tokens]
        if words and words[-1] == ";":
            words.pop()
        if words[:2] == ["EXECUTE", "IMMEDIATE"] and len(words) > 2:
            text = await self._text(session.home, tokens[2], settings)
            return await self._filled(session.home, text, tokens[3 : len(words)], settings)
        name = tokens[1].text.strip("`").lower() if len(words) > 1 else ""
        kept = session.texts.get(name) if words[:1] == ["EXECUTE"] else None
        if kept is not None and kept.fits(settings):
            return await self._filled(session.home, kept.text, tokens[2 : len(words)], settings)
        if words[:1] == ["PREPARE"] and words[2:3] == ["FROM"]:
            session.texts.pop(name, None)
            text = await self._text(session.home, tokens[3], settings) if len(words) == 4 else None
            if text is not None and len(session.texts) < MOST_TEXTS and len(text) < MOST_BYTES:
                route = await self._check(session, text.encode(*settings.encoding))
                if isinstance(route, Local) and route.check is not None:
                    await route.check()
                native = _native(route)
                at_home = text if native is None else native.decode(*settings.encoding)
                return Local(partial(self._prepare, session, tokens[1].text, text, at_home, settings))
        if len(words) == 3 and words[0] in ("DEALLOCATE", "DROP") and words[1] == "PREPARE":
            session.texts.pop(tokens[2].text.strip("`").lower(), None)
        return None

    async def _prepare(
        self, session: Session, name: str, text: str, at_home: str, settings: SessionSettings, binary: bool
    ) -> None:
        """Prepare a text at home in its native form, from which its errors come, and keep it."""
        del binary
        statement = f"PREPARE {name} FROM {literal(at_home)}"
        await session.home.table(statement.encode(*settings.encoding))
        session.texts[name.strip("`").lower()] = PreparedText(text, settings)
        await session.client.ok(session.home.status, b"Statement prepared")

    async def _text(self, home: HomeLink, token: Token, settings: SessionSettings) -> str | None:
        """Return the text that a literal or a variable holds, if it could be about sharded tables."""
        if token.kind not in (TokenKind.STRING, TokenKind.VARIABLE):
            return None
        asked = f"SELECT HEX(CONVERT({token.text} USING utf8mb4)) LIMIT 1"
        (row,) = (await home.table(asked.encode(*settings.encoding))).rows
        if row[0] is None:
            return None
        text = bytes.fromhex(row[0].decode("ascii")).decode()
        return text if self._mentions(text.encode(*settings.encoding)) else None

    async def _filled(
        self, home: HomeLink, text: str | None, using: Sequence[Token], settings: SessionSettings
    ) -> str | None:
        """Return a text with the values of ``USING a, b`` in place of its marks; None if they do not fit."""
        if text is None or (using and using[0].upper != "USING"):
            return None
        items, commas = using[1::2], using[2::2]
        if any(item.kind not in _VALUES for item in items) or any(comma.text != "," for comma in commas):
            return None
        try:
            tokens = tokenize(text, settings.mode)
        except LexError:
            return None
        marks = [token for token in tokens if token.kind is TokenKind.PARAMETER]
        if len(marks) != len(items) or (using and len(commas) != len(items) - 1):
            return None
        headers = _headers(text, tokens)
        variables = [item.text for item in items if item.kind is TokenKind.VARIABLE]
        known = await session_values.read(home, list(dict.fromkeys(variables)))
        changes = list(headers)
        for mark, item in zip(marks, items, strict=True):
            value = known.get(item.text, item.text)
            whole = _WHOLE.fullmatch(value)
            value = value if whole is None else whole[1]
            changes.append((mark.start, mark.start + 1, f"({value})" if value.startswith("-") else value))
        out, done = "", 0
        for start, end, instead in sorted(changes):
            out += text[done:start] + instead
            done = end
        return out + text[done:]


def executed(sql: bytes, texts: Mapping[str, PreparedText], mode: LexerMode) -> PreparedText | None:
    """Return the text that an EXECUTE runs, if it is one of those that were prepared here."""
    if not STARTS.match(sql):
        return None
    try:
        tokens = tokenize(sql.decode("latin-1"), mode, 2)
    except LexError:
        return None
    if len(tokens) < 2 or tokens[0].upper != "EXECUTE":
        return None
    return texts.get(tokens[1].text.strip("`").encode("latin-1").decode("utf-8", "replace").lower())


def _native(route: Route) -> bytes | None:
    """Return what the home server prepares for a text; None: the text itself."""
    if isinstance(route, Distributed):
        return route.native
    return route.stand_in if isinstance(route, Local) else route.sql


def _headers(text: str, tokens: Sequence[Token]) -> list[tuple[int, int, str]]:
    """Return the aliases, and where they go, of select items that would be named after the value of a mark."""
    out = []
    for index, token in enumerate(tokens):
        if token.kind is not TokenKind.WORD or token.upper != "SELECT":
            continue
        for item in _items(tokens[index + 1 :]):
            marked = any(one.kind is TokenKind.PARAMETER for one in item)
            if not marked or _is_aliased(item):
                continue
            end = item[-1].start + len(item[-1].text)
            name = text[item[0].start : end]
            if len(name) <= _LONGEST_ALIAS:
                out.append((end, end, f" AS {quote(name)}"))
    return out


def _items(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the items of a select list that begins here."""
    item: list[Token] = []
    depth = 0
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        word = token.upper if token.kind is TokenKind.WORD else token.text
        if depth < 0 or (depth == 0 and word in _ENDS):
            break
        if depth == 0 and word == ",":
            if item:
                yield item
            item = []
        elif item or word not in _OPTIONS:
            item.append(token)
    if item:
        yield item


def _is_aliased(item: Sequence[Token]) -> bool:
    """Whether a select item has a name of its own: AS, or a name after what ends an expression."""
    if len(item) < 2:
        return False
    last, before = item[-1], item[-2]
    if before.kind is TokenKind.WORD and before.upper == "AS":
        return True
    if (
        last.kind not in (TokenKind.WORD, TokenKind.QUOTED, TokenKind.STRING)
        or last.upper in _EXPRESSION_ENDS
    ):
        return False
    if before.kind is TokenKind.WORD:
        return before.upper not in _OPERATORS
    return before.kind in (TokenKind.PARAMETER, TokenKind.NUMBER, TokenKind.STRING, TokenKind.QUOTED) or (
        before.text == ")"
    )
