"""A user's mistake at the command line: a message and exit code 1, never a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Says what is wrong, where, and what to do."""
