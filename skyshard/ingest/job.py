"""A table on its way in: its files, what partitions them, and what was learned of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from shard.catalog import ddl
from shard.catalog.catalog_file import TableSpec
from shard.catalog.model import Kind, Table
from skyshard.errors import UserError
from skyshard.ingest import files, loading, values
from skyshard.ingest.keys import KeyIndex
from skyshard.ingest.layout import Layout
from skyshard.ingest.partition import Partitioner, Parts
from skyshard.ingest.spill import Spill


@dataclass(slots=True)
class Job:
    """A table on its way in."""

    spec: TableSpec
    place: tuple[str | int, ...]
    listed: list[files.DataFile]
    layout: Layout
    partitioner: Partitioner
    target: loading.Target
    rows: int = 0
    spans_chunks: bool = False
    null_keys: bool = False
    wide_pairs: int = 0
    not_numbers: dict[str, int] = field(default_factory=dict)
    strangers: int = 0

    def pieces(self) -> Iterator[files.Piece]:
        """Yield the pieces of all files; overlap is computed, so files of it are only read to be checked."""
        for file in self.listed:
            if not file.is_overlap or self.spec.kind is Kind.DIRECTOR:
                yield from files.pieces(self.spec, file, self.layout)

    def put_away(self, parts: Parts, main: Spill, overlap: Spill, index: KeyIndex | None) -> None:
        """Keep what a piece gave: its text by chunk, a director's keys (in `index`), and what it says of the table."""
        for spill, texts in ((main, parts.main), (overlap, parts.overlap)):
            for chunk, (text, rows) in texts.items():
                spill.add(chunk, text, len(rows))
        self.rows += parts.rows
        self.spans_chunks |= parts.spans_chunks
        self.null_keys |= parts.null_keys
        self.wide_pairs += parts.wide_pairs
        self.strangers += parts.strangers
        for name, count in parts.not_numbers.items():
            self.not_numbers[name] = self.not_numbers.get(name, 0) + count
        if index is not None and parts.keys is not None:
            index.add(*parts.keys)
        if index is not None and parts.overlap_keys is not None:
            index.add_overlap(*parts.overlap_keys)


def defined(job: Job) -> Table:
    """Return a table as it is before any row of it is known."""
    spec, layout = job.spec, job.layout
    linking = (spec.key, spec.director_key, *(side.foreign_key for side in spec.directors))
    keys = [ddl.Key.of(name) for name in linking if name] + list(layout.keys)
    return Table(
        name=spec.name,
        kind=spec.kind,
        columns=layout.columns,
        key=spec.key,
        longitude=spec.longitude,
        latitude=spec.latitude,
        director=spec.director,
        director_key=spec.director_key,
        sides=spec.sides(),
        ddl=ddl.create(spec.name, layout.columns, spec.kind, keys, spec.description),
    )


def origin(job: Job, error: loading.BadRow) -> UserError:
    """Say where row `error.row` of a chunk's text came from, by partitioning once more, and what it holds."""
    before = 0
    said = f"table '{job.spec.name}': "
    for piece in job.pieces():
        parts = job.partitioner.partition(piece)
        _, rows = (parts.overlap if error.is_overlap else parts.main).get(error.chunk, (b"", ()))
        if before + len(rows) < error.row:
            before += len(rows)
            continue
        row = int(rows[error.row - before - 1])
        if error.column is None:
            return UserError(f"{piece.place(row)}: {said}{error.reason}")
        kind = job.layout.kind(error.column).spelled
        value = values.BadValue(row, values.shown(piece.table(), error.column, row), f"is no value of {kind}")
        return UserError(f"{piece.place(row)}: {said}column '{error.column}': {value} ({error.reason})")
    return UserError(f"{said}{error.reason}")
