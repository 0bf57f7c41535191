"""Reads a catalogue file (YAML) into typed values; every mistake is an error with line and key.

Pure: text in, values out; paths are kept as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
import yaml

from shard.catalog.model import Kind, MatchSide, Partitioning
from shard.catalog.naming import (
    CHUNK_COLUMN,
    OWNER_COLUMN,
    SUB_CHUNK_COLUMN,
    index_table,
    overlap_table,
    split_chunk_name,
)
from shard.geometry.chunker import ChunkGrid

LONGEST_NAME = 64 - len(overlap_table("", 2**31))
"""Characters of a sharded table's name at most: its overlap tables' names must fit MariaDB's 64."""

RESERVED_DATABASES = frozenset({"mysql", "information_schema", "performance_schema", "sys"})

_WANTED: dict[Kind, tuple[str, ...]] = {
    Kind.DIRECTOR: ("key", "longitude", "latitude"),
    Kind.DEPENDENT: ("director", "director_key"),
    Kind.MATCH: ("directors",),
    Kind.REPLICATED: (),
}
_KINDS = "it must be one of " + ", ".join(kind.value for kind in _WANTED)
_ALLOWED: dict[Kind, frozenset[str]] = {
    Kind.DIRECTOR: frozenset({"key", "longitude", "latitude", "chunk_files"}),
    Kind.DEPENDENT: frozenset({"key", "director", "director_key", "longitude", "latitude", "chunk_files"}),
    Kind.MATCH: frozenset({"key", "directors", "chunk_files"}),
    Kind.REPLICATED: frozenset({"key"}),
}


class CatalogFileError(ValueError):
    """The file is wrong; the text says where and what."""


class Format(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the files of a table are written; `type` None: by the name, else CSV.

    `table` is which table of a FITS or VOTable file: a name or a number; None: the first.
    """

    type: Literal["csv", "parquet", "fits", "votable"] | None = None
    table: str | int | None = None
    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    null: str = "\\N"
    header: bool = True


class ColumnSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says about a column; `source` is its name in the data, if it is renamed."""

    type: str | None = None
    unit: str = ""
    ucd: str = ""
    description: str = ""
    source: str | None = None
    omit: bool = False


class SideSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One director of a match table."""

    table: str
    foreign_key: str
    longitude: str | None = None
    latitude: str | None = None


class TableSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table; `chunk_files` instead of `files` are already partitioned, with Qserv's names."""

    name: str
    kind: Kind
    files: list[str] = []
    chunk_files: list[str] = []
    key: str | None = None
    longitude: str | None = None
    latitude: str | None = None
    director: str | None = None
    director_key: str | None = None
    directors: list[SideSpec] = []
    schema: str | None = None
    columns: dict[str, str | ColumnSpec] = {}
    format: Format = Format()
    description: str = ""

    def column(self, name: str) -> ColumnSpec:
        """Return what the file says about a column."""
        spec = self.columns.get(name)
        return ColumnSpec(type=spec) if isinstance(spec, str) else spec or ColumnSpec()

    def sides(self) -> tuple[MatchSide, ...]:
        """Return the match table's directors."""
        return tuple(
            MatchSide(table=s.table, foreign_key=s.foreign_key, longitude=s.longitude, latitude=s.latitude)
            for s in self.directors
        )

    def named_columns(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield (place in the file below the table, column name) of the columns that other keys name."""
        for field in ("key", "longitude", "latitude", "director_key"):
            if name := getattr(self, field):
                yield (field,), name
        for index, side in enumerate(self.directors):
            for field in ("foreign_key", "longitude", "latitude"):
                if name := getattr(side, field):
                    yield ("directors", index, field), name


class _PartitioningSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stripes: int
    sub_stripes: int
    overlap_deg: float = 0.0


class CatalogFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    database: str
    partitioning: _PartitioningSpec
    tables: list[TableSpec]

    def grid(self) -> Partitioning:
        """Return the partitioning."""
        p = self.partitioning
        return Partitioning(stripes=p.stripes, sub_stripes=p.sub_stripes, overlap_deg=p.overlap_deg)


class SourceLines:
    """Where keys stand in the text of a catalogue file, for messages.

    Parameters
    ----------
    text : str
        The file's text, which is YAML.
    name : str
        The file's name.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self._root = yaml.compose(text, Loader=yaml.SafeLoader)

    def of(self, *path: str | int) -> str:
        """Return ``file:line`` of the deepest key of `path` that the file has."""
        return f"{self.name}:{self.line(*path)}"

    def line(self, *path: str | int) -> int:
        """Return the line of the deepest key of `path` that the file has, from 1."""
        node, line = self._root, 1
        for part in path:
            if isinstance(part, int) and isinstance(node, yaml.SequenceNode) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            elif isinstance(node, yaml.MappingNode):
                pair = next(((k, v) for k, v in node.value if _key_text(k) == part), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line + 1, pair[1]
            else:
                break
        return line

    def repeated(self) -> tuple[int, str] | None:
        """Return (line, key) of the first key that stands twice in one mapping, or None."""
        return _repeated(self._root)


def _key_text(node: yaml.Node) -> str:
    return "null" if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def _repeated(node: yaml.Node | None) -> tuple[int, str] | None:
    if isinstance(node, yaml.SequenceNode):
        return next((found for item in node.value if (found := _repeated(item))), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    seen: set[str] = set()
    for key, value in node.value:
        text = _key_text(key)
        if text in seen:
            return key.start_mark.line + 1, text
        seen.add(text)
        if found := _repeated(value):
            return found
    return None


def parse(text: str, name: str, partial: bool = False) -> CatalogFile:
    """Return the catalogue file in `text`.

    Parameters
    ----------
    name : str
        The file's name, for messages.
    partial : bool
        Directors need not be in it: they are published.

    Raises
    ------
    CatalogFileError
        With file, line and key.
    """
    try:
        lines = SourceLines(text, name)
        data = _null_keys(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise CatalogFileError(f"{name}:{line}: {getattr(error, 'problem', None) or error}") from error
    if repeated := lines.repeated():
        raise CatalogFileError(f"{name}:{repeated[0]}: key '{repeated[1]}' stands twice")
    try:
        found = msgspec.convert(data, CatalogFile)
    except msgspec.ValidationError as error:
        path, message = _explain(str(error), data)
        key = _spelled(path)
        raise CatalogFileError(f"{lines.of(*path)}: {f'{key}: ' if key else ''}{message}") from error
    _check(found, lines, partial)
    return found


def _null_keys(data: object) -> object:
    """Give back the key `null`, which YAML reads as a null when it has no quotes."""
    if isinstance(data, dict):
        return {("null" if key is None else key): _null_keys(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_null_keys(item) for item in data]
    return data


def _spelled(path: tuple[str | int, ...]) -> str:
    """Return ``tables[1].kind``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _explain(message: str, data: object) -> tuple[tuple[str | int, ...], str]:
    """Turn msgspec's message (`… - at `$.tables[1].kind``) into (path, message)."""
    text, _, where = message.partition(" - at `$")
    path: list[str | int] = []
    for part in re.findall(r"\.([A-Za-z_]\w*)|\[(\d+)\]|\[\.\.\.\]", where.rstrip("`")):
        if part[0]:
            path.append(part[0])
        elif part[1]:
            path.append(int(part[1]))
        else:  # msgspec does not say which key of a free mapping it was
            path.append(_bad_column(data, path) or "")
    if unknown := re.search(r"unknown field `(.+?)`", text):
        return (*path, unknown[1]), "unknown key"
    if missing := re.search(r"missing required field `(.+?)`", text):
        return tuple(path), f"key '{missing[1]}' is missing"
    if text.startswith("Invalid enum value") and path and path[-1] == "kind":
        text += "; " + _KINDS
    return tuple(path), text


def _bad_column(data: object, path: list[str | int]) -> str | None:
    node = data
    for part in path:
        node = node[part]  # type: ignore[index]  # msgspec walked here before
    for name, value in node.items() if isinstance(node, dict) else ():
        try:
            msgspec.convert({name: value}, dict[str, str | ColumnSpec])
        except msgspec.ValidationError:
            return str(name)
    return None


def _check(found: CatalogFile, lines: SourceLines, partial: bool) -> None:
    """Check what the types cannot say."""
    if not can_be_catalogue(found.database):
        raise CatalogFileError(
            f"{lines.of('database')}: database: '{found.database}' cannot be a catalogue's name"
        )
    try:
        ChunkGrid.of(found.grid())
    except ValueError as error:
        raise CatalogFileError(f"{lines.of('partitioning')}: partitioning: {error}") from error
    if not found.tables:
        raise CatalogFileError(f"{lines.of('tables')}: tables: there is none")
    for index, table in enumerate(found.tables):
        for path, message in _faults(found, table, partial):
            raise CatalogFileError(f"{lines.of('tables', index, *path)}: table '{table.name}': {message}")


def can_be_catalogue(name: str, directors: Iterable[str] = ()) -> bool:
    """Whether a catalogue with such directors may have this name."""
    internal = name.lower() in RESERVED_DATABASES or name.lower().startswith("skyshard_")
    # A director index is named database__table, which must not be another database's as well.
    ambiguous = "__" in name or name.endswith("_")
    fits = all(len(index_table(name, director)) <= 64 for director in directors)
    return _is_name(name, 64 - len("__")) and fits and not (internal or ambiguous or name != name.strip())


def _is_name(name: str, longest: int) -> bool:
    return 0 < len(name) <= longest and not any(char in name for char in "\0/\\.`") and name.isprintable()


_STATE_NAME = re.compile(r"\$(?:\d+|copy|before)$", re.IGNORECASE)
_Fault = tuple[tuple[str | int, ...], str]


def _faults(found: CatalogFile, table: TableSpec, partial: bool) -> Iterator[_Fault]:
    """Yield (place below the table, what is wrong)."""
    if table.kind not in _WANTED:
        yield ("kind",), f"invalid kind '{table.kind.value}'; {_KINDS}"
    yield from _name_faults(found, table)
    yield from _key_faults(table)
    yield from _director_faults(found, table, partial)
    yield from _format_faults(table)
    yield from _column_faults(table)


def _name_faults(found: CatalogFile, table: TableSpec) -> Iterator[_Fault]:
    names = [other.name.lower() for other in found.tables]
    longest = 64 if table.kind is Kind.REPLICATED else LONGEST_NAME
    if not _is_name(table.name, longest):
        yield ("name",), f"the name is empty, longer than {longest} characters, or has one of / \\ . `"
    if table.kind is Kind.DIRECTOR and len(index_table(found.database, table.name)) > 64:
        yield ("name",), "the name of its director index, database__table, is longer than 64 characters"
    if names.count(table.name.lower()) > 1:
        yield ("name",), "the name is used twice"
    if split_chunk_name(table.name) is not None:
        yield ("name",), "the name has the form of a chunk table's; it must not end in _ and a number"
    if table.kind is Kind.REPLICATED and _STATE_NAME.search(table.name):
        yield (
            ("name",),
            "the name has the form of a later state's; it must not end in $ and a number, in $copy or in $before",
        )
    if table.name.lower().endswith("fulloverlap"):
        yield ("name",), "the name has the form of an overlap table's; it must not end in FullOverlap"


def _key_faults(table: TableSpec) -> Iterator[_Fault]:
    for field in _WANTED[table.kind]:
        if not getattr(table, field):
            yield (), f"a {table.kind.value} table needs '{field}'"
    for field in ("key", "longitude", "latitude", "director", "director_key", "directors", "chunk_files"):
        if getattr(table, field) and field not in _ALLOWED[table.kind]:
            yield (field,), f"a {table.kind.value} table has no '{field}'"
    if bool(table.files) == bool(table.chunk_files):
        yield (), "give either 'files' or 'chunk_files'"
    if bool(table.longitude) != bool(table.latitude):
        yield (), "'longitude' and 'latitude' go together"


def _director_faults(found: CatalogFile, table: TableSpec, partial: bool) -> Iterator[_Fault]:
    directors = {other.name for other in found.tables if other.kind is Kind.DIRECTOR}
    none = "is no director table of this file"
    if table.kind is Kind.DEPENDENT and table.director not in directors and not partial:
        yield ("director",), f"director: '{table.director}' {none}"
    if table.kind is Kind.MATCH and len(table.directors) != 2:
        yield ("directors",), "directors: a match table has two"
    for index, side in enumerate(table.directors):
        if side.table not in directors and not partial:
            yield ("directors", index, "table"), f"directors: '{side.table}' {none}"
        if bool(side.longitude) != bool(side.latitude):
            yield ("directors", index), "directors: 'longitude' and 'latitude' go together"
    if len({side.foreign_key for side in table.directors}) < len(table.directors):
        yield ("directors",), "directors: both sides have the same 'foreign_key'"


def _format_faults(table: TableSpec) -> Iterator[_Fault]:
    form = table.format
    for field in ("delimiter", "quote", "escape"):
        value = getattr(form, field)
        if value is not None and (len(value) != 1 or ord(value) > 127 or value in "\r\n"):
            yield ("format", field), f"format.{field}: '{value}' must be one ASCII character"
    if form.escape not in (None, "\\"):
        yield ("format", "escape"), f"format.escape: '{form.escape}' is not supported; give \"\\\\\" or null"
    used = [char for char in (form.delimiter, form.quote, form.escape) if char is not None]
    if len(set(used)) < len(used):
        yield ("format",), "format: delimiter, quote and escape must differ"


def _column_faults(table: TableSpec) -> Iterator[_Fault]:
    lower = [name.lower() for name in table.columns if not table.column(name).omit]
    reserved = () if table.kind is Kind.REPLICATED else (CHUNK_COLUMN.lower(), SUB_CHUNK_COLUMN.lower())
    for name in table.columns:
        spec = table.column(name)
        if not _is_name(name, 64) and not spec.omit:
            yield ("columns", name), f"columns: '{name}' cannot be a column's name"
        if lower.count(name.lower()) > 1:
            yield ("columns", name), f"columns: '{name}' stands twice (names differ only in case)"
        if spec.omit and spec.source:
            yield ("columns", name), f"columns.{name}: 'omit' and 'source' exclude each other"
        if name.lower() in reserved and name not in (CHUNK_COLUMN, SUB_CHUNK_COLUMN) and not spec.omit:
            yield ("columns", name), f"columns: '{name}' must be spelled {CHUNK_COLUMN} or {SUB_CHUNK_COLUMN}"
        if name.lower() == OWNER_COLUMN.lower() and table.kind is Kind.MATCH and not spec.omit:
            yield ("columns", name), f"columns: '{name}' is made by skyshard; omit or rename it"
