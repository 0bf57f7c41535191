# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled row-packet scanner: finds, numbers and converts row packets without decoding rows.

The pure-Python twin is `_rows_py`; both have the same tests.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

DEF MAX_PAYLOAD = 0xFFFFFF


cdef inline Py_ssize_t _length(const unsigned char* p) noexcept nogil:
    return p[0] | (p[1] << 8) | (p[2] << 16)


def scan(const unsigned char[::1] buffer, Py_ssize_t start, Py_ssize_t end, bint continued):
    """See `_rows_py.scan`."""
    cdef Py_ssize_t length, rows = 0
    cdef const unsigned char* p
    if end > buffer.shape[0]:
        end = buffer.shape[0]
    if end - start < 4:
        return start, 0, continued, False
    p = &buffer[0]
    while start + 4 <= end:
        length = _length(p + start)
        if start + 4 + length > end:
            break
        if not continued and length and length < MAX_PAYLOAD and p[start + 4] >= 0xFE:
            return start, rows, False, True
        continued = length == MAX_PAYLOAD
        if not continued:
            rows += 1
        start += 4 + length
    return start, rows, bool(continued), False


def renumber(unsigned char[::1] block, int seq):
    """See `_rows_py.renumber`."""
    cdef Py_ssize_t at = 0, end = block.shape[0]
    cdef unsigned char* p
    if end < 4:
        return seq
    p = &block[0]
    while at + 4 <= end:
        p[at + 3] = seq & 255
        seq = (seq + 1) & 255
        at += 4 + _length(p + at)
    return seq


def count(const unsigned char[::1] block):
    """See `_rows_py.count`."""
    cdef Py_ssize_t at = 0, end = block.shape[0], rows = 0, length
    cdef const unsigned char* p
    if end < 4:
        return 0
    p = &block[0]
    while at + 4 <= end:
        length = _length(p + at)
        rows += length != MAX_PAYLOAD
        at += 4 + length
    return rows


def take(const unsigned char[::1] block, Py_ssize_t rows):
    """See `_rows_py.take`."""
    cdef Py_ssize_t at = 0, end = block.shape[0], length
    cdef const unsigned char* p
    if end < 4:
        return 0
    p = &block[0]
    while rows > 0 and at + 4 <= end:
        length = _length(p + at)
        rows -= length != MAX_PAYLOAD
        at += 4 + length
    return at


cdef list _fields(const unsigned char* p, Py_ssize_t end):
    cdef Py_ssize_t at = 0, size, width, i
    cdef unsigned char first
    cdef list fields = []
    while at < end:
        first = p[at]
        at += 1
        if first == 0xFB:
            fields.append(None)
            continue
        if first < 0xFB:
            size = first
        else:
            width = 2 if first == 0xFC else (3 if first == 0xFD else 8)
            if at + width > end:
                raise ValueError("field runs past its row")
            size = 0
            for i in range(width):
                size |= (<Py_ssize_t>p[at + i]) << (8 * i)
            at += width
        if size < 0 or at + size > end:
            raise ValueError("field runs past its row")
        fields.append(PyBytes_FromStringAndSize(<const char*>p + at, size))
        at += size
    return fields


cdef list _payloads(const unsigned char[::1] block):
    """Payloads of a block that has rows of several packets."""
    cdef Py_ssize_t at = 0, end = block.shape[0], length
    cdef bytes held = b""
    cdef list out = []
    while at + 4 <= end:
        length = _length(&block[at])
        piece = PyBytes_FromStringAndSize(<const char*>&block[at] + 4, length)
        at += 4 + length
        if length == MAX_PAYLOAD:
            held += piece
        else:
            out.append(held + piece)
            held = b""
    return out


def split(const unsigned char[::1] block):
    """See `_rows_py.split`."""
    cdef bytes payload
    cdef list rows = []
    if block.shape[0] < 4:
        return rows
    for payload in _payloads(block):
        rows.append(_fields(<const unsigned char*>(<char*>payload), len(payload)))
    return rows


cdef Py_ssize_t _convert(const unsigned char* p, Py_ssize_t end, unsigned char* out) except -1:
    """Write one row's fields as a line; `out` has room for twice the row and its separators."""
    cdef Py_ssize_t at = 0, o = 0, size, width, i
    cdef unsigned char first, c
    cdef bint started = False
    while at < end:
        first = p[at]
        at += 1
        if started:
            out[o] = b'\t'
            o += 1
        started = True
        if first == 0xFB:
            out[o] = b'\\'
            out[o + 1] = b'N'
            o += 2
            continue
        if first < 0xFB:
            size = first
        else:
            width = 2 if first == 0xFC else (3 if first == 0xFD else 8)
            if at + width > end:
                raise ValueError("field runs past its row")
            size = 0
            for i in range(width):
                size |= (<Py_ssize_t>p[at + i]) << (8 * i)
            at += width
        if size < 0 or at + size > end:
            raise ValueError("field runs past its row")
        for i in range(size):
            c = p[at + i]
            if c == b'\\' or c == b'\t' or c == b'\n' or c == 0:
                out[o] = b'\\'
                o += 1
                if c == b'\t':
                    c = b't'
                elif c == b'\n':
                    c = b'n'
                elif c == 0:
                    c = b'0'
            out[o] = c
            o += 1
        at += size
    out[o] = b'\n'
    return o + 1


def rows_to_load(const unsigned char[::1] block):
    """See `_rows_py.rows_to_load`."""
    cdef Py_ssize_t at = 0, end = block.shape[0], length, used = 0, room
    cdef unsigned char* out
    cdef const unsigned char* p
    cdef bytes payload
    if end < 4:
        return b""
    room = 3 * end + 64  # a NULL byte becomes three characters, an escaped one two
    out = <unsigned char*>malloc(room)
    if out == NULL:
        raise MemoryError
    try:
        p = &block[0]
        while at + 4 <= end:
            length = _length(p + at)
            if length == MAX_PAYLOAD:
                used = 0
                for payload in _payloads(block):
                    used += _convert(<const unsigned char*>(<char*>payload), len(payload), out + used)
                break
            used += _convert(p + at + 4, length, out + used)
            at += 4 + length
        return PyBytes_FromStringAndSize(<const char*>out, used)
    finally:
        free(out)
