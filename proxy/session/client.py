"""The client's side of a session: packets in, replies out, with backpressure."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from proxy.session.columns import dressed
from proxy.session.inbox import Inbox, Sending
from proxy.session.rows import binary_row, text_row
from proxy.session.wire import ClientGone, ClientWire
from shard.errors import LIMIT_EXCEEDED, PACKET_TOO_LARGE, SkyError
from shard.wire import rows
from shard.wire.packets import (
    MAX_PAYLOAD,
    ColumnDefinition,
    Eof,
    Err,
    Ok,
    lenenc_bytes,
    lenenc_int,
    packet,
    packet_count,
)
from shard.wire.protocol import Capability, StatusFlag

__all__ = ["ClientGone", "ClientStream", "Reply"]

LOGIN_BYTES = 1 << 20
"""Longest packet before a client has logged in."""
_UNCOUNTED = 1 << 14
"""Bytes; packets that are no longer are not counted among what is being received."""
_PIECE = 1 << 16


class Reply(Protocol):
    """Where an answer is written: the client, or a cursor that keeps it."""

    @property
    def started(self) -> bool:
        """Something of the current reply has been sent."""

    @property
    def ended(self) -> bool:
        """The current reply is complete."""

    async def columns(self, definitions: Sequence[bytes], status: int = StatusFlag.AUTOCOMMIT) -> None:
        """Send the head of a result set."""

    async def packet(self, payload: bytes) -> None:
        """Send a payload, framed and numbered."""

    async def rows(self, block: bytes | bytearray, more: bool = False) -> None:
        """Send whole row packets, numbered anew (a bytearray in place); `more` says that they end within a row."""

    async def end(self, warnings: int = 0, status: int = StatusFlag.AUTOCOMMIT) -> None:
        """Send the end of a result set."""


class ClientStream:
    """One client connection, as packets.

    Parameters
    ----------
    inbox : Inbox
        Counts what all sessions have received of packets that are not whole.

    Attributes
    ----------
    started : bool
        Something of the current reply has been sent.
    ended : bool
        The current result set has been sent to its end.
    seq : int
        Number of the next packet sent.
    limit : int
        Bytes; a longer command is refused.
    extended : bool
        The client reads MariaDB's extended metadata of columns.
    progresses : bool
        The client wants MariaDB's reports of progress.
    home_columns : sequence of bytes
        The current statement's columns as the home server defines them for this client, if that is known.
    more : bool
        The current reply is followed by another statement's of the same packet.
    """

    def __init__(self, wire: ClientWire, inbox: Inbox) -> None:
        self.wire, self._inbox, self._sending = wire, inbox, Sending(wire.refuse)
        self.gone = wire.gone
        self.capabilities = 0
        self.seq = 0
        self.started = self.ended = False
        self.bytes_sent = 0
        self.limit = LOGIN_BYTES
        self.more = self.extended = self.progresses = False
        self.home_columns: Sequence[bytes] = ()
        self._most_rows = self._row_bytes = 0
        self._within = False

    async def raw_packet(self) -> tuple[int, bytes]:
        """Return (sequence number, payload) of the next single packet, and go on numbering from it.

        Raises
        ------
        ClientGone
            If it does not come; or, after an error has been sent, if it is longer than `limit` or too much is being
            received.
        """
        try:
            return await self._packet_of(await self.wire.read(4))
        except SkyError as error:
            raise await self._refused(error) from None

    async def _refused(self, error: SkyError) -> ClientGone:
        """Say why a packet is not read on; nothing can follow it."""
        await self.error(error)
        await self.wire.linger()
        return ClientGone()

    async def _packet_of(self, head: bytes, before: int = 0) -> tuple[int, bytes]:
        """Return a packet from its head; so many bytes of its command have come `before`."""
        self.seq = (head[3] + 1) & 255
        length = int.from_bytes(head[:3], "little")
        if before + length > self.limit:
            raise SkyError(PACKET_TOO_LARGE)
        if length <= _UNCOUNTED:
            return head[3], await self.wire.read(length, begun=True)
        whole = bytearray()
        try:
            while len(whole) < length:
                piece = await self.wire.read(min(length - len(whole), _PIECE), begun=True)
                whole += piece
                self._inbox.take(self._sending, len(piece))
                self.wire.check()
            return head[3], bytes(whole)
        finally:
            self._inbox.give(self._sending, len(whole))
            whole.clear()  # the error's traceback would keep it while the client is waited for

    async def answer(self) -> bytes:
        """Return the next packet of a dialogue."""
        _, payload = await self.raw_packet()
        return payload

    async def command(self) -> bytes:
        """Return the next whole payload and begin a new reply."""
        self.wire.resting = True
        try:
            head = await self.wire.read(4)
        finally:
            self.wire.resting = False
        try:
            _, payload = await self._packet_of(head)
            if len(payload) == MAX_PAYLOAD:
                payload = await self._long(payload)
        except SkyError as error:
            raise await self._refused(error) from None
        self.begin_reply()
        return payload

    async def _long(self, payload: bytes) -> bytes:
        """Return a command that goes on in further packets."""
        whole = bytearray()
        try:
            while True:
                whole += payload
                self._inbox.take(self._sending, len(payload))
                self.wire.check()
                if len(payload) < MAX_PAYLOAD:
                    return bytes(whole)
                _, payload = await self._packet_of(await self.wire.read(4, begun=True), len(whole))
        finally:
            self._inbox.give(self._sending, len(whole))
            whole.clear()  # the error's traceback would keep it while the client is waited for

    def belongs_to(self, user: str) -> None:
        """Count what is received as a user's."""
        self._sending.user = user

    def begin_reply(self) -> None:
        """Say that nothing of the next reply has been sent."""
        self.started = self.ended = self._within = False
        self.home_columns = ()

    async def raw(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes as they are."""
        self.started = True
        self.bytes_sent += len(data)
        await self.wire.write(data)

    async def relayed(self, data: bytes, cut: bool) -> None:
        """Send bytes of a relayed reply as they are; `cut` says that they end within a packet or a row."""
        self._within = cut
        await self.raw(data)

    async def packet(self, payload: bytes) -> None:
        """Send a payload, framed and numbered."""
        await self.raw(self._framed(payload))

    async def rows(self, block: bytes | bytearray, more: bool = False) -> None:
        """Send whole row packets, numbered anew (a bytearray in place); `more` says that they end within a row."""
        numbered = self._numbered(block)
        self._within = more
        await self.raw(numbered)

    def _numbered(self, block: bytes | bytearray) -> bytearray:
        self._row_bytes += len(block)
        if self._most_rows and self._row_bytes > self._most_rows:
            raise SkyError(
                LIMIT_EXCEEDED,
                limit="size of a result",
                value=f"{self._most_rows} bytes",
                setting="limits.result_bytes",
            )
        numbered = block if isinstance(block, bytearray) else bytearray(block)
        self.seq = rows.renumber(numbered, self.seq)
        return numbered

    def limit_rows(self, most: int) -> None:
        """Let the next result have so many bytes of rows; 0 is any number."""
        self._most_rows, self._row_bytes = most, 0

    def _status(self, status: int) -> int:
        return status | StatusFlag.MORE_RESULTS if self.more else status

    @property
    def local_files(self) -> bool:
        """Whether this client sends files when it is asked to."""
        return bool(self.capabilities & Capability.LOCAL_FILES)

    @property
    def deprecate_eof(self) -> bool:
        """Whether this client wants OK packets in place of EOF."""
        return bool(self.capabilities & Capability.DEPRECATE_EOF)

    async def columns(self, definitions: Sequence[bytes], status: int = StatusFlag.AUTOCOMMIT) -> None:
        """Send the head of a result set."""
        await self.raw(self._head(definitions, status))

    def _head(self, definitions: Sequence[bytes], status: int) -> bytearray:
        eof = b"" if self.deprecate_eof else Eof(0, self._status(status)).encode()
        head, self.seq = _head(tuple(definitions), tuple(self.home_columns), self.extended, eof, self.seq)
        return bytearray(head)

    def _framed(self, payload: bytes) -> bytes:
        data = packet(payload, self.seq)
        self.seq = (self.seq + packet_count(len(payload))) & 255
        return data

    async def end(self, warnings: int = 0, status: int = StatusFlag.AUTOCOMMIT) -> None:
        """Send the end of a result set; no affected rows, whatever the number of rows."""
        self.ended = True
        await self.packet(self._tail(warnings, status))

    def _tail(self, warnings: int, status: int) -> bytes:
        if self.deprecate_eof:
            return Ok(0, 0, self._status(status), warnings).encode(0xFE)
        return Eof(warnings, self._status(status)).encode()

    async def table(
        self, definitions: Sequence[bytes], found: Sequence[list[bytes | None]], status: int, binary: bool
    ) -> None:
        """Send a small result set from its fields' texts, as a row a packet of the client's protocol."""
        kinds = [ColumnDefinition.decode(column).type for column in definitions]
        await self.columns(definitions, status)
        for row in found:
            await self.packet(binary_row(row, kinds) if binary else text_row(row))
        await self.end(0, status)

    async def whole(
        self,
        definitions: Sequence[bytes],
        block: bytes | bytearray,
        warnings: int = 0,
        status: int = StatusFlag.AUTOCOMMIT,
    ) -> None:
        """Send a small result set in one write: head, whole rows, end."""
        await self.raw(self._whole(definitions, block, warnings, status))

    def _whole(
        self, definitions: Sequence[bytes], block: bytes | bytearray, warnings: int, status: int
    ) -> bytearray:
        numbered = self._head(definitions, status)
        numbered += self._numbered(block)
        numbered += self._framed(self._tail(warnings, status))
        self.ended = True
        return numbered

    def post_whole(
        self,
        asked: bytes,
        definitions: Sequence[bytes],
        block: bytes | bytearray,
        warnings: int,
        status: int,
        home_columns: Sequence[bytes],
    ) -> None:
        """Answer a packet that waits (`ClientWire.whole`) in one write, as by `command` and `whole`."""
        self.wire.skip(len(asked))
        self.seq = (asked[3] + 1) & 255
        self.more = False
        self.begin_reply()
        self.home_columns = home_columns
        data = self._whole(definitions, block, warnings, status)
        self.started = True
        self.bytes_sent += len(data)
        self.wire.post(data)

    def post_ok(self, asked: bytes, status: int) -> None:
        """Answer a packet that waits (`ClientWire.whole`) with OK, as by `command` and `ok`."""
        self.wire.skip(len(asked))
        self.seq = (asked[3] + 1) & 255
        self.more = False
        self.begin_reply()
        data = self._framed(Ok(status=status).encode())
        self.started = True
        self.bytes_sent += len(data)
        self.wire.post(data)

    async def ok(self, status: int = StatusFlag.AUTOCOMMIT, info: bytes = b"") -> None:
        """Send OK, perhaps with a text."""
        told = lenenc_bytes(info) if info else b""
        await self.packet(Ok(status=self._status(status), info=told).encode())

    async def relayed_ok(self, ok: Ok) -> None:
        """Send the home server's OK to a part of the client's statement."""
        await self.packet(replace(ok, status=self._status(ok.status)).encode())

    async def progress(self, stage: int, stages: int, percent: float, text: str) -> None:
        """Report how far a statement is, unless its answer has begun; the reply has not begun by this."""
        if self.started or not self.progresses:
            return
        state = text.encode()[:100]
        payload = b"\xff\xff\xff\x01" + bytes((stage, stages)) + int(percent * 1000).to_bytes(3, "little")
        data = packet(payload + lenenc_bytes(state), self.seq)
        self.seq = (self.seq + 1) & 255
        await self.wire.write(data)

    async def error(self, error: SkyError) -> None:
        """Send an ERR packet, also among rows.

        Raises
        ------
        ClientGone
            Within a row the client would take it for the row's: the connection can only be closed.
        """
        if self._within:
            raise ClientGone
        await self.packet(Err(error.errno, error.sqlstate, error.message).encode())


@functools.lru_cache(1024)
def _head(
    definitions: tuple[bytes, ...], home_columns: tuple[bytes, ...], extended: bool, eof: bytes, seq: int
) -> tuple[bytes, int]:
    """Return the packets of a result set's head, and the number of the next."""
    head = bytearray()
    payloads = [lenenc_int(len(definitions)), *dressed(definitions, home_columns, extended)]
    for payload in [*payloads, eof] if eof else payloads:
        head += packet(payload, seq)
        seq = (seq + packet_count(len(payload))) & 255
    return bytes(head), seq
