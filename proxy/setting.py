"""SET of skyshard's own settings beside MariaDB's, for the session or for one statement.

The home server computes their values and takes the other items; nothing is set when one item fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from proxy.home.link import trap_error
from proxy.home.settings import SessionSettings
from proxy.session.engine import Distributed, Home, Local, Route
from proxy.session.limits import RowLimits
from proxy.session.own_settings import FIELDS, Setting, filled, find
from shard.catalog.traps import is_trap_error
from shard.errors import WRONG_SETTING, ServerError, SkyError, not_supported
from shard.planner.cutting import behind_for
from shard.planner.lexer import LexError, Token, TokenKind, text_of, tokenize, without_end
from shard.wire.packets import ColumnDefinition
from shard.wire.protocol import INTEGER_TYPES

if TYPE_CHECKING:
    from proxy.session.session import Session

_MOST = 2**64 - 1
_MOST_TOKENS = 20_000
"""Words, signs and values of a statement that is searched for our settings."""


class OwnSettings:
    """Answers statements that set or read skyshard's settings.

    Parameters
    ----------
    decide : callable
        Returns who answers a statement without them.
    """

    def __init__(self, decide: Callable[[Session, bytes], Awaitable[Route]]) -> None:
        self._decide = decide

    async def answer(self, session: Session, sql: bytes, settings: SessionSettings) -> Route:
        """Return who answers a statement.

        Raises
        ------
        SkyError
            For a value that is no number of bytes, or a scope that they do not have.
        """
        try:
            text = sql.decode(*settings.encoding)
            known = tokenize(text, settings.mode, _MOST_TOKENS)
            if known.cut:  # a value in it, more likely than a variable
                return await self._decide(session, sql)
            text, tokens = without_end(text, known, settings.mode)
            if [token.upper for token in tokens[:2]] == ["SET", "STATEMENT"]:
                route = await self._for_one(session, text, tokens, settings)
                if route is not None:
                    return route
            text = filled(text, tokens, session.row_limits)
            tokens = tokenize(text, settings.mode)
        except (LexError, UnicodeDecodeError):
            return await self._decide(session, sql)
        setting = find(tokens[1:]) if tokens and tokens[0].upper == "SET" else None
        if setting is None:
            return await self._in_place(session, text.encode(*settings.encoding))
        others = None
        if setting.others:
            others = f"SET {', '.join(setting.others)}".encode(*settings.encoding)
            route = await self._in_place(session, others)
            if not isinstance(route, Home):
                raise not_supported("a query in a SET beside skyshard's own settings", "use a SET of its own")
            others = route.sql
        carry_out = partial(_set, session, setting, others, settings.encoding)
        return Local(carry_out, b"DO " + b", ".join([b"?"] * setting.marks or [b"0"]), at_home=bool(others))

    async def _in_place(self, session: Session, instead: bytes) -> Route:
        """Return who answers a statement in the place of the client's."""
        route = await self._decide(session, instead)
        return Home(instead) if route == Home() else route

    async def _for_one(
        self, session: Session, text: str, tokens: list[Token], settings: SessionSettings
    ) -> Route | None:
        """Return who answers the statement of a SET STATEMENT; None if it sets nothing of ours."""
        at = behind_for(tokens) or len(tokens) + 1
        setting = find(tokens[2 : at - 1])
        if setting is None:
            return None
        if at >= len(tokens):  # the home server says what is missing
            return Home(b"SET STATEMENT sql_mode = DEFAULT")
        if setting.marks:
            raise not_supported(
                "a parameter beside skyshard's own settings in SET STATEMENT", "write its value"
            )
        limits = await _valued(session, setting, settings.encoding)
        prefix = f"SET STATEMENT {', '.join(setting.others)} FOR " if setting.others else ""
        rest = text[tokens[at].start :]
        instead = prefix + filled(rest, tokenize(rest, settings.mode), limits)
        route = await self._in_place(session, instead.encode(*settings.encoding))
        return replace(route, limits=limits) if isinstance(route, Distributed) else route


async def _set(
    session: Session, setting: Setting, others: bytes | None, encoding: tuple[str, str], binary: bool
) -> None:
    del binary
    limits = await _valued(session, setting, encoding)
    if others is None:
        await session.client.ok(session.home.status)
    else:
        session.settings_dirty = True
        with _explained():
            ok = await session.home.done(session.filled(others))
        await session.client.relayed_ok(ok)
    session.row_limits = limits


async def _valued(session: Session, setting: Setting, encoding: tuple[str, str]) -> RowLimits:
    """Return the session's limits as they are after a SET."""
    limits = session.row_limits
    for one in setting.ours:
        field, text = FIELDS[one.name], text_of(one.value)
        value: int | None = None
        if text.upper() == "DEFAULT":
            value = getattr(RowLimits(), field)
        elif text.isascii() and text.isdigit():
            value = int(text)
        elif len(one.value) > 1 or (one.value and one.value[0].kind is not TokenKind.WORD):
            value = await _computed(session, text.encode(*encoding))
        if value is None or not 0 <= value <= _MOST:
            raise SkyError(WRONG_SETTING, name=one.name.lower(), value=text)
        limits = replace(limits, **{field: value})
    return limits


async def _computed(session: Session, expression: bytes) -> int | None:
    """Return the value of an expression if it is an integer."""
    with _explained():
        found = await session.home.table(b"SELECT (" + expression + b")")
    value = found.rows[0][0]
    if value is None or ColumnDefinition.decode(found.columns[0]).type not in INTEGER_TYPES:
        return None
    return int(value)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Raise an explanation in the place of a trap's own error."""
    try:
        yield
    except ServerError as error:
        if is_trap_error(error.errno, error.message):
            raise trap_error() from None
        raise
