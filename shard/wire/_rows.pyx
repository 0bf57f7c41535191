# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled row-packet scanner: finds, numbers and converts row packets without decoding rows.

The pure-Python twin is `_rows_py`; both have the same tests.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from shard.wire._packets cimport MAX_PAYLOAD, cut, field_size, packet_length


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
        length = packet_length(p + start)
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
    if end == 0:
        return seq
    p = &block[0]
    while at + 4 <= end:
        p[at + 3] = seq & 255
        seq = (seq + 1) & 255
        at += 4 + packet_length(p + at)
    if at != end:
        cut()
    return seq


def count(const unsigned char[::1] block):
    """See `_rows_py.count`."""
    cdef Py_ssize_t at = 0, end = block.shape[0], rows = 0, length
    cdef const unsigned char* p
    if end == 0:
        return 0
    p = &block[0]
    while at + 4 <= end:
        length = packet_length(p + at)
        rows += length != MAX_PAYLOAD
        at += 4 + length
    if at != end:
        cut()
    return rows


def take(const unsigned char[::1] block, Py_ssize_t rows):
    """See `_rows_py.take`."""
    cdef Py_ssize_t at = 0, end = block.shape[0], length
    cdef const unsigned char* p
    if end == 0:
        return 0
    p = &block[0]
    while rows > 0 and at + 4 <= end:
        length = packet_length(p + at)
        rows -= length != MAX_PAYLOAD
        at += 4 + length
    if at > end or (rows > 0 and at != end):
        cut()
    return at


cdef list _fields(const unsigned char* p, Py_ssize_t end):
    cdef Py_ssize_t at = 0, size
    cdef list fields = []
    while at < end:
        size = field_size(p, end, &at)
        if size < 0:
            fields.append(None)
        else:
            fields.append(PyBytes_FromStringAndSize(<const char*>p + at, size))
            at += size
    return fields


cdef Py_ssize_t _whole(const unsigned char* p, Py_ssize_t at, Py_ssize_t end) except -1:
    """Return the length in bytes of the payload of the packet at `at`, which must be whole."""
    if end - at < 4 or packet_length(p + at) > end - at - 4:
        cut()
    return packet_length(p + at)


cdef bytes _long_payload(const unsigned char* p, Py_ssize_t end, Py_ssize_t* at):
    """Return the payload of the row of several packets at `at`, and move `at` behind it."""
    cdef Py_ssize_t length = MAX_PAYLOAD
    cdef list pieces = []
    while length == MAX_PAYLOAD:
        length = _whole(p, at[0], end)
        pieces.append(PyBytes_FromStringAndSize(<const char*>p + at[0] + 4, length))
        at[0] += 4 + length
    return b"".join(pieces)


def split(const unsigned char[::1] block):
    """See `_rows_py.split`."""
    cdef Py_ssize_t at = 0, end = block.shape[0], length
    cdef const unsigned char* p
    cdef bytes payload
    cdef list rows = []
    if end == 0:
        return rows
    p = &block[0]
    while at < end:
        length = _whole(p, at, end)
        if length == MAX_PAYLOAD:
            payload = _long_payload(p, end, &at)
            rows.append(_fields(<const unsigned char*>(<char*>payload), len(payload)))
        else:
            rows.append(_fields(p + at + 4, length))
            at += 4 + length
    return rows


cdef Py_ssize_t _convert(const unsigned char* p, Py_ssize_t end, unsigned char* out) except -1:
    """Write one row's fields as a line; `out` has room for three times the row and eight bytes."""
    cdef Py_ssize_t at = 0, o = 0, size, i, run
    cdef unsigned char c
    cdef bint started = False
    while at < end:
        size = field_size(p, end, &at)
        if started:
            out[o] = b'\t'
            o += 1
        started = True
        if size < 0:
            out[o] = b'\\'
            out[o + 1] = b'N'
            o += 2
            continue
        run = at
        for i in range(at, at + size):
            c = p[i]
            if c > b'\\' or (c > b'\n' and c != b'\\'):  # nearly every byte
                continue
            if c == b'\\' or c == b'\t' or c == b'\n' or c == 0:
                memcpy(out + o, p + run, i - run)
                o += i - run
                out[o] = b'\\'
                out[o + 1] = b't' if c == b'\t' else (b'n' if c == b'\n' else (b'0' if c == 0 else c))
                o += 2
                run = i + 1
        at += size
        memcpy(out + o, p + run, at - run)
        o += at - run
    out[o] = b'\n'
    return o + 1


def rows_to_load(const unsigned char[::1] block):
    """See `_rows_py.rows_to_load`."""
    cdef Py_ssize_t at = 0, end = block.shape[0], length, used = 0
    cdef unsigned char* out
    cdef const unsigned char* p
    cdef bytes payload
    if end == 0:
        return b""
    out = <unsigned char*>malloc(3 * end + 64)  # a NULL becomes three characters, an escaped byte two
    if out == NULL:
        raise MemoryError
    try:
        p = &block[0]
        while at < end:
            length = _whole(p, at, end)
            if length == MAX_PAYLOAD:
                payload = _long_payload(p, end, &at)
                used += _convert(<const unsigned char*>(<char*>payload), len(payload), out + used)
            else:
                used += _convert(p + at + 4, length, out + used)
                at += 4 + length
        return PyBytes_FromStringAndSize(<const char*>out, used)
    finally:
        free(out)


cdef struct Reply:
    Py_ssize_t start  # of its rows
    Py_ssize_t last   # the packet that ends them
    Py_ssize_t end
    Py_ssize_t rows


cdef bint _reply(
    const unsigned char* p, Py_ssize_t at, Py_ssize_t end, bint deprecate_eof, unsigned char* tails, Py_ssize_t* columns,
    Reply* found,
):
    """Find the parts of a reply with rows that begins at `at`; return whether it is here to its end, and small."""
    cdef Py_ssize_t length, i
    if at + 5 > end:
        return False
    columns[0] = p[at + 4]
    if packet_length(p + at) != 1 or columns[0] == 0 or columns[0] > 250:
        return False
    at += 5
    for i in range(columns[0]):
        if at + 4 > end:
            return False
        length = packet_length(p + at)
        if length < 13 or length == MAX_PAYLOAD or at + 4 + length > end or p[at + 4] == 0xFF:
            return False
        memcpy(tails + 13 * i, p + at + 4 + length - 13, 13)
        at += 4 + length
    if not deprecate_eof:
        if at + 9 > end or packet_length(p + at) != 5 or p[at + 4] != 0xFE:
            return False
        at += 9
    found.start, found.rows = at, 0
    while at + 4 <= end:
        length = packet_length(p + at)
        if length == 0 or length == MAX_PAYLOAD or at + 4 + length > end or p[at + 4] == 0xFF:
            return False
        if p[at + 4] == 0xFE:
            found.last, found.end = at, at + 4 + length
            return True
        found.rows += 1
        at += 4 + length
    return False


def small_reply(const unsigned char[::1] buffer, bint deprecate_eof):
    """See `_rows_py.small_reply`."""
    cdef Py_ssize_t end = buffer.shape[0], columns
    cdef const unsigned char* p
    cdef unsigned char tails[13 * 250]
    cdef Reply found
    if end == 0:
        return None
    p = &buffer[0]
    if not _reply(p, 0, end, deprecate_eof, tails, &columns, &found) or found.end != end:
        return None
    return (
        PyBytes_FromStringAndSize(<const char*>tails, 13 * columns),
        PyBytes_FromStringAndSize(<const char*>p + found.start, found.last - found.start),
        found.rows,
        PyBytes_FromStringAndSize(<const char*>p + found.last + 4, end - found.last - 4),
    )


cdef int _warnings(const unsigned char* p, Reply* found, bint deprecate_eof):
    """Return with how many warnings a reply ends; -1 if it is unusual: more results, affected rows."""
    cdef const unsigned char* last = p + found.last + 4
    cdef Py_ssize_t length = found.end - found.last - 4
    cdef int status, warnings
    if deprecate_eof:
        if length < 7 or last[1] >= 251 or last[2] >= 251:
            return -1
        status, warnings = last[3] | last[4] << 8, last[5] | last[6] << 8
    else:
        if length != 5:
            return -1
        warnings, status = last[1] | last[2] << 8, last[3] | last[4] << 8
    return -1 if status & 8 else warnings


def small_replies(const unsigned char[::1] buffer, bint deprecate_eof, Py_ssize_t most):
    """See `_rows_py.small_replies`."""
    cdef Py_ssize_t at = 0, end = buffer.shape[0], columns, first_columns = 0, used = 0, rows = 0, count = 0
    cdef const unsigned char* p
    cdef unsigned char tails[2][13 * 250]
    cdef unsigned char* out
    cdef Reply found
    cdef int warnings
    if end == 0:
        return None
    p = &buffer[0]
    out = <unsigned char*>malloc(end)
    if out == NULL:
        raise MemoryError
    warned = []
    try:
        while count < most and _reply(p, at, end, deprecate_eof, tails[1 if count else 0], &columns, &found):
            if count == 0:
                first_columns = columns
            elif columns != first_columns or memcmp(tails[0], tails[1], 13 * columns) != 0:
                break
            warnings = _warnings(p, &found, deprecate_eof)
            if warnings < 0:
                break
            if warnings:
                warned.append((count, warnings))
            memcpy(out + used, p + found.start, found.last - found.start)
            used += found.last - found.start
            rows += found.rows
            count += 1
            at = found.end
        if count == 0:
            return None
        return (
            PyBytes_FromStringAndSize(<const char*>tails[0], 13 * first_columns),
            PyBytes_FromStringAndSize(<const char*>out, used),
            rows,
            count,
            tuple(warned),
            at,
        )
    finally:
        free(out)


def prepared_reply(const unsigned char[::1] buffer, bint deprecate_eof):
    """See `_rows_py.prepared_reply`."""
    cdef Py_ssize_t at, end = buffer.shape[0], length, left = 0, columns, parameters
    cdef const unsigned char* p
    if end < 16:
        return None
    p = &buffer[0]
    length = packet_length(p)
    if length < 12 or length == MAX_PAYLOAD or p[4] != 0:
        return None
    columns = p[9] | p[10] << 8
    parameters = p[11] | p[12] << 8
    if columns:
        left += columns + (0 if deprecate_eof else 1)
    if parameters:
        left += parameters + (0 if deprecate_eof else 1)
    at = 4 + length
    while left:
        if at + 4 > end:
            return None
        length = packet_length(p + at)
        if length == MAX_PAYLOAD:
            return None
        at += 4 + length
        left -= 1
    if at > end:
        return None
    return (
        <unsigned long>p[5] | <unsigned long>p[6] << 8 | <unsigned long>p[7] << 16 | <unsigned long>p[8] << 24,
        parameters,
        at,
    )
