"""Reads the data files of a table in pieces of bounded size, which are parsed where they are used.

A piece knows where its rows come from, so that an error can name file and line (delimited text) or file and
row (Parquet, FITS, VOTable). A HATS catalogue is a directory of Parquet files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from shard.catalog.catalog_file import Format, SourceLines, TableSpec
from shard.catalog.naming import TEMPLATE_CHUNK
from skyshard.errors import UserError
from skyshard.ingest import delimited, hats, sources, typed
from skyshard.ingest.layout import Layout

BATCH_ROWS = 200_000
BATCH_VALUES = 4_000_000
"""Rows and values of a piece of a typed file at most: a table may have a thousand columns."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file to read; `chunk` and `is_overlap` are set by the name of an already partitioned one.

    `url` is where it comes from, if that is elsewhere; `path` is then where it is once it has been fetched.
    """

    path: Path
    chunk: int | None = None
    is_overlap: bool = False
    url: str | None = None

    @property
    def name(self) -> str:
        """Where it is: what it is known by."""
        return self.url or str(self.path)

    @property
    def shown(self) -> str:
        """What it is called in messages: the options of a URL may be a signature."""
        return sources.shown(self.name)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a file.

    Attributes
    ----------
    content : Table or Block
        Rows of a typed file, or lines of a delimited one that are yet to be parsed.
    names : tuple of str
        All columns of a delimited file.
    first_row : int
        Number of the first row of a typed piece, from 0.
    """

    file: DataFile
    form: Format
    layout: Layout
    content: pa.Table | delimited.Block
    names: tuple[str, ...] = ()
    first_row: int = 0

    def table(self) -> pa.Table:
        """Return the rows, columns in order and under their SQL names.

        Raises
        ------
        UserError
            For a line that cannot be split, with file and line.
        """
        wanted = [field.source for field in self.layout.fields]
        if isinstance(self.content, delimited.Block):
            try:
                found = delimited.columns(self.content, self.form, list(self.names), wanted)
            except delimited.BadLine as error:
                raise UserError(f"{self.place(error.row)}: {error}") from error
        else:
            found = self.content
        return found.rename_columns([field.column.name for field in self.layout.fields])

    def place(self, row: int) -> str:
        """Return where a row stands: ``file:line``, or ``file: row number`` from 1."""
        if isinstance(self.content, delimited.Block):
            return f"{self.file.shown}:{delimited.line_of(self.content, self.form, row)}"
        return f"{self.file.shown}: row {self.first_row + row + 1}"

    @property
    def size(self) -> int:
        """Bytes in memory."""
        if isinstance(self.content, delimited.Block):
            return len(self.content.data)
        return int(self.content.nbytes)


def find(spec: TableSpec, place: tuple[str | int, ...], lines: SourceLines, base: Path) -> list[DataFile]:
    """Return the files of a table; a pattern that matches nothing is an error.

    Parameters
    ----------
    place : tuple
        Where the table stands in the catalogue file.
    base : Path
        The catalogue file's directory.
    """
    key = "chunk_files" if spec.chunk_files else "files"
    out: dict[Path, DataFile] = {}
    for index, entry in enumerate(spec.chunk_files or spec.files):
        where = f"{lines.of(*place, key, index)}: table '{spec.name}': {key}"
        if sources.is_remote(entry):
            for number, file in enumerate(_elsewhere(entry, key == "files", where)):
                path = Path(f"{index}-{number}-{file.path}")
                out[path] = replace(file, path=path)
            continue
        pattern = sources.local(entry)
        paths = [found for path in _matching(base, pattern) for found in _within(path, where)]
        missing = next((path for path in paths if not path.is_file()), None)
        if not paths or missing is not None:
            raise UserError(f"{where}: file {missing or base / pattern} does not exist")
        for path in map(plain, paths):
            out[path] = DataFile(path) if key == "files" else _partitioned(path, where)
    return list(out.values())


def given(spec: TableSpec, name: str) -> list[DataFile]:
    """Return a file of a table, or those of a HATS catalogue, by a path or URL that is no pattern.

    Raises
    ------
    UserError
        If its name does not say chunk and role where others' do.
    """
    where = f"table '{spec.name}'"
    if sources.is_remote(name):
        return _elsewhere(name, not spec.chunk_files, where)
    paths = map(plain, _within(Path(sources.local(name)), where))
    return [_partitioned(path, where) if spec.chunk_files else DataFile(path) for path in paths]


def _elsewhere(url: str, is_whole: bool, where: str) -> list[DataFile]:
    """Return the file, or the files of the HATS catalogue, that a URL names; `path` is the name alone."""
    sources.check_no_secret(url)
    own = sources.name_of(url)
    if own:
        return [replace(DataFile(Path(own)) if is_whole else _partitioned(Path(own), where), url=url)]
    if not is_whole:
        raise UserError(f"{where}: {sources.shown(url)}: it names no file")
    try:
        return [DataFile(Path(sources.name_of(one)), url=one) for one in hats.remote_files(url)]
    except (ValueError, OSError) as error:
        raise UserError(f"{where}: {sources.shown(url)}: {error}") from error


def plain(path: Path) -> Path:
    """Return the one spelling of a path: absolute and without ``..``; links stay, which other hosts may have elsewhere."""
    parts = path.absolute().parts
    if ".." not in parts:
        return Path(*parts)
    behind = len(parts) - parts[::-1].index("..")
    return Path(*parts[:behind]).resolve().joinpath(*parts[behind:])


def _within(path: Path, where: str) -> list[Path]:
    """Return the files of a directory that is a HATS catalogue, or the path itself."""
    if not path.is_dir():
        return [path]
    try:
        return hats.files(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{where}: {path}: {error}") from error


def _matching(base: Path, pattern: str) -> list[Path]:
    path = base / pattern
    if not any(char in pattern for char in "*?["):
        return [path]
    root = Path(path.anchor)
    return sorted(
        found for found in root.glob(str(path.relative_to(root))) if found.is_file() or hats.is_one(found)
    )


def _partitioned(path: Path, where: str) -> DataFile:
    """Read chunk and role from a name as Qserv's partitioner writes it.

    Examples
    --------
    ``chunk_6630.txt``, ``chunk_6630_overlap.txt``, ``chunk_6630_full_overlap.txt``.
    """
    parts = path.name.split(".")[0].split("_")
    if len(parts) >= 2 and parts[0] == "chunk" and parts[1].isdigit() and int(parts[1]) < TEMPLATE_CHUNK:
        role = "_".join(parts[2:])
        if role in ("", "overlap", "full_overlap", "self_overlap"):
            return DataFile(path, int(parts[1]), bool(role))
    raise UserError(
        f"{where}: {path.name}: the name is not of the form chunk_<number>.txt, chunk_<number>_overlap.txt "
        "or chunk_<number>_full_overlap.txt"
    )


def pieces(spec: TableSpec, file: DataFile, layout: Layout) -> Iterator[Piece]:
    """Yield a file in pieces.

    Raises
    ------
    UserError
        For a file that cannot be read, and for a missing column.
    """
    try:
        yield from (_typed if typed.is_typed(spec, file.path) else _delimited)(spec, file, layout)
    except (ValueError, OSError, EOFError, zlib.error) as error:  # ArrowInvalid and BadLine are ValueErrors
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{file.shown}: {reason}") from error


def _typed(spec: TableSpec, file: DataFile, layout: Layout) -> Iterator[Piece]:
    wanted = [field.source for field in layout.fields]
    with typed.opened(spec, file.path) as opened:
        _check_names(file, wanted, opened.schema.names)
        size = max(1000, min(BATCH_ROWS, BATCH_VALUES // max(1, len(wanted))))
        row = 0
        for table in opened.batches(size, wanted):
            yield Piece(file, spec.format, layout, table, first_row=row)
            row += table.num_rows


def _delimited(spec: TableSpec, file: DataFile, layout: Layout) -> Iterator[Piece]:
    names = list(layout.file_columns)
    if spec.format.header:
        with delimited.open_text(file.path) as stream:
            names = delimited.header(stream, spec.format)
        _check_names(file, [field.source for field in layout.fields], names)
    with delimited.open_text(file.path) as stream:
        for number, block in enumerate(delimited.blocks(stream, spec.format, delimited.BLOCK_BYTES)):
            lines = (
                delimited.without_header(block, spec.format) if spec.format.header and not number else block
            )
            if lines.data:
                yield Piece(file, spec.format, layout, lines, tuple(names))


def _check_names(file: DataFile, wanted: list[str], names: list[str]) -> None:
    missing = next((name for name in wanted if name not in names), None)
    if missing is not None:
        raise UserError(f"{file.shown}: column '{missing}' is missing; it has {', '.join(names[:20])}")
