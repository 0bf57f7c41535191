"""Holds a chunk's rows until the proxy takes them, so that a slow reader does not hold MariaDB.

Blocks stay in memory up to a cap shared by the whole agent, then go to an unnamed temporary file. Files are
read and written by one thread of the agent, in the order asked for, so that a busy disk holds up the spools
that use it and not the agent's other jobs.
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO

from backend.connection import RowBlock
from shard.wire.frames import Note

_HEAD = struct.Struct("<QQ?")


class SpoolFull(Exception):  # noqa: N818 - it is what happened
    """The agent's spool limit is reached, or the disk is full; the text says which."""


@dataclass(slots=True)
class SpoolSpace:
    """What all spools of the agent use together, in bytes."""

    memory_limit: int
    disk_limit: int
    directory: str | None
    memory: int = 0
    disk: int = 0
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "spool"))

    def close(self) -> None:
        """End the thread once what was asked of it is done."""
        self.thread.shutdown()


class Spool:
    """One chunk's rows: a writer and a reader that need not keep step.

    Parameters
    ----------
    space : SpoolSpace
        Shared by all spools of the agent.
    changed : callable
        Called after every block and at the end.

    Attributes
    ----------
    ended : bool
        No block will follow those that are held.
    rows, size : int
        Rows and bytes taken out so far.
    """

    def __init__(self, space: SpoolSpace, changed: Callable[[], None]) -> None:
        self._space, self._changed = space, changed
        self._blocks: deque[RowBlock] = deque()
        self._file: IO[bytes] | None = None
        self._written = self._read = 0  # positions in the file; only the thread touches them
        self._on_disk = self._held = 0  # blocks that can be read back; bytes of disk that are ours
        self._filed = False
        self.ended = False
        self.warnings = 0
        self.rows = self.size = 0
        self.notes: tuple[Note, ...] = ()

    async def put(self, block: RowBlock) -> None:
        """Add a block; there is one writer.

        Raises
        ------
        SpoolFull
            Past the disk limit, or if the file cannot be written.
        """
        size = len(block.data)
        if not self._on_disk and self._space.memory + size <= self._space.memory_limit:
            self._space.memory += size
            self._blocks.append(block)
        else:
            if self._space.disk + size > self._space.disk_limit:
                raise SpoolFull("spool limit reached (spool_disk_bytes of the agent)")
            self._space.disk += size  # before it is written: other spools write meanwhile
            self._held += size
            self._filed = True
            try:
                await asyncio.get_running_loop().run_in_executor(self._space.thread, self._write, block)
            except OSError as error:
                raise SpoolFull(f"the agent's spool cannot be written ({error.strerror})") from error
            self._on_disk += 1
        self._changed()

    def _write(self, block: RowBlock) -> None:
        """Append a block to the file (in the thread)."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._space.directory)  # noqa: SIM115 - closed in close()
        self._file.seek(self._written)
        self._file.write(_HEAD.pack(len(block.data), block.rows, block.more))
        self._file.write(block.data)
        self._file.flush()  # a full disk shows here, not when the rows are read
        self._written += len(block.data) + _HEAD.size

    def end(self, warnings: int, notes: tuple[Note, ...] = ()) -> None:
        """Say that no block will follow."""
        self.warnings, self.notes = warnings, notes
        self.ended = True
        self._changed()

    @property
    def empty(self) -> bool:
        """Whether no block is held at the moment."""
        return not self._blocks and not self._on_disk

    async def get(self) -> RowBlock:
        """Take the first block out; there must be one, and there is one reader."""
        if self._blocks:
            block = self._blocks.popleft()
            self._space.memory -= len(block.data)
        else:
            block = await asyncio.get_running_loop().run_in_executor(self._space.thread, self._read_back)
            self._on_disk -= 1
            self._held -= len(block.data)
            self._space.disk -= len(block.data)
        self.rows += block.rows
        self.size += len(block.data)
        return block

    def _read_back(self) -> RowBlock:
        """Read the file's next block (in the thread)."""
        if self._file is None:
            raise LookupError("nothing is held")
        self._file.seek(self._read)
        size, rows, more = _HEAD.unpack(self._file.read(_HEAD.size))
        data = self._file.read(size)
        self._read += size + _HEAD.size
        if self._read == self._written:  # give the room on disk back
            self._file.truncate(0)
            self._read = self._written = 0
        return RowBlock(data, rows, more)

    def close(self) -> None:
        """Give back what is still held."""
        self._space.memory -= sum(len(block.data) for block in self._blocks)
        self._space.disk -= self._held
        self._blocks.clear()
        self._on_disk = self._held = 0
        if self._filed:
            self._space.thread.submit(self._close_file)

    def _close_file(self) -> None:
        """Close the file (in the thread, after a write or read that was under way)."""
        if self._file is not None:
            self._file.close()
            self._file = None
