"""What a backup says of itself: the catalogue's description, and every file with its rows and checksums.

A backup is a directory. Each table of a worker that has rows is one file, ``TABLE/NAME.tsv.gz``: the rows as LOAD DATA
text (tab-separated, backslash-escaped, ``\\N`` for NULL, UTF-8) in the columns of `replicas.columns.route`, in gzip.
``manifest.json`` is written last: a directory without one is no backup yet. Director indexes are not in it, they follow
from the chunks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shard.catalog.catalog_file import can_be_catalogue
from shard.catalog.model import Kind, Partitioning, Table
from shard.catalog.naming import chunk_table, overlap_table, quote
from shard.geometry.chunker import ChunkGrid
from skyshard.catalog.published import Published
from skyshard.errors import UserError
from skyshard.replicas.copy import Content

FORMAT = 1
"""Version of all this; a restore refuses others."""
MANIFEST = "manifest.json"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One table of a worker: a chunk of `table`, the chunk's overlap, or all of a replicated table (no chunk)."""

    table: str
    chunk: int | None
    overlap: bool
    rows: int

    @property
    def name(self) -> str:
        """Its name on workers."""
        if self.chunk is None:
            return self.table
        return (overlap_table if self.overlap else chunk_table)(self.table, self.chunk)

    def stored(self, found: Published) -> str:
        """Return the table on workers of a published catalogue that has its rows, those of transactions too."""
        if self.chunk is None:
            return next(table.stored for table in found.tables if table.name == self.table)
        return found.stored(overlap_table if self.overlap else chunk_table, self.table, self.chunk)

    @property
    def path(self) -> str:
        """Its file in a backup."""
        return f"{self.table}/{self.name}.tsv.gz"


class SavedPart(Part, frozen=True, kw_only=True):
    """A part with its file: `checksum` is that of CHECKSUM TABLE, `size` (bytes) and `sha256` are the file's."""

    checksum: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One backup.

    Attributes
    ----------
    identity : str
        That of the catalogue when it was backed up (see `Published.identity`).
    servers : tuple of str
        Versions of the servers' MariaDB, major and minor number: checksums of others may differ.
    chunks : tuple of int
        All chunks, those without a row too.
    """

    format: int
    database: str
    identity: str
    made: str
    servers: tuple[str, ...]
    partitioning: Partitioning
    chunks: tuple[int, ...]
    tables: tuple[Table, ...]
    parts: tuple[SavedPart, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """What a catalogue is, wherever its rows come from."""

    database: str
    partitioning: Partitioning
    chunks: tuple[int, ...]
    content: Content

    @property
    def tables(self) -> tuple[Table, ...]:
        """Its tables, in order."""
        return self.content.tables

    def parts(self) -> Iterator[Part]:
        """Yield what has rows."""
        for table in self.tables:
            if not table.is_sharded:
                if table.rows:
                    yield Part(table=table.name, chunk=None, overlap=False, rows=table.rows)
                continue
            for chunk in self.chunks:
                main, overlap = self.content.rows.get((table.name, chunk), (0, 0))
                if main:
                    yield Part(table=table.name, chunk=chunk, overlap=False, rows=main)
                if overlap and table.kind is Kind.DIRECTOR:
                    yield Part(table=table.name, chunk=chunk, overlap=True, rows=overlap)


def plain(tables: Sequence[Table]) -> tuple[Table, ...]:
    """Return tables as they are where all rows are in one: replicated ones without states."""
    return tuple(msgspec.structs.replace(table, state=0, changed=0) for table in tables)


def description_of(found: Published) -> Description:
    """Return what is published."""
    content = Content.of(found.name, plain(found.tables), found.rows())
    return Description(found.name, found.partitioning, tuple(sorted(found.holders())), content)


def described(manifest: Manifest) -> Description:
    """Return what is in a backup."""
    rows: dict[tuple[str, int], tuple[int, int]] = {}
    for part in manifest.parts:
        if part.chunk is not None:
            main, overlap = rows.get((part.table, part.chunk), (0, 0))
            more = (main, part.rows) if part.overlap else (part.rows, overlap)
            rows[part.table, part.chunk] = more
    content = Content.of(manifest.database, manifest.tables, rows)
    return Description(manifest.database, manifest.partitioning, manifest.chunks, content)


def read(directory: Path) -> Manifest:
    """Return the manifest of a backup.

    Raises
    ------
    UserError
        If there is none, or it is not one that this version can restore.
    """
    path = directory / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{directory}: there is no whole backup: it has no {MANIFEST}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    try:
        found = msgspec.json.decode(text, type=_Head).format
        if found != FORMAT:
            raise UserError(f"{path}: the backup has format {found}, this version restores format {FORMAT}")
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise UserError(f"{path}: it is no manifest of a backup: {error}") from error
    if wrong := _wrong(manifest):
        raise UserError(f"{path}: {wrong}")
    return manifest


class _Head(msgspec.Struct):
    format: int


def _wrong(manifest: Manifest) -> str | None:
    """Return what in a manifest contradicts itself."""
    tables = {table.name: table for table in manifest.tables}
    directors = [table.name for table in manifest.tables if table.kind is Kind.DIRECTOR]
    if not can_be_catalogue(manifest.database, directors) or len(tables) < len(manifest.tables):
        return "its names cannot be a catalogue's"
    try:
        ChunkGrid.of(manifest.partitioning)
    except ValueError as error:
        return f"partitioning: {error}"
    for table in manifest.tables:
        if "/" in table.name or not table.ddl.startswith(f"CREATE TABLE {quote(table.name)} ("):
            return f"table '{table.name}': its definition does not begin with CREATE TABLE and its name"
    rows = dict.fromkeys(tables, 0)
    chunks, seen = set(manifest.chunks), set()
    for part in manifest.parts:
        table_of = tables.get(part.table)
        if table_of is None or table_of.is_sharded != (part.chunk is not None) or part.path in seen:
            return f"the file {part.path} belongs to no table, or stands twice"
        if part.chunk is not None and part.chunk not in chunks:
            return f"the file {part.path} is of no chunk"
        seen.add(part.path)
        rows[part.table] += 0 if part.overlap else part.rows
    for table in manifest.tables:
        if rows[table.name] != table.rows and table.kind is not Kind.MATCH:
            return f"table '{table.name}': {table.rows} rows are counted, {rows[table.name]} are in its files"
    return None


def identity_of(manifest: Manifest) -> str:
    """Return a name for exactly this backup: 64 hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
