"""Pieces of files → LOAD DATA text per chunk: each row is checked, located and written, with no step per row.

Pieces are independent of each other, so several threads partition at once: the work is in Arrow and numpy,
which run outside the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shard.catalog import ddl
from shard.catalog.catalog_file import SideSpec, TableSpec
from shard.catalog.model import Kind
from shard.catalog.naming import CHUNK_COLUMN, OWNER_COLUMN, SUB_CHUNK_COLUMN
from shard.catalog.types import Family
from shard.geometry.chunker import ChunkGrid, PositionError
from skyshard.errors import UserError
from skyshard.ingest import values
from skyshard.ingest.files import Piece
from skyshard.ingest.keys import Found, Ints, KeyIndex, array_of
from skyshard.ingest.layout import Layout
from skyshard.ingest.runs import Array
from skyshard.ingest.spill import Text

Rows = npt.NDArray[np.int64]
Texts = Mapping[int, tuple[Text, Array | range]]


@dataclass(slots=True)
class Parts:
    """What a piece became.

    Attributes
    ----------
    main, overlap : dict
        Chunk → (its lines, their rows in the piece; only as many where the text stands in a file).
    rows : int
        Rows of the logical table (a match table's second copies are not counted).
    keys : tuple, optional
        A director's (keys, chunks, sub-chunks).
    overlap_keys : tuple, optional
        A director's (keys, chunks in whose overlap they lie).
    spans_chunks : bool
        Some dependent lies in another chunk than its director.
    null_keys : bool
        Some key to a director is NULL.
    wide_pairs : int
        Pairs of a match table whose second partner is neither in the first's chunk nor in its overlap.
    not_numbers : dict
        Column → NaN and infinities that became NULL.
    strangers : int
        Rows of a director's overlap file whose own chunk has no file.
    """

    main: Texts
    rows: int
    overlap: Texts = field(default_factory=dict)
    keys: tuple[Array, Ints, Ints] | None = None
    overlap_keys: tuple[Array, Ints] | None = None
    spans_chunks: bool = False
    null_keys: bool = False
    wide_pairs: int = 0
    not_numbers: dict[str, int] = field(default_factory=dict)
    strangers: int = 0


class _Rows:
    """The checked columns of a piece, and errors that name one of its rows."""

    def __init__(self, spec: TableSpec, piece: Piece) -> None:
        self.spec, self.piece = spec, piece
        self.columns: dict[str, values.Checked] = {}
        table = piece.table()
        self.count: int = table.num_rows
        for item in piece.layout.fields:
            name = item.column.name
            try:
                self.columns[name] = values.check(table.column(name), item.kind)
            except values.BadValue as error:
                raise self.error(error.row, f"column '{name}': {error}") from error

    def error(self, row: int, message: str) -> UserError:
        return UserError(f"{self.piece.place(row)}: table '{self.spec.name}': {message}")

    def floats(self, name: str) -> npt.NDArray[np.float64]:
        """Return a position column as it will be stored; NaN for NULL."""
        found = self.columns[name].values
        numbers = found.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        if self.piece.layout.kind(name).arrow == pa.float32():
            numbers = numbers.astype(np.float32)
        return np.asarray(numbers, dtype=np.float64)

    def locate(self, grid: ChunkGrid, longitude: str, latitude: str) -> tuple[Ints, Ints]:
        try:
            return grid.locate(self.floats(longitude), self.floats(latitude))
        except PositionError as error:
            raise self.error(
                error.row,
                f"columns '{longitude}', '{latitude}': ({error.lon}, {error.lat}) is no position on the sky",
            ) from error

    def keys(self, name: str) -> tuple[Array, npt.NDArray[np.bool_]]:
        return array_of(self.columns[name].values, self.piece.layout.kind(name))

    def shown(self, name: str, row: int) -> str:
        value = self.columns[name].values[row].as_py()
        return "NULL" if value is None else str(value)


class Partitioner:
    """Partitions the pieces of one table.

    Parameters
    ----------
    spec : TableSpec
        The table in the catalogue file.
    layout : Layout
        Its columns.
    grid : ChunkGrid
        The chunk grid.
    indexes : mapping
        Director → where its keys lie, finished for those of other tables.
    file_chunks : set of int
        Chunks of the table's `chunk_files`.
    """

    def __init__(
        self,
        spec: TableSpec,
        layout: Layout,
        grid: ChunkGrid,
        indexes: Mapping[str, KeyIndex],
        file_chunks: frozenset[int] = frozenset(),
    ) -> None:
        self._spec, self._layout, self._grid, self._indexes = spec, layout, grid, indexes
        self._file_chunks = file_chunks
        self._made = ddl.invisible(layout.columns, spec.kind)
        self._own = {CHUNK_COLUMN, SUB_CHUNK_COLUMN} & {column.name for column in layout.columns}
        if spec.kind is Kind.REPLICATED:
            self._own = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the text, in order."""
        return (*(column.name for column in self._layout.columns), *self._made)

    def partition(self, piece: Piece) -> Parts:
        """Return a piece's text by chunk; that of a replicated table is all under chunk 0.

        Raises
        ------
        UserError
            For a row that cannot be stored, with file and line, column and value.
        """
        rows = _Rows(self._spec, piece)
        if piece.file.is_overlap:
            return Parts({}, 0, strangers=self._strangers(rows))
        match self._spec.kind:
            case Kind.REPLICATED:
                everything = np.arange(rows.count), np.zeros(rows.count, dtype=np.int32)
                parts = Parts(values.pieces(self._lines(rows), *everything), rows.count)
            case Kind.DIRECTOR:
                parts = self._directors(rows)
            case Kind.DEPENDENT:
                parts = self._dependents(rows)
            case Kind.MATCH:
                parts = self._pairs(rows)
        parts.not_numbers = {
            name: item.not_numbers for name, item in rows.columns.items() if item.not_numbers
        }
        return parts

    def _strangers(self, rows: _Rows) -> int:
        """Count rows of an overlap file that no chunk file can have; the overlap itself is computed."""
        chunk, _ = rows.locate(self._grid, self._spec.longitude or "", self._spec.latitude or "")
        return int(np.count_nonzero(~np.isin(chunk, list(self._file_chunks))))

    def _lines(self, rows: _Rows, made: Mapping[str, Array] | None = None) -> pa.LargeBinaryArray:
        """Return the rows' lines, with the columns that are made here behind the catalogue's own."""
        texts = [item.text for item in rows.columns.values()]
        return values.lines([*texts, *(values.whole((made or {})[name]) for name in self._made)])

    def _directors(self, rows: _Rows) -> Parts:
        spec = self._spec
        longitude, latitude = spec.longitude or "", spec.latitude or ""
        chunk, sub = rows.locate(self._grid, longitude, latitude)
        self._check_own(rows, chunk, sub)
        self._check_file(rows, chunk)
        keys, null = rows.keys(spec.key or "")
        if null.any():
            raise rows.error(int(np.argmax(null)), f"column '{spec.key}': a key cannot be NULL")
        lines = self._lines(rows, {CHUNK_COLUMN: chunk, SUB_CHUNK_COLUMN: sub})
        near, near_chunk = self._grid.overlap_rows(rows.floats(longitude), rows.floats(latitude))
        return Parts(
            values.pieces(lines, np.arange(rows.count), chunk),
            rows.count,
            values.pieces(lines, near, near_chunk),
            keys=(keys, chunk, sub),
            overlap_keys=(keys[near], near_chunk),
        )

    def _dependents(self, rows: _Rows) -> Parts:
        spec = self._spec
        keys, null = rows.keys(spec.director_key or "")
        found = self._indexes[spec.director or ""].find(keys)
        there = found.there & ~null
        chunk, sub, spans = found.chunk, found.sub_chunk, False
        if spec.longitude:
            chunk, sub = rows.locate(self._grid, spec.longitude, spec.latitude or "")
            spans = bool((~null & ~(there & (found.chunk == chunk))).any())
        elif rows.piece.file.chunk is not None:
            # An already partitioned file says where its rows belong, those without a director too.
            spans = bool((~null & ~there).any())
            chunk = np.where(there, chunk, np.int32(rows.piece.file.chunk)).astype(np.int32)
            sub = np.where(there, sub, np.int32(0)).astype(np.int32)
        elif not there.all():
            row = int(np.argmin(there))
            value = rows.shown(spec.director_key or "", row)
            raise rows.error(
                row,
                f"column '{spec.director_key}': '{value}' is no key of director '{spec.director}', "
                "and the table has no position columns",
            )
        self._check_own(rows, chunk, sub)
        self._check_file(rows, chunk)
        lines = self._lines(rows, {CHUNK_COLUMN: chunk, SUB_CHUNK_COLUMN: sub})
        main = values.pieces(lines, np.arange(rows.count), chunk)
        return Parts(main, rows.count, spans_chunks=spans, null_keys=bool(null.any()))

    def _pairs(self, rows: _Rows) -> Parts:
        """Store every pair with both partners' chunks; one without a first partner with the second's only."""
        sides = self._spec.directors
        (_, first, first_lost), (second_keys, second, second_lost) = (
            self._side(rows, side) for side in sides
        )
        none = ~first.there & ~second.there
        if none.any():
            raise rows.error(int(np.argmax(none)), "neither partner of the pair has a place")
        home = np.where(first.there, first.chunk, second.chunk).astype(np.int32)
        home_sub = np.where(first.there, first.sub_chunk, second.sub_chunk).astype(np.int32)
        kept = self._pairs_of_file(rows, home, second)
        across = kept[(first.there & second.there & (first.chunk != second.chunk))[kept]]
        made: dict[str, Array] = {
            CHUNK_COLUMN: home,
            SUB_CHUNK_COLUMN: home_sub,
            OWNER_COLUMN: np.ones(rows.count, np.int8),
        }
        main: dict[int, tuple[bytes | memoryview, Array]] = dict(
            values.pieces(self._lines(rows, made), kept, home[kept])
        )
        made = {
            CHUNK_COLUMN: second.chunk,
            SUB_CHUNK_COLUMN: second.sub_chunk,
            OWNER_COLUMN: np.zeros(rows.count, np.int8),
        }
        if len(across):
            copies = values.pieces(self._lines(rows, made), across, second.chunk[across])
            for chunk, (text, which) in copies.items():
                before = main.get(chunk, (b"", np.empty(0, np.int64)))
                main[chunk] = b"".join((before[0], text)), np.concatenate([before[1], which])
        wide = self._indexes[sides[1].table].missing_partners(second_keys[across], first.chunk[across])
        spans = bool(first_lost[kept].any() or second_lost[kept].any())
        nulls = bool((~first.there | ~second.there)[kept].any())
        return Parts(main, len(kept), spans_chunks=spans, null_keys=nulls, wide_pairs=wide)

    def _side(self, rows: _Rows, side: SideSpec) -> tuple[Array, Found, npt.NDArray[np.bool_]]:
        """Return (keys, places, which keys are not NULL and yet no key of the director)."""
        keys, null = rows.keys(side.foreign_key)
        found = self._indexes[side.table].find(keys)
        there = found.there & ~null
        lost = ~null & ~there
        if not lost.any():
            return keys, Found(there, found.chunk, found.sub_chunk), lost
        if side.longitude is None:
            row = int(np.argmax(lost))
            value = rows.shown(side.foreign_key, row)
            raise rows.error(
                row, f"column '{side.foreign_key}': '{value}' is no key of director '{side.table}'"
            )
        chunk, sub = found.chunk.copy(), found.sub_chunk.copy()
        lon, lat = rows.floats(side.longitude), rows.floats(side.latitude or "")
        at = np.flatnonzero(lost)
        try:
            chunk[at], sub[at] = self._grid.locate(lon[at], lat[at])
        except PositionError as error:
            raise rows.error(
                int(at[error.row]), f"({error.lon}, {error.lat}) is no position on the sky"
            ) from error
        return keys, Found(there | lost, chunk, sub), lost

    def _pairs_of_file(self, rows: _Rows, home: Ints, second: Found) -> Rows:
        """Return the rows to store: of an already partitioned pair that two files hold, only the first's."""
        everything = np.arange(rows.count)
        own = rows.piece.file.chunk
        if own is None:
            return everything
        partner = second.there & (second.chunk == own)
        wrong = (home != own) & ~partner
        if wrong.any():
            raise rows.error(int(np.argmax(wrong)), f"neither partner of the pair lies in chunk {own}")
        elsewhere = (home != own) & np.isin(home, list(self._file_chunks))
        return np.flatnonzero(~elsewhere)

    def _check_own(self, rows: _Rows, chunk: Ints, sub: Ints) -> None:
        """Compare columns `chunkId` and `subChunkId` of the catalogue with what they must be."""
        for name, computed in ((CHUNK_COLUMN, chunk), (SUB_CHUNK_COLUMN, sub)):
            if name not in self._own:
                continue
            given = rows.columns[name].values
            numbers = given.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            wrong = numbers != computed
            if wrong.any():
                row = int(np.argmax(wrong))
                raise rows.error(
                    row,
                    f"column '{name}': '{rows.shown(name, row)}' differs from the computed {computed[row]}",
                )

    def _check_file(self, rows: _Rows, chunk: Ints) -> None:
        """Compare the chunk in a file's name with where its rows lie."""
        own = rows.piece.file.chunk
        wrong = chunk != own if own is not None else np.zeros(0, dtype=bool)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise rows.error(row, f"the row lies in chunk {chunk[row]}, but its file is of chunk {own}")


def check_types(spec: TableSpec, layouts: Mapping[str, Layout], keys: Mapping[str, str]) -> str | None:
    """Return what is wrong with the types of keys, positions and chunk numbers, or None.

    Parameters
    ----------
    layouts : mapping
        Table → columns, of this table and its directors.
    keys : mapping
        Director → its key column.
    """
    layout = layouts[spec.name]
    links = [(spec.name, spec.key)] if spec.kind is Kind.DIRECTOR else []
    if spec.kind is Kind.DEPENDENT and spec.director:
        links.append((spec.director, spec.director_key))
    links += [(side.table, side.foreign_key) for side in spec.directors]
    for director, column in links:
        kind, other = layout.kind(column or ""), layouts[director].kind(keys[director])
        if not kind.can_be_key:
            return f"column '{column}' is {kind.spelled}; a key must be a whole number, CHAR or VARCHAR"
        if kind.family is not other.family:
            return f"column '{column}' and the key of '{director}' must both be numbers or both text"
    positions = [spec.longitude, spec.latitude]
    positions += [name for side in spec.directors for name in (side.longitude, side.latitude)]
    for name in filter(None, positions):
        if layout.kind(name).family not in (Family.FLOAT, Family.DECIMAL, Family.INTEGER):
            return f"column '{name}' is {layout.kind(name).spelled}; a position is a number of degrees"
    return None if spec.kind is Kind.REPLICATED else _check_chunk_columns(spec, layout)


def _check_chunk_columns(spec: TableSpec, layout: Layout) -> str | None:
    own = (CHUNK_COLUMN, SUB_CHUNK_COLUMN, *((OWNER_COLUMN,) if spec.kind is Kind.MATCH else ()))
    meant = {name.lower(): name for name in own}
    for column in layout.columns:
        name = meant.get(column.name.lower())
        if name is None:
            continue
        if spec.kind is Kind.MATCH:
            return f"column '{column.name}' of a match table is made by skyshard; omit or rename it"
        if column.name != name:
            return f"column '{column.name}' must be spelled {name}; omit or rename it"
        kind = layout.kind(name)
        if kind.family is not Family.INTEGER or kind.arrow is None or kind.arrow.bit_width < 32:
            return f"column '{name}' is {kind.spelled}; it must be INT"
    return None
