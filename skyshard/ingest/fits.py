"""Reads binary tables of FITS files, a bounded number of rows at a time.

astropy reads the headers; the rows, which FITS keeps as they would stand in memory (big-endian, one after the
other), are read here, so that a file need not fit in memory. Formats, nulls and scales are those of the FITS
standard 4.0, section 7.3.
"""

from __future__ import annotations

import gzip
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backend.scratch import scratch
from shard.catalog.catalog_file import TableSpec
from skyshard.ingest.spill import SCRATCH
from skyshard.ingest.typed import DESCRIPTION, UCD, UNIT, TypedFile

_ARROW = {
    "L": pa.bool_(),
    "B": pa.uint8(),
    "I": pa.int16(),
    "J": pa.int32(),
    "K": pa.int64(),
    "E": pa.float32(),
    "D": pa.float64(),
    "A": pa.string(),
}
_SHIFTED = {
    ("B", -128): pa.int8(),
    ("I", 1 << 15): pa.uint16(),
    ("J", 1 << 31): pa.uint32(),
    ("K", 1 << 63): pa.uint64(),
}
"""Whole numbers of the other signedness, which FITS writes with an offset (TZERO)."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: its letter (TFORM), Arrow type, and what makes its values of the numbers in the file."""

    name: str
    letter: str
    kind: pa.DataType
    null: int | None
    scale: float
    zero: float


class FitsTable:
    """One binary table of an open file."""

    def __init__(self, stream: BinaryIO, start: int, hdu: Any) -> None:
        self._stream, self._start = stream, start
        self._rows = int(hdu.header["NAXIS2"])
        self._dtype = hdu.columns.dtype.newbyteorder(">")
        if self._dtype.itemsize != int(hdu.header["NAXIS1"]):
            raise ValueError("its rows are not as long as its columns say")
        self._columns = {column.name: _column(column) for column in hdu.columns}
        header = hdu.header
        self._schema = pa.schema(
            pa.field(column.name, column.kind, metadata=_said(header, number))
            for number, column in enumerate(self._columns.values(), 1)
        )

    @property
    def schema(self) -> pa.Schema:
        """The columns with unit, UCD (TUCDn) and description (TCOMMn); those that are no single values have type list."""
        return self._schema

    def batches(self, rows: int, columns: list[str]) -> Iterator[pa.Table]:
        """Yield the columns in tables of at most `rows` rows."""
        for first in range(0, self._rows, rows):
            count = min(rows, self._rows - first)
            self._stream.seek(self._start + first * self._dtype.itemsize)
            found = np.fromfile(self._stream, self._dtype, count)
            if len(found) < count:
                raise ValueError(f"it ends after {first + len(found)} of {self._rows} rows")
            yield pa.table({name: _values(found[name], self._columns[name]) for name in columns})


def _column(column: Any) -> _Column:
    form = column.format.strip()
    letter = form.lstrip("0123456789")[:1]
    count = form[: len(form) - len(form.lstrip("0123456789"))]
    zero, scale = column.bzero or 0, column.bscale or 1
    kind = _ARROW.get(letter)
    if kind is None or (letter != "A" and count not in ("", "1")) or column.dim:
        kind = pa.list_(kind or pa.null())  # arrays, complex numbers and bits have no SQL type
    elif letter in "BIJK" and (zero, scale) != (0, 1):
        kind = (
            _SHIFTED.get((letter, int(zero)), pa.float64())
            if scale == 1 and zero == int(zero)
            else pa.float64()
        )
    elif letter in "ED" and (zero, scale) != (0, 1):
        kind = pa.float64()
    null = column.null if letter in "BIJK" and isinstance(column.null, int) else None
    return _Column(column.name, letter, kind, null, scale, zero)


def _said(header: Any, number: int) -> dict[bytes, bytes]:
    keys = {UNIT: "TUNIT", UCD: "TUCD", DESCRIPTION: "TCOMM"}
    said = {key: str(header.get(f"{word}{number}", "")).encode() for key, word in keys.items()}
    return {key: text for key, text in said.items() if text}


def _values(raw: np.ndarray[Any, Any], column: _Column) -> pa.Array:
    """Return a column's values; NaN and TNULL are no values."""
    if pa.types.is_list(column.kind):
        raise ValueError(f"column '{column.name}' is no single value; omit it")
    if column.letter == "A":
        text = pa.array(raw, pa.binary())  # without the NULs that end it
        try:
            return pc.utf8_rtrim(text.cast(pa.string()), " ")
        except pa.ArrowInvalid as error:
            raise ValueError(f"column '{column.name}': it is no UTF-8 text") from error
    if column.letter == "L":
        # newbyteorder leaves 'L' as one byte: T, F, or 0 for no value
        letters = raw.view(np.uint8)
        return pa.array(letters == ord("T"), mask=(letters != ord("T")) & (letters != ord("F")))
    native = raw.astype(raw.dtype.newbyteorder("="))
    missing = np.isnan(native) if column.letter in "ED" else None
    if column.null is not None:
        missing = native == column.null
    if pa.types.is_floating(column.kind) and (column.zero, column.scale) != (0, 1):
        native = native * np.float64(column.scale) + np.float64(column.zero)
    elif column.zero:
        # Adding half the range is flipping the first bit, which needs no wider type.
        native = native.view(column.kind.to_pandas_dtype()) ^ column.kind.to_pandas_dtype()(
            1 << (8 * native.itemsize - 1) if pa.types.is_unsigned_integer(column.kind) else -128
        )
    return pa.array(native, column.kind, mask=missing)


@contextmanager
def opened(spec: TableSpec, path: Path) -> Iterator[TypedFile]:
    """Open the table that `format.table` names or numbers, else the first one of a file.

    Raises
    ------
    ValueError
        If it has no such table, or is no FITS file.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with scratch(SCRATCH) as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # small departures from the standard, which are many
        plain = _unpacked(path, directory)
        try:
            with fits.open(plain, memmap=True, lazy_load_hdus=True) as file:
                hdu = _table(file, spec.format.table)
                start = int(hdu.fileinfo()["datLoc"])
                with plain.open("rb") as stream:
                    yield FitsTable(stream, start, hdu)
        except fits.VerifyError as error:
            raise ValueError(str(error)) from error


def _unpacked(path: Path, directory: Path) -> Path:
    if not path.name.lower().endswith(".gz"):
        return path
    plain = directory / "unpacked.fits"
    with gzip.open(path) as packed, plain.open("wb") as out:
        shutil.copyfileobj(packed, out, 1 << 20)
    return plain


def _table(file: Any, wanted: str | int | None) -> Any:
    from astropy.io import fits

    tables = [(number, hdu) for number, hdu in enumerate(file) if isinstance(hdu, fits.BinTableHDU)]
    for number, hdu in tables:
        if wanted is None or wanted == number or (isinstance(wanted, str) and hdu.name == wanted.upper()):
            return hdu
    names = ", ".join(f"{number} ({hdu.name})" if hdu.name else str(number) for number, hdu in tables)
    if wanted is None:
        raise ValueError("it has no binary table")
    raise ValueError(f"it has no binary table {wanted}; it has {names or 'none'}")
