"""The files of a transaction, as the metadata have them: what they were when they were queued, and how far they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backend.connection import RawConnection
from shard.catalog.naming import literal
from skyshard.errors import UserError
from skyshard.ingest import sources
from skyshard.ingest.files import DataFile
from skyshard.ingest.transactions import META

_REASON = 2000
"""Characters of a reason that are kept."""


class FileStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One file; `attempts` counts how often its table was begun."""

    table: str
    url: str
    size: int
    checksum: str
    state: str
    reason: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Queued:
    """A file in the queue."""

    number: int
    state: str
    table: str
    name: str
    stamp: sources.Stamp
    chunk: int | None
    is_overlap: bool

    def data_file(self) -> DataFile:
        """Return it as a file to read."""
        if sources.is_remote(self.name):
            return DataFile(Path(_local_name(self.name)), self.chunk, self.is_overlap, self.name)
        return DataFile(Path(self.name), self.chunk, self.is_overlap)

    def check(self) -> None:
        """Raise if the file is not what it was when it was queued.

        Raises
        ------
        UserError
            Saying what differs.
        """
        now = sources.stamp(self.name)
        if now.size != self.stamp.size:
            what = f"it had {self.stamp.size} bytes, and has {now.size}"
        elif now.checksum != self.stamp.checksum:
            what = "its checksum is another one"
        else:
            return
        raise UserError(
            f"{sources.shown(self.name)}: the file has changed since it was queued: {what}; abort the transaction and begin anew"
        )


def _local_name(url: str) -> str:
    """Return the name of its copy on this machine: others may be called the same."""
    return f"{hashlib.sha256(url.encode()).hexdigest()[:32]}-{sources.name_of(url)}"


def _role(chunk: int | None, is_overlap: bool) -> str:
    """Return chunk and role as the metadata have them."""
    return "" if chunk is None else f"{chunk}{'+' if is_overlap else ''}"


class Queue:
    """The files of one transaction.

    Parameters
    ----------
    home : RawConnection
        A connection to the home server.
    number : int
        The transaction.
    """

    def __init__(self, home: RawConnection, number: int) -> None:
        self._home, self._number = home, number

    async def add(self, table: str, listed: Iterable[tuple[DataFile, sources.Stamp]]) -> None:
        """Put files of a table into the queue; one that is there already is not put there twice."""
        known = {(item.table, item.url) for item in await self.status()}
        number = len(known)
        for file, stamp in listed:
            if (table, file.name) in known:
                continue
            known.add((table, file.name))
            number += 1
            role = _role(file.chunk, file.is_overlap)
            await self._home.run(
                f"INSERT INTO {META}.ingest_files (ingest_id, file_no, name, url, role, size, checksum) VALUES "
                f"({self._number}, {number}, {literal(table)}, {literal(file.name)}, '{role}', {stamp.size}, "
                f"'{stamp.checksum}')"
            )

    async def check_new(self, table: str, listed: Iterable[tuple[DataFile, sources.Stamp]]) -> None:
        """Refuse files of this machine that are those of other names in the queue: links, or copies.

        Raises
        ------
        UserError
            Naming both.
        """
        known = {
            (_role(item.chunk, item.is_overlap), item.stamp): item.name
            for item in await self.files()
            if item.table == table and not sources.is_remote(item.name)
        }
        for file, stamp in listed:
            if file.url is not None or not stamp.size:
                continue
            other = known.setdefault((_role(file.chunk, file.is_overlap), stamp), file.name)
            if other != file.name:
                raise UserError(
                    f"{file.shown}: it has the same contents as {other}, which is in the queue: its rows would be there twice"
                )

    async def files(self) -> list[Queued]:
        """Return the files, in order."""
        rows = await self._home.fetch_texts(
            f"SELECT file_no, state, name, url, size, checksum, role FROM {META}.ingest_files "
            f"WHERE ingest_id = {self._number} ORDER BY file_no"
        )
        out = []
        for number, state, table, url, size, checksum, role in rows:
            chunk = int(role.rstrip("+")) if role else None
            stamp = sources.Stamp(int(size), checksum)
            out.append(Queued(int(number), state, table, url, stamp, chunk, role.endswith("+")))
        return out

    async def status(self) -> list[FileStatus]:
        """Return how far the files are."""
        rows = await self._home.fetch(
            "SELECT name, url, size, checksum, state, reason, attempts FROM "
            f"{META}.ingest_files WHERE ingest_id = {self._number} ORDER BY file_no"
        )
        return [
            FileStatus(
                table=(row[0] or b"").decode(),
                url=(row[1] or b"").decode(),
                size=int(row[2] or b"0"),
                checksum=(row[3] or b"").decode(),
                state=(row[4] or b"").decode(),
                reason=None if row[5] is None else row[5].decode(),
                attempts=int(row[6] or b"0"),
            )
            for row in rows
        ]

    async def begin(self, listed: Sequence[Queued]) -> None:
        """Note that files are being loaded."""
        await self._set(listed, "state = 'loading', reason = NULL, attempts = attempts + 1")

    async def failed(self, listed: Sequence[Queued], reason: str) -> None:
        """Note why files were not loaded: at the file that the reason begins with, or at all."""
        shown = [sources.shown(item.name) for item in listed]
        named = max((name for name in shown if reason.startswith(name)), key=len, default=None)
        await self._set(listed, "state = 'pending'")
        which = [item for item, name in zip(listed, shown, strict=True) if named in (None, name)]
        await self._set(which, f"state = 'failed', reason = {literal(reason[:_REASON])}")

    async def loaded(self, listed: Sequence[Queued]) -> None:
        """Note that files have been loaded."""
        await self._set(listed, "state = 'loaded', reason = NULL")

    async def _set(self, listed: Sequence[Queued], what: str) -> None:
        if not listed:
            return
        numbers = ", ".join(str(item.number) for item in listed)
        await self._home.run(
            f"UPDATE {META}.ingest_files SET {what} WHERE ingest_id = {self._number} AND file_no IN ({numbers})"
        )
