"""The session settings that skyshard adds to MariaDB's: SET skyshard_gather_limit = …, SELECT @@….

MariaDB does not know them, so statements about them are answered here; each must stand alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.session.session import DEFAULT_GATHER_LIMIT, DEFAULT_SHIP_LIMIT, Session
from shard.catalog.naming import quote
from shard.errors import UNKNOWN_SETTING, WRONG_SETTING, SkyError
from shard.wire.packets import ColumnDefinition

PATTERN = re.compile(rb"(?i)skyshard_\w+_limit")
_DEFAULTS = {"skyshard_gather_limit": DEFAULT_GATHER_LIMIT, "skyshard_ship_limit": DEFAULT_SHIP_LIMIT}
_WHERE = r"(?:(?:SESSION|LOCAL)\s+|@@(?:(?:session|local)\s*\.\s*)?)"
_SET = re.compile(rf"(?is)\s*SET\s+{_WHERE}?(?P<name>skyshard_\w+)\s*:?=\s*(?P<value>\w+)\s*;?\s*")
_SHOW = re.compile(
    r"(?is)\s*SELECT\s+(?P<text>@@(?:(?:session|local)\s*\.\s*)?(?P<name>skyshard_\w+))\s*;?\s*"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """The answer to a question for a setting: header and value."""

    header: str
    value: int


@dataclass(frozen=True, slots=True)
class Assigned:
    """What a SET says: the session's attribute, and its value in bytes."""

    field: str
    value: int


def read(session: Session, text: str) -> Shown | Assigned | None:
    """Return what a statement about such a setting says; None if it is another one.

    Raises
    ------
    SkyError
        For an unknown setting or a value that is no number of bytes.
    """
    found = _SET.fullmatch(text) or _SHOW.fullmatch(text)
    if found is None:
        return None
    name = found["name"].lower()
    if name not in _DEFAULTS:
        raise SkyError(UNKNOWN_SETTING, name=found["name"])
    field = name.removeprefix("skyshard_")
    if "value" not in found.groupdict():
        return Shown(found["text"], getattr(session, field))
    value = found["value"]
    if value.upper() != "DEFAULT" and not value.isdigit():
        raise SkyError(WRONG_SETTING, name=name, value=value)
    return Assigned(field, _DEFAULTS[name] if value.upper() == "DEFAULT" else int(value))


async def answer(session: Session, said: Shown | Assigned, binary: bool) -> None:
    """Carry out a statement about one of our session settings."""
    if isinstance(said, Shown):
        column = ColumnDefinition(b"def", b"", b"", b"", said.header.encode(), b"", 63, 21, 8, 32 | 128, 0)
        row: list[bytes | None] = [str(said.value).encode()]
        await session.client.table([column.encode()], [row], session.home.status, binary)
    else:
        setattr(session, said.field, said.value)
        await session.client.ok(session.home.status)


def stand_in(said: Shown | Assigned) -> bytes:
    """Return what is prepared at home in the place of such a statement."""
    if isinstance(said, Shown):
        return f"SELECT CAST(0 AS UNSIGNED) AS {quote(said.header)} FROM DUAL".encode()
    return b"DO 0"
