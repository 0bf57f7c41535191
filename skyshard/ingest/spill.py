"""Keeps the text of each chunk until it is loaded: in memory up to a cap, then in files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SCRATCH = "skyshard-rows-"
"""How the directories for temporary files begin."""
CAP_BYTES = 128 << 20
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """Text in a file that somebody else wrote and removes; offset and size in bytes."""

    path: str
    start: int
    size: int

    def __len__(self) -> int:
        return self.size

    def read(self) -> Iterator[bytes]:
        """Yield the text in pieces."""
        with Path(self.path).open("rb", buffering=0) as file:
            for start in range(self.start, self.start + self.size, _READ):
                size = min(_READ, self.start + self.size - start)
                data = os.pread(file.fileno(), size, start)
                if len(data) < size:
                    raise OSError(f"{self.path} was cut short")
                yield data


Text = bytes | memoryview | Segment


def write(file: BinaryIO, text: Text) -> None:
    """Write a text to a file."""
    file.writelines(text.read() if isinstance(text, Segment) else (text,))


class Spill:
    """Text per chunk of one table.

    Used as a context manager: its files go at the end.

    Parameters
    ----------
    directory : Path
        Where its files are.
    """

    def __init__(self, directory: Path) -> None:
        self._within = directory
        self._parts: dict[int, list[Text]] = {}
        self.rows: dict[int, int] = {}
        self._size = 0
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        if self._directory is not None:
            self._directory.cleanup()

    def add(self, chunk: int, text: Text, rows: int) -> None:
        """Add lines of a chunk."""
        self._parts.setdefault(chunk, []).append(text)
        self.rows[chunk] = self.rows.get(chunk, 0) + rows
        self._size += 0 if isinstance(text, Segment) else len(text)
        if self._size > CAP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(dir=self._within)
        for chunk, parts in self._parts.items():
            with (Path(self._directory.name) / str(chunk)).open("ab") as handle:
                for part in parts:
                    write(handle, part)
        self._parts.clear()
        self._size = 0

    def read(self, chunk: int) -> Iterator[bytes]:
        """Yield the text of a chunk in pieces, all but the last of about a mebibyte."""
        held: list[bytes | memoryview] = []
        size = 0
        for part in self._stored(chunk):
            held.append(part)
            size += len(part)
            if size >= _READ:
                yield b"".join(held)
                held, size = [], 0
        if held:
            yield b"".join(held)

    def _stored(self, chunk: int) -> Iterator[bytes | memoryview]:
        if self._directory is not None:
            path = Path(self._directory.name) / str(chunk)
            if path.exists():
                with path.open("rb") as handle:
                    while piece := handle.read(_READ):
                        yield piece
        for part in self._parts.get(chunk, ()):
            if isinstance(part, Segment):
                yield from part.read()
            else:
                yield part
