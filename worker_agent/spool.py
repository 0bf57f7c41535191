"""Holds a chunk's rows until the proxy takes them, so that a slow reader does not hold MariaDB.

Blocks stay in memory up to a cap shared by the whole agent, then go to an unnamed temporary file.
"""

from __future__ import annotations

import struct
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
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
        self._written = self._read = self._on_disk = 0
        self.ended = False
        self.warnings = 0
        self.rows = self.size = 0
        self.notes: tuple[Note, ...] = ()

    def put(self, block: RowBlock) -> None:
        """Add a block.

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
            try:
                self._write(block)
            except OSError as error:
                raise SpoolFull(f"the agent's spool cannot be written ({error.strerror})") from error
        self._changed()

    def _write(self, block: RowBlock) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._space.directory)  # noqa: SIM115 - closed in close()
        self._file.seek(self._written)
        self._file.write(_HEAD.pack(len(block.data), block.rows, block.more))
        self._file.write(block.data)
        self._file.flush()  # a full disk shows here, not when the rows are read
        self._written += len(block.data) + _HEAD.size
        self._on_disk += len(block.data)
        self._space.disk += len(block.data)

    def end(self, warnings: int, notes: tuple[Note, ...] = ()) -> None:
        """Say that no block will follow."""
        self.warnings, self.notes = warnings, notes
        self.ended = True
        self._changed()

    @property
    def empty(self) -> bool:
        """Whether no block is held at the moment."""
        return not self._blocks and not self._on_disk

    def get(self) -> RowBlock:
        """Take the first block out; there must be one."""
        if self._blocks:
            block = self._blocks.popleft()
            self._space.memory -= len(block.data)
        else:
            block = self._read_back()
        self.rows += block.rows
        self.size += len(block.data)
        return block

    def _read_back(self) -> RowBlock:
        if self._file is None:
            raise LookupError("nothing is held")
        self._file.seek(self._read)
        size, rows, more = _HEAD.unpack(self._file.read(_HEAD.size))
        data = self._file.read(size)
        self._read += size + _HEAD.size
        self._on_disk -= size
        self._space.disk -= size
        if self._read == self._written:  # give the room on disk back
            self._file.truncate(0)
            self._read = self._written = 0
        return RowBlock(data, rows, more)

    def close(self) -> None:
        """Give back what is still held."""
        self._space.memory -= sum(len(block.data) for block in self._blocks)
        self._space.disk -= self._on_disk
        self._blocks.clear()
        self._on_disk = 0
        if self._file is not None:
            self._file.close()
            self._file = None
