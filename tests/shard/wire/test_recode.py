"""Binary rows whose integers are wider or narrower than what the client was told."""

import struct

import pytest

from shard.wire import recode
from shard.wire.packets import MAX_PAYLOAD, PacketError, lenenc_bytes, packet
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


def pieces(payload, size):
    """Return a row's packets, of `size` bytes at most."""
    parts = [payload[at : at + size] for at in range(0, len(payload) + 1, size)]
    return [len(part).to_bytes(3, "little") + b"\0" + part for part in parts]


@pytest.mark.parametrize("size", [5, 6, 7, 9, 20, 64, 301, 400])
@pytest.mark.parametrize(("wide", "narrow"), [(BIGINT, INT), (BIGINT, TINY), (INT, BIGINT), (TINY, BIGINT)])
def test_a_row_of_several_packets(monkeypatch, size, wide, narrow):
    """They cut numbers, texts and their lengths anywhere; the first has all NULL bits."""
    monkeypatch.setattr(recode, "MAX_PAYLOAD", size)
    formats = {BIGINT: "<q", INT: "<i", TINY: "<b"}
    date = b"\x0b\xe8\x07\x02\x1d\x01\x02\x03\x04\x05\x06\x07"
    texts = [lenenc_bytes(b"t" * length) for length in (0, 9, 300)]

    def payload(kind):
        number = struct.pack(formats[kind], -3)
        parts = [texts[2], number, date, number, texts[0], texts[1], struct.pack("<d", 0.5), number]
        return b"\0" + (1 << 5).to_bytes(2, "little") + b"".join(parts)

    def kinds(kind):
        return [TEXT, kind, DATE, BIGINT, kind, TEXT, BLOB, DOUBLE, kind]

    recoder = Recoder([(kind, False) for kind in kinds(wide)], kinds(narrow))
    wanted = b"".join(pieces(payload(narrow), size))
    for _ in range(2):  # nothing is left of a row when the next begins
        assert b"".join(map(recoder.rows, pieces(payload(wide), size))) == wanted
    assert recoder.rows(b"".join(pieces(payload(wide), size)) * 2) == wanted * 2
    parts = pieces(payload(wide)[:-1], size)
    with pytest.raises(PacketError):
        b"".join(map(recoder.rows, parts))


@pytest.mark.parametrize("length", [MAX_PAYLOAD - 14, MAX_PAYLOAD - 13, MAX_PAYLOAD])
def test_a_row_that_needs_a_packet_less(length):
    """Nothing of it may be sent before it is known how long its first packet is."""
    recoder = Recoder([(BIGINT, False), (TEXT, False)], [INT, TEXT])
    text = lenenc_bytes(b"l" * length)
    found = [recoder.rows(part) for part in pieces(b"\0\0" + struct.pack("<q", 7) + text, MAX_PAYLOAD)]
    assert b"".join(found) == b"".join(pieces(b"\0\0" + struct.pack("<i", 7) + text, MAX_PAYLOAD))
    assert len(found) == 2
    assert not found[0]
