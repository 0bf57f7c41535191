"""Where a director's keys lie, while its catalogue is ingested: sorted arrays on disk, looked up by numpy.

Dependents without positions and match tables find their chunks here; the director index at home is loaded
from here. Equality is that of the stored values: whole numbers, or the bytes of text. Whether rows of one key lie
apart is judged more strictly for text, since a collation may hold more texts equal than are the same bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shard.catalog.types import Family, SqlType

Array = np.ndarray[Any, Any]
Ints = npt.NDArray[np.int32]
_EMPTY = np.empty(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Found:
    """For every wanted key: whether it is there, and the place of its first row."""

    there: npt.NDArray[np.bool_]
    chunk: Ints
    sub_chunk: Ints


def array_of(values: pa.Array, kind: SqlType) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return (keys as they are compared, which of them are NULL).

    Whole numbers are int64, or uint64 for unsigned columns of 64 bits; text is its UTF-8 bytes.
    """
    null = values.is_null().to_numpy(zero_copy_only=False)
    if kind.family is not Family.INTEGER:
        data = values.fill_null("").to_numpy(zero_copy_only=False)
        return np.char.encode(data.astype(str), "utf-8") if len(data) else np.empty(0, "S1"), null
    wide = pa.uint64() if values.type == pa.uint64() else pa.int64()
    return values.cast(wide).fill_null(0).to_numpy(zero_copy_only=False), null


def folded(keys: Array) -> Array:
    """Return texts so that those are the same which any collation may hold equal: case, accents, padding."""
    distinct, inverse = np.unique(keys, return_inverse=True)
    out = []
    for key in distinct.tolist():
        text = unicodedata.normalize("NFKD", key.decode("utf-8")).casefold().rstrip()
        out.append("".join(char for char in text if not unicodedata.combining(char)).encode())
    return np.array(out, dtype=np.bytes_)[inverse.reshape(-1)] if out else keys


class KeyIndex:
    """The keys of one director.

    Parameters
    ----------
    directory : Path
        Where its sorted arrays are kept; the caller removes it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._parts: list[tuple[Array, Ints, Ints]] = []
        self._overlap: list[tuple[Array, Ints]] = []
        self.keys: Array = np.empty(0, dtype=np.int64)
        self.chunks = self.sub_chunks = _EMPTY
        self._pairs: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.spans_chunks = False
        self._folded: KeyIndex | None = None

    def add(self, keys: Array, chunks: Ints, sub_chunks: Ints) -> None:
        """Add rows of chunks."""
        self._parts.append((keys, chunks, sub_chunks))

    def add_overlap(self, keys: Array, chunks: Ints) -> None:
        """Add rows of the overlap of `chunks`."""
        self._overlap.append((keys, chunks))

    def _fold(self) -> None:
        """Keep text a second time, folded, to judge by it what lies apart."""
        fold = KeyIndex(self._directory / "folded")
        fold._parts = [(folded(keys), chunks, subs) for keys, chunks, subs in self._parts]
        fold._overlap = [(folded(keys), chunks) for keys, chunks in self._overlap]
        fold._sort()
        self._folded, self._overlap = fold, []

    def finish(self) -> None:
        """Sort what was added; afterwards keys can be found."""
        if any(keys.dtype.kind == "S" for keys, *_ in self._parts):
            self._fold()
        self._sort()
        if self._folded is not None:
            self.spans_chunks = self._folded.spans_chunks

    def _sort(self) -> None:
        if self._parts:
            keys, chunks, subs = (np.concatenate(part) for part in zip(*self._parts, strict=True))
            self._parts.clear()
            order = np.argsort(keys, kind="stable")
            self.keys = self._keep("keys", keys[order])
            self.chunks = self._keep("chunks", chunks[order])
            self.sub_chunks = self._keep("sub_chunks", subs[order])
        same = self.keys[1:] == self.keys[:-1]
        self.spans_chunks = bool((same & (self.chunks[1:] != self.chunks[:-1])).any())
        if self._overlap:
            near, near_chunks = (np.concatenate(part) for part in zip(*self._overlap, strict=True))
            self._overlap.clear()
            self._pairs = self._keep("overlap", np.sort(self._pair(near, near_chunks)))

    def _keep(self, name: str, array: Array) -> Array:
        """Put an array into a file, so that it takes memory only while it is used."""
        if not len(array):
            return array
        path = self._directory / f"{name}.npy"
        self._directory.mkdir(parents=True, exist_ok=True)
        np.save(path, array, allow_pickle=False)
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]

    def find(self, wanted: Array) -> Found:
        """Return where keys lie."""
        if not len(self.keys):
            zeros = np.zeros(len(wanted), dtype=np.int32)
            return Found(zeros.astype(bool), zeros, zeros)
        comparable, possible = self._alike(wanted)
        at = np.minimum(np.searchsorted(self.keys, comparable), len(self.keys) - 1)
        there = (self.keys[at] == comparable) & possible
        return Found(there, np.asarray(self.chunks[at]), np.asarray(self.sub_chunks[at]))

    def missing_partners(self, keys: Array, chunks: Ints) -> int:
        """Count pairs (key, chunk) where some row of the key is neither in the chunk nor in its overlap."""
        if self._folded is not None:
            return self._folded.missing_partners(folded(keys), chunks)
        comparable, _ = self._alike(keys)
        low = np.searchsorted(self.keys, comparable, "left")
        rows = np.searchsorted(self.keys, comparable, "right") - low
        inside = np.zeros(len(keys), dtype=np.int64)
        for step in range(int(rows.max()) if len(rows) else 0):
            at = np.minimum(low + step, len(self.keys) - 1)
            inside += (step < rows) & (self.chunks[at] == chunks)
        pairs = self._pair(keys, chunks)
        near = np.searchsorted(self._pairs, pairs, "right") - np.searchsorted(self._pairs, pairs, "left")
        return int(np.count_nonzero(inside + near < rows))

    def _pair(self, keys: Array, chunks: Ints) -> npt.NDArray[np.int64]:
        """Return one number per (key, chunk); keys that are not there share one that stands for none."""
        comparable, possible = self._alike(keys)
        at = np.searchsorted(self.keys, comparable, "left").astype(np.int64)
        hit = np.minimum(at, max(len(self.keys) - 1, 0))
        there = (self.keys[hit] == comparable) & possible if len(self.keys) else np.zeros(len(keys), bool)
        return np.where(there, at, -1) << 32 | chunks.astype(np.int64)

    def _alike(self, wanted: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Return keys in this index's type, and which of them it can hold at all."""
        kind = self.keys.dtype
        if kind.kind == wanted.dtype.kind or kind.kind not in "iu" or wanted.dtype.kind not in "iu":
            return wanted, np.ones(len(wanted), dtype=bool)
        if kind.kind == "u":
            return wanted.astype(np.uint64), wanted >= 0
        return wanted.astype(np.int64), wanted <= np.uint64(np.iinfo(np.int64).max)

    def parts(self, rows: int) -> Iterator[tuple[Array, Ints, Ints]]:
        """Yield (keys, chunks, sub-chunks) of at most `rows` rows each, sorted by key."""
        for start in range(0, len(self.keys), rows):
            cut = slice(start, start + rows)
            yield np.asarray(self.keys[cut]), np.asarray(self.chunks[cut]), np.asarray(self.sub_chunks[cut])
