"""Binary rows whose integers are wider or narrower than what the client was told."""

import struct

import pytest

from shard.wire.packets import PacketError, lenenc_bytes, packet
from shard.wire.recode import Recoder

INT, BIGINT, DOUBLE, TEXT, BLOB, DATE, TINY = 3, 8, 5, 253, 252, 10, 1


def row(*parts, nulls=0, seq=5):
    return packet(b"\0" + bytes((nulls << 2,)) + b"".join(parts), seq)


def test_integers_are_widened_with_their_sign():
    recoder = Recoder(
        [(INT, False), (TEXT, False), (INT, True), (DOUBLE, False)], [BIGINT, BLOB, BIGINT, DOUBLE]
    )
    tail = struct.pack("<d", 2.5)
    block = row(struct.pack("<i", -7), lenenc_bytes(b"ab"), struct.pack("<I", 4294967295), tail)
    wide = row(struct.pack("<q", -7), lenenc_bytes(b"ab"), struct.pack("<Q", 4294967295), tail)
    assert recoder.needed
    assert recoder.rows(block * 2) == wide * 2


def test_nulls_take_no_bytes():
    recoder = Recoder([(BIGINT, False), (DATE, False), (BIGINT, False)], [INT, DATE, TINY])
    block = row(b"\x04\xe8\x07\x02\x1d", struct.pack("<q", -3), nulls=0b001)
    assert recoder.rows(block) == row(b"\x04\xe8\x07\x02\x1d", struct.pack("<b", -3), nulls=0b001)


def test_rows_that_fit_stay():
    recoder = Recoder([(BIGINT, False), (TEXT, False)], [BIGINT, 254])
    block = row(struct.pack("<q", 1), lenenc_bytes(b""))
    assert not recoder.needed
    assert recoder.rows(block) == block


def test_what_cannot_fit_is_refused():
    with pytest.raises(PacketError):
        Recoder([(DOUBLE, False)], [BIGINT])
    with pytest.raises(PacketError):
        Recoder([(INT, False)], [INT, INT])
    narrow = Recoder([(BIGINT, False)], [INT])
    with pytest.raises(PacketError):
        narrow.rows(row(struct.pack("<q", 1 << 40)))
    with pytest.raises(PacketError):
        narrow.rows(row(struct.pack("<q", 1))[:-1])
    with pytest.raises(PacketError):
        narrow.rows(row(struct.pack("<q", 1), b"x"))
