"""What a check of a catalogue finds, for people and as JSON."""

from __future__ import annotations

import msgspec


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be.

    Attributes
    ----------
    kind : str
        metadata, copies, worker, missing, extra, damaged, rows, checksum, place, overlap, index, home.
    table : str
        The logical table; empty if all are concerned.
    chunk : int or None
        The chunk, if it is one's.
    worker : str
        The worker's name, several with commas, or 'home'; empty if it is nobody's in particular.
    """

    kind: str
    table: str
    chunk: int | None
    worker: str
    text: str

    def __str__(self) -> str:
        parts = [f"table {self.table}"] if self.table else []
        parts += [f"chunk {self.chunk}"] if self.chunk is not None else []
        parts += [self.worker] if self.worker else []
        return f"{self.kind}: " + ", ".join(parts) + (": " if parts else "") + self.text


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One catalogue's check: what was looked at, and what was found."""

    database: str
    quick: bool
    chunks: int
    tables: int
    workers: int
    rows: int
    faults: tuple[Fault, ...]
