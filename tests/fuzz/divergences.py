"""Known divergences: what of a column's definition may differ from plain MariaDB's, each with an example.

The server decides these by its plan, and skyshard's definitions come from a plan over empty tables. The
file may only shrink: a test asks for every example, and fails when it no longer diverges.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

LAST_DIGIT = "last digit"
"""Of DOUBLE values of fixed decimals, which are rounded once more where they are stored."""
SCALE = "scale"
"""Digits of a DECIMAL quotient past the scale of the average inside it, which a plan that stores it cuts off."""
FILE = Path(__file__).with_name("known_divergences.json")


class Divergence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to diverge: the parts of a definition (or the last digit) it concerns, and a query that shows one."""

    differs: tuple[str, ...]
    what: str
    query: str
    binary: bool = False


def known() -> tuple[Divergence, ...]:
    """Return the known divergences."""
    return msgspec.json.decode(FILE.read_bytes(), type=tuple[Divergence, ...])


def names() -> frozenset[str]:
    """Return all parts of definitions that may diverge."""
    return frozenset(name for item in known() for name in item.differs)


def table() -> str:
    """Return the divergences as a table in Markdown."""
    rows = (f"| {item.what} | `{item.query}` |\n" for item in known())
    return "| what | example |\n|---|---|\n" + "".join(rows)
