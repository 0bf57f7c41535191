"""Cuts a packet into its statements under the sql_mode that its session has at the moment."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.aside import LONG
from proxy.home import settings as home_settings
from proxy.words import parts
from shard.planner.cutting import split_statements
from shard.planner.lexer import LexerMode
from shard.wire.protocol import StatusFlag

if TYPE_CHECKING:
    from proxy.session.session import Session

_SETS_MODE = parts(b"sql_mode", b"execute")
"""What a statement says that may give its session another sql_mode; routines give back the one they were called under."""


def may_set_mode(sql: bytes) -> bool:
    """Whether the statements behind this one may be read otherwise than before it."""
    return _SETS_MODE.search(sql) is not None


async def split(session: Session, sql: bytes, init_connect: bool) -> list[bytes]:
    """Return the statements of a packet, or of the rest of one, and note the session's mode if they depend on it.

    The home server is asked only where its answer matters: a question of the proxy's changes what FOUND_ROWS() is. What
    its replies say of backslashes is known unless it has begun sessions with statements of its own (`init_connect`).
    """
    if session.settings_dirty and b"\\" in sql and b";" in sql:
        verbatim = bool(session.home.status & StatusFlag.NO_BACKSLASH_ESCAPES)
        session.mode = replace(session.mode, no_backslash_escapes=verbatim)
        other = replace(session.mode, ansi_quotes=not session.mode.ansi_quotes)
        found = await _split(sql, session.mode)
        if not init_connect and found == await _split(sql, other):
            return found
        session.mode = await home_settings.mode(session.home)
    return await _split(sql, session.mode)


async def _split(sql: bytes, mode: LexerMode) -> list[bytes]:
    if len(sql) > LONG and b";" in sql:
        return await asyncio.to_thread(split_statements, sql, mode)
    return split_statements(sql, mode)
