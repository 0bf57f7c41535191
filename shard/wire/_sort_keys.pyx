# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled sort keys: bytes in front of rows that compare as the values do; rows are not decoded.

The pure-Python twin is `_sort_keys_py`; both have the same tests.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from shard.wire._packets cimport MAX_PAYLOAD, cut, field_size, packet_length, short_row

DEF SIGNED = 0
DEF UNSIGNED = 1
DEF NUMBER = 2
DEF FIXED = 3
DEF DOUBLE = 4
DEF MOMENT = 5

cdef uint64_t MOST = 0xFFFFFFFFFFFFFFFF


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
            short_row()
        size = p[at[0]]
        at[0] += 1
    else:
        size = field_size(p, end, at)
        if size < 0:
            _strange()
        return size
    if size > end - at[0]:
        short_row()
    return size


cdef struct Key:
    int column
    int kind
    int width
    bint descending


cdef class Keyer:
    """See `_sort_keys_py.Keyer`."""

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
            size = field_size(p, end, &at)
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
            short_row()
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
            if end - at[0] < 4 or packet_length(p + at[0]) > end - at[0] - 4:
                cut()
            length = packet_length(p + at[0])
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
        """See `_sort_keys_py.Keyer.keyed`."""
        cdef Py_ssize_t at = 0, end = block.shape[0], length, rows = 0, used = 0, begin, size, head
        cdef const unsigned char* p
        cdef unsigned char* out
        cdef bytes found
        if end == 0:
            return b""
        p = &block[0]
        while at + 4 <= end:
            at += 4 + packet_length(p + at)
            rows += 1
        if at != end:
            cut()
        out = <unsigned char*>malloc(end + rows * self.width)
        if out == NULL:
            raise MemoryError
        try:
            at = 0
            while at < end:
                length = packet_length(p + at)
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
