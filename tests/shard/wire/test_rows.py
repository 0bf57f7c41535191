"""The compiled scanner and its twin: same answers on whole, cut and malformed input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.wire import _rows_py, rows
from shard.wire.packets import (
    MAX_PAYLOAD,
    ColumnDefinition,
    Eof,
    Err,
    Ok,
    lenenc_bytes,
    packet,
    read_lenenc_int,
)

fields = st.one_of(
    st.none(), st.binary(max_size=40), st.sampled_from([b"", b"\t\n\\\0", b"x" * 300, b"y" * 70000])
)
tables = st.lists(st.lists(fields, min_size=1, max_size=4), max_size=6)


def encode(table):
    payloads = [b"".join(b"\xfb" if v is None else lenenc_bytes(v) for v in row) for row in table]
    return b"".join(packet(payload, 1) for payload in payloads)


def test_the_compiled_module_is_built_here():
    assert rows.COMPILED


@given(tables)
def test_twins_agree(table):
    block = encode(table)
    assert rows.split(block) == _rows_py.split(block) == table
    assert rows.rows_to_load(block) == _rows_py.rows_to_load(block)
    assert rows.count(block) == _rows_py.count(block) == len(table)
    for n in range(len(table) + 1):
        assert rows.take(block, n) == _rows_py.take(block, n) == len(encode(table[:n]))
    one, two = bytearray(block), bytearray(block)
    assert rows.renumber(one, 250) == _rows_py.renumber(two, 250)
    assert one == two


@given(tables, st.sampled_from([b"\x00", b"\x07"]), st.data())
def test_scan_stops_at_the_terminator_wherever_it_is_cut(table, status, data):
    whole = encode(table) + packet(Ok(status=2).encode(0xFE), 9) + b"trailing"
    end = data.draw(st.integers(0, len(whole)))
    assert rows.scan(whole, 0, end, False) == _rows_py.scan(whole, 0, end, False)
    stop, found, continued, terminator = rows.scan(whole, 0, len(whole), False)
    assert (stop, found, continued, terminator) == (len(encode(table)), len(table), False, True)


@pytest.mark.parametrize("scan", [rows.scan, _rows_py.scan])
def test_a_continuation_may_begin_with_any_byte(scan):
    payload = lenenc_bytes(b"a" * (MAX_PAYLOAD - 4)) + b"\xfe\xff"
    block = packet(payload, 0)
    stop, found, continued, terminator = scan(block, 0, len(block), False)
    assert (stop, found, continued, terminator) == (len(block), 1, False, False)
    cut = scan(block, 0, MAX_PAYLOAD + 4, False)
    assert cut == (MAX_PAYLOAD + 4, 0, True, False)
    assert scan(block, MAX_PAYLOAD + 4, len(block), True) == (len(block), 1, False, False)


@given(st.integers(0, 2**64 - 1))
def test_length_encoded_integers(value):
    from shard.wire.packets import lenenc_int

    data = lenenc_int(value)
    assert read_lenenc_int(data + b"rest", 0) == (value, len(data))


def test_packets_survive_encoding():
    column = ColumnDefinition(b"def", b"s", b"t", b"ot", b"n", b"on", 45, 80, 253, 1, 31)
    assert ColumnDefinition.decode(column.encode()) == column
    assert Ok.decode(Ok(300, 7, 2, 4, b"x").encode()) == Ok(300, 7, 2, 4, b"x")
    assert Eof.decode(Eof(3, 34).encode()) == Eof(3, 34)
    assert Err.decode(Err(1146, "42S02", "none").encode()) == Err(1146, "42S02", "none")


def reply(table, columns, deprecate_eof):
    """Return a reply with these rows, and where its rows are."""
    payloads = [bytes((columns,))]
    definition = ColumnDefinition(b"def", b"d", b"t", b"t", b"n", b"n", 45, 20, 253, 0, 0)
    payloads += [definition.encode()] * columns
    if not deprecate_eof:
        payloads.append(Eof(0, 2).encode())
    head = b"".join(packet(payload, 1) for payload in payloads)
    last = Ok(warnings=3).encode(0xFE) if deprecate_eof else Eof(3, 2).encode()
    return head + encode(table) + packet(last, 1), len(head), definition.encode()[-13:] * columns, last


@given(tables, st.integers(1, 5), st.booleans())
def test_a_small_reply_is_read_whole_or_not_at_all(table, columns, deprecate_eof):
    data, start, tails, last = reply(table, columns, deprecate_eof)
    block = encode(table)
    plain = all(row[0] is None or len(row[0]) < 1 << 24 for row in table)
    for small_reply in (rows.small_reply, _rows_py.small_reply):
        if plain:
            assert small_reply(data, deprecate_eof) == (tails, block, len(table), last)
        assert small_reply(data + b"x", deprecate_eof) is None
        for end in {*range(min(60, len(data))), start, len(data) - 1, len(data) - len(last) - 4}:
            assert small_reply(data[:end], deprecate_eof) is None
        failed = data[: start + len(block)] + packet(Err(1317, "70100", "over").encode(), 1)
        assert small_reply(failed, deprecate_eof) is None


@given(st.binary(max_size=200), st.booleans())
def test_twins_agree_on_what_is_no_small_reply(data, deprecate_eof):
    assert rows.small_reply(data, deprecate_eof) == _rows_py.small_reply(data, deprecate_eof)
    assert rows.small_replies(data, deprecate_eof, 9) == _rows_py.small_replies(data, deprecate_eof, 9)


small_tables = st.lists(
    st.lists(st.tuples(st.none() | st.binary(max_size=9)), max_size=4), min_size=1, max_size=5
)


@given(small_tables, st.integers(1, 6), st.booleans(), st.binary(max_size=30))
def test_replies_that_follow_one_another_are_read_together(answers, most, deprecate_eof, rest):
    whole = [reply(table, 1, deprecate_eof) for table in answers]
    data = b"".join(each[0] for each in whole)
    number = min(most, len(whole))
    taken = len(b"".join(each[0] for each in whole[:number]))
    found = (
        whole[0][2],
        b"".join(map(encode, answers[:number])),
        sum(map(len, answers[:number])),
        number,
        tuple((place, 3) for place in range(number)),
        taken,
    )
    for small_replies in (rows.small_replies, _rows_py.small_replies):
        assert small_replies(data, deprecate_eof, most) == found
        for end in range(len(data)):
            known = small_replies(data[:end], deprecate_eof, len(whole))
            complete = sum(
                len(b"".join(each[0] for each in whole[: n + 1])) <= end for n in range(len(whole))
            )
            assert (0 if known is None else known[3]) == complete
        failed = data + packet(Err(1317, "70100", "over").encode(), 1) + rest
        assert small_replies(failed, deprecate_eof, 99)[-1] == len(data)
        wider = data + reply(answers[0] and [], 2, deprecate_eof)[0]
        assert small_replies(wider, deprecate_eof, 99)[-1] == len(data)


def test_a_reply_with_more_results_or_affected_rows_is_not_read_with_others():
    head = reply([], 1, True)[0][:-11]
    for last in (Ok(warnings=1, status=10), Ok(affected_rows=300, status=2)):
        data = head + packet(last.encode(0xFE), 1)
        assert rows.small_replies(data, True, 1) is None
        assert _rows_py.small_replies(data, True, 1) is None


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**32 - 1), st.booleans())
def test_a_reply_to_prepare_is_read_whole_or_not_at_all(columns, parameters, number, deprecate_eof):
    numbers = (number.to_bytes(4, "little"), columns.to_bytes(2, "little"), parameters.to_bytes(2, "little"))
    payloads = [b"\0" + b"".join(numbers) + b"\0\0\0"]
    for count in (parameters, columns):
        payloads += [b"definition"] * count
        if count and not deprecate_eof:
            payloads.append(Eof(0, 2).encode())
    data = b"".join(packet(payload, 1) for payload in payloads)
    refused = packet(Err(1146, "42S02", "none of that name").encode(), 1)
    for prepared_reply in (rows.prepared_reply, _rows_py.prepared_reply):
        assert prepared_reply(data, deprecate_eof) == (number, parameters, len(data))
        assert prepared_reply(data + b"what follows", deprecate_eof) == (number, parameters, len(data))
        assert all(prepared_reply(data[:end], deprecate_eof) is None for end in range(len(data)))
        assert prepared_reply(refused, deprecate_eof) is None


@given(st.binary(max_size=60), st.booleans())
def test_twins_agree_on_what_is_no_reply_to_prepare(data, deprecate_eof):
    for buffer in (data, b"\x0c\0\0\1\0" + data):
        assert rows.prepared_reply(buffer, deprecate_eof) == _rows_py.prepared_reply(buffer, deprecate_eof)
