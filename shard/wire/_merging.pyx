# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled merge of sorted streams: rows are compared by their keys and moved, not decoded.

The pure-Python twin is `_merging_py`; both have the same tests.
"""

from collections import deque

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from shard.wire._packets cimport MAX_PAYLOAD, cut, packet_length


cdef struct Source:
    const unsigned char* at
    const unsigned char* end
    Py_buffer view
    unsigned char* last
    uint64_t head
    bint opened, ended, waits, begun, known

DEF FULL = 0
DEF EXHAUSTED = 1
DEF LONG = 2
DEF UNSORTED = 3
DEF CUT = 4


cdef class Merger:
    """See `_merging_py.Merger`."""

    cdef Source* _sources
    cdef int* _heap
    cdef int _count, _room, _size, _waiting, _within
    cdef bint _first, _keep
    cdef Py_ssize_t _width
    cdef list _pending
    cdef readonly Py_ssize_t consumed

    def __cinit__(self, Py_ssize_t width, bint keep):
        if width < 8:
            raise ValueError("no such sort key")
        self._width, self._keep, self._within = width, keep, -1
        self._pending = []

    def __dealloc__(self):
        cdef int i
        for i in range(self._count):
            if self._sources[i].opened:
                PyBuffer_Release(&self._sources[i].view)
            free(self._sources[i].last)
        free(self._sources)
        free(self._heap)

    def add(self):
        """See `_merging_py.Merger.add`."""
        cdef int room
        cdef void* more
        if self._count == self._room:
            room = max(16, 2 * self._room)
            more = realloc(self._sources, room * sizeof(Source))
            if more == NULL:
                raise MemoryError
            self._sources = <Source*>more
            more = realloc(self._heap, room * sizeof(int))
            if more == NULL:
                raise MemoryError
            self._heap = <int*>more
            self._room = room
        memset(&self._sources[self._count], 0, sizeof(Source))
        self._sources[self._count].last = <unsigned char*>malloc(self._width + 1)
        if self._sources[self._count].last == NULL:
            raise MemoryError
        self._sources[self._count].waits = True
        self._waiting += 1
        self._pending.append(deque())
        self._count += 1
        return self._count - 1

    cdef Source* _source(self, int number) except NULL:
        if not 0 <= number < self._count:
            raise IndexError("no such source")
        return &self._sources[number]

    def feed(self, int number, data):
        """See `_merging_py.Merger.feed`."""
        cdef Source* source = self._source(number)
        if source.ended:
            raise ValueError("the source has ended")
        if not len(data):
            return
        self._pending[number].append(data)
        if source.waits:
            self._waiting -= 1
            source.waits = False
            self._open(number)
            if self._within != number:
                self._push(number)

    def end(self, int number):
        """See `_merging_py.Merger.end`."""
        cdef Source* source = self._source(number)
        source.ended = True
        if source.waits:
            if self._within == number:
                raise ValueError("a stream ends within a row")
            source.waits = False
            self._waiting -= 1

    def drop(self, int number):
        """See `_merging_py.Merger.drop`."""
        cdef Source* source = self._source(number)
        cdef int i
        self._pending[number].clear()
        self._close(number)
        if source.waits:
            self._waiting -= 1
            source.waits = False
        source.ended = True
        if self._within == number:
            self._within = -1
        for i in range(self._size):
            if self._heap[i] == number:
                self._size -= 1
                self._heap[i] = self._heap[self._size]
                for i in range(self._size // 2 - 1, -1, -1):
                    self._down(i)
                break

    def waits(self, int number):
        """See `_merging_py.Merger.waits`."""
        return bool(self._source(number).waits)

    def begun(self, int number):
        """See `_merging_py.Merger.begun`."""
        return bool(self._source(number).begun)

    def left(self, int number):
        """See `_merging_py.Merger.left`."""
        cdef Source* source = self._source(number)
        return sum(map(len, self._pending[number])) + (source.end - source.at)

    @property
    def done(self):
        """See `_merging_py.Merger.done`."""
        cdef int i
        if self._waiting or self._within >= 0:
            return False
        for i in range(self._size):
            if not self._sources[self._heap[i]].ended:
                return False
            if self._sources[self._heap[i]].at < self._sources[self._heap[i]].end or self._pending[self._heap[i]]:
                return False
        return True

    cdef int _close(self, int number) except -1:
        cdef Source* source = &self._sources[number]
        if source.opened:
            PyBuffer_Release(&source.view)
            source.opened = False
        source.at = source.end = NULL
        return 0

    cdef int _open(self, int number) except -1:
        """Go on to a source's next buffer, which is there."""
        cdef Source* source = &self._sources[number]
        self._close(number)
        PyObject_GetBuffer(self._pending[number].popleft(), &source.view, PyBUF_SIMPLE)
        source.opened = True
        source.at = <const unsigned char*>source.view.buf
        source.end = source.at + source.view.len
        if self._within != number:
            self._check(self._arrive(source))
        return 0

    cdef int _check(self, int status) except -1:
        if status == UNSORTED:
            raise ValueError("a stream is not sorted")
        if status == CUT:
            cut()
        return 0

    cdef int _arrive(self, Source* source) noexcept nogil:
        """Note the key of the row that a source has come to."""
        cdef Py_ssize_t i
        cdef uint64_t head = 0
        if source.end - source.at < self._width + 4:
            return CUT
        for i in range(8):
            head = head << 8 | source.at[i]
        if source.known and (
            head < source.head
            or (head == source.head and memcmp(source.at, source.last, self._width) < 0)
        ):
            return UNSORTED
        source.head, source.known = head, True
        memcpy(source.last, source.at, self._width)
        return FULL

    cdef bint _less(self, int a, int b) noexcept nogil:
        cdef int order
        if self._sources[a].head != self._sources[b].head:
            return self._sources[a].head < self._sources[b].head
        order = memcmp(self._sources[a].last + 8, self._sources[b].last + 8, self._width - 8)
        return order < 0 or (order == 0 and a < b)

    cdef void _down(self, int at) noexcept nogil:
        cdef int child, moved = self._heap[at]
        while True:
            child = 2 * at + 1
            if child >= self._size:
                break
            if child + 1 < self._size and self._less(self._heap[child + 1], self._heap[child]):
                child += 1
            if not self._less(self._heap[child], moved):
                break
            self._heap[at] = self._heap[child]
            at = child
        self._heap[at] = moved

    cdef void _push(self, int number) noexcept nogil:
        cdef int at = self._size, above
        self._size += 1
        while at:
            above = (at - 1) // 2
            if not self._less(number, self._heap[above]):
                break
            self._heap[at] = self._heap[above]
            at = above
        self._heap[at] = number

    cdef void _pop(self) noexcept nogil:
        self._size -= 1
        if self._size:
            self._heap[0] = self._heap[self._size]
            self._down(0)

    cdef int _run(
        self, unsigned char* out, Py_ssize_t room, Py_ssize_t most, Py_ssize_t* used, Py_ssize_t* rows
    ) noexcept nogil:
        """Move rows while there are some and room for them; return why no more."""
        cdef Source* source
        cdef Py_ssize_t length, size
        cdef int status
        while True:
            source = &self._sources[self._heap[0]]
            if source.at == source.end:
                return EXHAUSTED
            length = packet_length(source.at + self._width)
            if source.end - source.at < self._width + 4 + length:
                return CUT
            if most >= 0 and rows[0] >= most:
                return FULL
            if length == MAX_PAYLOAD:
                return LONG
            size = 4 + length
            if used[0] + size + (self._width if self._keep else 0) > room:
                return FULL
            if self._keep:
                memcpy(out + used[0], source.at, self._width + size)
                used[0] += self._width + size
            else:
                memcpy(out + used[0], source.at + self._width, size)
                used[0] += size
            rows[0] += 1
            self.consumed += self._width + size
            source.at += self._width + size
            source.begun = True
            if source.at < source.end:
                status = self._arrive(source)
                if status != FULL:
                    return status
                self._down(0)

    cdef bint _go_on(self) except -1:
        """Give the first source of the heap its next buffer, or take it out; return whether to go on."""
        cdef int first = self._heap[0]
        if self._pending[first]:
            self._open(first)
            self._down(0)
            return True
        self._pop()
        self._close(first)
        if self._sources[first].ended:
            return self._size > 0
        self._sources[first].waits = True
        self._waiting += 1
        return False

    def take(self, Py_ssize_t size, Py_ssize_t most=-1):
        """See `_merging_py.Merger.take`."""
        cdef bytearray out
        cdef Py_ssize_t used = 0, rows = 0, room = size, wanted
        cdef unsigned char* begin
        cdef int status
        cdef Source* source
        if self._within >= 0:
            return self._piece()
        out = bytearray()
        if self._waiting or not self._size or most == 0:
            return out, 0, False
        out = PyByteArray_FromStringAndSize(NULL, room)
        while True:
            begin = <unsigned char*>PyByteArray_AS_STRING(out)
            with nogil:
                status = self._run(begin, room, most, &used, &rows)
            self._check(status)
            if status == EXHAUSTED:
                if self._go_on():
                    continue
                break
            if status == FULL and not used:
                source = &self._sources[self._heap[0]]
                wanted = 4 + packet_length(source.at + self._width) + (self._width if self._keep else 0)
                PyByteArray_Resize(out, wanted)
                room = wanted
                continue
            if status == LONG and not used:
                self._within, self._first = self._heap[0], True
                return self._piece()
            break
        PyByteArray_Resize(out, used)
        return out, rows, False

    cdef tuple _piece(self):
        """Return the next packet of the row of several packets that is being moved."""
        cdef int number = self._within
        cdef Source* source = &self._sources[number]
        cdef Py_ssize_t length, size, before = self._width if self._first else 0, drop = 0
        cdef bytearray out
        cdef bint more
        if source.waits:
            return bytearray(), 0, False
        if source.at == source.end:
            if not self._pending[number]:
                if source.ended:
                    cut()
                source.waits = True
                self._waiting += 1
                return bytearray(), 0, False
            self._open(number)
        if source.end - source.at < before + 4:
            cut()
        length = packet_length(source.at + before)
        size = before + 4 + length
        if source.end - source.at < size:
            cut()
        if not self._keep:
            drop = before
        out = PyByteArray_FromStringAndSize(<const char*>source.at + drop, size - drop)
        source.at += size
        source.begun = True
        self.consumed += size
        self._first = False
        more = length == MAX_PAYLOAD
        if not more:
            self._within = -1
            if source.at < source.end:
                self._check(self._arrive(source))
                self._down(0)
        return out, 0 if more else 1, more
