"""Sorts more rows than memory holds: sorted runs on disk, merged range by range, all in numpy.

An ingest keeps where every key of a director lies. The rows are few bytes each, but there may be any number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
RUN_ROWS = 1 << 21
"""Rows that are held in memory and sorted at once."""

_SAMPLES = 16
"""Samples a run gives per block that it takes part in; more make the blocks' sizes more even."""


class Stored:
    """Arrays of one length in files, sorted by the first of them.

    Parameters
    ----------
    paths : sequence of Path
        A file per array.
    kinds : sequence of dtype
        Their types.
    rows : int
        Their length.
    """

    def __init__(self, paths: Sequence[Path], kinds: Sequence[np.dtype[Any]], rows: int) -> None:
        self._paths, self.kinds, self.rows = paths, kinds, rows

    def mapped(self) -> tuple[Array, ...]:
        """Return the arrays, mapped into memory: for look-ups here and there."""
        if not self.rows:
            return tuple(np.empty(0, dtype=kind) for kind in self.kinds)
        return tuple(
            np.memmap(path, dtype=kind, mode="r", shape=(self.rows,))
            for path, kind in zip(self._paths, self.kinds, strict=True)
        )

    def part(self, start: int, end: int) -> tuple[Array, ...]:
        """Return rows from `start` up to `end`, read from the files: for reading in turn."""
        return tuple(
            np.fromfile(path, dtype=kind, count=end - start, offset=start * kind.itemsize)
            for path, kind in zip(self._paths, self.kinds, strict=True)
        )

    def parts(self, rows: int) -> Iterator[tuple[Array, ...]]:
        """Yield all rows, at most `rows` at once."""
        for start in range(0, self.rows, rows):
            yield self.part(start, min(start + rows, self.rows))

    def remove(self) -> None:
        """Remove the files."""
        for path in self._paths:
            path.unlink()


class Sorter:
    """Takes rows in any order; gives them back sorted by their first column, equal ones in the order they came.

    Parameters
    ----------
    directory : Path
        Where files are put; the caller removes it.
    name : str
        What their names begin with.
    rows : int
        Rows held in memory at once.
    """

    def __init__(self, directory: Path, name: str, rows: int = RUN_ROWS) -> None:
        self._directory, self._name, self._limit = directory, name, rows
        self._parts: list[tuple[Array, ...]] = []
        self._held = 0
        self._runs: list[Stored] = []

    def add(self, *columns: Array) -> None:
        """Add rows."""
        if len(columns[0]):
            self._parts.append(columns)
            self._held += len(columns[0])
        if self._held >= self._limit:
            self._flush()

    def finish(self, look: Callable[..., None] | None = None) -> Stored | None:
        """Return all rows, or None if there is none.

        Parameters
        ----------
        look : callable, optional
            Called with the columns of one block after the other; rows with equal keys are in one block.
        """
        if self._runs:
            self._flush()
            blocks, kinds = self._merged(), self._kinds()
        elif self._held:
            block = self._take()
            blocks, kinds = iter([block]), [column.dtype for column in block]
        else:
            return None
        if look is not None:
            blocks = _watched(blocks, look)
        found = self._write("all", blocks, kinds)
        for run in self._runs:
            run.remove()
        self._runs.clear()
        return found

    def _take(self) -> tuple[Array, ...]:
        """Return the rows in memory, sorted, and forget them."""
        columns = [np.concatenate(part) for part in zip(*self._parts, strict=True)]
        self._parts.clear()
        self._held = 0
        order = np.argsort(columns[0], kind="stable")
        return tuple(column[order] for column in columns)

    def _flush(self) -> None:
        if self._held:
            block = self._take()
            kinds = [column.dtype for column in block]
            self._runs.append(self._write(f"run{len(self._runs)}", iter([block]), kinds))

    def _write(
        self, title: str, blocks: Iterator[tuple[Array, ...]], kinds: Sequence[np.dtype[Any]]
    ) -> Stored:
        self._directory.mkdir(parents=True, exist_ok=True)
        paths = [self._directory / f"{self._name}.{title}.{number}" for number in range(len(kinds))]
        rows = 0
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in paths]
            for block in blocks:
                rows += len(block[0])
                for column, kind, file in zip(block, kinds, files, strict=True):
                    column.astype(kind, copy=False).tofile(file)
        return Stored(paths, kinds, rows)

    def _kinds(self) -> list[np.dtype[Any]]:
        """Return the columns' types: of text, the longest of any run."""
        return [np.result_type(*kinds) for kinds in zip(*(run.kinds for run in self._runs), strict=True)]

    def _merged(self) -> Iterator[tuple[Array, ...]]:
        """Yield the runs' rows in ranges of keys, of about as many rows as are held in memory."""
        keys = [run.mapped()[0] for run in self._runs]
        step = max(1, self._limit // _SAMPLES)
        samples = np.sort(np.concatenate([np.asarray(part[::step]) for part in keys]))
        starts = [0] * len(keys)
        for border in (*np.unique(samples[_SAMPLES::_SAMPLES]), None):
            ends = [len(k) if border is None else int(np.searchsorted(k, border, "left")) for k in keys]
            parts = [run.part(a, b) for run, a, b in zip(self._runs, starts, ends, strict=True) if a < b]
            starts = ends
            if parts:
                columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
                order = np.argsort(columns[0], kind="stable")
                yield tuple(column[order] for column in columns)


def _watched(blocks: Iterator[tuple[Array, ...]], look: Callable[..., None]) -> Iterator[tuple[Array, ...]]:
    for block in blocks:
        look(*block)
        yield block
