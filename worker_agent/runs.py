"""Holds the sorted rows of a job's chunks until all of them are there, and merges them into one stream.

Rows stay in memory up to the cap that all spools of the agent share, then go to an unnamed temporary file, which is
mapped for the merge: the system keeps of it what it has room for. As with `spool`, one thread writes and reads files.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import IO

from shard.wire import frames, sorting
from shard.wire.packets import PacketError
from shard.wire.protocol import INTEGER_TYPES, NOT_FIXED, FieldType
from worker_agent.spool import SpoolFull, SpoolSpace

_SHARE = 2
"""One job holds its rows until its client has them: the part of all room that it may have."""


def keyer(
    keys: Sequence[frames.SortKey], hidden: int, types: Sequence[frames.ColumnType], binary: bool
) -> sorting.Keyer:
    """Return what puts the keys in front of a job's rows.

    Raises
    ------
    PacketError
        If a column is not of a type that is compared as the job says.
    """
    found = tuple(_key(key, types, binary) for key in keys)
    return sorting.Keyer(found, hidden, bytes(column.type for column in types) if binary else b"")


def _key(key: frames.SortKey, types: Sequence[frames.ColumnType], binary: bool) -> sorting.Key:
    if key.column < len(types):
        column = types[key.column]
        code = _code(key.kind, column, binary)
        if code is not None:
            return key.column, *code, key.descending
    raise PacketError("a sort key of another type")


def _code(kind: str, column: frames.ColumnType, binary: bool) -> tuple[int, int] | None:
    """Return kind and width of a key's part; None if the column is not of the kind that was said."""
    if kind == "integer" and column.type in INTEGER_TYPES:
        return sorting.UNSIGNED if column.unsigned else sorting.SIGNED, 9
    if kind == "number" and column.type == FieldType.NEW_DECIMAL:
        return sorting.NUMBER, 11
    if kind == "number" and column.type == FieldType.DOUBLE and (binary or column.decimals >= NOT_FIXED):
        return (sorting.DOUBLE, 9) if binary else (sorting.NUMBER, 11)
    if (kind, column.type) in (("date", FieldType.DATE), ("datetime", FieldType.DATETIME)):
        length = 10 if kind == "date" else 19 + (1 + column.decimals if column.decimals else 0)
        return (sorting.MOMENT, 12) if binary else (sorting.FIXED, 1 + length)
    return None


class Runs:
    """The rows of a job's chunks, each chunk's sorted, with their keys in front.

    Parameters
    ----------
    space : SpoolSpace
        Shared by all spools of the agent.
    """

    def __init__(self, space: SpoolSpace) -> None:
        self._space = space
        # Run → its blocks, or (offset, size) of them in the file.
        self._runs: dict[int, list[bytes | tuple[int, int]]] = {}
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self._merger: sorting.Merger | None = None
        self._memory = self._disk = 0
        self._closed = False

    async def put(self, run: int, data: bytes) -> None:
        """Add rows to a run; each has one writer.

        Raises
        ------
        SpoolFull
            Past the disk limit, or if the file cannot be written.
        """
        size = len(data)
        blocks = self._runs.setdefault(run, [])
        space = self._space
        alone = self._memory + size > space.memory_limit // _SHARE  # others' rows need room, too
        if not alone and space.memory + size <= space.memory_limit:
            self._space.memory += size
            self._memory += size
            blocks.append(data)
            return
        if self._disk + size > space.disk_limit // _SHARE or space.disk + size > space.disk_limit:
            raise SpoolFull("spool limit reached (spool_disk_bytes of the agent)")
        offset = self._disk
        self._space.disk += size
        self._disk += size
        blocks.append((offset, size))
        try:
            await asyncio.get_running_loop().run_in_executor(self._space.thread, self._write, offset, data)
        except OSError as error:
            raise SpoolFull(f"the agent's spool cannot be written ({error.strerror})") from error

    def _write(self, offset: int, data: bytes) -> None:
        """Write a block (in the thread)."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._space.directory)  # noqa: SIM115 - closed in _close_file()
        with memoryview(data) as view:
            done = 0
            while done < len(data):
                done += os.pwrite(self._file.fileno(), view[done:], offset + done)

    def _start(self, width: int) -> sorting.Merger:
        """Begin the merge of all runs."""
        merger = sorting.Merger(width, keep=True)
        if self._file is not None:
            self._map = mmap.mmap(self._file.fileno(), self._disk, prot=mmap.PROT_READ)
        mapped = memoryview(b"" if self._map is None else self._map)
        for run in sorted(self._runs):
            number = merger.add()
            for block in self._runs[run]:
                merger.feed(number, block if isinstance(block, bytes) else mapped[block[0] : sum(block)])
            merger.end(number)
        self._runs.clear()
        return merger

    async def take(self, width: int, size: int, most: int) -> tuple[bytearray, int, bool]:
        """Return the next rows of all runs, merged; empty behind the last. All rows must have been put.

        Parameters
        ----------
        width : int
            Bytes of a key.
        size, most : int
            As of `sorting.Merger.take`.
        """
        if not self._disk:
            return self._take(width, size, most)
        return await asyncio.get_running_loop().run_in_executor(
            self._space.thread, self._take, width, size, most
        )

    def _take(self, width: int, size: int, most: int) -> tuple[bytearray, int, bool]:
        if self._merger is None:
            self._merger = self._start(width)
        return self._merger.take(size, most)

    def close(self) -> None:
        """Give back what is still held."""
        if self._closed:
            return
        self._closed = True
        self._space.memory -= self._memory
        self._space.disk -= self._disk
        if self._disk:
            self._space.thread.submit(self._close_file)
        else:
            self._forget()

    def _forget(self) -> None:
        self._runs.clear()
        self._merger = None

    def _close_file(self) -> None:
        """Close the file (in the thread, after a write or read that was under way)."""
        self._forget()
        if self._map is not None:
            self._map.close()
        if self._file is not None:
            self._file.close()


__all__ = ["Runs", "keyer"]
