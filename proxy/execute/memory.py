"""Gives freed memory back to the system after large results.

The allocator keeps the pages between what still lives. After many results at once that is tens of
megabytes, which nobody uses until the next ones.
"""

from __future__ import annotations

import ctypes
import time

LARGE = 4 << 20
"""Bytes of a result after which giving back is worth its millisecond."""
_PAUSE_S = 0.5


class Trimmer:
    """Calls the C library's `malloc_trim` now and then; does nothing where there is none."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._last = 0.0

    def after(self, size: int) -> None:
        """Note that a result of `size` bytes has ended."""
        now = time.monotonic()
        if self._trim is not None and size >= LARGE and now - self._last >= _PAUSE_S:
            self._last = now
            self._trim(0)
