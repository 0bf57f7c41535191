"""Reads tables of workers whole, through their agents: rows as LOAD DATA text, and checksums.

Copies between workers, backups and checks of a catalogue all read this way: by a job in the scan lane, so that
people's short queries go first.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from backend.agent_link import AgentPool, LinkLost
from shard.catalog.naming import quote
from shard.errors import WORKER_DOWN, ServerError, SkyError
from shard.wire import frames, rows

_SETTINGS = {"time_zone": "'+00:00'", "sql_mode": "''", "character_set_results": "'utf8mb4'"}
_PIECE_BYTES = 1 << 20
READ_SILENCE_S = 60.0
"""Seconds without a sign of life after which a source is given up."""


async def read_rows(
    agents: AgentPool, worker: int, database: str, table: str, select: str, sent: list[int]
) -> AsyncGenerator[bytes, None]:
    """Yield a table's rows as LOAD DATA text, in pieces of about 1 MiB that end with a row.

    Parameters
    ----------
    select : str
        What is selected of the table, as SQL.
    sent : list of int
        Its first number grows by the rows that have been read.

    Raises
    ------
    ServerError
        If the worker's server refuses.
    SkyError
        If the worker does not answer.
    """
    job = frames.Job(
        query_id=0,
        database=database,
        main=frames.Template((f"SELECT {select} FROM {quote(database)}.{quote(table)}".encode(),)),
        chunks=[0],
        interactive=False,
        settings=_SETTINGS,
    )
    waiting, part = bytearray(), b""
    async with aclosing(_answer(agents, worker, job)) as answer:
        async for header, body in answer:
            if header.more:
                part += body
                continue
            waiting += rows.rows_to_load(part + body if part else body)
            part = b""
            sent[0] += header.rows
            if len(waiting) >= _PIECE_BYTES:
                yield bytes(waiting)
                waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _answer(
    agents: AgentPool, worker: int, job: frames.Job
) -> AsyncGenerator[tuple[frames.Rows, bytes | bytearray], None]:
    try:
        async with agents.lease(worker) as link:
            await link.send(job)
            while True:
                header, body = await link.receive(READ_SILENCE_S)
                if isinstance(header, frames.Rows):
                    yield header, body
                elif isinstance(header, frames.Failed):
                    raise ServerError(header.errno, header.sqlstate, header.message)
                elif isinstance(header, frames.JobEnd):
                    return
    except LinkLost as error:
        raise SkyError(WORKER_DOWN, worker=agents.name(worker)) from error


async def checksums(
    agents: AgentPool, worker: int, database: str, names: Sequence[str]
) -> dict[str, str | None]:
    """Return the checksums of tables; None for one that is missing or damaged, and for all if one is refused."""
    listed = ", ".join(f"{quote(database)}.{quote(name)}" for name in names)
    try:
        found = await agents.admin(worker, [f"CHECKSUM TABLE {listed} EXTENDED"])
    except ServerError:
        return dict.fromkeys(names)
    return {name: row[1] for name, row in zip(names, found, strict=True)}


async def damaged(agents: AgentPool, worker: int, places: Sequence[str]) -> set[str]:
    """Return those of some tables (names in SQL) that are damaged, as ``database.table``.

    The server marks them, and opens them no more.
    """
    found = await agents.admin(worker, [f"CHECK TABLE {', '.join(places)}"])
    return {place or "" for place, _, kind, _ in found if (kind or "").lower() == "error"}
