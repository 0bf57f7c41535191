"""Reads the data files of a table as Arrow batches of bounded size."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from shard.catalog.catalog_file import TableSpec
from shard.catalog.model import Column
from skyshard.errors import UserError

BATCH_ROWS = 200_000
_SQL_OF_ARROW = {
    "int8": "TINYINT", "int16": "SMALLINT", "int32": "INT", "int64": "BIGINT", "uint8": "TINYINT UNSIGNED",
    "uint16": "SMALLINT UNSIGNED", "uint32": "INT UNSIGNED", "uint64": "BIGINT UNSIGNED", "float": "FLOAT",
    "double": "DOUBLE", "bool": "TINYINT", "string": "VARCHAR(255)", "large_string": "VARCHAR(255)",
    "string_view": "VARCHAR(255)", "binary": "BLOB", "large_binary": "LONGBLOB", "date32[day]": "DATE",
}  # fmt: skip
_INTS = ("TINYINT", "SMALLINT", "MEDIUMINT", "INT", "INTEGER", "BIGINT")


def paths(spec: TableSpec, base: Path) -> list[Path]:
    """Return the files of a table; a pattern that matches nothing is an error."""
    out: list[Path] = []
    for pattern in spec.files:
        found = sorted(base.glob(pattern)) if any(c in pattern for c in "*?[") else [base / pattern]
        missing = next((path for path in found if not path.is_file()), None)
        if not found or missing is not None:
            raise UserError(f"table '{spec.name}': file {missing or pattern} does not exist")
        out += found
    return out


def is_parquet(spec: TableSpec, path: Path) -> bool:
    """Whether a file is read as Parquet: by `format.type`, else by its name."""
    return spec.format.type == "parquet" or (spec.format.type is None and path.suffix == ".parquet")


def inferred(spec: TableSpec, path: Path) -> list[Column]:
    """Return the columns of a Parquet file as SQL types.

    Raises
    ------
    UserError
        For a type without an SQL type, by name.
    """
    out = []
    for entry in pyarrow.parquet.read_schema(path):
        renamed = next((name for name in spec.columns if spec.column(name).source == entry.name), entry.name)
        described = spec.column(renamed)
        if described.omit:
            continue
        kind = described.type or _sql_type(entry.type)
        if kind is None:
            raise UserError(
                f"{path}: column '{entry.name}' of type {entry.type} has no SQL type; give it one in 'columns'"
            )
        out.append(
            Column(
                name=renamed,
                sql_type=kind,
                unit=described.unit,
                ucd=described.ucd,
                description=described.description,
            )
        )
    return out


def _sql_type(kind: pa.DataType) -> str | None:
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "DATETIME(6)"
    if pa.types.is_dictionary(kind):
        return _sql_type(kind.value_type)
    return _SQL_OF_ARROW.get(str(kind))


def arrow_type(sql_type: str) -> pa.DataType:
    """Return the Arrow type that a CSV column of an SQL type is read as."""
    words = sql_type.upper().split("(")[0].split()
    if words[0] in _INTS:
        return pa.uint64() if "UNSIGNED" in sql_type.upper() else pa.int64()
    if words[0] in ("DOUBLE", "REAL"):
        return pa.float64()
    if words[0] == "FLOAT":
        return pa.float32()
    if words[0].endswith(("BLOB", "BINARY")):
        return pa.binary()
    return pa.string()


def batches(spec: TableSpec, path: Path, columns: list[Column]) -> Iterator[pa.Table]:
    """Yield the rows of one file, columns in order and under their SQL names.

    Raises
    ------
    UserError
        For a row that cannot be read, with file and line; for a missing column.
    """
    sources = [spec.column(column.name).source or column.name for column in columns]
    try:
        if is_parquet(spec, path):
            file = pyarrow.parquet.ParquetFile(path)
            missing = set(sources) - set(file.schema_arrow.names)
            if missing:
                raise UserError(f"{path}: column '{sorted(missing)[0]}' is missing")
            for batch in file.iter_batches(BATCH_ROWS, columns=sources):
                yield pa.Table.from_batches([batch]).select(sources).rename_columns([c.name for c in columns])
            return
        yield from _csv(spec, path, columns, sources)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: {_place(str(error), spec)}") from error


def _place(message: str, spec: TableSpec) -> str:
    """Turn Arrow's row number into a line number."""
    marker = "Row #"
    if marker in message:
        number = message.split(marker, 1)[1].split(":")[0]
        if number.isdigit():
            return f"line {number}: {message.split(': ', 1)[1]}"
    return message


def _csv(spec: TableSpec, path: Path, columns: list[Column], sources: list[str]) -> Iterator[pa.Table]:
    form = spec.format
    types = {source: arrow_type(column.sql_type) for source, column in zip(sources, columns, strict=True)}
    opened: Any = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    with opened as stream:
        reader = pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=8 << 20, column_names=None if form.header else sources
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=form.delimiter, quote_char=form.quote or False, escape_char=form.escape or False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, null_values=[form.null, ""] if form.null != "" else [""],
                strings_can_be_null=True, quoted_strings_can_be_null=False, include_columns=sources,
            ),
        )  # fmt: skip
        for batch in reader:
            if batch.num_rows:
                yield pa.Table.from_batches([batch]).rename_columns([column.name for column in columns])
