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
from skyshard.ingest.runs import RUN_ROWS, Array, Sorter, Stored

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
    run_rows : int
        Keys that are held in memory and sorted at once.
    """

    def __init__(self, directory: Path, run_rows: int = RUN_ROWS) -> None:
        self._directory, self._run_rows = directory, run_rows
        self._rows = Sorter(directory, "keys", run_rows)
        # In whose overlap keys lie is kept by key, until it is known where a key stands.
        self._near = Sorter(directory, "near", run_rows)
        self._stored: Stored | None = None
        self._stored_pairs: Stored | None = None
        self.keys: Array = np.empty(0, dtype=np.int64)
        self.chunks = self.sub_chunks = _EMPTY
        self._pairs: Array = np.empty(0, dtype=np.int64)
        self.spans_chunks = False
        self._folded: KeyIndex | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def is_text(self) -> bool:
        """Whether the keys are text."""
        return bool(self.keys.dtype.kind == "S")

    def add(self, keys: Array, chunks: Ints, sub_chunks: Ints) -> None:
        """Add rows of chunks."""
        self._rows.add(keys, chunks, sub_chunks)
        if keys.dtype.kind == "S":
            self._fold().add_folded(folded(keys), chunks, sub_chunks)

    def add_overlap(self, keys: Array, chunks: Ints) -> None:
        """Add rows of the overlap of `chunks`."""
        if keys.dtype.kind == "S":  # what lies apart is judged by folded text alone
            self._fold().add_folded_overlap(folded(keys), chunks)
        else:
            self._near.add(keys, chunks)

    def add_folded(self, keys: Array, chunks: Ints, sub_chunks: Ints) -> None:
        """Add rows whose text is folded already."""
        self._rows.add(keys, chunks, sub_chunks)

    def add_folded_overlap(self, keys: Array, chunks: Ints) -> None:
        """Add rows of the overlap of `chunks`, whose text is folded already."""
        self._near.add(keys, chunks)

    def __getstate__(self) -> dict[str, object]:
        """Return a finished index as the files that it is in, for another process."""
        return {
            "stored": self._stored,
            "pairs": self._stored_pairs,
            "spans_chunks": self.spans_chunks,
            "folded": self._folded,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        KeyIndex.__init__(self, Path())  # nothing is added any more
        self._stored, self._stored_pairs = state["stored"], state["pairs"]
        self.spans_chunks, self._folded = state["spans_chunks"], state["folded"]
        self._map()

    def _map(self) -> None:
        if self._stored is not None:
            self.keys, self.chunks, self.sub_chunks = self._stored.mapped()
        if self._stored_pairs is not None:
            (self._pairs,) = self._stored_pairs.mapped()

    def _fold(self) -> KeyIndex:
        """Return the second index, of folded text, by which is judged what lies apart."""
        if self._folded is None:
            self._folded = KeyIndex(self._directory / "folded", self._run_rows)
        return self._folded

    def finish(self) -> None:
        """Sort what was added; afterwards keys can be found."""
        self._stored = self._rows.finish(self._look)
        self._map()  # pairs are made of places in it
        near = self._near.finish()
        if near is not None:
            pairs = Sorter(self._directory, "pairs", self._run_rows)
            for keys, chunks in near.parts(self._run_rows):
                pairs.add(self._pair(keys, chunks))
            near.remove()
            self._stored_pairs = pairs.finish()
            self._map()
        if self._folded is not None:
            self._folded.finish()
            self.spans_chunks = self._folded.spans_chunks

    def _look(self, keys: Array, chunks: Ints, _: Ints) -> None:
        """See whether rows of one key, which are all in one block, lie in several chunks."""
        same = keys[1:] == keys[:-1]
        self.spans_chunks |= bool((same & (chunks[1:] != chunks[:-1])).any())

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
        comparable, possible = self._alike(keys)
        low = np.searchsorted(self.keys, comparable, "left")
        rows = np.where(possible, np.searchsorted(self.keys, comparable, "right") - low, 0)
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
        if kind.kind == wanted.dtype.kind == "S" and kind != wanted.dtype:
            # Of unlike lengths, numpy would copy the whole index for every look-up.
            return wanted.astype(kind), np.char.str_len(wanted) <= kind.itemsize
        if kind.kind == wanted.dtype.kind or kind.kind not in "iu" or wanted.dtype.kind not in "iu":
            return wanted, np.ones(len(wanted), dtype=bool)
        if kind.kind == "u":
            return wanted.astype(np.uint64), wanted >= 0
        return wanted.astype(np.int64), wanted <= np.uint64(np.iinfo(np.int64).max)

    def parts(self, rows: int) -> Iterator[tuple[Array, ...]]:
        """Yield (keys, chunks, sub-chunks) of at most `rows` rows each, sorted by key."""
        if self._stored is not None:
            yield from self._stored.parts(rows)
