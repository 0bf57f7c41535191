"""The short way of a job of one chunk: its whole small answer is read, then sent in one go.

Most look-ups by key end here. No task, spool or queue is needed for them; a job whose answer turns out to
be long is begun again in the ordinary way (`runner.JobRun`).
"""

from __future__ import annotations

import asyncio

from shard.wire import frames
from worker_agent.batch import ask, notes_of
from worker_agent.runner import MOST_NOTES, Floor, kill, refusal

QUICK_BYTES = 256 << 10
"""Bytes of rows past which a job is no quick one."""

Frame = tuple[frames.Header, bytes]


async def quick(floor: Floor, job: frames.Job) -> list[Frame] | None:
    """Return all frames of a job's answer, or None if it is not to be had that way.

    Raises
    ------
    JobFailed
        As from `JobRun.run`.
    """
    if len(job.chunks) != 1 or not job.interactive or job.setup or job.teardown:
        return None
    number = floor.number()
    started: list[tuple[int, ...]] = []
    floor.enter(number, job.chunks, job.interactive, started.append)
    try:
        if not started:  # no slot is free: the job waits in the ordinary way
            floor.leave(number)
            return None
        return await _run(floor, job, job.chunks[0])
    finally:
        if started:
            floor.batch_done(number)
        floor.forget(number)


async def _run(floor: Floor, job: frames.Job, chunk: int) -> list[Frame] | None:
    try:
        connection = await floor.warm.borrow(job)
        try:
            asked = await ask(connection, job, chunk)
            out: list[Frame] = [(frames.Columns(asked.types), b"")]
            rows = size = 0
            async for block in asked.result.blocks():
                data = asked.recoded(block).data
                rows, size = rows + block.rows, size + len(data)
                if size > QUICK_BYTES:
                    connection.abort()
                    return None
                out.append((frames.Rows(0, block.rows), data))
            warnings, notes = await notes_of(connection, asked.result, MOST_NOTES)
        except asyncio.CancelledError:
            await kill(connection, floor.pool.address)
            raise
        except BaseException:
            connection.abort()
            raise
        await floor.warm.give(connection, job)
    except Exception as error:
        raise refusal(error, chunk) from error
    out.append((frames.BatchEnd(0, (chunk,), rows, size, warnings, notes), b""))
    out.append((frames.JobEnd(), b""))
    return out
