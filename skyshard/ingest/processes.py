"""Partitions pieces in several processes, which have an interpreter and a memory allocator of their own each.

One owner, the ingest, starts and ends them. It sends a process a piece; the process writes the text of the chunks
into a file and answers where in it each chunk's text stands, so that text crosses no pipe and waits in no memory.
A process whose owner is gone reads the end of its pipe and ends as well.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pyarrow as pa

from skyshard.errors import UserError
from skyshard.ingest.files import DataFile, Piece
from skyshard.ingest.partition import Partitioner, Parts, Texts
from skyshard.ingest.spill import Segment, write

WORTHWHILE_BYTES = 256 << 20
"""Files of a table from which on processes are worth their start; smaller tables are partitioned by threads."""

_END_S = 5.0


def steady_memory() -> None:
    """Let Arrow take its memory from the C library, which keeps what is freed: pieces are all of one size."""
    pa.set_memory_pool(pa.system_memory_pool())


@dataclass(frozen=True, slots=True)
class _Order:
    """A piece to partition; the partitioner comes with a table's first piece that a process gets."""

    partitioner: Partitioner | None
    piece: Piece
    directory: Path


@dataclass(frozen=True, slots=True)
class _Failure:
    """What went wrong: the user's mistake, or the traceback of a fault of the program."""

    text: str
    is_mistake: bool


@dataclass(slots=True)
class _Child:
    process: SpawnProcess
    connection: Connection
    has: Partitioner | None = None


class Processes:
    """Processes that partition; made without starting any.

    Parameters
    ----------
    count : int
        How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._children: list[_Child] = []
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()

    @property
    def pids(self) -> list[int]:
        """The processes that were started."""
        return [child.process.pid or 0 for child in self._children]

    def start(self) -> None:
        """Start them, if they have not been started."""
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # it would come with the first process, and let interrupts through again
        while len(self._children) < self._count:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True, name="partition")
            with _without_interrupts():
                process.start()
            theirs.close()  # so that the end of the process is the end of the pipe
            child = _Child(process, ours)
            self._children.append(child)
            self._idle.put(child)

    def partition(self, partitioner: Partitioner, piece: Piece, directory: Path) -> Parts:
        """Return a piece's parts, their text in a file in `directory`; waits while all processes are busy.

        Raises
        ------
        UserError
            For a row that cannot be stored, and if the process was ended.
        """
        child = self._idle.get()
        try:
            order = _Order(None if child.has is partitioner else partitioner, piece, directory)
            child.connection.send(order)
            answer: Parts | _Failure = child.connection.recv()
        except (EOFError, OSError) as error:
            child.process.join(_END_S)
            raise UserError(f"a process that partitions has ended: {_how(child.process)}") from error
        finally:
            child.has = partitioner
            self._idle.put(child)  # an ended one too: who gets it learns that, and waits for nothing
        if isinstance(answer, _Failure):
            raise UserError(answer.text) if answer.is_mistake else RuntimeError(answer.text)
        return answer

    def end(self) -> None:
        """End them all, whatever they do; whoever waits for one gets an error."""
        for child in self._children:
            child.process.terminate()
        for child in self._children:
            child.process.join(_END_S)
            if child.process.is_alive():
                child.process.kill()
                child.process.join()

    def close(self) -> None:
        """Close the pipes of ended processes, once nobody waits for them."""
        for child in self._children:
            child.connection.close()
            child.process.close()
        self._children.clear()


def _how(process: SpawnProcess) -> str:
    code = process.exitcode
    if code is None:
        return "it closed its pipe"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start a process that Ctrl-C does not reach: it interrupts the owner, which ends the process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection) -> None:
    """Partition pieces until the owner closes its end."""
    steady_memory()
    partitioner: Partitioner | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            order: _Order = connection.recv()
            partitioner = order.partitioner or partitioner
            if partitioner is None:
                raise RuntimeError("the first piece came without its partitioner")
            connection.send(_answer(partitioner, order))


def _answer(partitioner: Partitioner, order: _Order) -> Parts | _Failure:
    try:
        return _filed(partitioner.partition(order.piece), order.directory)
    except UserError as error:
        return _Failure(str(error), is_mistake=True)
    except OSError as error:
        return _Failure(f"{order.directory}: {error.strerror}", is_mistake=True)
    except Exception:
        return _Failure(traceback.format_exc(), is_mistake=False)


def _filed(parts: Parts, directory: Path) -> Parts:
    """Write the texts into one file; in their place comes where they stand, in that of their rows only as many."""
    number, name = tempfile.mkstemp(dir=directory)
    with os.fdopen(number, "wb") as file:

        def put(texts: Texts) -> Texts:
            there = {}
            for chunk, (text, rows) in texts.items():
                there[chunk] = Segment(name, file.tell(), len(text)), range(len(rows))
                write(file, text)
            return there

        return replace(parts, main=put(parts.main), overlap=put(parts.overlap))


def size_of(listed: Iterable[DataFile]) -> int:
    """Return the bytes of files of this machine."""
    return sum(file.path.stat().st_size for file in listed)
