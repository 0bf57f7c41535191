"""What all parts of the query generator share: names, and what is known of how answers compare."""

from __future__ import annotations

import random

from tests.fuzz.expressions import Col
from tests.fuzz.sources import DATABASE
from tests.fuzz.tree import Node

EXACT = frozenset("IUNFSBDMWYETK")
"""Types whose values an outer query may read."""
Made = tuple[Node, list[tuple[str, str]]]


class Base:
    """One query in the making: its names, and how its answers compare."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.aliases = self.names = 0
        self.inner = 3
        self.loose = self.approx = False

    def _alias(self) -> str:
        self.aliases += 1
        return f"t{self.aliases}"

    def _name(self) -> str:
        """Return a column name that no other query inside has: which of two GROUP BY means is not decided."""
        self.names += 1
        return f"c{self.names}"

    def _named(self, table: str, alias: str) -> str:
        prefix = f"{DATABASE}." if self.rng.random() < 0.5 else ""
        return f"{prefix}{table} {'AS ' if self.rng.random() < 0.3 else ''}{alias}"

    def _free(self, kind: str) -> str:
        """Return the type of a value of a group of equal ones."""
        if kind in "SK":
            self.loose = True
            return "S*"
        return kind

    def _any(self, depth: int, outer: list[Col], inner: bool) -> Made:
        """Return a query of any kind and its columns: (name, type letter)."""
        raise NotImplementedError
