"""Writes trees as MariaDB SQL, and knows only what it was taught.

sqlglot's own generator normalises (REGEXP becomes a function MariaDB lacks, units become
strings). This one writes a node as the user wrote it, and refuses a node it does not know: an
unknown construct is error 1235, never a guess.
"""

from __future__ import annotations

from sqlglot import exp

from shard.errors import SkyError
from shard.planner.write_queries import QUERIES
from shard.planner.write_values import VALUES
from shard.planner.writer import BARE, CHUNK_MARK, KEYS_MARK, WRITERS, Writer, construct_name

WRITERS.update(VALUES | QUERIES)


def emit(node: exp.Expression) -> str:
    """Return the SQL of a tree (its ``?`` marks in order of appearance)."""
    return Writer().write(node).text()


_LONGEST = 80


def excerpt(node: exp.Expression) -> str:
    """Return a piece of the user's statement for an error message, of at most 80 characters."""
    try:
        text = emit(node)
    except SkyError:  # of what cannot be written, the name says enough
        text = construct_name(node)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"


__all__ = ["BARE", "CHUNK_MARK", "KEYS_MARK", "Writer", "construct_name", "emit", "excerpt"]
