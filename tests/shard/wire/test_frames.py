"""Frames whole, byte by byte, with trailing bytes, and malformed."""

import pytest

from shard.wire import frames

SAMPLES = [
    (frames.Challenge(1, b"n"), b""),
    (frames.Rows(3, 2), b"rows" * 100),
    (
        frames.Job(
            query_id=1, database="d", main=frames.Template((b"a", b"b"), (0,)), chunks=list(range(50000))
        ),
        b"",
    ),
    (frames.BatchEnd(1, (7,), 2, 80), b""),
    (frames.LoadData(), b"1\t2\n"),
]


def encoded():
    return [b"".join(map(bytes, frames.encode(header, body))) for header, body in SAMPLES]


@pytest.mark.parametrize("step", [1, 7, 10**9])
def test_cut_anywhere(step):
    data = b"".join(encoded()) + b"\x05"
    decoder, out = frames.FrameDecoder(), []
    for start in range(0, len(data), step):
        decoder.feed(data[start : start + step])
        while (found := decoder.next()) is not None:
            out.append(found)
    assert out == SAMPLES


@pytest.mark.parametrize(
    "data", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x04\0\0\0\xff\xffxx", b"\x03\0\0\0\x01\0\xc1"]
)
def test_malformed(data):
    decoder = frames.FrameDecoder()
    decoder.feed(data)
    with pytest.raises(frames.FrameError):
        decoder.next()


def test_templates_fill_in_the_chunk():
    assert frames.Template((b"t_", b" u_", b"")).fill(12) == b"t_12 u_12"
    # A state stands behind the chunk in tables' names, and nowhere else.
    made = frames.Template((b"`t_", b"` u WHERE chunk = ", b" AND `u_", b"`")).fill(12, 7)
    assert made == b"`t_12_7` u WHERE chunk = 12 AND `u_12_7`"


def test_templates_fill_in_the_keys_of_a_chunk():
    template = frames.Template((b"`t_", b"` WHERE k IN (", b") AND c = ", b" AND k IN (", b")"), lists=(1, 3))
    assert template.fill(12, keys=b"3, 4") == b"`t_12` WHERE k IN (3, 4) AND c = 12 AND k IN (3, 4)"
    assert template.fill(12, 7, b"3") == b"`t_12_7` WHERE k IN (3) AND c = 12 AND k IN (3)"
