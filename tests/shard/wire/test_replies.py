"""Replies with rows are read alike wherever the network cuts them, also between and within the packets of long rows."""

from itertools import product

import pytest

from shard.wire import _rows_py, rows
from shard.wire.packets import (
    MAX_PAYLOAD,
    ColumnDefinition,
    Eof,
    Err,
    Ok,
    lenenc_bytes,
    packet,
)
from shard.wire.protocol import StatusFlag
from shard.wire.replies import ColumnsEvent, EndEvent, ErrEvent, ReplyKind, ReplyScanner, RowsEvent

COLUMN = ColumnDefinition(b"def", b"d", b"t", b"t", b"n", b"n", 45, 20, 253, 0, 0).encode()
KINDS = [pytest.param(False, id="text"), pytest.param(True, id="binary")]
EOFS = [pytest.param(False, id="EOF"), pytest.param(True, id="no EOF")]
SMALL = 16
"""Bytes of a payload at which the small twin of the protocol cuts."""


def payload(values, binary):
    if not binary:
        return b"".join(b"\xfb" if value is None else lenenc_bytes(value) for value in values)
    nulls = sum(4 << index for index, value in enumerate(values) if value is None)
    return bytes((0, nulls)) + b"".join(lenenc_bytes(value) for value in values if value is not None)


def framed(data, size):
    """Return a payload as packets of `size` bytes at most, and where they end."""
    pieces = [data[at : at + size] for at in range(0, len(data) + 1, size)]
    return [len(piece).to_bytes(3, "little") + b"\7" + piece for piece in pieces]


def ends(deprecate_eof, more=False):
    status = 2 | (StatusFlag.MORE_RESULTS if more else 0)
    return (Ok(status=status, warnings=3).encode(0xFE) if deprecate_eof else Eof(3, status).encode()), status


def head(deprecate_eof):
    payloads = [b"\x02", COLUMN, COLUMN] + ([] if deprecate_eof else [Eof(0, 2).encode()])
    return [packet(one, 1) for one in payloads]


class Reader:
    """Feeds a scanner, and puts together what it finds."""

    def __init__(self, deprecate_eof):
        self.scanner = ReplyScanner(ReplyKind.QUERY, deprecate_eof)
        self.columns, self.ended = [], []
        self.blocks, self.found, self.whole = [], [], True

    def feed(self, data):
        for event in self.scanner.feed(data):
            if isinstance(event, ColumnsEvent):
                assert event.definitions == (COLUMN, COLUMN)
                self.columns.append(len(self.blocks))
            elif isinstance(event, RowsEvent):
                assert event.block
                self.blocks.append(event.block)
                self.found.append(event.rows)
                self.whole = event.whole
            else:
                assert isinstance(event, (EndEvent, ErrEvent))
                assert self.whole
                self.ended.append(event)
        return self


TABLE = [
    [b"a", None],
    [None, None],
    [b"", b"x" * (3 * SMALL)],
    [b"\xfe" * (2 * SMALL + 3), b"\xff"],  # packets that go on with it look like an end
    [b"\xfe" * (SMALL - 2), b""],  # in the text protocol SMALL bytes: an empty packet follows
    [b"\xfe" * (SMALL - 1), b""],
    [b"z" * SMALL, None],
    [b"\xff\xfe", b"last"],
]


@pytest.mark.parametrize("deprecate_eof", EOFS)
@pytest.mark.parametrize("binary", KINDS)
@pytest.mark.parametrize("size", [MAX_PAYLOAD, SMALL])
@pytest.mark.parametrize("last", ["end", "error", "more results"])
def test_wherever_a_reply_is_cut(monkeypatch, deprecate_eof, binary, size, last):
    if size == SMALL:  # packets of rows are cut so early that every row of a table is long
        monkeypatch.setattr(_rows_py, "MAX_PAYLOAD", SMALL)
        monkeypatch.setattr(rows, "scan", _rows_py.scan)
    payloads = [payload(values, binary) for values in TABLE]
    packets = [part for one in payloads for part in framed(one, size)]
    table = b"".join(packets)
    end, status = ends(deprecate_eof, last == "more results")
    final = packet(Err(1317, "70100", "over").encode() if last == "error" else end, 9)
    before = head(deprecate_eof)
    whole = b"".join(before) + table + final
    follows = packet(Ok().encode(), 1) if last == "more results" else b"next"
    open_after = {0}  # offsets at which nothing is cut
    at = 0
    for one in [*before, *packets, final]:
        at += len(one)
        if one not in packets or len(one) < 4 + size:
            open_after.add(at)
    for cut in range(1, len(whole)):
        reader = Reader(deprecate_eof).feed(whole[:cut])
        assert reader.scanner.cut == (cut not in open_after)
        reader.feed(whole[cut:])
        check(reader, table, last, status)
    slow = Reader(deprecate_eof)
    for at in range(len(whole)):
        slow.feed(whole[at : at + 1])
    check(slow, table, last, status)
    if last != "more results":
        assert Reader(deprecate_eof).feed(whole + follows).scanner.consumed == len(whole)
    else:
        slow.feed(follows[:3])
        slow.scanner.feed(follows[3:] + b"next")
        assert slow.scanner.done
        assert slow.scanner.consumed == len(follows) - 3


def check(reader, table, last, status):
    assert b"".join(reader.blocks) == table
    assert sum(reader.found) == len(TABLE)
    assert reader.columns == [0]
    if last == "error":
        assert [event.err.errno for event in reader.ended] == [1317]
    else:
        (event,) = reader.ended
        assert (event.ok.status, event.ok.warnings) == (status, 3)
        assert event.more_results == (last == "more results")
    assert reader.scanner.done == (last != "more results")
    assert not reader.scanner.cut


@pytest.mark.parametrize(
    ("extra", "binary", "deprecate_eof"),
    [*product((0, 1), (False, True), (False, True)), (300, False, True)],
)
def test_wherever_a_row_of_16_mib_is_cut(extra, binary, deprecate_eof):
    """Rows of MAX_PAYLOAD bytes and of more, between small ones.

    One pass is cut at every offset of headers and beside them; one is cut once, in the second header of the row.
    """
    length = MAX_PAYLOAD + extra - len(payload([b"", None], binary)) - (8 if extra > 8 else 3)
    long = payload([b"\xfe" * length, None], binary)
    assert len(long) == MAX_PAYLOAD + extra
    small = framed(payload([b"q", b"r"], binary), MAX_PAYLOAD)
    packets = [*small, *framed(long, MAX_PAYLOAD), *small]
    before = b"".join(head(deprecate_eof))
    whole = memoryview(b"".join([before, *packets, packet(ends(deprecate_eof)[0], 9)]))
    starts = [len(before)]
    for one in packets:
        starts.append(starts[-1] + len(one))
    near = {cut for start in starts for cut in range(start - 6, min(start + 12, len(whole)))}
    second = starts[2]
    for cuts in (sorted(near), [second + 1]):
        reader = Reader(deprecate_eof)
        for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            reader.feed(whole[start:stop])
            assert stop < starts[1] or reader.scanner.cut == (
                stop not in {*starts[1:2], *starts[3:], len(whole)}
            )
        assert sum(reader.found) == 3
        assert b"".join(reader.blocks) == whole[len(before) : starts[-1]]
        assert [type(event) for event in reader.ended] == [EndEvent]
        assert reader.scanner.done
