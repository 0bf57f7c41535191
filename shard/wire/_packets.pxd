# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Row packets as C reads them: what the compiled modules beside this file share, each with a copy of its own."""

cdef enum:
    MAX_PAYLOAD = 0xFFFFFF


cdef inline Py_ssize_t packet_length(const unsigned char* p) noexcept nogil:
    return p[0] | (p[1] << 8) | (p[2] << 16)


cdef inline int cut() except -1:
    raise ValueError("block ends within a packet or a row")


cdef inline int short_row() except -1:
    raise ValueError("field runs past its row")


cdef inline Py_ssize_t field_size(const unsigned char* p, Py_ssize_t end, Py_ssize_t* at) except -2:
    """Return a field's length in bytes, -1 for NULL, and move `at` to its first byte."""
    cdef unsigned char first
    cdef Py_ssize_t width, i, size
    if at[0] >= end:
        short_row()
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
            short_row()
        size = 0
        for i in range(width):
            size |= (<Py_ssize_t>p[at[0] + i]) << (8 * i)
        at[0] += width
    if size < 0 or size > end - at[0]:
        short_row()
    return size
