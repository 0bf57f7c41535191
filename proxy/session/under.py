"""Executes prepared statements as they were read: in their database, by the sql_mode and the character set of PREPARE.

MariaDB reads a statement once. Here it is read again wherever it runs, so that the session has for a while what it had
then; what matters only as a statement runs (strictness, time zone) is the session's own at the moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from backend.tasks import to_the_end
from proxy.home.definitions import set_statement
from proxy.home.settings import SessionSettings
from proxy.session.engine import Engine
from proxy.session.prepared import Prepared
from shard.errors import ServerError, not_supported
from shard.wire.frames import Parameter

if TYPE_CHECKING:
    from proxy.session.session import Session

_CHARACTERS = ("character_set_client", "collation_connection")
_TEXTS = frozenset({15, 253, 254})
"""Types of parameters whose values are in the client's character set."""


@asynccontextmanager
async def as_prepared(
    session: Session, engine: Engine, prepared: Prepared, parameters: Sequence[Parameter]
) -> AsyncIterator[None]:
    """Let a session be as it was when a statement was prepared, as far as the statement is read by that."""
    async with session.in_database(prepared.under.database):
        now = await engine.settings(session)
        wanted = {} if prepared.renewed else _other(now, prepared, parameters)
        if not wanted:
            yield
            return
        await _set(session, wanted)
        try:
            await engine.settings(session)  # and its lexer's mode
            yield
        finally:
            if not session.home.closed:
                await to_the_end(_set_back(session, {name: now.values[name] for name in wanted}))
            session.mode = now.mode


def _other(now: SessionSettings, prepared: Prepared, parameters: Sequence[Parameter]) -> dict[str, str]:
    """Return the settings that are to be others than now.

    Raises
    ------
    SkyError
        NOT_SUPPORTED: values in the client's present character set go with literals in another.
    """
    then, wanted = prepared.under, {}
    if now.grammar != then.grammar:
        wanted["sql_mode"] = now.mode_to_read_as(then)
    text = prepared.text
    if now.literals != then.literals and not (text.isascii() and b"'" not in text and b'"' not in text):
        if any(parameter.type in _TEXTS for parameter in parameters):
            raise not_supported(
                "a text as parameter under another character set or collation than at PREPARE",
                "prepare the statement again",
            )
        wanted |= {name: then.values[name] for name in _CHARACTERS}
    return wanted


async def _set(session: Session, settings: Mapping[str, str]) -> None:
    session.settings_dirty = True
    await session.home.done(set_statement(settings).encode())


async def _set_back(session: Session, settings: Mapping[str, str]) -> None:
    try:
        await _set(session, settings)
    except ServerError:  # nothing may run under settings that are not its own
        session.home.abort()
