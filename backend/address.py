"""Where a MariaDB server is and who we are there."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_SOCKET = "/run/mysqld/mysqld.sock"
"""Where the distribution's server listens."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server and an account: a unix socket, or host and port."""

    user: str
    password: str = field(repr=False)
    socket: str | None = None
    host: str | None = None
    port: int | None = None
