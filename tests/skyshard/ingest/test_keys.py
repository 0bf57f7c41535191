"""Where keys lie: the same whether they fit into memory or are sorted in many runs on disk."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shard.catalog.types import sql_type
from skyshard.ingest.keys import KeyIndex, array_of
from skyshard.ingest.runs import Sorter


def text(*values: str) -> np.ndarray:
    keys, _ = array_of(pa.array(values, pa.string()), sql_type("VARCHAR(40)"))
    return keys


def index(directory: Path, rows: list[tuple[int, int, int]], run_rows: int, step: int = 3) -> KeyIndex:
    made = KeyIndex(directory, run_rows)
    for start in range(0, len(rows), step):
        keys, chunks, subs = zip(*rows[start : start + step], strict=True)
        made.add(np.array(keys, np.int64), np.array(chunks, np.int32), np.array(subs, np.int32))
    made.finish()
    return made


ROWS = st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 4), st.integers(0, 9)), max_size=60)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS, run_rows=st.sampled_from([1, 2, 7, 16, 33, 1000]))
def test_runs_on_disk_find_what_was_added(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], run_rows: int
) -> None:
    made = index(tmp_path_factory.mktemp("keys"), rows, run_rows)
    first: dict[int, tuple[int, int]] = {}
    chunks_of = defaultdict(set)
    for key, chunk, sub in rows:
        first.setdefault(key, (chunk, sub))
        chunks_of[key].add(chunk)
    wanted = np.arange(-25, 26)
    found = made.find(wanted)
    assert found.there.tolist() == [key in first for key in wanted.tolist()]
    for at in np.flatnonzero(found.there):
        assert (found.chunk[at], found.sub_chunk[at]) == first[int(wanted[at])]
    assert made.spans_chunks == any(len(chunks) > 1 for chunks in chunks_of.values())
    assert len(made) == len(rows)
    parts = list(made.parts(5))
    assert all(len(part[0]) <= 5 for part in parts)
    assert sorted(rows) == sorted(
        (int(k), int(c), int(s))
        for keys, chunks, subs in parts
        for k, c, s in zip(keys, chunks, subs, strict=True)
    )


@pytest.mark.parametrize("run_rows", [2, 1000])
def test_partners_outside_chunk_and_overlap_are_counted(tmp_path: Path, run_rows: int) -> None:
    made = KeyIndex(tmp_path, run_rows)
    made.add(np.array([1, 2, 3, 3]), np.array([10, 10, 10, 20], np.int32), np.zeros(4, np.int32))
    made.add_overlap(np.array([2, 3, 3]), np.array([30, 20, 10], np.int32))
    made.finish()
    pairs = [(1, 10), (1, 30), (2, 30), (2, 40), (3, 10), (3, 20), (3, 30), (9, 10)]
    lost = [made.missing_partners(np.array([key]), np.array([chunk], np.int32)) for key, chunk in pairs]
    assert lost == [0, 1, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("run_rows", [2, 1000])
def test_text_keys_are_found_by_their_bytes(tmp_path: Path, run_rows: int) -> None:
    made = KeyIndex(tmp_path, run_rows)
    made.add(text("b", "aa", "ö"), np.array([1, 2, 3], np.int32), np.array([4, 5, 6], np.int32))
    made.add(text("a much longer key", "B"), np.array([7, 1], np.int32), np.array([8, 9], np.int32))
    made.finish()
    found = made.find(text("aa", "aaa", "ö", "a much longer key", "a much longer key!", "b"))
    assert found.there.tolist() == [True, False, True, True, False, True]
    assert found.chunk[found.there].tolist() == [2, 3, 7, 1]
    assert made.find(text("c", "aa")).there.tolist() == [False, True]
    assert not made.spans_chunks


@pytest.mark.parametrize(
    ("one", "other"), [("k", "K"), ("é", "e"), ("pad", "pad  "), ("ß", "ss"), ("same", "same")]
)
def test_texts_that_a_collation_may_hold_equal_span_chunks(tmp_path: Path, one: str, other: str) -> None:
    made = KeyIndex(tmp_path, 1)
    made.add(text(one), np.array([1], np.int32), np.zeros(1, np.int32))
    made.add(text(other, "x"), np.array([2, 3], np.int32), np.zeros(2, np.int32))
    made.finish()
    assert made.spans_chunks
    assert made.missing_partners(text(one), np.array([1], np.int32)) == 1


def test_signed_and_unsigned_keys_meet(tmp_path: Path) -> None:
    large = np.iinfo(np.uint64).max
    made = KeyIndex(tmp_path, 2)
    made.add(np.array([1, large, 7], np.uint64), np.array([1, 2, 3], np.int32), np.zeros(3, np.int32))
    made.finish()
    assert made.find(np.array([-1, 1, 7], np.int64)).there.tolist() == [False, True, True]
    signed = index(tmp_path / "signed", [(-1, 1, 0), (1, 2, 0)], 2)
    assert signed.find(np.array([large, 1], np.uint64)).there.tolist() == [False, True]


def test_nothing_is_found_among_nothing(tmp_path: Path) -> None:
    made = KeyIndex(tmp_path)
    made.finish()
    assert not made.find(np.array([1, 2])).there.any()
    assert list(made.parts(10)) == []


def test_equal_rows_stay_in_their_order_and_runs_are_removed(tmp_path: Path) -> None:
    sorter = Sorter(tmp_path, "s", 4)
    for start in range(0, 40, 3):
        numbers = np.arange(start, min(start + 3, 40))
        sorter.add(numbers % 5, numbers)
    stored = sorter.finish()
    assert stored is not None
    keys, numbers = stored.mapped()
    assert list(zip(keys.tolist(), numbers.tolist(), strict=True)) == sorted((n % 5, n) for n in range(40))
    assert len(list(tmp_path.iterdir())) == 2
