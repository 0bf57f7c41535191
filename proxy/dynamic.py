"""PREPARE, EXECUTE and EXECUTE IMMEDIATE as SQL: the text they run is decided about like any other.

The home server keeps what is prepared, and says what is wrong with it; a text on sharded tables is kept here
as well, and answered here, with the values of USING written into it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from proxy.home import session_values
from proxy.home.link import HomeLink
from proxy.home.settings import SessionSettings
from proxy.session.engine import Local
from proxy.session.prepared import PreparedText
from shard.catalog.naming import literal
from shard.planner.lexer import LexError, Token, TokenKind, tokenize

if TYPE_CHECKING:
    from proxy.session.session import Session

PATTERN = re.compile(rb"(?i)\b(?:prepare|execute|deallocate)\b")
"""What every such statement contains; others may, too."""
VERBS = frozenset({"PREPARE", "EXECUTE", "DEALLOCATE", "DROP"})
MOST_TEXTS, MOST_BYTES = 100, 1 << 20
"""Prepared texts that are kept of one session, and the length of each; the others stay at home."""
_WHOLE = re.compile(r"CAST\((-?\d+) AS (?:UN)?SIGNED\)")
_VALUES = frozenset({TokenKind.STRING, TokenKind.NUMBER, TokenKind.VARIABLE})


class Dynamic:
    """Answers such statements.

    Parameters
    ----------
    mentions : callable
        Whether a text could be about sharded tables.
    check : callable
        Raises what is wrong with a text on them.
    """

    def __init__(
        self, mentions: Callable[[bytes], bool], check: Callable[[Session, bytes], Awaitable[object]]
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
        if kept is not None and (kept.mode, kept.database) == (settings.mode, settings.database):
            return await self._filled(session.home, kept.text, tokens[2 : len(words)], settings)
        if words[:1] == ["PREPARE"] and words[2:3] == ["FROM"]:
            session.texts.pop(name, None)
            text = await self._text(session.home, tokens[3], settings) if len(words) == 4 else None
            if text is not None and len(session.texts) < MOST_TEXTS and len(text) < MOST_BYTES:
                await self._check(session, text.encode(*settings.encoding))
                return Local(partial(self._prepare, session, tokens[1].text, text, settings))
        if len(words) == 3 and words[0] in ("DEALLOCATE", "DROP") and words[1] == "PREPARE":
            session.texts.pop(tokens[2].text.strip("`").lower(), None)
        return None

    async def _prepare(self, session: Session, name: str, text: str, settings: SessionSettings) -> None:
        """Prepare a text at home, from which its errors come, and keep it."""
        statement = f"PREPARE {name} FROM {literal(text)}"
        await session.home.table(statement.encode(*settings.encoding))
        session.texts[name.strip("`").lower()] = PreparedText(text, settings.mode, settings.database)
        await session.client.ok(session.home.status)

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
            marks = [token for token in tokenize(text, settings.mode) if token.text == "?"]
        except LexError:
            return None
        if len(marks) != len(items) or (using and len(commas) != len(items) - 1):
            return None
        variables = [item.text for item in items if item.kind is TokenKind.VARIABLE]
        known = await session_values.read(home, list(dict.fromkeys(variables)))
        out, done = "", 0
        for mark, item in zip(marks, items, strict=True):
            value = known.get(item.text, item.text)
            whole = _WHOLE.fullmatch(value)
            value = value if whole is None else whole[1]
            out += text[done : mark.start] + (f"({value})" if value.startswith("-") else value)
            done = mark.start + 1
        return out + text[done:]
