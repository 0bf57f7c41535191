"""Progress of an ingest: bars on a terminal, and nothing but the lines that are said elsewhere."""

from __future__ import annotations

import sys
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Bars:
    """Bars per step, shown on standard error if it is a terminal; a context manager."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, title: str, total: int) -> Step:
        """Begin a step of `total` units."""
        return Step(self._progress, title, total)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        if self._quiet:
            return
        if self._progress.disable:
            print(text, flush=True)  # noqa: T201 - this is the command's output
        else:
            self._progress.console.print(text, markup=False, highlight=False)


class Step:
    """One bar."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total)

    def advance(self, units: int) -> None:
        """Move the bar on."""
        self._progress.advance(self._task, units)

    def end(self) -> None:
        """Remove the bar."""
        self._progress.remove_task(self._task)
