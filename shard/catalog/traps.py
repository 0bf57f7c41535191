"""How a read of a trap table fails: what the proxy turns into an explanation.

The traps themselves are made in `skyshard.home.guard`.
"""

from __future__ import annotations

TRAP_ERRNOS: frozenset[int] = frozenset({1814, 1296, 1430, 1429, 1030})
"""What reading a trap fails with; 1030 only with `is_trap_error`, because other engines use it too."""


INGEST_LOCK = "skyshard ingest {database}"
"""The user lock (GET_LOCK) at home of one who changes a database's tables; cut after 64 characters."""


def is_trap_error(errno: int, message: str) -> bool:
    """Whether an error of the home server comes from reading a trap table.

    Parameters
    ----------
    errno : int
        The error's number.
    message : str
        The error's text.
    """
    if errno == 1030:
        return "FEDERATED" in message
    return errno in TRAP_ERRNOS
