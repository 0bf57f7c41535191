"""A user's mistake at the command line: a message and exit code 1, never a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Says what is wrong, where, and what to do."""


class NotNow(UserError):  # noqa: N818 - no mistake
    """Nothing is wrong with what was asked: somebody else is busy with it, or a server is away; it can be asked again."""
