"""Reads and plans long statements beside the event loop, so that one user's list stalls nobody else.

A thread shares the interpreter with the event loop, which gets its turn every few milliseconds; a single
one, so that several long statements cost the others no more than one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

LONG = 1 << 14
"""Bytes of a statement that is read at once, in some milliseconds."""

_Result = TypeVar("_Result")


class Aside:
    """A thread for long statements."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="long statements")

    async def run(self, size: int, work: Callable[[], _Result]) -> _Result:
        """Return what pure work on a statement returns.

        Parameters
        ----------
        size : int
            Length of the statement; what is short is done at once.
        """
        if size <= LONG:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """End the thread when what it does at the moment is done."""
        self._thread.shutdown(wait=False, cancel_futures=True)
