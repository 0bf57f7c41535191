"""Holds a chunk's rows until the proxy takes them, so that a slow reader does not hold MariaDB.

Blocks stay in memory up to a cap shared by the whole agent, then go to an unnamed temporary file.
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO

from backend.connection import RowBlock

_HEAD = struct.Struct("<QQ")


class SpoolFull(Exception):  # noqa: N818 - it is what happened
    """The agent's spool limit is reached."""


@dataclass(slots=True)
class SpoolSpace:
    """What all spools of the agent use together, in bytes."""

    memory_limit: int
    disk_limit: int
    directory: str | None
    memory: int = 0
    disk: int = 0


class Spool:
    """One chunk's rows: a writer and a reader that need not keep step."""

    def __init__(self, space: SpoolSpace) -> None:
        self._space = space
        self._blocks: deque[RowBlock] = deque()
        self._file: IO[bytes] | None = None
        self._written = self._read = 0
        self._wake = asyncio.Event()
        self._closed = False
        self.warnings = 0

    def put(self, block: RowBlock) -> None:
        """Add a block.

        Raises
        ------
        SpoolFull
            Past the disk limit.
        """
        size = len(block.data)
        if self._file is None and self._space.memory + size <= self._space.memory_limit:
            self._space.memory += size
            self._blocks.append(block)
        else:
            if self._space.disk + size > self._space.disk_limit:
                raise SpoolFull
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._space.directory)  # noqa: SIM115 - closed in close()
            self._file.seek(self._written)
            self._file.write(_HEAD.pack(size, block.rows) + block.data)
            self._written += size + _HEAD.size
            self._space.disk += size
        self._wake.set()

    def end(self, warnings: int) -> None:
        """Say that no block will follow."""
        self.warnings = warnings
        self._closed = True
        self._wake.set()

    async def blocks(self) -> AsyncIterator[RowBlock]:
        """Yield the blocks as they come, until `end`."""
        while True:
            if self._blocks:
                block = self._blocks.popleft()
                self._space.memory -= len(block.data)
                yield block
            elif self._file is not None and self._read < self._written:
                self._file.seek(self._read)
                size, rows = _HEAD.unpack(self._file.read(_HEAD.size))
                data = self._file.read(size)
                self._read += size + _HEAD.size
                self._space.disk -= size
                yield RowBlock(data, rows)
            elif self._closed:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def close(self) -> None:
        """Give back what is still held."""
        self._space.memory -= sum(len(block.data) for block in self._blocks)
        self._blocks.clear()
        if self._file is not None:
            self._file.close()
