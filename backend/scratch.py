"""Directories for what a process puts aside: gone at its end or, if it was killed, when the next one begins."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = ".skyshard-scratch"
"""A file in each of them: a directory of that name without it is somebody's own, and stays."""


class Scratch:
    """A new directory of `TMPDIR`; those of the same prefix that killed processes left are removed first.

    Attributes
    ----------
    path : Path
        The directory. Nobody else may look into it.
    """

    def __init__(self, prefix: str) -> None:
        _sweep(prefix)
        self.path, self._held = _made(prefix)

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Yield a directory as `Scratch` makes it."""
    made = Scratch(prefix)
    try:
        yield made.path
    finally:
        made.close()


def _made(prefix: str) -> tuple[Path, int]:
    """Return a directory and the descriptor that says that somebody has it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix))
        held = _held(path)
        if held is None:  # another's sweep was between the two calls
            continue
        if path.exists():
            (path / MARK).touch()
            return path, held
        os.close(held)


def _held(path: Path) -> int | None:
    """Return a descriptor that locks a directory; None if another process has it, or it is gone."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
        else:
            return descriptor
    return None


def _sweep(prefix: str) -> None:
    """Remove the directories that this user's killed processes left."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        held = _held(path)
        if held is None:
            continue
        try:
            if os.fstat(held).st_uid == os.geteuid() and (path / MARK).is_file():
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(held)
