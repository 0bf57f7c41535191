"""Chunks that are run together: their statements are sent at once, their rows come as one.

A small chunk's query takes the server some ten microseconds, and waiting for each reply ten times that. Each
statement is still a packet of its own: an error is one chunk's, and no text can be taken for two statements.
"""

from __future__ import annotations

import functools
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from backend.conditions import conditions
from backend.connection import BLOCK_BYTES, RawConnection, Result, RowBlock, Small
from backend.result import PATIENCE_S
from backend.row_blocks import Several
from shard.errors import ServerError
from shard.wire import frames
from shard.wire.immediate import immediate
from shard.wire.packets import PacketError
from shard.wire.protocol import ColumnFlag
from shard.wire.recode import Recoder
from worker_agent.joint import Union, divided, was_ended

_FIXED = 13
"""Bytes at the end of a column definition whose places are fixed, their number included."""
_TAIL = struct.Struct("<HIBHB")

HOLD_S = 0.02
"""Seconds that a few rows wait for those of the next chunks."""

Types = tuple[frames.ColumnType, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A chunk's answer before its rows: their types, and what gives them those the proxy wants."""

    result: Result
    types: Types
    recoder: Recoder | None

    def recoded(self, block: RowBlock) -> RowBlock:
        """Return a block of rows in the types that the proxy wants; of a piece of a long row nothing may be ready yet."""
        if self.recoder is None:
            return block
        return RowBlock(self.recoder.rows(block.data), block.rows, block.more)


def together(job: frames.Job) -> bool:
    """Whether several chunks of a job can be run at once: all commands of a batch are of one kind."""
    return not (job.binary and (job.setup or job.teardown))


class Batch:
    """Some chunks of a job.

    Attributes
    ----------
    chunk : int
        The chunk that is being answered.
    answers : bool
        Whether that chunk's tables are made: there may be rows of it.
    types : tuple of frames.ColumnType
        Types of the rows, known before the first of them.
    warnings : int
        Conditions that the statements ended with.
    notes : tuple of frames.Note
        The first of them.
    joint_chunks : int
        How many chunks one statement has read together.
    size : int
        Bytes of rows that have been kept.
    refused : bool
        Whether one statement was to read several chunks, and could not.
    """

    def __init__(
        self, job: frames.Job, chunks: tuple[int, ...], most_notes: int, joint: bool = False
    ) -> None:
        self._job, self._chunks, self._most_notes = job, chunks, most_notes
        self._joint, self._single = divided(job, chunks) if joint else ((), chunks)
        self.joint_chunks = self.size = 0
        self.refused = joint and not self._joint
        self._known: dict[tuple[bytes, ...], tuple[Types, Recoder | None]] = {}
        self._warned: list[int] = []
        self.chunk, self._blameless = chunks[0], False
        self.answers = False
        self.types: Types = ()
        self.warnings = 0
        self.notes: tuple[frames.Note, ...] = ()

    @property
    def at_fault(self) -> int | None:
        """The chunk whose statement was refused; None if one over several was, and none of theirs is."""
        return None if self._blameless else self.chunk

    async def run(self, connection: RawConnection) -> AsyncIterator[RowBlock]:
        """Run the chunks and yield their rows.

        Raises
        ------
        ServerError
            If a statement is refused; `at_fault` says whose it is. The connection must then be ended.
        """
        if self._joint:
            async for block in self._as_one(connection):
                yield block
        if len(self._single) > 1:
            blocks = self._together(connection)
            async for block in blocks if self._job.order else _gathered(blocks):  # each chunk's are apart
                yield block
            for chunk in self._warned:  # the statements that followed have cleared what it had to say
                self.chunk = chunk
                if len(self.notes) < self._most_notes:
                    async for _ in self._alone(connection, chunk, again=True):
                        pass
        elif self._single:
            async for block in self._alone(connection, self._single[0]):
                yield block

    async def _as_one(self, connection: RawConnection) -> AsyncIterator[RowBlock]:
        """Run one statement over the union of chunks' tables; without rows, what fails is left to be run for each chunk."""
        union = Union.of(self._job, self._joint)
        any_rows = False
        self.chunk = self._joint[0]
        try:
            await union.begin(connection)
            self.answers = True
            result = await connection.ask([_valued(union.main, self._job.main, self._job)]).next()
            asked = self._asked(result)
            async for block in result.blocks(pieces=True):
                any_rows = True
                yield asked.recoded(block)
        except ServerError as error:
            if was_ended(error):
                raise
            await connection.run(union.drop)
            if any_rows:
                await self._find_fault(connection)
                raise
            self._single, self._joint, self.refused = self._chunks, (), True
            return
        warnings, notes = await notes_of(connection, result, self._most_notes - len(self.notes))
        self.warnings += warnings
        self.notes += notes
        self.joint_chunks = len(self._joint)
        await connection.run(union.drop)

    async def _find_fault(self, connection: RawConnection) -> None:
        """Have the chunk named whose statement fails like that over the union, by asking one after the other."""
        for chunk in self._joint:
            self.chunk = chunk
            async for _ in self._alone(connection, chunk, again=True):
                pass
        self._blameless = True

    async def _together(self, connection: RawConnection) -> AsyncIterator[RowBlock]:
        job = self._job
        texts = [
            sql
            for chunk in self._single
            for sql in (*self._setup(chunk), main_text(job, chunk), *self._teardown(chunk))
        ]
        picked = picked_parameters(job)
        replies = connection.ask(texts, picked if job.binary else None)
        swift = not (job.binary or job.setup or job.teardown or job.order)
        released = time.monotonic()
        at = 0
        while at < len(self._single):
            self.chunk, self.answers = self._single[at], swift
            if not await replies.soon(max(PATIENCE_S, released + HOLD_S - time.monotonic())):
                yield _PAUSE
                released = time.monotonic()
            several = await replies.small(len(self._single) - at) if swift else None
            if several is not None:
                self._note(several, at)
                if several.block.data:
                    yield several.block
                at += several.replies
                continue
            for _ in job.setup:
                await (await replies.next()).drain()
            self.answers = True
            asked = self._asked(await replies.next(len(picked)))
            async for block in asked.result.blocks(pieces=not job.order):
                yield asked.recoded(block)
            for _ in job.teardown:
                await (await replies.next()).drain()
            if asked.result.end is not None and asked.result.end.warnings:
                self.warnings += asked.result.end.warnings
                self._warned.append(self.chunk)
            at += 1

    def _note(self, several: Several, at: int) -> None:
        """Note what the replies of several chunks, from `at` on, have said."""
        self.types = self.types or types_of(several.tails)
        for place, warnings in several.warned:
            self.warnings += warnings
            self._warned.append(self._single[at + place])

    async def _alone(
        self, connection: RawConnection, chunk: int, again: bool = False
    ) -> AsyncIterator[RowBlock]:
        """Run one chunk, and read what its conditions say; `again`: they are counted already."""
        job, setup = self._job, self._setup(chunk)
        if job.binary:
            await connection.run_all(setup)
            self.answers = True
            result = await connection.execute(main_text(job, chunk), picked_parameters(job))
        else:
            replies = connection.ask([*setup, main_text(job, chunk)])
            for _ in setup:
                await (await replies.next()).drain()
            self.answers = True
            result = await replies.next()
        asked = self._asked(result)
        async for block in result.blocks(pieces=not job.order):
            yield asked.recoded(block)
        warnings, notes = await notes_of(connection, result, self._most_notes - len(self.notes))
        self.warnings += 0 if again else warnings
        self.notes += notes
        await connection.run_all(self._teardown(chunk))

    def _setup(self, chunk: int) -> list[bytes]:
        return [_text(template, self._job, chunk) for template in self._job.setup]

    def _teardown(self, chunk: int) -> list[bytes]:
        return [_text(template, self._job, chunk) for template in self._job.teardown]

    def _asked(self, result: Result) -> Asked:
        tails = tuple([payload[-_FIXED:] for payload in result.columns])
        found = self._known.get(tails)
        if found is None:
            asked = typed(result, self._job)
            found = self._known[tails] = asked.types, asked.recoder
        self.types = self.types or found[0]
        return Asked(result, *found)


_PAUSE = RowBlock(b"", 0)
"""Stands for a server that takes its time: what is held may go on."""


async def _gathered(blocks: AsyncIterator[RowBlock]) -> AsyncIterator[RowBlock]:
    """Put small blocks together, while they come quickly; pieces of a long row stay alone.

    What came before an error is yielded before the error is raised: those chunks may have ended.
    """
    held: list[bytes | bytearray] = []
    size = count = 0
    within = False
    failed: ServerError | None = None
    try:
        async for block in blocks:
            alone, within = within or block.more, block.more
            if held and (alone or size >= BLOCK_BYTES or block is _PAUSE):
                yield RowBlock(b"".join(held), count)
                held, size, count = [], 0, 0
            if alone:
                yield block
            elif block is not _PAUSE:
                held.append(block.data)
                size, count = size + len(block.data), count + block.rows
    except ServerError as error:
        failed = error
    if held:
        yield RowBlock(b"".join(held), count)
    if failed is not None:
        raise failed


def _filled(template: frames.Template, job: frames.Job, chunk: int) -> bytes:
    return template.fill(chunk, job.states.get(chunk, 0), job.keys[chunk] if template.lists else b"")


def _text(template: frames.Template, job: frames.Job, chunk: int) -> bytes:
    """Return a statement without rows, its parameters' values included."""
    return _valued(_filled(template, job, chunk), template, job)


def _valued(sql: bytes, template: frames.Template, job: frames.Job) -> bytes:
    """Return a template's SQL with its parameters' values."""
    if not template.parameters:
        return sql
    return immediate(sql, [job.parameters[index] for index in template.parameters], job.charset)


def picked_parameters(job: frames.Job) -> list[frames.Parameter]:
    """Return the parameters of a job's main statement, in its order."""
    return [job.parameters[index] for index in job.main.parameters]


def main_text(job: frames.Job, chunk: int) -> bytes:
    """Return a job's main statement for a chunk; for text rows, its parameters' values are part of it."""
    if job.binary:
        return _filled(job.main, job, chunk)
    return _text(job.main, job, chunk)


def typed(result: Result, job: frames.Job) -> Asked:
    """Return an answer with its types and what recodes them."""
    types = tuple(_column_type(payload) for payload in result.columns)
    recoder = None
    if job.binary and job.wanted:
        wanted = (*(column.type for column in types[: job.hidden]), *job.wanted)
        types, recoder = _recoded(types, wanted)
    return Asked(result, types, recoder)


def typed_small(found: Small, job: frames.Job) -> tuple[Types, RowBlock]:
    """Return types and rows of a small answer, as the proxy wants them."""
    if not job.binary or not job.wanted:
        return types_of(found.tails), found.block
    types, recoder = _as_wanted(found.tails, job.wanted)
    block = found.block
    return types, block if recoder is None else RowBlock(recoder.rows(block.data), block.rows)


@functools.lru_cache(4096)
def _as_wanted(tails: bytes, wanted: tuple[int, ...]) -> tuple[Types, Recoder | None]:
    return _recoded(types_of(tails), wanted)


def _recoded(types: Types, wanted: tuple[int, ...]) -> tuple[Types, Recoder | None]:
    """Return the types that the proxy gets, and the recoder that makes them; None if the rows have them already."""
    recoder = Recoder([(column.type, column.unsigned) for column in types], wanted)
    given = tuple(
        msgspec.structs.replace(column, type=kind) for column, kind in zip(types, wanted, strict=True)
    )
    return given, recoder if recoder.needed else None


@functools.lru_cache(4096)
def types_of(tails: bytes) -> Types:
    """Return the types of columns from the ends of their definitions."""
    return tuple(_column_type(tails[at : at + _FIXED]) for at in range(0, len(tails), _FIXED))


async def notes_of(
    connection: RawConnection, result: Result | Small, most: int
) -> tuple[int, tuple[frames.Note, ...]]:
    """Return how many conditions a statement ended with, and the first of them."""
    if isinstance(result, Small):
        warnings = result.warnings
    else:
        warnings = result.end.warnings if result.end is not None else 0
    if not warnings or most <= 0:
        return warnings, ()
    return warnings, await conditions(connection, most)


def _column_type(payload: bytes) -> frames.ColumnType:
    """Read what is at a fixed place from a column definition's end; names and table are of no interest."""
    if len(payload) < _FIXED or payload[-_FIXED] != _FIXED - 1:
        raise PacketError("malformed column definition")
    charset, _, kind, flags, decimals = _TAIL.unpack_from(payload, len(payload) - _FIXED + 1)
    return frames.ColumnType(kind, bool(flags & ColumnFlag.UNSIGNED), decimals, charset)
