"""The pure-Python twin of the compiled merge, for where no compiler is.

Same class, same results, same tests as `_merging.pyx`; `shard.wire.sorting` chooses.
"""

from __future__ import annotations

import heapq
from collections import deque

from shard.wire._rows_py import CUT, MAX_PAYLOAD


class _Source:
    """One stream of a merge."""

    __slots__ = ("at", "begun", "data", "ended", "last", "pending", "waits")

    def __init__(self) -> None:
        self.pending: deque[bytes | bytearray | memoryview] = deque()
        self.data: bytes | bytearray | memoryview = b""
        self.at = 0
        self.last = b""
        self.waits, self.ended, self.begun = True, False, False


class Merger:
    """Merges sorted streams of keyed rows, block by block.

    A stream is fed in buffers that end behind a packet. As soon as one that has not ended has nothing left, no row
    moves until it is fed: any of them may be next. Rows with the same key come in the order of their streams.

    Parameters
    ----------
    width : int
        Bytes of a key.
    keep : bool
        Whether keys stay in front of the rows.

    Attributes
    ----------
    consumed : int
        Bytes of the rows that were moved so far, keys included.
    """

    def __init__(self, width: int, keep: bool) -> None:
        if width < 8:
            raise ValueError("no such sort key")
        self._width, self._keep = width, keep
        self._sources: list[_Source] = []
        self._heap: list[tuple[bytes, int]] = []
        self._within, self._first = -1, False
        self.consumed = 0

    def add(self) -> int:
        """Return the number of a new stream; it waits to be fed."""
        self._sources.append(_Source())
        return len(self._sources) - 1

    def feed(self, number: int, data: bytes | bytearray | memoryview) -> None:
        """Add a buffer to a stream; it must not be changed afterwards.

        Raises
        ------
        ValueError
            If the rows are not sorted (then, or when they are taken).
        """
        source = self._sources[number]
        if source.ended:
            raise ValueError("the source has ended")
        if not len(data):
            return
        source.pending.append(data)
        if source.waits:
            source.waits = False
            self._open(number)

    def end(self, number: int) -> None:
        """Say that nothing more of a stream will come."""
        source = self._sources[number]
        source.ended = True
        if source.waits and self._within == number:
            raise ValueError("a stream ends within a row")
        source.waits = False

    def drop(self, number: int) -> None:
        """Forget a stream and what is left of it."""
        source = self._sources[number]
        source.pending.clear()
        source.data, source.at, source.waits, source.ended = b"", 0, False, True
        self._heap = [item for item in self._heap if item[1] != number]
        heapq.heapify(self._heap)
        if self._within == number:
            self._within = -1

    def waits(self, number: int) -> bool:
        """Whether a stream must be fed before any row can move."""
        return self._sources[number].waits

    def begun(self, number: int) -> bool:
        """Whether anything of a stream has been taken."""
        return self._sources[number].begun

    def left(self, number: int) -> int:
        """Return how many bytes of a stream were fed and have not been taken."""
        source = self._sources[number]
        return sum(map(len, source.pending)) + len(source.data) - source.at

    @property
    def done(self) -> bool:
        """Whether all streams have ended and all of them is taken."""
        return self._within < 0 and all(
            source.ended and not source.pending and source.at == len(source.data) for source in self._sources
        )

    def _open(self, number: int) -> None:
        source = self._sources[number]
        source.data, source.at = source.pending.popleft(), 0
        if self._within != number:
            self._arrive(number)
            heapq.heappush(self._heap, (source.last, number))

    def _arrive(self, number: int) -> None:
        """Note the key of the row at which a stream now stands."""
        source = self._sources[number]
        if len(source.data) - source.at < self._width + 4:
            raise ValueError(CUT)
        key = bytes(source.data[source.at : source.at + self._width])
        if key < source.last:
            raise ValueError("a stream is not sorted")
        source.last = key

    def _length(self, source: _Source, before: int) -> int:
        """Return the length of the packet that a stream has come to, `before` bytes of key aside."""
        start = source.at + before
        length = int.from_bytes(source.data[start : start + 3], "little")
        if start + 4 + length > len(source.data):
            raise ValueError(CUT)
        return length

    def _step(self, number: int, size: int) -> None:
        """Go behind a row that has been moved."""
        source = self._sources[number]
        source.at += size
        source.begun = True
        self.consumed += size

    def _go_on(self, number: int) -> bool:
        """Put the stream at the head of the heap at its new place there; return whether rows can move."""
        source = self._sources[number]
        heapq.heappop(self._heap)
        if source.at < len(source.data):
            self._arrive(number)
            heapq.heappush(self._heap, (source.last, number))
        elif source.pending:
            self._open(number)
        elif not source.ended:
            source.waits = True
            return False
        return bool(self._heap)

    def take(self, size: int, most: int = -1) -> tuple[bytearray, int, bool]:
        """Return the next rows, as many as can be said and have room.

        Parameters
        ----------
        size : int
            Bytes; a longer row comes alone.
        most : int
            Rows at most; -1 is any number.

        Returns
        -------
        block, rows, more
            Packets, how many rows end in them, and whether the last goes on: of a row of several packets one comes
            at a time, and nothing else with it. Empty if a stream must be fed, or if there is nothing left.

        Raises
        ------
        ValueError
            If a stream is not sorted, or cut within a packet.
        """
        if self._within >= 0:
            return self._piece()
        out, count = bytearray(), 0
        if any(source.waits for source in self._sources) or most == 0:
            return out, 0, False
        while self._heap and count != most:
            number = self._heap[0][1]
            source = self._sources[number]
            if source.at == len(source.data):  # behind a row of several packets
                if not self._go_on(number):
                    break
                continue
            length = self._length(source, self._width)
            if length == MAX_PAYLOAD:
                if out:
                    break
                self._within, self._first = number, True
                return self._piece()
            drop = 0 if self._keep else self._width
            whole = self._width + 4 + length
            if out and len(out) + whole - drop > size:
                break
            out += source.data[source.at + drop : source.at + whole]
            count += 1
            self._step(number, whole)
            if not self._go_on(number):
                break
        return out, count, False

    def _piece(self) -> tuple[bytearray, int, bool]:
        """Return the next packet of the row of several packets that is being moved."""
        number = self._within
        source = self._sources[number]
        if source.waits:
            return bytearray(), 0, False
        if source.at == len(source.data):
            if not source.pending:
                if source.ended:
                    raise ValueError(CUT)
                source.waits = True
                return bytearray(), 0, False
            self._open(number)
        before = self._width if self._first else 0
        length = self._length(source, before)
        drop = 0 if self._keep else before
        out = bytearray(source.data[source.at + drop : source.at + before + 4 + length])
        self._step(number, before + 4 + length)
        self._first = False
        more = length == MAX_PAYLOAD
        if not more:
            self._within = -1
            if source.at < len(source.data):
                heapq.heappop(self._heap)
                self._arrive(number)
                heapq.heappush(self._heap, (source.last, number))
        return out, 0 if more else 1, more


__all__ = ["Merger"]
