"""Bounds what commands that have come in part hold in memory: many clients may send long ones, and never end them."""

from __future__ import annotations

from shard.errors import LIMIT_EXCEEDED, SkyError


class Inbox:
    """Bytes of commands that are being received, of all sessions of a process.

    Parameters
    ----------
    most : int
        Bytes; what goes beyond is refused.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def take(self, size: int) -> None:
        """Count bytes that have come.

        Raises
        ------
        SkyError
            If they are too many; they are counted nevertheless, until they are given back.
        """
        self.used += size
        if self.used > self._most:
            raise SkyError(
                LIMIT_EXCEEDED,
                limit="size of commands that are being received",
                value=f"{self._most} bytes",
                setting="inbox_bytes",
            )

    def give(self, size: int) -> None:
        """Forget bytes whose command has come as a whole, or never will."""
        self.used -= size
