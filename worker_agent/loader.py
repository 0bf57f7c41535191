"""Loads rows and runs definitions on the worker, for ingest.

LOAD DATA LOCAL implies IGNORE: over-long text is cut and bad values become zero, all as warnings. So
every load is checked: records = rows sent, no warnings.

IGNORE also costs MyISAM its write cache: one system call a row. Where the agent shares a directory with its
server, the text therefore goes through a file there and is loaded without LOCAL, for half the processor time.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from backend.pool import Pool
from backend.tasks import to_the_end
from shard.catalog.naming import quote
from shard.errors import ServerError
from shard.wire import frames
from worker_agent.peer import Gone, Peer

FIXED_MODE = "SET SESSION sql_mode='', time_zone='+00:00'"
_FILES = "skyshard-load-"


def _failed(error: Exception) -> frames.Failed:
    if isinstance(error, ServerError):
        return frames.Failed(error.errno, error.sqlstate, error.message)
    return frames.Failed(2013, "HY000", "the worker's MariaDB server cannot be reached", retry=True)


class Incoming:
    """The text of a load, as it comes from a peer.

    Parameters
    ----------
    peer : Peer
        Who sends it.

    Attributes
    ----------
    rows : int
        How many rows the peer says it has sent; 0 until it has said so, which ends the text.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._ended = False
        self.rows = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the text."""
        while not self._ended:
            header, body = await self._peer.receive()
            if isinstance(header, frames.LoadData):
                yield bytes(body)
            elif isinstance(header, frames.LoadEnd):
                self.rows, self._ended = header.rows, True
            else:
                raise Gone

    async def skip(self) -> None:
        """Read to the end of the text what nobody wants any more."""
        while not self._ended:
            header, _ = await self._peer.receive()
            self._ended = isinstance(header, frames.LoadEnd)


async def load(
    pool: Pool, begin: frames.LoadBegin, text: Incoming, directory: Path | None = None
) -> frames.Loaded | frames.Failed:
    """Load a text, and compare the rows that were stored with those that were sent.

    Parameters
    ----------
    directory : Path or None
        Where the server may read files; None: it is sent the text over its connection.
    """
    if directory is None:
        return await _load(pool, begin, text, None)
    file = directory / f"{_FILES}{secrets.token_hex(8)}"
    try:
        try:
            await _write(file, text.pieces())
        except OSError as error:
            return frames.Failed(1026, "HY000", f"rows cannot be written to load_dir: {error.strerror}")
        return await _load(pool, begin, text, file)
    finally:
        file.unlink(missing_ok=True)


async def _write(file: Path, pieces: AsyncIterator[bytes]) -> None:
    with file.open("xb") as opened:
        async for piece in pieces:
            await asyncio.to_thread(opened.write, piece)


def remove_leftovers(directory: Path) -> None:
    """Remove the files of loads that an agent before this one did not end."""
    for file in directory.glob(_FILES + "*"):
        file.unlink(missing_ok=True)


async def _load(
    pool: Pool, begin: frames.LoadBegin, text: Incoming, file: Path | None
) -> frames.Loaded | frames.Failed:
    source = "LOCAL INFILE 'rows'" if file is None else f"INFILE {_path(file)}"
    columns = ", ".join(name if name.startswith("@") else quote(name) for name in begin.columns)
    sql = (
        f"LOAD DATA {source} INTO TABLE {quote(begin.database)}.{quote(begin.table)} "
        "CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' "
        f"({columns})"
    )
    if begin.expressions:
        sql += " SET " + ", ".join(f"{quote(name)} = {value}" for name, value in begin.expressions.items())
    try:
        async with pool.lease() as connection:
            await connection.run(FIXED_MODE)
            ok = await (connection.load(sql.encode(), text.pieces()) if file is None else connection.run(sql))
            if ok.warnings or ok.affected_rows != text.rows:
                return await _complain(connection, begin.table, ok.affected_rows, text.rows, ok.warnings)
            return frames.Loaded(ok.affected_rows)
    except (ServerError, ConnectionLost) as error:
        return _failed(error)


def _path(file: Path) -> str:
    """Return a file's name in quotes: the grammar takes no hexadecimal literal, and FIXED_MODE has escapes."""
    return "'" + str(file).replace("\\", "\\\\").replace("'", "''") + "'"


async def _complain(
    connection: RawConnection, table: str, records: int, sent: int, warnings: int
) -> frames.Failed:
    found = await connection.fetch("SHOW WARNINGS LIMIT 1")
    text = (found[0][2] or b"").decode("utf-8", "replace") if found else ""
    return frames.Failed(
        1366,
        "22007",
        f"table '{table}': {sent} rows sent, {records} stored, {warnings} warnings; first: {text}",
    )


async def admin(pool: Pool, address: Address, request: frames.Admin) -> frames.AdminDone | frames.Failed:
    """Run statements in order; return the rows of the last. If it is cancelled, the one that runs is ended."""
    try:
        async with pool.lease() as connection:
            try:
                return frames.AdminDone(await _run_all(connection, request))
            except asyncio.CancelledError:
                if connection.busy:
                    with contextlib.suppress(ConnectionLost, OSError):  # a timeout, too
                        await to_the_end(connection.kill(address))
                raise
    except (ServerError, ConnectionLost) as error:
        return _failed(error)


async def _run_all(connection: RawConnection, request: frames.Admin) -> tuple[tuple[str | None, ...], ...]:
    await connection.run(FIXED_MODE)
    if request.database:
        await connection.run(f"USE {quote(request.database)}")
    rows: list[list[bytes | None]] = []
    for statement in request.statements:
        rows = await connection.fetch(statement)
    return tuple(tuple(None if v is None else v.decode("utf-8", "replace") for v in row) for row in rows)
