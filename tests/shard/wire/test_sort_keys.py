"""Sort keys compare as MariaDB compares values; the compiled module and its twin give the same."""

import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.wire import _rows_py, _sort_keys_py, sorting
from shard.wire._sort_keys_py import DOUBLE, FIXED, MOMENT, NUMBER, SIGNED, UNSIGNED
from shard.wire.packets import MAX_PAYLOAD, lenenc_bytes, packet

TWINS = [sorting, _sort_keys_py]
INT, BIGINT, TYPE_DOUBLE, TEXT, DATETIME = 3, 8, 5, 253, 12


def text_row(values):
    return b"".join(b"\xfb" if v is None else lenenc_bytes(v) for v in values)


def texts(table):
    return b"".join(packet(text_row(row), 7) for row in table)


def keys_of(module, values, kind, width, descending=False):
    """Return the keys that texts of one column get."""
    keyer = module.Keyer([(0, kind, width, descending)], 0)
    rows = [texts([[value]]) for value in values]
    return [keyer.keyed(row)[: -len(row)] for row in rows]


def same(values, kind, width, descending=False):
    """Return the keys, the same of both twins."""
    first, second = (keys_of(module, values, kind, width, descending) for module in TWINS)
    assert first == second
    return first


def test_the_compiled_module_is_built_here():
    assert sorting.COMPILED


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=2), st.booleans())
def test_whole_numbers_sort_as_they_are(values, descending):
    keys = same([None if v is None else b"%d" % v for v in values], SIGNED, 9, descending)
    ranks = [(v is not None, v or 0) for v in values]
    order = sorted(range(len(values)), key=ranks.__getitem__, reverse=descending)
    assert [ranks[i] for i in sorted(order, key=keys.__getitem__)] == [ranks[i] for i in order]
    assert (keys[0] == keys[1]) == (values[0] == values[1])


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 5))
def test_unsigned_numbers_sort_as_they_are_zeros_in_front_or_not(one, two, zeros):
    keys = same([b"0" * zeros + b"%d" % one, b"%d" % two], UNSIGNED, 9)
    assert (keys[0] < keys[1], keys[0] == keys[1]) == (one < two, one == two)


doubles = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**60), 2**60).map(float),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, 0.1, 0.2, 1e22, 1e23]),
)


def spellings(value):
    """Return texts of a double that a server may write."""
    short = repr(value).replace("e+", "e")
    bare = short.removesuffix(".0")
    return [short.encode(), bare.encode(), format(Decimal(repr(value)), "f").encode()]


@given(doubles, doubles, st.data())
def test_doubles_sort_as_they_are_however_they_are_written(one, two, data):
    written = [data.draw(st.sampled_from(spellings(value))) for value in (one, two)]
    keys = same(written, NUMBER, 11)
    assert (keys[0] < keys[1], keys[0] == keys[1]) == (one < two, one == two)


@given(st.decimals(-(10**12), 10**12, places=6), st.decimals(-(10**12), 10**12, places=6))
def test_decimals_sort_as_they_are(one, two):
    keys = same([format(one, "f").encode(), format(two, "f").encode()], NUMBER, 11)
    assert (keys[0] < keys[1], keys[0] == keys[1]) == (one < two, one == two)


@pytest.mark.parametrize("module", TWINS)
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"", SIGNED), (b"-", SIGNED), (b"1x", SIGNED), (b"9223372036854775808", SIGNED),
        (b"-9223372036854775809", SIGNED), (b"-1", UNSIGNED), (b"18446744073709551616", UNSIGNED),
        (b"", NUMBER), (b".", NUMBER), (b"1e", NUMBER), (b"e5", NUMBER), (b"1.2.3", NUMBER), (b"nan", NUMBER),
        (b"12345678901234567891", NUMBER), (b"1e99999", NUMBER), (b"2026-01-01 12", FIXED),
    ],
)  # fmt: skip
def test_what_is_no_value_of_its_kind_is_refused(module, value, kind):
    with pytest.raises(ValueError, match="sort key"):
        keys_of(module, [value], kind, 11)


def binary_row(values, types):
    """Return the payload of a binary row; values are the bytes of each, or None."""
    bits = bytearray((len(types) + 9) // 8)
    for index, value in enumerate(values):
        if value is None:
            bits[(index + 2) // 8] |= 1 << (index + 2) % 8
    return b"\0" + bytes(bits) + b"".join(value for value in values if value is not None)


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), doubles), st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)))
    ),
    st.integers(0, 12),
)
def test_binary_rows_lose_their_hidden_columns_and_keep_their_nulls(values, more):
    types = bytes([TYPE_DOUBLE, INT, TEXT] + [INT] * more)
    rest = [lenenc_bytes(b"abc")] + [None if i % 3 else struct.pack("<i", i) for i in range(more)]
    rows, shown = [], []
    for number, whole in values:
        parts = [None if number is None else struct.pack("<d", number)]
        parts += [None if whole is None else struct.pack("<i", whole), *rest]
        rows.append(packet(binary_row(parts, types), 3))
        shown.append(binary_row(parts[1:], types[1:]))
    keys = [(0, DOUBLE, 9, False), (1, SIGNED, 9, True)]
    one, two = (module.Keyer(keys, 1, types) for module in TWINS)
    assert one.width == two.width == 18
    found = [one.keyed(row) for row in rows]
    assert found == [two.keyed(row) for row in rows]
    assert [row[22:] for row in found] == shown
    assert one.keyed(b"".join(rows)) == b"".join(found)
    ranks = [((n is not None, n or 0.0), (w is None, -(w or 0))) for n, w in values]
    by_key = sorted(range(len(rows)), key=lambda i: found[i][:18])
    assert [ranks[i] for i in by_key] == sorted(ranks)


def test_binary_times_sort_by_their_parts():
    moments = [
        b"", struct.pack("<HBB", 1999, 12, 31), struct.pack("<HBB", 2026, 1, 2),
        struct.pack("<HBBBBB", 2026, 1, 2, 3, 4, 5), struct.pack("<HBBBBBI", 2026, 1, 2, 3, 4, 5, 70000),
        struct.pack("<HBBBBBI", 2026, 1, 2, 3, 4, 5, 70256), struct.pack("<HBB", 2026, 11, 1),
    ]  # fmt: skip
    types = bytes([DATETIME])
    rows = [packet(binary_row([bytes((len(m),)) + m], types), 0) for m in moments]
    found = [
        [module.Keyer([(0, MOMENT, 12, False)], 0, types).keyed(row)[:12] for row in rows] for module in TWINS
    ]
    assert found[0] == found[1] == sorted(found[0])
    assert len(set(found[0])) == len(moments)


@pytest.mark.parametrize("module", TWINS)
@pytest.mark.parametrize("hidden", [0, 1])
@pytest.mark.parametrize("size", [MAX_PAYLOAD - 8, MAX_PAYLOAD - 3, MAX_PAYLOAD + 5])
def test_rows_of_several_packets_get_their_keys(module, hidden, size):
    payload = text_row([b"7", b"x" * size])
    found = module.Keyer([(0, SIGNED, 9, False)], hidden).keyed(packet(payload, 0))
    assert found[:9] == keys_of(module, [b"7"], SIGNED, 9)[0]
    assert _rows_py.split(found[9:]) == [[b"7", b"x" * size][hidden:]]


@pytest.mark.parametrize("binary", [False, True])
@given(data=st.data())
def test_a_block_that_is_cut_or_spoilt_is_refused_or_read_alike(binary, data):
    types = bytes([BIGINT, TEXT])
    if binary:
        row = packet(binary_row([struct.pack("<q", 5), lenenc_bytes(b"abc")], types), 0)
    else:
        row = texts([[b"5", b"abc"]])
    block = bytearray(row * 2)
    if data.draw(st.booleans()):
        block = block[: data.draw(st.integers(0, len(block)))]
    else:
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    found = []
    for module in TWINS:
        try:
            found.append(module.Keyer([(1, FIXED, 9, False)], 1, types if binary else b"").keyed(block))
        except ValueError:
            found.append(None)
    assert found[0] == found[1]
