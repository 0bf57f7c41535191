"""Bounds what commands that have come in part hold in memory: many clients may send long ones, and never end them.

Who is slow with much must not be in the way of others. So past the bound it is not the command that asks last which is
refused, but the largest of the user who has the most: whoever sends less goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from shard.errors import LIMIT_EXCEEDED, SkyError


class Sending:
    """What one session has sent of a command that is not whole.

    Parameters
    ----------
    wake : callable
        Told why the command is refused, while its session may be waiting for more of it.

    Attributes
    ----------
    user : str
        Who sends; strangers, who have not logged in, are one user.
    size : int
        Bytes.
    """

    def __init__(self, wake: Callable[[SkyError], None]) -> None:
        self.wake = wake
        self.user = ""
        self.size = 0


class Inbox:
    """Bytes of commands that are being received, of all sessions of a process.

    Parameters
    ----------
    most : int
        Bytes; when there are more, commands are refused.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sending: set[Sending] = set()
        self.used = 0

    def take(self, sending: Sending, size: int) -> None:
        """Count bytes that have come, and refuse the largest command of who has the most while all are too many."""
        self._sending.add(sending)
        sending.size += size
        self.used += size
        while self.used > self._most:
            self._refuse(self._largest())

    def _largest(self) -> Sending:
        users: Counter[str] = Counter()
        for one in self._sending:
            users[one.user] += one.size
        return max(self._sending, key=lambda one: (users[one.user], one.size))

    def _refuse(self, one: Sending) -> None:
        self.give(one, one.size)
        one.wake(
            SkyError(
                LIMIT_EXCEEDED,
                limit="size of commands that are being received",
                value=f"{self._most} bytes",
                setting="inbox_bytes",
            )
        )

    def give(self, sending: Sending, size: int) -> None:
        """Forget bytes whose command has come as a whole, or never will; those of one that was refused are forgotten."""
        size = min(size, sending.size)
        sending.size -= size
        self.used -= size
        if not sending.size:
            self._sending.discard(sending)
