"""Statements whose answer is known before the home server gives it: drivers send them as soon as they are connected.

A connector sets its character set and autocommit before a user's first statement. Nothing has happened in the session
then that either could end or commit, so the client hears OK at once, and the statement goes home in front of the next
one: a connection's first query needs no round trip for what precedes it. Should the home server refuse it after all (a
user's limit of queries), the next statement gets that error, and the connection ends. A home server with an
`init_connect` runs that behind the login's OK: nothing is promised there.
"""

from __future__ import annotations

import re

from shard.wire.protocol import Capability, StatusFlag

_NAMES = re.compile(rb"\s*SET\s+NAMES\s+(?:'utf8mb4'|utf8mb4)\s*;?\s*", re.IGNORECASE)
_AUTOCOMMIT = re.compile(rb"\s*SET\s+(?:SESSION\s+)?AUTOCOMMIT\s*=\s*([01])\s*;?\s*", re.IGNORECASE)
_LONGEST = 64
MOST = 4
"""Statements of a session that are answered so: those of its beginning."""


def promised(sql: bytes, status: int, capabilities: int) -> int | None:
    """Return the status flags of the OK that a statement will be answered with; None if that is not sure.

    Parameters
    ----------
    sql : bytes
        A packet's statement.
    status : int
        The session's flags, in which nothing else has been said yet.
    capabilities : int
        The client's: one that tracks its session is told of each change by the home server itself.
    """
    if len(sql) > _LONGEST or capabilities & Capability.SESSION_TRACK:
        return None
    if _NAMES.fullmatch(sql):
        return status
    switched = _AUTOCOMMIT.fullmatch(sql)
    if switched is None:
        return None
    if switched[1] == b"1":
        return status | StatusFlag.AUTOCOMMIT
    return status & ~StatusFlag.AUTOCOMMIT
