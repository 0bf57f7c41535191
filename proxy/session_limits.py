"""The session settings that skyshard adds to MariaDB's: SET skyshard_gather_limit = …, SELECT @@….

MariaDB does not know them, so statements about them are answered here; each must stand alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.session.rows import text_row
from proxy.session.session import DEFAULT_GATHER_LIMIT, DEFAULT_SHIP_LIMIT, Session
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


def handle(session: Session, text: str) -> Shown | bool:
    """Carry out a statement about such a setting.

    Returns
    -------
    Shown or bool
        What a SELECT shows; True if the setting was set; False if the statement is another one.

    Raises
    ------
    SkyError
        For an unknown setting or a value that is no number of bytes.
    """
    found = _SET.fullmatch(text) or _SHOW.fullmatch(text)
    if found is None:
        return False
    name = found["name"].lower()
    if name not in _DEFAULTS:
        raise SkyError(UNKNOWN_SETTING, name=found["name"])
    field = name.removeprefix("skyshard_")
    if "value" not in found.groupdict():
        return Shown(found["text"], getattr(session, field))
    value = found["value"]
    if value.upper() != "DEFAULT" and not value.isdigit():
        raise SkyError(WRONG_SETTING, name=name, value=value)
    setattr(session, field, _DEFAULTS[name] if value.upper() == "DEFAULT" else int(value))
    return True


async def tell(session: Session, handled: Shown | bool) -> None:
    """Say what became of a statement about one of our session settings."""
    if isinstance(handled, Shown):
        column = ColumnDefinition(b"def", b"", b"", b"", handled.header.encode(), b"", 63, 21, 8, 32 | 128, 0)
        await session.out.columns([column.encode()], session.home.status)
        await session.out.packet(text_row([str(handled.value).encode()]))
        await session.out.end(0, session.home.status)
    else:
        await session.client.ok(session.home.status)
