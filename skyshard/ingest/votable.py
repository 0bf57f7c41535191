"""Reads tables of VOTable files, by astropy, which holds a whole table in memory: so their size is limited."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shard.catalog.catalog_file import TableSpec
from skyshard.ingest.typed import DESCRIPTION, UCD, UNIT, TypedFile

LARGEST = 512 << 20
"""Bytes of a file (a tenth of it if it is packed); a larger one had better be FITS or Parquet."""

_ARROW = {
    "boolean": pa.bool_(),
    "bit": pa.bool_(),
    "unsignedByte": pa.uint8(),
    "short": pa.int16(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "char": pa.string(),
    "unicodeChar": pa.string(),
}


class VoTable:
    """One table of a file, read."""

    def __init__(self, table: Any) -> None:
        self._data = table.array
        self._fields = {field.name: field for field in table.fields}
        if len(self._fields) < len(table.fields):
            names = [field.name for field in table.fields]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two of its columns are named '{twice}'")
        self._schema = pa.schema(
            pa.field(name, _kind(field), metadata=_said(field)) for name, field in self._fields.items()
        )

    @property
    def schema(self) -> pa.Schema:
        """The columns with unit, UCD and description; those that are no single values have type list."""
        return self._schema

    def batches(self, rows: int, columns: list[str]) -> Iterator[pa.Table]:
        """Yield the columns in tables of at most `rows` rows."""
        for first in range(0, len(self._data), rows):
            part = self._data[first : first + rows]
            yield pa.table({name: self._values(part[name], name) for name in columns})

    def _values(self, values: np.ma.MaskedArray[Any, Any], name: str) -> pa.Array:
        kind = self._schema.field(name).type
        if pa.types.is_list(kind):
            raise ValueError(f"column '{name}' is no single value; omit it")
        missing = np.ma.getmaskarray(values)
        data = values.data
        if pa.types.is_string(kind):
            texts = [None if gone else str(text) for text, gone in zip(data, missing, strict=True)]
            return pa.array(texts, kind)
        if pa.types.is_floating(kind):
            missing = missing | np.isnan(data)
        return pa.array(data, kind, mask=missing)


def _kind(field: Any) -> pa.DataType:
    kind = _ARROW.get(field.datatype)
    single = field.arraysize in (None, "1") or (kind == pa.string() and "x" not in str(field.arraysize))
    return kind if kind is not None and single else pa.list_(kind or pa.null())


def _said(field: Any) -> dict[bytes, bytes]:
    said = {UNIT: field.unit, UCD: field.ucd, DESCRIPTION: " ".join(str(field.description or "").split())}
    return {key: str(value).encode() for key, value in said.items() if value}


@contextmanager
def opened(spec: TableSpec, path: Path) -> Iterator[TypedFile]:
    """Open the table that `format.table` names (ID or name) or numbers (from 0), else the first one of a file.

    Raises
    ------
    ValueError
        If it has no such table, is no VOTable, or is too large.
    """
    from astropy.io import votable
    from astropy.io.votable.exceptions import VOWarning

    limit = LARGEST // 10 if path.name.lower().endswith(".gz") else LARGEST
    if path.stat().st_size > limit:
        raise ValueError(f"VOTable files are read up to {limit >> 20} MiB; convert it to FITS or Parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VOWarning)  # small departures from the standard, which are many
        try:
            file = votable.parse(str(path), verify="ignore")
        except (VOWarning, ValueError, IndexError) as error:
            raise ValueError(f"it is no VOTable: {error}") from error
        yield VoTable(_table(file, spec.format.table))


def _table(file: Any, wanted: str | int | None) -> Any:
    tables = list(file.iter_tables())
    for number, table in enumerate(tables):
        if (
            wanted is None
            or wanted == number
            or (isinstance(wanted, str) and wanted in (table.ID, table.name))
        ):
            return table
    names = ", ".join(str(table.ID or table.name or number) for number, table in enumerate(tables))
    raise ValueError(
        "it has no table" if wanted is None else f"it has no table {wanted}; it has {names or 'none'}"
    )
