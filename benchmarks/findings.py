"""What a part of the benchmark has found: lines of the report, figures for the table of aims, wrong answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Findings:
    """Lines to print; figures by name; what was answered wrongly or not at all by skyshard."""

    lines: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Append another part's findings."""
        self.lines += [*([""] if self.lines else []), *other.lines]
        self.figures |= other.figures
        self.wrong += other.wrong


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]
