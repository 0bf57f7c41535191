"""What an ingest was asked for: the catalogue file with its files as they were then; kept in the metadata."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from pathlib import Path

import msgspec

from shard.catalog.catalog_file import CatalogFile, CatalogFileError, SourceLines, parse
from skyshard.errors import UserError
from skyshard.ingest import files, sources
from skyshard.ingest.contributions import BATCH_BYTES
from skyshard.ingest.first import First

Stamped = list[list[tuple[files.DataFile, sources.Stamp]]]
"""Per table, its files and what they were."""


class Order(msgspec.Struct, frozen=True):
    """What was asked for.

    Attributes
    ----------
    file, text, base : str
        The catalogue file, what is in it, and the directory of its paths.
    first : First or None
        What there is to say of a first ingest; None: rows are added to what is published.
    batch_bytes : int
        Bytes of a table's files that are loaded at once.
    """

    file: str
    text: str
    base: str
    first: First | None = None
    batch_bytes: int = BATCH_BYTES


def order_of(catalog: Path, batch_bytes: int = BATCH_BYTES) -> Order:
    """Return what a catalogue file asks for.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        return Order(
            str(catalog), catalog.read_text(), str(catalog.parent.resolve()), batch_bytes=batch_bytes
        )
    except OSError as error:
        raise UserError(f"{catalog}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{catalog}: it is no UTF-8 text") from error


def parsed(order: Order, complete: bool = False) -> tuple[CatalogFile, SourceLines]:
    """Return the catalogue file, and where its keys stand.

    Parameters
    ----------
    complete : bool
        All directors must be in it, as in that of a first ingest.

    Raises
    ------
    UserError
        If it is wrong, with file, line and key.
    """
    try:
        file = parse(order.text, order.file, partial=order.first is None and not complete)
        return file, SourceLines(order.text, order.file)
    except CatalogFileError as error:
        raise UserError(str(error)) from error


def stamped(file: CatalogFile, lines: SourceLines, order: Order) -> Stamped:
    """Find the files of all tables; return for each table its files with their sizes and checksums.

    Raises
    ------
    UserError
        If one cannot be read.
    """
    found = [
        files.find(spec, ("tables", index), lines, Path(order.base)) for index, spec in enumerate(file.tables)
    ]
    return [[(one, sources.stamp(one.name)) for one in listed] for listed in found]


def fingerprint(order: Order) -> str:
    """Return a digest that is the same for the same catalogue file in the same directory, with as many copies."""
    kind = "" if order.first is None else f"\0{order.first.replicas}"
    return hashlib.sha256(f"{order.base}\0{order.text}{kind}".encode()).hexdigest()


def owner() -> str:
    """Return user, host and process, as the owner of an ingest."""
    return f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}"
