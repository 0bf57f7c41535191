"""Directories for what an ingest puts aside: gone at its end, or, if it was killed, at the next one's beginning."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "skyshard-ingest-"


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new directory of `TMPDIR` that is removed at the end, after those that killed processes left."""
    _sweep()
    path, held = _made()
    try:
        yield path
    finally:
        shutil.rmtree(path)
        os.close(held)


def _made() -> tuple[Path, int]:
    """Return a directory and the descriptor that says that somebody has it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        held = _held(path)
        if held is None:  # another's sweep was between the two calls
            continue
        if path.exists():
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


def _sweep() -> None:
    """Remove this user's directories that nobody has any more."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        held = _held(path)
        if held is None:
            continue
        try:
            if os.fstat(held).st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(held)
