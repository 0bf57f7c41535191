"""Keeps the text of each chunk until it is loaded: in memory up to a cap, then in files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

CAP_BYTES = 128 << 20
_READ = 1 << 20


class Spill:
    """Text per chunk of one table.

    Used as a context manager: its files go at the end.
    """

    def __init__(self) -> None:
        self._parts: dict[int, list[bytes]] = {}
        self.rows: dict[int, int] = {}
        self._size = 0
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        if self._directory is not None:
            self._directory.cleanup()

    def add(self, chunk: int, text: bytes, rows: int) -> None:
        """Add lines of a chunk."""
        self._parts.setdefault(chunk, []).append(text)
        self.rows[chunk] = self.rows.get(chunk, 0) + rows
        self._size += len(text)
        if self._size > CAP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="skyshard-ingest-")
        for chunk, parts in self._parts.items():
            with (Path(self._directory.name) / str(chunk)).open("ab") as handle:
                handle.writelines(parts)
        self._parts.clear()
        self._size = 0

    def read(self, chunk: int) -> Iterator[bytes]:
        """Yield the text of a chunk in pieces."""
        if self._directory is not None:
            path = Path(self._directory.name) / str(chunk)
            if path.exists():
                with path.open("rb") as handle:
                    while piece := handle.read(_READ):
                        yield piece
        yield from self._parts.get(chunk, ())
