"""Whether an answer is the plain server's: checksums of rows, and values where the checksums differ.

The checksum of an answer does not depend on the order of its rows, except where the query decides it, nor on how
they were cut into packets' blocks. Two answers with the same checksum are equal. Others are compared value by value, since sums of
DOUBLE differ in their last digits with the order of summation: they may, by a billionth; nothing else may.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shard.wire.packets import ColumnDefinition
from tests.fuzz import compare

CLOSE = 1e-9
"""Relative difference of two sums of millions of DOUBLEs."""
_WHOLE = 2**64


@dataclass(frozen=True, slots=True)
class Answer:
    """Column definitions and blocks of row packets, as they came."""

    columns: tuple[bytes, ...]
    blocks: tuple[bytes, ...]
    binary: bool = False

    def checksum(self, ordered: bool) -> tuple[int, int]:
        """Return the number of rows and a number that all of them decide."""
        count = mixed = 0
        for block in self.blocks:
            at, end = 0, len(block)
            while at < end:
                start = at + 4
                at = start + block[at] + (block[at + 1] << 8) + (block[at + 2] << 16)
                mixed = (
                    hash((mixed, block[start:at])) if ordered else (mixed + hash(block[start:at])) % _WHOLE
                )
                count += 1
        return count, mixed

    def rows(self) -> list[tuple[compare.Value, ...]]:
        """Return the values; those of floating-point columns as numbers."""
        columns = tuple(ColumnDefinition.decode(column) for column in self.columns)
        return [row for block in self.blocks for row in compare.decode(block, columns, self.binary)]


class Judge:
    """Compares the answers to one query; what was found equal once is not compared again."""

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._known: set[tuple[tuple[int, int], tuple[int, int]]] = set()

    def equal(self, got: Answer, want: Answer) -> bool:
        """Whether two answers are the same."""
        pair = got.checksum(self._ordered), want.checksum(self._ordered)
        if pair[0] == pair[1] or pair in self._known:
            return True
        if pair[0][0] != pair[1][0] or not same(got.rows(), want.rows(), self._ordered):
            return False
        self._known.add(pair)
        return True


def same(got: list[tuple[compare.Value, ...]], want: list[tuple[compare.Value, ...]], ordered: bool) -> bool:
    """Whether rows are equal but for the last digits of floating-point numbers."""
    if not ordered:
        got, want = sorted(got, key=_exact_first), sorted(want, key=_exact_first)
    return len(got) == len(want) and all(
        len(a) == len(b) and all(map(_alike, a, b)) for a, b in zip(got, want, strict=True)
    )


def _exact_first(row: Sequence[compare.Value]) -> tuple[list[str], list[float]]:
    exact = [repr(value) for value in row if not isinstance(value, float)]
    return exact, [value for value in row if isinstance(value, float)]


def _alike(a: compare.Value, b: compare.Value) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=CLOSE)
    return a == b


def pairs(some: np.ndarray, others: np.ndarray, radius: float) -> int:
    """Return how many pairs are closer than `radius`: the answer where the plain server would need hours.

    Parameters
    ----------
    some, others : (n, 2) array
        Longitudes and latitudes in degrees.
    radius : float
        Degrees.
    """
    others = np.radians(others[np.argsort(others[:, 1])])
    some, found = np.radians(some), 0
    reach, most = math.radians(radius), math.sin(math.radians(radius) / 2) ** 2
    first = np.searchsorted(others[:, 1], some[:, 1] - reach * 1.01)
    last = np.searchsorted(others[:, 1], some[:, 1] + reach * 1.01)
    for (lon, lat), start, end in zip(some, first, last, strict=True):
        near = others[start:end]
        square = np.sin((near[:, 1] - lat) / 2) ** 2
        square += math.cos(lat) * np.cos(near[:, 1]) * np.sin((near[:, 0] - lon) / 2) ** 2
        found += int(np.count_nonzero(square < most))
    return found
