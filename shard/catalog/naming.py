"""Names of the physical tables behind a logical one, and quoting of names."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

from shard.catalog.model import Kind, Table

TEMPLATE_CHUNK = 1234567890
"""Chunk number of the empty template tables, the one Qserv uses for its dummy chunk."""

CHUNK_COLUMN = "chunkId"
SUB_CHUNK_COLUMN = "subChunkId"
OWNER_COLUMN = "skyOwner"
META_DATABASE = "skyshard_meta"
INDEX_DATABASE = "skyshard_index"
SCRATCH_DATABASE = "skyshard_scratch"
JOBS_DATABASE = "skyshard_jobs"
INTERNAL_DATABASES = frozenset({META_DATABASE, INDEX_DATABASE, SCRATCH_DATABASE})

_CHUNK_NAME = re.compile(r"^(?P<table>.+?)(?P<overlap>FullOverlap)?_(?P<chunk>\d+)$")


def chunk_table(table: str, chunk_id: int, state: int = 0) -> str:
    """Return the name of one chunk of `table`: ``Object_6630``; in a later state ``Object_6630_17``."""
    return f"{table}_{chunk_id}_{state}" if state else f"{table}_{chunk_id}"


def overlap_table(table: str, chunk_id: int, state: int = 0) -> str:
    """Return the name of a director chunk's overlap table: ``ObjectFullOverlap_6630``."""
    return chunk_table(f"{table}FullOverlap", chunk_id, state)


def namers(table: Table) -> tuple[Callable[..., str], ...]:
    """Return the functions that name a sharded table's tables in a chunk: `chunk_table` and, for a director, `overlap_table`."""
    return (chunk_table, overlap_table) if table.kind is Kind.DIRECTOR else (chunk_table,)


def split_chunk_name(name: str) -> tuple[str, bool, int] | None:
    """Return (table, is overlap, chunk) for a name of a chunk table's form, else None."""
    match = _CHUNK_NAME.match(name)
    if match is None:
        return None
    return match["table"], match["overlap"] is not None, int(match["chunk"])


def index_table(database: str, director: str) -> str:
    """Return the director index's table name in `skyshard_index`: ``sky__Object``."""
    return f"{database}__{director}"


def index_aside(db_id: int, director: str, word: str) -> str:
    """Return the name of a director index while it is made anew (`word` is ``new``), or that it had before (``old``).

    Other databases have directors of the same names, and may be worked on at the same time.
    """
    return f"skyshard_{word}_{db_id}__{director}"


def stage_name(number: int) -> str:
    """Return the database that holds the rows of ingest `number`, at home and on workers."""
    return f"skyshard_stage_{number}"


def copying_name(database: str) -> str:
    """Return the database that copies of a database's chunks are made in, on the worker that gets them."""
    return f"skyshard_copy_{zlib.crc32(database.encode()):08x}"


def contribution_name(number: int, file: int) -> str:
    """Return the database that holds what ingest `number` has loaded of some of a table's files, from `file` on."""
    return f"{stage_name(number)}_{file}"


def quote(name: str) -> str:
    """Return `name` as a MariaDB identifier in backticks."""
    if "\0" in name:
        raise ValueError("an identifier cannot contain NUL")
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """Return `text` as a MariaDB string literal that is right under every sql_mode.

    Only quotes are doubled when there is no backslash; a text with a backslash becomes a
    hexadecimal literal with a character set, because NO_BACKSLASH_ESCAPES changes its meaning.
    """
    if "\\" in text or "\0" in text:
        return f"_utf8mb4 0x{text.encode().hex()}" if text else "''"
    return "'" + text.replace("'", "''") + "'"
