"""What a query asks of the agents, and how a client is told of their messages.

The dispatcher cuts a `Work` into jobs, one for each worker; chunks that are moved to another replica get a job of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from shard.wire import frames

_SCRATCH = re.compile(r"[`']?skyshard_(?:scratch|stage_\d+)[`']?[./]")


@dataclass(frozen=True, slots=True)
class Work:
    """One query for the agents.

    Attributes
    ----------
    job : frames.Job
        The job without chunks.
    placement : mapping
        Chunk → workers that hold it, in no order of preference.
    limit_rows : int or None
        Stop after so many rows.
    on_progress : callable
        Called with the number of chunks done.
    states : mapping
        Chunk → its state, of those that are not as they were published.
    version : int
        The catalogue's version that the placement is from.
    keys : mapping
        Chunk → its keys of the statement's list, if that is cut.
    lines : tuple
        For every shipped table: chunk → its rows as they are loaded; None if all go to every worker.
    """

    query_id: int
    job: frames.Job
    placement: Mapping[int, tuple[int, ...]]
    limit_rows: int | None = None
    on_progress: Callable[[int], None] = field(default=lambda _: None)
    states: Mapping[int, int] = field(default_factory=dict)
    version: int = -1
    keys: Mapping[int, bytes] = field(default_factory=dict)
    lines: tuple[Mapping[int, bytes] | None, ...] = ()

    def share(self, chunks: Sequence[int]) -> frames.Job:
        """Return the job of some of the chunks."""
        states = (
            {chunk: self.states[chunk] for chunk in chunks if chunk in self.states} if self.states else {}
        )
        keys = {chunk: self.keys[chunk] for chunk in chunks} if self.keys else {}
        shipped = self.job.shipped
        if self.lines:
            shipped = tuple(
                table if lines is None else _of_chunks(table, lines, chunks)
                for table, lines in zip(shipped, self.lines, strict=True)
            )
        return msgspec.structs.replace(
            self.job, chunks=list(chunks), states=states, keys=keys, shipped=shipped
        )


def _of_chunks(table: frames.Shipped, lines: Mapping[int, bytes], chunks: Sequence[int]) -> frames.Shipped:
    """Return a shipped table with only the rows that some chunks need."""
    data = b"".join(lines[chunk] for chunk in chunks if chunk in lines)
    return msgspec.structs.replace(table, data=data)


def scrubbed(text: str, tables: re.Pattern[str] | None) -> str:
    """Return a worker's message without the names of chunk tables (from `chunk_tables`) and scratch tables."""
    if tables is not None:
        text = tables.sub(r"\g<table>", text)
    return _SCRATCH.sub("", text)


def chunk_tables(job: frames.Job) -> re.Pattern[str] | None:
    """Return what the names of a job's chunk tables look like in messages; None if it has none.

    Only these are taken out: a text or a column of the user's may well end in a number, too.
    """
    pieces = [piece for template in (*job.setup, job.main) for piece in template.segments[:-1]]
    found = {name for name in map(_table_before, pieces) if name}
    names = "|".join(
        re.escape(name.removesuffix("FullOverlap")) for name in sorted(found, key=len, reverse=True)
    )
    number = rf"(?:\d+(?:_\d+)?|{frames.UNION_NAME})"
    return re.compile(rf"(?<!\w)(?P<table>{names})(?:FullOverlap)?_{number}\b") if found else None


def _table_before(piece: bytes) -> str:
    """Return the table whose quoted name, up to its chunk number, ends a piece of SQL; empty if none does."""
    if not piece.endswith(b"_"):
        return ""
    end = start = len(piece) - 1
    while (start := piece.rfind(b"`", 0, start)) > 0 and piece[start - 1 : start] == b"`":
        start -= 1  # doubled: a backtick of the name
    return piece[start + 1 : end].replace(b"``", b"`").decode("utf-8", "replace") if start >= 0 else ""


__all__ = ["Work", "chunk_tables", "scrubbed"]
