"""The columns of a table: from a CREATE TABLE file, from `columns`, or from a typed file's own schema.

All types are read by MariaDB itself: the columns are made in a scratch table at home, and what
information_schema says of them is what the catalogue's tables get.
"""

from __future__ import annotations

import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from backend.connection import RawConnection
from shard.catalog import types
from shard.catalog.catalog_file import SourceLines, TableSpec
from shard.catalog.ddl import Key
from shard.catalog.model import Column
from shard.catalog.naming import SCRATCH_DATABASE, literal, quote
from shard.errors import ServerError
from skyshard.errors import UserError
from skyshard.ingest import typed

_TEXT_ROWS = 64 << 10
"""Rows of a text column that are looked at together."""
_CREATE = re.compile(r"\bCREATE\s+(?:OR\s+REPLACE\s+)?TABLE\b", re.I)
_ENGINE = re.compile(r"\bENGINE\s*=?\s*\w+", re.I)
_SKIPPED = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`|--[ \t][^\n]*|#[^\n]*|/\*.*?\*/", re.S
)


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the table, the name it has in the files, and what its type says."""

    column: Column
    source: str
    kind: types.SqlType


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table.

    Attributes
    ----------
    fields : tuple of Field
        The table's columns, in order.
    file_columns : tuple of str
        All columns of a file without header, in order, those that are left out too.
    keys : tuple of Key
        Indexes that the CREATE TABLE file asks for.
    """

    fields: tuple[Field, ...]
    file_columns: tuple[str, ...]
    keys: tuple[Key, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The table's columns."""
        return tuple(field.column for field in self.fields)

    def kind(self, name: str) -> types.SqlType:
        """Return what a column's type says."""
        return next(field.kind for field in self.fields if field.column.name == name)


async def layout_of(
    home: RawConnection,
    spec: TableSpec,
    place: tuple[str | int, ...],
    lines: SourceLines,
    base: Path,
    typed_files: list[Path],
) -> Layout:
    """Return a table's columns.

    Parameters
    ----------
    place : tuple
        Where the table stands in the catalogue file.
    base : Path
        The catalogue file's directory.
    typed_files : list of Path
        The table's files, if their columns have types.

    Raises
    ------
    UserError
        If they are not known, or a type is wrong; with file, line and key.
    """
    where = _Where(lines, place, spec.name)
    if spec.schema is not None:
        return await _from_schema(home, spec, where, base / spec.schema)
    if typed_files:
        found, said = _inferred(spec, where, typed_files)
        return await _described(home, spec, where, found, said)
    listed = {name: spec.column(name).type for name in spec.columns}
    untyped = next((name for name, kind in listed.items() if not kind and not spec.column(name).omit), None)
    if untyped is not None:
        raise where.error(f"columns.{untyped}: 'type' is missing", "columns", untyped)
    if not listed:
        raise where.error("give 'schema' or 'columns'")
    found = [(name, spec.column(name).source or name, kind or "") for name, kind in listed.items()]
    return await _described(home, spec, where, found)


class _Where:
    """Makes errors that say where the table's key stands."""

    def __init__(self, lines: SourceLines, place: tuple[str | int, ...], name: str) -> None:
        self._lines, self._place, self._name = lines, place, name

    def error(self, message: str, *path: str | int) -> UserError:
        return UserError(f"{self._lines.of(*self._place, *path)}: table '{self._name}': {message}")


_Found = list[tuple[str, str, str]]
"""(name, name in the files, SQL type) of all columns in order, those that are left out too."""


_Said = Mapping[str, Mapping[bytes, bytes]]
"""What files say of their columns, by name: unit, UCD, description."""


async def _described(
    home: RawConnection, spec: TableSpec, where: _Where, found: _Found, told: _Said = MappingProxyType({})
) -> Layout:
    """Let MariaDB read the types, and add what the catalogue file says, else what the files say."""
    kept = [(name, source, kind) for name, source, kind in found if not spec.column(name).omit]
    if not kept:
        raise where.error("it has no column")
    read = await _scratch(
        home, [f"{quote(name)} {kind}" for name, _, kind in kept], where, [n for n, *_ in kept]
    )
    if [name for name, _ in read] != [name for name, *_ in kept]:
        raise where.error("a type in 'columns' is more than a type", "columns")
    fields = []
    for (name, source, _), (_, kind) in zip(kept, read, strict=True):
        said, own = spec.column(name), told.get(name, {})
        column = Column(
            name=name,
            sql_type=kind,
            unit=said.unit or own.get(typed.UNIT, b"").decode(),
            ucd=said.ucd or own.get(typed.UCD, b"").decode(),
            description=said.description or own.get(typed.DESCRIPTION, b"").decode(),
        )
        fields.append(Field(column, source, types.sql_type(kind)))
    return Layout(tuple(fields), tuple(source for _, source, _ in found))


async def _scratch(
    home: RawConnection, definitions: list[str], where: _Where, names: list[str]
) -> list[tuple[str, str]]:
    """Return (name, type) of columns as MariaDB understands their definitions."""
    table = f"{quote(SCRATCH_DATABASE)}.{quote(name := 'columns_' + secrets.token_hex(6))}"
    try:
        try:
            await home.run(
                f"CREATE TABLE {table} ({', '.join(definitions)}) ENGINE=MyISAM DEFAULT CHARSET=utf8mb4"
            )
        except ServerError as error:
            for column, text in zip(names, definitions, strict=True):
                await _alone(home, column, text, where)
            raise where.error(error.message, "columns") from error
        return await _columns(home, name)
    finally:
        await home.run(f"DROP TABLE IF EXISTS {table}")


async def _alone(home: RawConnection, name: str, definition: str, where: _Where) -> None:
    table = f"{quote(SCRATCH_DATABASE)}.{quote('columns_' + secrets.token_hex(6))}"
    try:
        await home.run(f"CREATE TABLE {table} ({definition}) ENGINE=MyISAM DEFAULT CHARSET=utf8mb4")
        await home.run(f"DROP TABLE {table}")
    except ServerError as error:
        raise where.error(f"columns.{name}: {error.message}", "columns", name) from error


async def _columns(home: RawConnection, table: str) -> list[tuple[str, str]]:
    rows = await home.fetch_texts(
        "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, CHARACTER_SET_NAME, COLLATION_NAME FROM "
        f"information_schema.COLUMNS WHERE TABLE_SCHEMA = {literal(SCRATCH_DATABASE)} "
        f"AND TABLE_NAME = {literal(table)} ORDER BY ORDINAL_POSITION"
    )
    out = []
    for name, kind, nullable, charset, collation in rows:
        text = kind + (f" CHARACTER SET {charset} COLLATE {collation}" if charset else "")
        out.append((name, text + ("" if nullable == "YES" else " NOT NULL")))
    return out


async def _from_schema(home: RawConnection, spec: TableSpec, where: _Where, path: Path) -> Layout:
    """Let MariaDB read the CREATE TABLE of a file."""
    body = _body(path, where)
    name = f"schema_{secrets.token_hex(6)}"
    try:
        await home.run(f"CREATE TABLE {quote(SCRATCH_DATABASE)}.{quote(name)} {body}")
        found, keys = await _columns(home, name), await _keys(home, name)
    except ServerError as error:
        raise where.error(f"schema: {path}: {error.message}", "schema") from error
    finally:
        await home.run(f"DROP TABLE IF EXISTS {quote(SCRATCH_DATABASE)}.{quote(name)}")
    names = {column for column, _ in found}
    renamed = {spec.column(new).source: new for new in spec.columns if new not in names}
    for new in spec.columns:
        if new not in names and spec.column(new).source not in names:
            raise where.error(f"columns.{new}: {path} has no such column", "columns", new)
    listed = []
    for column, kind in found:
        new = renamed.get(column, column)
        said = spec.column(new)
        listed.append((new, said.source or column, said.type or kind))
    layout = await _described(home, spec, where, listed)
    kept = {field.column.name for field in layout.fields}
    moved = [Key(tuple((renamed.get(n, n), length) for n, length in key.columns)) for key in keys]
    return Layout(
        layout.fields,
        layout.file_columns,
        tuple(key for key in moved if all(column in kept for column, _ in key.columns)),
    )


def _body(path: Path, where: _Where) -> str:
    try:
        found = definition(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise where.error(f"schema: {path}: {reason}", "schema") from error
    if found is None:
        raise where.error(f"schema: {path}: there is no CREATE TABLE with columns in parentheses", "schema")
    return found


async def _keys(home: RawConnection, table: str) -> list[Key]:
    """Return a table's ordinary indexes, its primary key and unique keys among them."""
    rows = await home.fetch(
        "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS "
        f"WHERE TABLE_SCHEMA = {literal(SCRATCH_DATABASE)} AND TABLE_NAME = {literal(table)} "
        "AND INDEX_TYPE = 'BTREE' AND COLUMN_NAME IS NOT NULL ORDER BY INDEX_NAME, SEQ_IN_INDEX"
    )
    found: dict[bytes, list[tuple[str, int | None]]] = {}
    for index, column, part in rows:
        found.setdefault(index or b"", []).append(((column or b"").decode(), int(part) if part else None))
    return [Key(tuple(columns)) for columns in found.values()]


def definition(sql: str) -> str | None:
    """Return what follows the name in the first CREATE TABLE of a file: columns and options, no engine.

    Examples
    --------
    >>> definition("CREATE TABLE `a`.b (x INT) ENGINE=InnoDB COMMENT='c'; DROP TABLE b")
    "(x INT)  COMMENT='c'"
    """
    blank = _SKIPPED.sub(lambda found: " " * len(found[0]), sql)
    found = _CREATE.search(blank)
    start = blank.find("(", found.end()) if found else -1
    end = blank.find(";", start) if start >= 0 else -1
    if found is None or start < 0 or 0 <= blank.find(";", found.end()) < start:
        return None
    stop = len(sql) if end < 0 else end
    text = sql[start:stop].strip()
    close = _closing(blank[start:stop])
    return text[:close] + _ENGINE.sub("", text[close:])


def _closing(blank: str) -> int:
    depth = 0
    for at, char in enumerate(blank):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return at + 1
    return len(blank)


def _inferred(spec: TableSpec, where: _Where, paths: list[Path]) -> tuple[_Found, _Said]:
    """Return the columns of typed files as SQL types, and what the first file says of them."""
    try:
        with typed.opened(spec, paths[0]) as file:
            schema = file.schema
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{paths[0]}: {error}") from error
    by_source = {spec.column(name).source: name for name in spec.columns if spec.column(name).source}
    for name in spec.columns:
        source = spec.column(name).source or name
        if source not in schema.names:
            raise where.error(f"columns.{name}: {paths[0]} has no column '{source}'", "columns", name)
    texts = [
        entry.name
        for entry in schema
        if types.is_text(entry.type)
        and not (asked := spec.column(by_source.get(entry.name, entry.name))).omit
        and asked.type is None
    ]
    longest = _longest(spec, paths, texts)
    out, said = [], {}
    for entry in schema:
        name = by_source.get(entry.name, entry.name)
        asked = spec.column(name)
        said[name] = entry.metadata or {}
        if asked.omit:
            out.append((name, entry.name, ""))
            continue
        kind = asked.type or types.inferred(entry.type, longest.get(entry.name, 0))
        if kind is None:
            raise where.error(
                f"{paths[0]}: column '{entry.name}' of type {entry.type} has no SQL type; "
                "give it one in 'columns', or omit it",
                "columns",
            )
        out.append((name, entry.name, kind))
    return out, said


def _longest(spec: TableSpec, paths: list[Path], columns: list[str]) -> dict[str, int]:
    """Return the characters of the longest text in columns of typed files, each of which is read once."""
    longest = dict.fromkeys(columns, 1)
    for path in paths if columns else []:
        try:
            with typed.opened(spec, path) as file:
                names = file.schema.names
                if missing := next((name for name in columns if name not in names), None):
                    raise UserError(f"{path}: column '{missing}' is missing; it has {', '.join(names[:20])}")
                for table in file.batches(max(1000, _TEXT_ROWS // len(columns)), columns):
                    for name in columns:
                        longest[name] = max(longest[name], _characters(table.column(name)))
        except (ValueError, OSError, LookupError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: its texts cannot be read: {error}") from error
    return longest


def _characters(values: pa.ChunkedArray) -> int:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return pc.max(pc.utf8_length(values.cast(pa.large_string()))).as_py() or 0
