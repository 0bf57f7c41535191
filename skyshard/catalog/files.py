"""The files of a backup: compressed text, written so that half a file never has a whole one's name."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from skyshard.catalog.manifest import SavedPart
from skyshard.errors import UserError

UNFINISHED = ".part"
_GZIP = 31
"""zlib's window bits for gzip with the largest window."""
_LEVEL = 1
_READ = 1 << 20
_TEXT = 1 << 22
"""Bytes of text that are held at once at most."""


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all."""
    partial = path.with_name(path.name + UNFINISHED)
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync_directory(path.parent)


class TextWriter:
    """Writes one file; `finish` gives it its name, leaving the context without that removes it."""

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, path.with_name(path.name + UNFINISHED)
        self._sha, self._gzip = hashlib.sha256(), zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self.size = 0

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(exist_ok=True)
            self._file = self._partial.open("wb")
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def write(self, text: bytes) -> None:
        """Add text.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        self._put(self._gzip.compress(text))

    def finish(self) -> str:
        """End the file; return the SHA-256 of its bytes, in hexadecimal."""
        self._put(self._gzip.flush())
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._partial.rename(self._path)
        except OSError as error:
            raise self._failed(error) from error
        return self._sha.hexdigest()

    def _put(self, data: bytes) -> None:
        self._sha.update(data)
        self.size += len(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> UserError:
        return UserError(f"{self._path}: {error.strerror}")


def read_text(directory: Path, part: SavedPart) -> Iterator[bytes]:
    """Yield the text of a backup's file, in pieces cut anywhere.

    Raises
    ------
    UserError
        If the file is not what the manifest says; at the latest at its end.
    """
    path = directory / part.path
    sha, size, gzip = hashlib.sha256(), 0, zlib.decompressobj(_GZIP)
    try:
        with path.open("rb") as file:
            while data := file.read(_READ):
                sha.update(data)
                size += len(data)
                while data:
                    if text := gzip.decompress(data, _TEXT):
                        yield text
                    data = gzip.unconsumed_tail
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except zlib.error as error:
        raise UserError(f"{path}: the file is damaged: {error}") from error
    if size != part.size or sha.hexdigest() != part.sha256 or not gzip.eof:
        raise UserError(f"{path}: the file is damaged: its size or SHA-256 is not the manifest's")
