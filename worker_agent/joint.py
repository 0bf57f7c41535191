"""One statement over the tables of several chunks, which MariaDB's MERGE engine makes one for as long as it runs.

Each statement costs its start, and each answer its way to the merge: of groups that most chunks have, one statement
over a hundred chunks says once what a hundred say each. Only MyISAM tables of one definition can be united; what cannot is
asked chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.connection import RawConnection
from shard.errors import ServerError
from shard.wire import frames

_NAME = frames.UNION_NAME.encode()
_ENDED = frozenset({1053, 1317, 1927, 1969})
"""Errors of a statement that was ended from outside: its chunks are not asked again one by one."""


@dataclass(frozen=True, slots=True)
class Union:
    """Statements that make a union of chunk tables, read it (parameters' values are still to be filled in), and drop it."""

    make: tuple[bytes, ...]
    main: bytes
    drop: bytes

    @classmethod
    def of(cls, job: frames.Job, chunks: Sequence[int]) -> Union:
        """Return the union of a job's chunks, none of which has a state."""
        if job.table is None:
            raise ValueError("the job's statement reads more than one table")
        name = job.table.named(_NAME)
        members = b",".join(job.table.fill(chunk) for chunk in chunks)
        like = b"CREATE TEMPORARY TABLE %b LIKE %b" % (name, job.table.fill(chunks[0]))
        union = b"ALTER TABLE %b ENGINE=MERGE UNION=(%b)" % (name, members)
        return cls((like, union), job.main.named(_NAME), b"DROP TEMPORARY TABLE IF EXISTS %b" % name)

    async def begin(self, connection: RawConnection) -> None:
        """Make the union.

        Raises
        ------
        ServerError
            If these tables cannot be united. A server without the engine may make a table of another, which would be
            empty, with no more than a warning.
        """
        replies = connection.ask(self.make)
        refused: ServerError | None = None
        for _ in self.make:
            try:
                ok = await (await replies.next()).drain()
            except ServerError as error:
                refused = refused or error
            else:
                if ok.warnings:
                    refused = refused or ServerError(1286, "42000", "the tables of chunks cannot be united")
        if refused is not None:
            raise refused


def may_be_joint(job: frames.Job) -> bool:
    """Whether a statement of a job may read the tables of several chunks."""
    differs = job.main.lists or job.setup or job.teardown
    return job.table is not None and not (differs or job.binary or job.order)


def divided(job: frames.Job, chunks: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which of a batch's chunks one statement reads together, and which are asked one by one.

    The table of a chunk in a state is a union itself, and cannot be part of another.
    """
    joint = tuple(chunk for chunk in chunks if not job.states.get(chunk))
    if len(joint) < 2:
        return (), chunks
    return joint, tuple(chunk for chunk in chunks if job.states.get(chunk))


def was_ended(error: ServerError) -> bool:
    """Whether a statement was ended from outside: by KILL, a limit of time, the server's end."""
    return error.errno in _ENDED
