"""What one user may use of a proxy: connections, running queries, result bytes, seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from proxy.session.board import Share
from shard.errors import USER_LIMIT, SkyError


class Limits(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Limits of one user in one proxy, its processes together; 0 is none.

    Attributes
    ----------
    connections : int
        Open sessions.
    queries : int
        Distributed queries that run at once.
    result_bytes : int
        Bytes of one distributed query's rows.
    statement_s : float
        Seconds one distributed query may run.
    """

    connections: int = 0
    queries: int = 0
    result_bytes: int = 0
    statement_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RowLimits:
    """Bytes of rows that one distributed query may move; a session sets them for itself.

    Attributes
    ----------
    gather : int
        Of what it brings home (skyshard_gather_limit).
    ship : int
        Of a user's own table that is sent to the workers (skyshard_ship_limit).
    """

    gather: int = 256 << 20
    ship: int = 16 << 20


class SessionLimits(msgspec.Struct, frozen=True):
    """How many bytes one session may have in this process's memory or on its disk, and how many seconds it may keep it waiting."""

    packet_bytes: int = 1 << 30
    packet_timeout_s: float = 30.0
    long_data_bytes: int = 64 << 20
    cursor_bytes: int = 1 << 30


class Usage:
    """Counts what users have open.

    Parameters
    ----------
    default : Limits
        Everybody's.
    users : mapping
        User name → limits in place of the default.
    share : Share or None
        Where other processes of this proxy count, too.
    """

    def __init__(self, default: Limits, users: Mapping[str, Limits], share: Share | None = None) -> None:
        self._default, self._users, self._share = default, users, share
        self._sessions: Counter[str] = Counter()
        self._queries: Counter[str] = Counter()

    def of(self, user: str) -> Limits:
        """Return a user's limits."""
        return self._users.get(user, self._default)

    def enter(self, user: str) -> None:
        """Count a session.

        Raises
        ------
        SkyError
            USER_LIMIT.
        """
        self._add("sessions", self._sessions, user, self.of(user).connections, "connections")

    def leave(self, user: str) -> None:
        """End a session."""
        self._take("sessions", self._sessions, user)

    def begin(self, user: str) -> None:
        """Count a running query.

        Raises
        ------
        SkyError
            USER_LIMIT.
        """
        self._add("queries", self._queries, user, self.of(user).queries, "queries")

    def end(self, user: str) -> None:
        """End a running query."""
        self._take("queries", self._queries, user)

    def _add(self, field: str, counter: Counter[str], user: str, most: int, resource: str) -> None:
        if most:
            found = counter[user] if self._share is None else self._share.total(field, f"u{user}")
            if found >= most:
                raise SkyError(USER_LIMIT, user=user, resource=resource, value=found)
        counter[user] += 1
        if self._share is not None:
            self._share.set(field, f"u{user}", counter[user])

    def _take(self, field: str, counter: Counter[str], user: str) -> None:
        counter[user] -= 1
        if self._share is not None:
            self._share.set(field, f"u{user}", counter[user])
        if not counter[user]:
            del counter[user]
