"""Places of keys: pairs in order, each once, and which of some keys are where."""

import numpy as np
import pytest

from backend.connection import RowBlock
from proxy.home.director_index import Places, _each_once, _pairs


def packets(*found):
    out = b""
    for row in found:
        body = b"".join(b"%c%s" % (len(value), value) for value in (str(one).encode() for one in row))
        out += len(body).to_bytes(3, "little") + b"\0" + body
    return RowBlock(out, len(found))


def test_pairs_have_all_their_digits():
    largest, least = (1 << 64) - 1, -(1 << 63)
    assert _pairs(packets((largest, 7), (0, 1)), np.uint64).tolist() == [[largest, 7], [0, 1]]
    assert _pairs(packets((least, 7), (-least - 1, 1)), np.int64).tolist() == [[least, 7], [-least - 1, 1]]


def test_what_is_no_number_is_told():
    with pytest.raises((ValueError, DeprecationWarning)):
        _pairs(packets(("x", 7), (0, 1)), np.int64)


def test_each_pair_is_kept_once():
    pairs = np.array([[3, 1], [1, 2], [3, 1], [3, 0], [1, 2]])
    assert _each_once(pairs).tolist() == [[1, 2], [3, 0], [3, 1]]
    assert _each_once(pairs[:0]).tolist() == []


def test_every_place_of_every_key():
    places = Places(np.array([1, 3, 3, 9]), np.array([5, 5, 6, 7]), unsigned=False)
    index, chunks = places.of([3, 2, 1, 3, 1 << 63, 9])
    assert list(zip(index.tolist(), chunks.tolist(), strict=True)) == [
        (0, 5),
        (0, 6),
        (2, 5),
        (3, 5),
        (3, 6),
        (5, 7),
    ]
    assert [len(part) for part in places.of([])] == [0, 0]
    assert places.lists() == {5: b"1, 3", 6: b"3", 7: b"9"}


def test_keys_that_the_index_cannot_have_are_nowhere():
    largest = (1 << 64) - 1
    unsigned = Places(
        np.array([7, largest], dtype=np.uint64), np.array([1, 2], dtype=np.uint64), unsigned=True
    )
    index, chunks = unsigned.of([-1, largest, 1 << 64, 7])
    assert (index.tolist(), chunks.tolist()) == ([1, 3], [2, 1])
