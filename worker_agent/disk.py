"""Has on disk what a worker's MariaDB has written, before the metadata count on it.

MyISAM gives rows and indexes to the operating system at the end of each statement, so the end of the server, whatever
its manner, loses nothing; a machine that loses power loses what is not on its disk. Neither LOAD DATA nor FLUSH TABLES
asks for that. One syncfs of the file system does, for all tables at once, and says whether a write has failed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from pathlib import Path

from backend.connection import ConnectionLost
from backend.pool import Pool
from shard.errors import ServerError
from shard.wire import frames

NOT_WRITTEN = 1026
"""Errno of MariaDB for a file that cannot be written."""


class Disk:
    """Makes what a worker's server has written durable; callers at the same time share the work.

    The kernel reports a failed write once, without saying whose rows were lost: everybody who has written by then is told.

    Attributes
    ----------
    failures : int
        How often a write has failed since the agent started.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._alone = asyncio.Lock()
        self._begun = self._done = self.failures = 0
        self._reason = ""

    async def settle(self, failures: int) -> frames.Settled | frames.Failed:
        """Wait until everything that the server has written by now is on disk.

        Parameters
        ----------
        failures : int
            How many there were before the caller's rows were written.
        """
        seen = self._begun
        async with self._alone:
            if failures != self.failures:
                return self._failed()
            if self._done > seen:  # one that was begun since has had all of it
                return frames.Settled()
            self._begun += 1
            try:
                async with self._pool.lease() as connection:
                    ((data,),) = await connection.fetch("SELECT @@datadir")
                await asyncio.to_thread(sync, Path(os.fsdecode(data or b"")))
            except (ServerError, ConnectionLost):
                text = "the worker's MariaDB server cannot be reached"
                return frames.Failed(2013, "HY000", text, retry=True)
            except OSError as error:
                self.failures += 1
                self._reason = error.strerror or ""
                return self._failed()
            self._done = self._begun
        return frames.Settled()

    def _failed(self) -> frames.Failed:
        return frames.Failed(NOT_WRITTEN, "HY000", f"rows are not on disk: {self._reason}")


def sync(directory: Path) -> None:
    """Wait until all writes to the file system of a directory are on disk.

    A directory that cannot be opened is that of another user's server, or of one in another container: then all file
    systems of the machine are waited for.

    Raises
    ------
    OSError
        If a write has failed.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Linux has it
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        syncfs = None
    if syncfs is None:
        os.sync()
        return
    try:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
