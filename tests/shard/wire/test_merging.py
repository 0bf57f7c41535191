"""Sorted streams are merged alike, however they come, by the compiled module and its twin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.wire import _merging_py, sorting
from shard.wire.packets import MAX_PAYLOAD, packet

TWINS = [sorting, _merging_py]
WIDTH = 9


def stream(numbers, sizes):
    """Return keyed rows, sorted by their numbers; each says which it is."""
    rows = []
    for index, number in enumerate(sorted(numbers)):
        payload = b"%d:" % number + b"z" * sizes[index % len(sizes)]
        rows.append(number.to_bytes(WIDTH, "big") + packet(payload, 1))
    return rows


@given(
    st.lists(st.lists(st.integers(0, 2**70), max_size=12), max_size=5),
    st.lists(st.integers(0, 90), min_size=1, max_size=3),
    st.integers(1, 200),
    st.integers(-1, 20),
    st.booleans(),
    st.data(),
)
def test_streams_are_merged_however_they_come(runs, sizes, room, most, keep, data):
    streams = [stream(run, sizes) for run in runs]
    mergers = [module.Merger(WIDTH, keep) for module in TWINS]
    for merger in mergers:
        for _ in streams:
            merger.add()
    left = [list(rows) for rows in streams]
    ended = [False] * len(left)
    out, count = b"", 0
    want = most
    while want:
        answers = [merger.take(room, want) for merger in mergers]
        assert answers[0] == answers[1]
        assert mergers[0].consumed == mergers[1].consumed
        assert mergers[0].done == mergers[1].done
        held = [[merger.left(number) for number in range(len(left))] for merger in mergers]
        assert held[0] == held[1]
        block, rows, more = answers[0]
        assert not more
        out, count = out + bytes(block), count + rows
        want = want if want < 0 else want - rows
        if block:
            continue
        hungry = [i for i in range(len(left)) if mergers[0].waits(i)]
        assert hungry == [i for i in range(len(left)) if mergers[1].waits(i)]
        if not hungry:
            break
        for number in data.draw(st.permutations(hungry)):
            size = data.draw(st.integers(0, len(left[number])))
            piece, left[number] = left[number][:size], left[number][size:]
            for merger in mergers:
                merger.feed(number, b"".join(piece))
            if not left[number] and not ended[number]:
                ended[number] = True
                for merger in mergers:
                    merger.end(number)
    expected = sorted(
        (
            (row[:WIDTH], number, place, row)
            for number, rows in enumerate(streams)
            for place, row in enumerate(rows)
        ),
        key=lambda item: item[:3],
    )
    expected = expected if most < 0 else expected[:most]
    assert count == len(expected)
    assert out == b"".join(row if keep else row[WIDTH:] for *_, row in expected)
    if most < 0:
        assert mergers[0].done


@pytest.mark.parametrize("module", TWINS)
@pytest.mark.parametrize("keep", [False, True])
def test_a_row_of_several_packets_comes_alone_packet_by_packet(module, keep):
    first, second = (1).to_bytes(WIDTH, "big"), (2).to_bytes(WIDTH, "big")
    long = packet(b"l" * (2 * MAX_PAYLOAD), 1)
    merger = module.Merger(WIDTH, keep)
    one, two = merger.add(), merger.add()
    merger.feed(one, first + packet(b"a", 0) + second + long[: MAX_PAYLOAD + 4])
    merger.feed(two, second + packet(b"c", 0))
    merger.end(two)
    kept = first if keep else b""
    assert merger.take(1000) == (bytearray(kept + packet(b"a", 0)), 1, False)
    kept = second if keep else b""
    assert merger.take(1000) == (bytearray(kept + long[: MAX_PAYLOAD + 4]), 0, True)
    assert merger.take(1000) == (bytearray(), 0, False)
    assert merger.waits(one)
    assert not merger.done
    merger.feed(one, long[MAX_PAYLOAD + 4 :])
    merger.end(one)
    assert merger.take(1000) == (bytearray(long[MAX_PAYLOAD + 4 : -4]), 0, True)
    assert merger.take(1000) == (bytearray(long[-4:]), 1, False)
    assert merger.take(1000) == (bytearray(kept + packet(b"c", 0)), 1, False)
    assert merger.done


@pytest.mark.parametrize("module", TWINS)
def test_a_stream_that_is_dropped_leaves_no_row(module):
    merger = module.Merger(WIDTH, False)
    numbers = [merger.add() for _ in range(4)]
    for number in numbers:
        merger.feed(number, b"".join(stream([number, number + 10], [1])))
        merger.end(number)
    merger.drop(numbers[1])
    again = merger.add()
    assert merger.take(1000) == (bytearray(), 0, False)
    merger.feed(again, b"".join(stream([1], [1])))
    merger.drop(again)
    block, rows, _ = merger.take(1000)
    assert rows == 6
    assert [row[0] for row in _split_payloads(block)] == [b"0", b"2", b"3", b"10", b"12", b"13"]
    assert merger.begun(numbers[0])
    assert not merger.begun(numbers[1])
    assert merger.done


def _split_payloads(block):
    out, at = [], 0
    while at < len(block):
        size = int.from_bytes(block[at : at + 3], "little")
        out.append(bytes(block[at + 4 : at + 4 + size]).split(b":"))
        at += 4 + size
    return out


@pytest.mark.parametrize("module", TWINS)
@pytest.mark.parametrize("together", [False, True])
def test_what_is_not_sorted_or_cut_is_an_error(module, together):
    rows = stream([1], [1]) + stream([0], [1])
    merger = module.Merger(WIDTH, False)
    number = merger.add()

    def all_of_it():
        for piece in [b"".join(rows)] if together else rows:
            merger.feed(number, piece)
        while merger.take(1)[0]:
            pass

    with pytest.raises(ValueError, match="not sorted"):
        all_of_it()


@pytest.mark.parametrize("module", TWINS)
@pytest.mark.parametrize("keep", [False, True])
def test_a_stream_that_is_cut_within_a_packet_is_an_error(module, keep):
    rows = stream([1, 2], [3])
    for size in range(1, len(rows[1])):
        merger = module.Merger(WIDTH, keep)
        number = merger.add()
        merger.feed(number, rows[0] + rows[1][:size])
        with pytest.raises(ValueError, match="block ends"):
            merger.take(1000)
