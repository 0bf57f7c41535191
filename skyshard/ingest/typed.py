"""Files whose columns have types of their own: Parquet, FITS and VOTable, all read as Arrow tables in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet

from shard.catalog.catalog_file import TableSpec

UNIT, UCD, DESCRIPTION = b"unit", b"ucd", b"description"
"""Keys of a field's metadata: what a file says of its column."""

_ENDINGS = {
    ".parquet": "parquet",
    ".parq": "parquet",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
}


class TypedFile(Protocol):
    """An open file."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns; the metadata of a field may have `UNIT`, `UCD` and `DESCRIPTION`."""

    def batches(self, rows: int, columns: list[str]) -> Iterator[pa.Table]:
        """Yield the columns, in this order, in tables of at most `rows` rows."""


def type_of(spec: TableSpec, path: Path) -> str:
    """Return how a file is read: by `format.type`, else by its name, else as delimited text (``csv``)."""
    if spec.format.type is not None:
        return spec.format.type
    name = path.name.lower().removesuffix(".gz")
    return _ENDINGS.get(Path(name).suffix, "csv")


def is_typed(spec: TableSpec, path: Path) -> bool:
    """Whether a file's columns have types."""
    return type_of(spec, path) != "csv"


def opened(spec: TableSpec, path: Path) -> AbstractContextManager[TypedFile]:
    """Open a file whose columns have types.

    Raises
    ------
    pa.ArrowInvalid, OSError, ValueError
        If it cannot be read; ValueError (which `pa.ArrowInvalid` is) with a text for the user.
    """
    from skyshard.ingest import fits, votable

    readers: dict[str, Callable[[TableSpec, Path], AbstractContextManager[TypedFile]]] = {
        "parquet": _parquet,
        "fits": fits.opened,
        "votable": votable.opened,
    }
    return readers[type_of(spec, path)](spec, path)


class _Parquet:
    def __init__(self, file: pyarrow.parquet.ParquetFile) -> None:
        self._file = file

    @property
    def schema(self) -> pa.Schema:
        return self._file.schema_arrow

    def batches(self, rows: int, columns: list[str]) -> Iterator[pa.Table]:
        for batch in self._file.iter_batches(rows, columns=columns):
            yield pa.Table.from_batches([batch]).select(columns)


@contextmanager
def _parquet(spec: TableSpec, path: Path) -> Iterator[TypedFile]:
    del spec
    with pyarrow.parquet.ParquetFile(path) as file:
        yield _Parquet(file)
