"""Ends what a command does when its connection to the home server is lost.

The locks that keep other commands away belong to that connection. While workers are busy nobody uses it, so a command would
go on beside the next one, which has the locks by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from backend.connection import ConnectionLost, RawConnection


@asynccontextmanager
async def watched(home: RawConnection) -> AsyncIterator[None]:
    """Cancel the block when a connection is lost; agents stop what they do for it then.

    Raises
    ------
    ConnectionLost
        If it was.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("this is no task")
    before, cancelled = task.cancelling(), False

    async def watch() -> None:
        nonlocal cancelled
        await home.wire.end()
        if home.lost:  # and not closed by us
            cancelled = True
            task.cancel()

    watcher = asyncio.create_task(watch(), name="watch the home server")
    try:
        yield
    except asyncio.CancelledError:
        if not cancelled or task.uncancel() > before:
            raise
        raise ConnectionLost("the home server has gone") from None
    except BaseException:
        if cancelled:
            task.uncancel()
        raise
    finally:
        watcher.cancel()
