"""The columns of a table: from a CREATE TABLE file, from `columns`, or from a Parquet file's schema."""

from __future__ import annotations

from pathlib import Path

from backend.connection import RawConnection
from shard.catalog.catalog_file import TableSpec
from shard.catalog.model import Column
from shard.catalog.naming import SCRATCH_DATABASE, literal, quote
from shard.errors import ServerError
from skyshard.errors import UserError
from skyshard.ingest import files


async def columns_of(home: RawConnection, spec: TableSpec, base: Path) -> list[Column]:
    """Return a table's columns in order.

    Raises
    ------
    UserError
        If they are not known, or the schema file is wrong.
    """
    if spec.schema is not None:
        return await _from_schema(home, spec, base)
    first = files.paths(spec, base)[0]
    if files.is_parquet(spec, first):
        return files.inferred(spec, first)
    named = [name for name in spec.columns if not spec.column(name).omit]
    if not named or not all(spec.column(name).type for name in named):
        raise UserError(f"table '{spec.name}': give 'schema' or the type of every column in 'columns'")
    return [_described(spec, name, spec.column(name).type or "") for name in named]


def _described(spec: TableSpec, name: str, sql_type: str) -> Column:
    said = spec.column(name)
    return Column(
        name=name, sql_type=said.type or sql_type, unit=said.unit, ucd=said.ucd, description=said.description
    )


async def _from_schema(home: RawConnection, spec: TableSpec, base: Path) -> list[Column]:
    """Let MariaDB read the CREATE TABLE, in the scratch database."""
    path = base / (spec.schema or "")
    try:
        sql = path.read_text()
    except OSError as error:
        raise UserError(f"table '{spec.name}': schema {path}: {error.strerror}") from error
    scratch = quote(SCRATCH_DATABASE)
    await home.run(f"DROP DATABASE IF EXISTS {scratch}")
    await home.run(f"CREATE DATABASE {scratch} CHARACTER SET utf8mb4")
    await home.run(f"USE {scratch}")
    try:
        await home.run(sql.strip().rstrip(";"))
    except ServerError as error:
        raise UserError(f"table '{spec.name}': schema {path}: {error.message}") from error
    rows = await home.fetch(
        "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME, COLLATION_NAME "
        f"FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {literal(SCRATCH_DATABASE)} ORDER BY ORDINAL_POSITION"
    )
    out = []
    for row in rows:
        name, kind, nullable, charset, collation = ((value or b"").decode() for value in row)
        if spec.column(name).omit:
            continue
        sql_type = kind + (f" CHARACTER SET {charset} COLLATE {collation}" if charset else "")
        out.append(_described(spec, name, sql_type + ("" if nullable == "YES" else " NOT NULL")))
    return out
