"""Reads a catalogue file (YAML) into typed values; every mistake is an error with line and key.

Pure: text in, values out; paths are kept as they are written.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import yaml

from shard.catalog.model import Kind, MatchSide, Partitioning


class CatalogFileError(ValueError):
    """The file is wrong; the text says where and what."""


class Format(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the files of a table are written."""

    type: Literal["csv", "parquet"] | None = None
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
    """One table."""

    name: str
    kind: Kind
    files: list[str]
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


def parse(text: str, name: str) -> CatalogFile:
    """Return the catalogue file in `text`.

    Parameters
    ----------
    name : str
        The file's name, for messages.

    Raises
    ------
    CatalogFileError
        With file, line and key.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise CatalogFileError(f"{name}:{line}: {getattr(error, 'problem', error)}") from error
    data = _null_keys(data)
    try:
        found = msgspec.convert(data, CatalogFile)
    except msgspec.ValidationError as error:
        raise CatalogFileError(f"{name}:{_line(node, str(error))}: {error}") from error
    _check(found, node, name)
    return found


def _null_keys(data: object) -> object:
    """Give back the key that YAML reads as null (`null: "\\N"` without quotes)."""
    if isinstance(data, dict):
        return {("null" if key is None else key): _null_keys(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_null_keys(item) for item in data]
    return data


def _line(node: yaml.Node | None, message: str) -> int:
    """Return the line that a msgspec path (`… - at `$.tables[1].kind``) points to."""
    line = 1
    path = message.rsplit("`$", 1)[1].rstrip("`") if "`$" in message else ""
    unknown = message.split("unknown field `")[1].split("`")[0] if "unknown field `" in message else None
    parts = path.replace("[", ".[").split(".")
    for part in [*parts, *([unknown] if unknown else [])]:
        if node is None or not part:
            continue
        if part.startswith("[") and isinstance(node, yaml.SequenceNode) and part[1:-1].isdigit():
            node = node.value[int(part[1:-1])]
        elif isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
            continue
        line = node.start_mark.line + 1
    return line


def _check(found: CatalogFile, node: yaml.Node | None, name: str) -> None:
    """Check what the types cannot say."""
    names = [table.name for table in found.tables]
    directors = {table.name for table in found.tables if table.kind is Kind.DIRECTOR}
    for index, table in enumerate(found.tables):
        where = f"{name}:{_line(node, f'`$.tables[{index}]`')}: table '{table.name}'"
        if names.count(table.name) > 1:
            raise CatalogFileError(f"{where}: the name is used twice")
        if not table.files:
            raise CatalogFileError(f"{where}: 'files' is empty")
        if table.kind is Kind.DIRECTOR and not (table.key and table.longitude and table.latitude):
            raise CatalogFileError(f"{where}: a director needs 'key', 'longitude' and 'latitude'")
        if table.kind is Kind.DEPENDENT:
            if table.director not in directors:
                raise CatalogFileError(f"{where}: 'director' must name a director table of this file")
            if not table.director_key:
                raise CatalogFileError(f"{where}: a dependent needs 'director_key'")
            if bool(table.longitude) != bool(table.latitude):
                raise CatalogFileError(f"{where}: 'longitude' and 'latitude' go together")
        if table.kind is Kind.MATCH:
            if len(table.directors) != 2:
                raise CatalogFileError(f"{where}: a match table needs two 'directors'")
            for side in table.directors:
                if side.table not in directors:
                    raise CatalogFileError(f"{where}: '{side.table}' is no director table of this file")
