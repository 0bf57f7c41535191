"""LOAD DATA text is the same whether a row comes whole or in packets that cut it anywhere."""

import pytest

from shard.wire import loading, rows
from shard.wire.loading import LoadText
from shard.wire.packets import lenenc_bytes, packet

FIELDS = [b"a\tb", None, b"", b"\\\n\0" * 7, b"x" * 300, None, b"\xfb\xfc\xfd\xfe\xff", b""]
LONG = b"".join(b"\xfb" if field is None else lenenc_bytes(field) for field in FIELDS)
LONG += b"\xfd" + (3).to_bytes(3, "little") + b"\n\xff\0" + b"\xfe" + (4).to_bytes(8, "little") + b"tail"


def pieces(payload, size):
    """Return a row's packets, of `size` bytes at most, and whether each goes on."""
    parts = [payload[at : at + size] for at in range(0, len(payload) + 1, size)]
    return [(len(part).to_bytes(3, "little") + b"\0" + part, len(part) == size) for part in parts]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 100, 301, len(LONG), len(LONG) - 1, len(LONG) + 1])
def test_a_row_in_pieces(monkeypatch, size):
    monkeypatch.setattr(loading, "MAX_PAYLOAD", size)
    monkeypatch.setattr(loading, "SLICE_BYTES", 100)
    small, text = packet(lenenc_bytes(b"s"), 0), LoadText()
    wanted = rows.rows_to_load(packet(LONG, 0))
    for _ in range(2):  # nothing is left of a row when the next begins
        found = b"".join(part for data, more in pieces(LONG, size) for part in text.feed(data, more))
        assert found == wanted
        assert b"".join(text.feed(small * 2, more=False)) == b"s\ns\n"
    first, *others = pieces(LONG, size)
    if others:
        rest = b"".join(data for data, _ in others)
        assert b"".join([*text.feed(first[0], more=True), *text.feed(rest + first[0], more=True)]).startswith(
            wanted
        )


@pytest.mark.parametrize("payload", [lenenc_bytes(b"field")[:-1], b"\xfc\x01", b"a\xff"])
def test_a_row_that_ends_within_a_field(monkeypatch, payload):
    monkeypatch.setattr(loading, "MAX_PAYLOAD", 2)
    text = LoadText()
    with pytest.raises(ValueError, match="field"):
        _ = [part for data, more in pieces(payload, 2) for part in text.feed(data, more)]


def test_blocks_end_where_they_say(monkeypatch):
    monkeypatch.setattr(loading, "MAX_PAYLOAD", 2)
    (first, _), _ = pieces(b"\x02ab", 2)
    with pytest.raises(ValueError, match="ends"):
        list(LoadText().feed(packet(b"\xfb", 0), more=True))
    with pytest.raises(ValueError, match="ends"):
        list(LoadText().feed(first[:-1], more=True))
    text = LoadText()
    assert b"".join(text.feed(first, more=True)) == b"a"
    with pytest.raises(ValueError, match="ends"):
        list(text.feed(first[:4] + b"b\xfb", more=False))
