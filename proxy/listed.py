"""SHOW VARIABLES and SHOW STATUS with what only the proxy knows: skyshard's own settings, and the client's TLS.

The home server makes the list; whether ours match its LIKE or WHERE is asked there, too.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Mapping

from proxy.session import own_settings
from proxy.session.owned import ShowListed
from proxy.session.session import Session
from shard.catalog.naming import literal

_BEGINS = re.compile(r"(?i)LIKE\s*'(\w*?)(?=[%_\\']|\W)")
_TEXT = "CONVERT({} USING utf8mb3) COLLATE utf8mb3_general_ci"


def own_values(session: Session, asked: ShowListed) -> dict[str, str]:
    """Return what is known here of what a statement lists: name → value; empty if it cannot ask for any."""
    if asked.what == "STATUS":  # the session's link to the home server is another connection
        wire = session.client.wire
        known = {"Ssl_cipher": wire.cipher, "Ssl_version": wire.tls_version}
    elif asked.scope == "GLOBAL":
        return {}
    else:
        known = {name: str(value) for name, value in own_settings.values(session.row_limits).items()}
    begins = _BEGINS.match(asked.condition)
    if begins is None or any(name.lower().startswith(begins[1].lower()) for name in known):
        return known
    return {}


async def answer(
    session: Session, sql: bytes, asked: ShowListed, known: Mapping[str, str], binary: bool
) -> None:
    """Write the home server's list with our values in it, in its order."""
    found = await session.home.table(sql)
    rows = " UNION ALL ".join(
        f"SELECT {_TEXT.format(literal(name))} AS Variable_name, {_TEXT.format(literal(value))} AS Value"
        for name, value in known.items()
    )
    condition = asked.condition
    if condition.upper().startswith("LIKE"):
        condition = f"WHERE Variable_name {condition}"
    ours = await session.home.table(f"SELECT * FROM ({rows}) AS v {condition}".encode("latin-1"))
    names = {name.lower().encode() for name in known}
    listed = [row for row in found.rows if (row[0] or b"").lower() not in names]
    for row in ours.rows:
        listed.insert(bisect(listed, (row[0] or b"").lower(), key=lambda one: (one[0] or b"").lower()), row)
    await session.client.table(found.columns, listed, session.home.status, binary)
