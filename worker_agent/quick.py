"""The short way of a job of one chunk: its whole small answer is read, then sent as one frame.

Most look-ups by key end here. No task, spool or queue is needed for them; a job whose answer turns out to
be long is begun again in the ordinary way (`runner.JobRun`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from backend.connection import RawConnection, Result, RowBlock, Small
from shard.wire import frames
from worker_agent.batch import main_text, notes_of, picked_parameters, typed, typed_small
from worker_agent.runner import MOST_NOTES, Floor, kill, refusal

QUICK_BYTES = 256 << 10
"""Bytes of rows past which a job is no quick one."""

Frame = tuple[frames.Whole, bytes | bytearray]


def may_be_quick(job: frames.Job) -> bool:
    """Whether a job's answer may be had in the short way."""
    return len(job.chunks) == 1 and job.interactive and not (job.setup or job.teardown or job.order)


async def quick(floor: Floor, job: frames.Job, begun: RawConnection | None = None) -> Frame | None:
    """Return a job's answer, or None if it is not to be had that way.

    Parameters
    ----------
    begun : RawConnection or None
        Where the job's statement runs already; it has its slot.

    Raises
    ------
    JobFailed
        As from `JobRun.run`.
    """
    if begun is None and not floor.scheduler.begin_one():
        async with _turn(floor, job):
            return await _run(floor, job, job.chunks[0], None)
    try:
        return await _run(floor, job, job.chunks[0], begun)
    finally:
        floor.end_one()


@contextlib.asynccontextmanager
async def _turn(floor: Floor, job: frames.Job) -> AsyncIterator[None]:
    """Wait for a slot, in turn with the interactive jobs."""
    number, turn = floor.number(), asyncio.Event()
    floor.enter(number, job, job.chunks, lambda _: turn.set())
    began = time.monotonic()
    try:
        await turn.wait()
        began = time.monotonic()
        yield
    finally:
        if turn.is_set():
            floor.batch_done(number, time.monotonic() - began)
        else:
            floor.leave(number)
        floor.forget(number)


async def _run(floor: Floor, job: frames.Job, chunk: int, begun: RawConnection | None) -> Frame | None:
    try:
        connection = begun or await floor.warm.borrow(job)
        try:
            found = await _small(connection, job, chunk, begun is not None)
            if found is None:
                connection.abort()
                return None
            types, block, result = found
            warnings, notes = await notes_of(connection, result, MOST_NOTES)
        except asyncio.CancelledError:
            await kill(connection, floor.pool.address)
            raise
        except BaseException:
            connection.abort()
            raise
        await floor.warm.give(connection, job)
    except Exception as error:
        raise refusal(error, chunk) from error
    return frames.Whole(chunk, types, block.rows, warnings, notes), block.data


async def _small(
    connection: RawConnection, job: frames.Job, chunk: int, begun: bool
) -> tuple[tuple[frames.ColumnType, ...], RowBlock, Small | Result] | None:
    """Return types, rows and end of a small answer; None if it is long."""
    result: Small | Result
    if begun:
        result = await connection.end()
    elif job.binary:
        result = await connection.execute(main_text(job, chunk), picked_parameters(job))
    else:
        result = await connection.small(main_text(job, chunk))
    if isinstance(result, Small):
        return *typed_small(result, job), result
    asked = typed(result, job)
    pieces: list[bytes | bytearray] = []
    rows = size = 0
    async for block in result.blocks():
        data = asked.recoded(block).data
        pieces.append(data)
        rows, size = rows + block.rows, size + len(data)
        if size > QUICK_BYTES:
            return None
    return asked.types, RowBlock(b"".join(pieces), rows), result
