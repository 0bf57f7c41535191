"""Frames between proxy and agent: typed headers in msgpack, row blocks as raw bytes.

A frame is ``u32 length | u16 header length | header | body`` (little-endian; `length` counts what
follows it). The header is one of the structs below, tagged by its name; the body is empty but for
`Rows` and `Whole` (whole MySQL row packets) and `LoadData` (LOAD DATA text). Events of one connection:

proxy → agent: `Answer` · `Job` … `Cancel` · `Ping` · `LoadBegin` `LoadData`… `LoadEnd` · `Admin` · `Settle`
agent → proxy: `Challenge` · `Welcome` · `Columns` `Rows`… `BatchEnd`… `JobEnd` | `Whole` | `Failed` · `Alive` · `Pong`
               · `Loaded` · `AdminDone` · `Settled`

One connection carries one job at a time; after `JobEnd`, `Whole` or `Failed` it is idle again.
"""

from __future__ import annotations

import struct
from typing import Union

import msgspec

VERSION = 7
MAX_FRAME = 64 << 20
"""Bytes; a longer frame is a protocol error."""
BLOCK_BYTES = 256 << 10
"""Bytes of row packets an agent gathers into one `Rows` frame (a longer single row is sent alone)."""

SPOOL_FULL = 1104
"""Errno of a job whose rows an agent cannot keep, in `Failed` with `retry`."""
UNION_NAME = "united"
"""Stands for the chunk's number in the name of a union of chunk tables."""
ENGINE_SETTING = "default_tmp_storage_engine"
IN_MEMORY, ON_DISK = "'MEMORY'", "'MyISAM'"
"""Where a job's `setup` makes its tables without an engine of their own: on disk where memory does not suffice."""

_PREFIX = struct.Struct("<IH")


class Challenge(msgspec.Struct, frozen=True, tag="challenge"):
    """First frame of a connection, from the agent: prove that you know the secret.

    Its tag, and `version`, stay as they are in all releases, so that each can tell another's; more may be added.
    """

    version: int
    nonce: bytes


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The caller's proof, and its own question (see `shard.wire.secret`); `peer` is a name for the agent's log."""

    version: int
    proof: bytes
    nonce: bytes
    peer: str = ""


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The connection is accepted; the agent's proof. `boot_id` changes whenever the agent restarts.

    `failures` counts the times that rows did not get to its disk since then.
    """

    worker: str
    boot_id: str
    proof: bytes
    failures: int = 0


class Template(msgspec.Struct, frozen=True):
    """SQL bytes with holes for the chunk number: ``segments[0] + chunk + segments[1] + …``.

    A hole behind an underscore ends a chunk table's name. `parameters` are the statement's ``?`` marks in order, as
    indices into `Job.parameters`; `lists` are the numbers of holes that are for the chunk's keys instead.
    """

    segments: tuple[bytes, ...]
    parameters: tuple[int, ...] = ()
    lists: tuple[int, ...] = ()

    def fill(self, chunk_id: int, state: int = 0, keys: bytes = b"") -> bytes:
        """Return the SQL for one chunk, in a state that was committed after it was published (0: as it was)."""
        number = str(chunk_id).encode()
        if not state and not self.lists:
            return number.join(self.segments)
        name = number + b"_%d" % state if state else number
        *before, last = self.segments
        holes = [name if part.endswith(b"_") else number for part in before]
        for hole in self.lists:
            holes[hole] = keys
        return b"".join(part + hole for part, hole in zip(before, holes, strict=True)) + last

    def named(self, name: bytes) -> bytes:
        """Return the SQL with a name in place of the chunk's number.

        Raises
        ------
        ValueError
            If a hole is for the chunk's keys.
        """
        if self.lists:
            raise ValueError("a list of keys is one chunk's")
        return name.join(self.segments)


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of COM_STMT_EXECUTE: type byte, unsigned flag, raw binary value (None: NULL)."""

    type: int
    unsigned: bool
    value: bytes | None


class Shipped(msgspec.Struct, frozen=True):
    """A user's table that a job reads: `create` makes it, `load` is the LOAD DATA LOCAL of the lines `data`."""

    create: bytes
    load: bytes
    data: bytes


class SortKey(msgspec.Struct, frozen=True, array_like=True):
    """A column of the fragment's rows that they are sorted by: integer, number, date or datetime."""

    column: int
    kind: str
    descending: bool


class Job(msgspec.Struct, frozen=True, kw_only=True, tag="job"):
    """One query's work on one worker.

    Attributes
    ----------
    query_id : int
        Query id, for logs, metrics and cancellation.
    database : str
        Default database on the worker.
    main : Template
        The fragment whose rows are returned.
    table : Template or None
        The quoted name of the chunk table that `main` reads, if it reads no other table and says the chunk's number only
        there: one statement may then read several chunks' tables as one (`UNION_NAME`).
    setup, teardown : tuple of Template
        Statements run on the same connection before and after `main`, per chunk; no rows.
    chunks : list of int
        Chunks to run, in the order in which their answers are wanted.
    states : dict
        Chunk → the number behind its tables' names; of chunks that are not as they were published.
    keys : dict
        Chunk → the keys of the statement's IN list that are located in it, as SQL. Every chunk of the job must be there
        if any template has `lists`.
    interactive : bool
        True: the interactive lane; False: the scan lane.
    user : str
        Whose query it is; users share a lane's slots.
    settings : dict
        Session settings as SQL literals: ``{"time_zone": "'+00:00'"}``; SET before `main`. If tables of `setup`
        fill the memory that `ENGINE_SETTING` gives them, the agent changes it and runs the chunk again.
    binary : bool
        True: prepared statement and binary rows; False: text rows.
    parameters : tuple of Parameter
        Values for the ``?`` marks of the templates.
    wanted : tuple of int
        For binary rows that go to the client as they are: type bytes of their columns; empty for any.
    row_limit : int or None
        Per job: stop and end the job once that many rows went out.
    shipped : tuple of Shipped
        Temporary tables, made on every connection that runs the job.
    charset : str
        Character set that the SQL bytes are written in.
    order : tuple of SortKey
        What every chunk's rows are sorted by. All rows of the job then come sorted, as one batch.
    hidden : int
        Columns at the front of a sorted job's rows that are cut off.
    """

    query_id: int
    database: str
    main: Template
    chunks: list[int]
    states: dict[int, int] = {}
    keys: dict[int, bytes] = {}
    table: Template | None = None
    setup: tuple[Template, ...] = ()
    teardown: tuple[Template, ...] = ()
    interactive: bool = True
    user: str = ""
    settings: dict[str, str] = {}
    binary: bool = False
    parameters: tuple[Parameter, ...] = ()
    wanted: tuple[int, ...] = ()
    row_limit: int | None = None
    shipped: tuple[Shipped, ...] = ()
    charset: str = "utf8mb4"
    commit_bytes: int = 16 << 20
    order: tuple[SortKey, ...] = ()
    hidden: int = 0


class ColumnType(msgspec.Struct, frozen=True, array_like=True):
    """What of a column definition must agree between workers and home."""

    type: int
    unsigned: bool
    decimals: int
    charset: int


class Note(msgspec.Struct, frozen=True, array_like=True):
    """One row of SHOW WARNINGS."""

    level: str
    code: int
    message: str


class Columns(msgspec.Struct, frozen=True, tag="columns"):
    """Column types of the fragment's answer; sent once a job before the first rows.

    Of a sorted job, `key` is how many bytes of key are in front of every row of `Rows`, before its first packet: rows
    compare as these bytes do. `warnings` and `notes` are those of all its chunks.
    """

    columns: tuple[ColumnType, ...]
    key: int = 0
    warnings: int = 0
    notes: tuple[Note, ...] = ()


class Rows(msgspec.Struct, frozen=True, tag="rows"):
    """Body: `rows` whole MySQL row packets (headers included, sequence numbers meaningless).

    A row longer than 16 MiB is several packets and still one row. Such a row may come in several frames,
    which hold nothing else and follow each other directly; `more` says that it goes on, `rows` counts
    the rows that end here. `batch` numbers the batch of chunks that the rows belong to; rows of different
    batches may interleave.
    """

    batch: int
    rows: int
    more: bool = False


class BatchEnd(msgspec.Struct, frozen=True, tag="batch_end"):
    """All rows of these chunks have been sent: they may be released.

    `warnings` counts the conditions; `notes` are some of them.
    """

    batch: int
    chunks: tuple[int, ...]
    rows: int
    bytes: int
    warnings: int = 0
    notes: tuple[Note, ...] = ()


class Whole(msgspec.Struct, frozen=True, tag="whole"):
    """The whole answer of a job of one chunk, with few rows: `Columns`, `Rows`, `BatchEnd` and `JobEnd` in one.

    Body: as of `Rows`.
    """

    chunk: int
    columns: tuple[ColumnType, ...]
    rows: int
    warnings: int = 0
    notes: tuple[Note, ...] = ()


class JobEnd(msgspec.Struct, frozen=True, tag="job_end"):
    """The job is done; every chunk had its `BatchEnd`, unless `limited` (row_limit reached).

    `warnings` and `notes` are then those of batches that were sent in part, as far as they are known.
    """

    limited: bool = False
    warnings: int = 0
    notes: tuple[Note, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The job (or load or admin request) failed. `errno` and `sqlstate` are MariaDB's if it was the cause.

    `retry` says that another replica may succeed (table missing, server gone, spool full: `SPOOL_FULL`); `chunk` is
    the one in which it happened, if it was one.
    """

    errno: int
    sqlstate: str
    message: str
    retry: bool = False
    chunk: int | None = None


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """Sent now and then while a job runs and has nothing to send: the agent is there."""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop the running job, kill its statements; answered by `Failed` with 1317, or `JobEnd`."""


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Asks for `Pong`, at any time outside a job."""


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Health: whether the worker's MariaDB answers, queue lengths, and whether the agent is to end and refuses jobs."""

    mariadb_ok: bool
    running: int
    queued: int
    draining: bool = False


class LoadBegin(msgspec.Struct, frozen=True, kw_only=True, tag="load_begin"):
    """Begin a LOAD DATA of text that follows in `LoadData` bodies.

    The text is tab-separated, ``\\n``-terminated, backslash-escaped, ``\\N`` for NULL, utf8mb4.
    `columns` are the columns of the text in order; `expressions` are SET clauses
    (column → SQL expression over user variables), `columns` may then name ``@x`` variables.
    """

    database: str
    table: str
    columns: tuple[str, ...]
    expressions: dict[str, str] = {}


class LoadData(msgspec.Struct, frozen=True, tag="load_data"):
    """Body: a piece of the text, cut anywhere."""


class LoadEnd(msgspec.Struct, frozen=True, tag="load_end"):
    """End of the text. `rows` is how many lines were sent."""

    rows: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """Records = rows sent and no warnings: checked by the agent, else `Failed`."""

    rows: int


class Admin(msgspec.Struct, frozen=True, tag="admin"):
    """Run statements in order on the worker (DDL of ingest); rows of the last come back as text."""

    statements: tuple[str, ...]
    database: str = ""


class AdminDone(msgspec.Struct, frozen=True, tag="admin_done"):
    """Rows of the last statement of an `Admin`, as text (None for NULL)."""

    rows: tuple[tuple[str | None, ...], ...] = ()


class Settle(msgspec.Struct, frozen=True, tag="settle"):
    """Have on disk everything that the worker's MariaDB has written: the metadata are about to count on it.

    `failures` is the agent's counter (`Welcome.failures`) as it was before the caller wrote. If the counter has changed,
    the agent answers `Failed`: the kernel reports a failed write-back only once, without saying whose rows were lost.
    """

    failures: int = 0


class Settled(msgspec.Struct, frozen=True, tag="settled"):
    """It is there; a loss of power takes none of it."""


Header = Union[  # noqa: UP007 - msgspec wants a real union object at run time
    Challenge, Answer, Welcome, Job, Columns, Rows, BatchEnd, Whole, JobEnd, Failed, Alive, Cancel, Ping, Pong,
    LoadBegin, LoadData, LoadEnd, Loaded, Admin, AdminDone, Settle, Settled,
]  # fmt: skip


class FrameError(ValueError):
    """The bytes are no frame of this version."""


class FrameTooLong(FrameError):  # noqa: N818 - it is what happened
    """A frame would be longer than `MAX_FRAME`."""


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Header] = msgspec.msgpack.Decoder(Header)


def encode(
    header: Header, body: bytes | bytearray | memoryview = b""
) -> list[bytes | bytearray | memoryview]:
    """Return the pieces of a frame, for `transport.writelines` (the body is not copied).

    Raises
    ------
    FrameTooLong
        If header and body together are longer than a frame may be.
    """
    head = _encoder.encode(header)
    if 2 + len(head) + len(body) > MAX_FRAME:
        raise FrameTooLong(f"frame of {2 + len(head) + len(body)} bytes")
    if len(head) > 0xFFFF:  # long chunk lists or statements: the header rides in the body's place
        prefix = _PREFIX.pack(2 + len(head), 0)
        if body:
            raise FrameError("a frame with a body needs a header under 64 KiB")
        return [prefix + head]
    prefix = _PREFIX.pack(2 + len(head) + len(body), len(head)) + head
    return [prefix, body] if body else [prefix]


class FrameDecoder:
    """Bytes in by `feed`, frames out by `next`: knows no socket.

    The decoder never holds more than one incomplete frame beyond what it was fed.
    """

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._offset = 0
        self._max = max_frame

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add received bytes."""
        if self._offset:
            del self._buffer[: self._offset]
            self._offset = 0
        self._buffer += data

    def next(self) -> tuple[Header, bytearray] | None:
        """Return the next whole frame as (header, body), or None when more bytes are needed.

        The body is the caller's alone, to change as it likes.

        Raises
        ------
        FrameError
            If the bytes are no frame.
        """
        have = len(self._buffer) - self._offset
        if have < 4:
            return None
        length = int.from_bytes(self._buffer[self._offset : self._offset + 4], "little")
        if not 2 <= length <= self._max:
            raise FrameError(f"frame of {length} bytes")
        if have < 4 + length:
            return None
        start = self._offset + 6
        end = self._offset + 4 + length
        head = int.from_bytes(self._buffer[self._offset + 4 : start], "little")
        split = start + head if head else end
        if split > end:
            raise FrameError("header longer than its frame")
        try:
            with memoryview(self._buffer) as view:
                header = _decoder.decode(view[start:split])
                body = bytearray(view[split:end])
        except msgspec.MsgspecError as error:
            raise FrameError(str(error)) from error
        self._offset = end
        if end == len(self._buffer):  # give the memory back: many connections rest
            self._buffer, self._offset = bytearray(), 0
        return header, body
