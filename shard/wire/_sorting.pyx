# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled sort keys and merge of sorted streams: rows are compared and moved, not decoded.

The pure-Python twin is `_sorting_py`; both have the same tests.
"""

from collections import deque

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

DEF MAX_PAYLOAD = 0xFFFFFF
DEF SIGNED = 0
DEF UNSIGNED = 1
DEF NUMBER = 2
DEF FIXED = 3
DEF DOUBLE = 4
DEF MOMENT = 5

cdef uint64_t MOST = 0xFFFFFFFFFFFFFFFF


cdef inline Py_ssize_t _length(const unsigned char* p) noexcept nogil:
    return p[0] | (p[1] << 8) | (p[2] << 16)


cdef int _cut() except -1:
    raise ValueError("block ends within a packet or a row")


cdef int _short() except -1:
    raise ValueError("field runs past its row")


cdef int _strange() except -1:
    raise ValueError("a value of a sort key cannot be read")


cdef inline void _big_endian(unsigned char* out, uint64_t value, int size) noexcept nogil:
    cdef int i
    for i in range(size):
        out[size - 1 - i] = value & 255
        value >>= 8


cdef int _whole_number(const unsigned char* p, Py_ssize_t size, bint is_signed, unsigned char* out) except -1:
    """Write the key of a whole number in text: eight bytes."""
    cdef Py_ssize_t i = 0
    cdef uint64_t value = 0
    cdef bint negative = False
    cdef unsigned char digit
    if size and p[0] == b'-':
        negative, i = True, 1
    if i == size or (negative and not is_signed):
        _strange()
    while i < size:
        digit = p[i] - 48
        if digit > 9 or value > (MOST - digit) // 10:
            _strange()
        value = value * 10 + digit
        i += 1
    if is_signed:
        if value > (<uint64_t>1 << 63) - (0 if negative else 1):
            _strange()
        value = (<uint64_t>1 << 63) - value if negative else value | (<uint64_t>1 << 63)
    _big_endian(out, value, 8)
    return 0


cdef int _number(const unsigned char* p, Py_ssize_t size, unsigned char* out) except -1:
    """Write the key of a number in decimal text: its class, a decimal exponent, 19 digits; eleven bytes."""
    cdef Py_ssize_t i = 0, digits = 0, point = 0, exponent = 0, seen = 0, sign = 1
    cdef uint64_t value = 0
    cdef bint negative = False, fraction = False
    cdef unsigned char c
    memset(out, 0, 11)
    if size and p[0] == b'-':
        negative, i = True, 1
    while i < size:
        c = p[i]
        if c == b'.' and not fraction:
            fraction = True
        elif 48 <= c <= 57:
            seen += 1
            if digits or c != 48:
                if digits == 19:
                    if c != 48:
                        _strange()
                else:
                    value = value * 10 + (c - 48)
                    digits += 1
                if not fraction:
                    point += 1
            elif fraction:
                point -= 1
        else:
            break
        i += 1
    if not seen:
        _strange()
    if i < size:
        if p[i] != b'e' and p[i] != b'E':
            _strange()
        i += 1
        if i < size and (p[i] == b'-' or p[i] == b'+'):
            sign = -1 if p[i] == b'-' else 1
            i += 1
        if i == size or size - i > 4:
            _strange()
        while i < size:
            c = p[i] - 48
            if c > 9:
                _strange()
            exponent = exponent * 10 + c
            i += 1
    if not value:
        out[0] = 2
        return 0
    point += sign * exponent + 16384
    if not 0 < point < 32768:
        _strange()
    for i in range(19 - digits):
        value *= 10
    out[0] = 3
    _big_endian(out + 1, <uint64_t>point, 2)
    _big_endian(out + 3, value, 8)
    if negative:
        out[0] = 1
        for i in range(1, 11):
            out[i] ^= 255
    return 0


cdef int _double(const unsigned char* p, unsigned char* out) except -1:
    """Write the key of a binary double: eight bytes; both zeros are one."""
    cdef uint64_t bits = 0
    cdef int i
    for i in range(8):
        bits |= <uint64_t>p[i] << (8 * i)
    if not bits << 1:
        bits = 0
    bits = ~bits if bits >> 63 else bits | (<uint64_t>1 << 63)
    _big_endian(out, bits, 8)
    return 0


cdef int _binary_whole(const unsigned char* p, Py_ssize_t size, bint is_signed, unsigned char* out) except -1:
    """Write the key of a binary whole number of `size` bytes: eight bytes."""
    cdef uint64_t value = 0
    cdef Py_ssize_t i
    for i in range(size):
        value |= <uint64_t>p[i] << (8 * i)
    if is_signed:
        if size < 8 and value >> (8 * size - 1):
            value |= MOST << (8 * size)
        value ^= <uint64_t>1 << 63
    _big_endian(out, value, 8)
    return 0


cdef int _moment(const unsigned char* p, Py_ssize_t size, unsigned char* out) except -1:
    """Write the key of a binary date with or without time: eleven bytes."""
    cdef int i
    memset(out, 0, 11)
    if size not in (0, 4, 7, 11):
        _strange()
    if size >= 4:
        out[0], out[1], out[2], out[3] = p[1], p[0], p[2], p[3]
    if size >= 7:
        out[4], out[5], out[6] = p[4], p[5], p[6]
    if size == 11:
        for i in range(4):
            out[7 + i] = p[10 - i]
    return 0


cdef inline Py_ssize_t _field(const unsigned char* p, Py_ssize_t end, Py_ssize_t* at) except -2:
    """Return a field's length in bytes, -1 for NULL, and move `at` to its first byte."""
    cdef unsigned char first
    cdef Py_ssize_t width, i, size
    if at[0] >= end:
        _short()
    first = p[at[0]]
    at[0] += 1
    if first < 0xFB:
        size = first
    elif first == 0xFB:
        return -1
    else:
        if first == 0xFF:
            raise ValueError("no field begins with 0xFF")
        width = 2 if first == 0xFC else (3 if first == 0xFD else 8)
        if width > end - at[0]:
            _short()
        size = 0
        for i in range(width):
            size |= (<Py_ssize_t>p[at[0] + i]) << (8 * i)
        at[0] += width
    if size < 0 or size > end - at[0]:
        _short()
    return size


cdef inline Py_ssize_t _binary_size(const unsigned char* p, Py_ssize_t end, Py_ssize_t* at, int kind) except -2:
    """Return the length in bytes of a binary value that is not NULL, and move `at` to its first byte."""
    cdef Py_ssize_t size
    if kind == 1:
        size = 1
    elif kind == 2 or kind == 13:
        size = 2
    elif kind == 3 or kind == 9 or kind == 4:
        size = 4
    elif kind == 8 or kind == 5:
        size = 8
    elif kind == 7 or 10 <= kind <= 12:
        if at[0] >= end:
            _short()
        size = p[at[0]]
        at[0] += 1
    else:
        size = _field(p, end, at)
        if size < 0:
            _strange()
        return size
    if size > end - at[0]:
        _short()
    return size


cdef struct Key:
    int column
    int kind
    int width
    bint descending


cdef class Keyer:
    """See `_sorting_py.Keyer`."""

    cdef Key* _keys
    cdef Py_ssize_t* _starts
    cdef Py_ssize_t* _sizes
    cdef unsigned char* _types
    cdef int _count, _hidden, _read, _columns
    cdef readonly Py_ssize_t width

    def __cinit__(self, keys, int hidden, bytes types=b""):
        cdef int i
        self._count, self._hidden, self._columns = len(keys), hidden, len(types)
        self._read, self.width = hidden, 0
        for column, _, width, _ in keys:
            self._read = max(self._read, column + 1)
            self.width += width
        if types and self._read > len(types):
            raise ValueError("a sort key outside of the columns")
        self._keys = <Key*>malloc(max(1, self._count) * sizeof(Key))
        self._starts = <Py_ssize_t*>malloc((self._read + 1) * sizeof(Py_ssize_t))
        self._sizes = <Py_ssize_t*>malloc((self._read + 1) * sizeof(Py_ssize_t))
        self._types = <unsigned char*>malloc(self._columns + 1)
        if self._keys == NULL or self._starts == NULL or self._sizes == NULL or self._types == NULL:
            raise MemoryError
        memcpy(self._types, PyBytes_AS_STRING(types), self._columns)
        for i in range(self._count):
            self._keys[i].column, self._keys[i].kind, self._keys[i].width, self._keys[i].descending = keys[i]
            if self._keys[i].width < 2 or self._keys[i].column < 0:
                raise ValueError("no such sort key")

    def __dealloc__(self):
        free(self._keys)
        free(self._starts)
        free(self._sizes)
        free(self._types)

    cdef Py_ssize_t _text(self, const unsigned char* p, Py_ssize_t end) except -1:
        """Find the fields of a text row that are needed; return where the visible ones begin."""
        cdef Py_ssize_t at = 0, begin = 0, size
        cdef int i
        for i in range(self._read):
            size = _field(p, end, &at)
            self._starts[i], self._sizes[i] = at, size
            if size > 0:
                at += size
            if i + 1 == self._hidden:
                begin = at
        return begin

    cdef Py_ssize_t _binary(self, const unsigned char* p, Py_ssize_t end) except -1:
        """The same of a binary row."""
        cdef Py_ssize_t at = 1 + (self._columns + 9) // 8, begin, size
        cdef int i
        begin = at
        if at > end or p[0] != 0:
            _short()
        for i in range(self._read):
            if p[1 + (i + 2) // 8] & (1 << ((i + 2) % 8)):
                self._sizes[i] = -1
            else:
                size = _binary_size(p, end, &at, self._types[i])
                self._starts[i], self._sizes[i] = at, size
                at += size
            if i + 1 == self._hidden:
                begin = at
        return begin

    cdef int _write(self, const unsigned char* p, unsigned char* out) except -1:
        """Write a row's key."""
        cdef int i, j
        cdef Key* key
        cdef const unsigned char* value
        cdef Py_ssize_t size
        for i in range(self._count):
            key = &self._keys[i]
            size, value = self._sizes[key.column], p + self._starts[key.column]
            memset(out, 0, key.width)
            if size >= 0:
                out[0] = 1
                if key.kind == NUMBER:
                    _number(value, size, out)
                elif key.kind == DOUBLE:
                    _double(value, out + 1)
                elif key.kind == MOMENT:
                    _moment(value, size, out + 1)
                elif key.kind == FIXED:
                    if size > key.width - 1:
                        _strange()
                    memcpy(out + 1, value, size)
                elif self._columns:
                    _binary_whole(value, size, key.kind == SIGNED, out + 1)
                else:
                    _whole_number(value, size, key.kind == SIGNED, out + 1)
            if key.descending:
                for j in range(key.width):
                    out[j] ^= 255
            out += key.width
        return 0

    cdef Py_ssize_t _head(self, const unsigned char* p, unsigned char* out) noexcept:
        """Write the head of a binary row without its hidden columns; return its length in bytes."""
        cdef int i, visible = self._columns - self._hidden, size = 1 + (visible + 9) // 8
        memset(out, 0, size)
        for i in range(visible):
            if p[1 + (i + self._hidden + 2) // 8] & (1 << ((i + self._hidden + 2) % 8)):
                out[1 + (i + 2) // 8] |= 1 << ((i + 2) % 8)
        return size

    cdef bytes _long(self, const unsigned char* p, Py_ssize_t end, Py_ssize_t* at):
        """Return a row of several packets with its key, and move `at` behind it."""
        cdef Py_ssize_t length = MAX_PAYLOAD, first = at[0], begin, size
        cdef list pieces = []
        cdef bytes payload, key = PyBytes_FromStringAndSize(NULL, self.width), head
        cdef const unsigned char* q
        while length == MAX_PAYLOAD:
            if end - at[0] < 4 or _length(p + at[0]) > end - at[0] - 4:
                _cut()
            length = _length(p + at[0])
            pieces.append(PyBytes_FromStringAndSize(<const char*>p + at[0] + 4, length))
            at[0] += 4 + length
        payload = b"".join(pieces)
        pieces = []
        q = <const unsigned char*>PyBytes_AS_STRING(payload)
        begin = self._binary(q, len(payload)) if self._columns else self._text(q, len(payload))
        self._write(q, <unsigned char*>PyBytes_AS_STRING(key))
        if not self._hidden:
            return key + PyBytes_FromStringAndSize(<const char*>p + first, at[0] - first)
        if self._columns:
            head = PyBytes_FromStringAndSize(NULL, 1 + (self._columns - self._hidden + 9) // 8)
            self._head(q, <unsigned char*>PyBytes_AS_STRING(head))
            payload = head + payload[begin:]
        else:
            payload = payload[begin:]
        pieces.append(key)
        first = 0
        while True:
            size = min(MAX_PAYLOAD, len(payload) - first)
            pieces.append(size.to_bytes(4, "little"))
            pieces.append(payload[first : first + size])
            first += size
            if size < MAX_PAYLOAD:
                return b"".join(pieces)

    def keyed(self, const unsigned char[::1] block):
        """See `_sorting_py.Keyer.keyed`."""
        cdef Py_ssize_t at = 0, end = block.shape[0], length, rows = 0, used = 0, begin, size, head
        cdef const unsigned char* p
        cdef unsigned char* out
        cdef bytes found
        if end == 0:
            return b""
        p = &block[0]
        while at + 4 <= end:
            at += 4 + _length(p + at)
            rows += 1
        if at != end:
            _cut()
        out = <unsigned char*>malloc(end + rows * self.width)
        if out == NULL:
            raise MemoryError
        try:
            at = 0
            while at < end:
                length = _length(p + at)
                if length == MAX_PAYLOAD:
                    found = self._long(p, end, &at)
                    memcpy(out + used, PyBytes_AS_STRING(found), len(found))
                    used += len(found)
                    continue
                at += 4
                if self._columns:
                    begin = self._binary(p + at, length)
                else:
                    begin = self._text(p + at, length)
                self._write(p + at, out + used)
                used += self.width
                if not self._hidden:
                    memcpy(out + used, p + at - 4, 4 + length)
                    used += 4 + length
                else:
                    head = self._head(p + at, out + used + 4) if self._columns else 0
                    size = head + length - begin
                    memcpy(out + used + 4 + head, p + at + begin, length - begin)
                    out[used], out[used + 1], out[used + 2], out[used + 3] = (
                        size & 255, (size >> 8) & 255, size >> 16, 0
                    )
                    used += 4 + size
                at += length
            return PyBytes_FromStringAndSize(<const char*>out, used)
        finally:
            free(out)


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
    """See `_sorting_py.Merger`."""

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
        """See `_sorting_py.Merger.add`."""
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
        """See `_sorting_py.Merger.feed`."""
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
        """See `_sorting_py.Merger.end`."""
        cdef Source* source = self._source(number)
        source.ended = True
        if source.waits:
            if self._within == number:
                raise ValueError("a stream ends within a row")
            source.waits = False
            self._waiting -= 1

    def drop(self, int number):
        """See `_sorting_py.Merger.drop`."""
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
        """See `_sorting_py.Merger.waits`."""
        return bool(self._source(number).waits)

    def begun(self, int number):
        """See `_sorting_py.Merger.begun`."""
        return bool(self._source(number).begun)

    def left(self, int number):
        """See `_sorting_py.Merger.left`."""
        cdef Source* source = self._source(number)
        return sum(map(len, self._pending[number])) + (source.end - source.at)

    @property
    def done(self):
        """See `_sorting_py.Merger.done`."""
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
            _cut()
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
            length = _length(source.at + self._width)
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
        """See `_sorting_py.Merger.take`."""
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
                wanted = 4 + _length(source.at + self._width) + (self._width if self._keep else 0)
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
                    _cut()
                source.waits = True
                self._waiting += 1
                return bytearray(), 0, False
            self._open(number)
        if source.end - source.at < before + 4:
            _cut()
        length = _length(source.at + before)
        size = before + 4 + length
        if source.end - source.at < size:
            _cut()
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
