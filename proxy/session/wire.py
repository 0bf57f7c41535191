"""The socket's edge of a client connection: bytes in and out, through TLS and compression.

Received bytes pile up here and are parsed on demand, so pipelined commands are kept and a client that
sends without end is paused. TLS is done on memory buffers because the client's hello may come in the same
segment as the packet that announces it. Compressed packets (zlib) are opened one at a time, when their
content is wanted: a small compressed text can be a large one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import Callable
from typing import cast

from shard.errors import SkyError
from shard.wire.packets import MAX_PAYLOAD

HIGH_WATER = 1 << 20
"""Bytes received and not yet taken, past which reading pauses."""

_SWIFT_BYTES = 1 << 13
_PLAIN_BELOW = 50
"""Bytes; shorter payloads are not worth compressing (MariaDB's own limit)."""
_IN_THREAD = 64 << 10
"""Bytes, past which compression would hold up other sessions."""
_LEVEL = 1
_PIECE = 1 << 20
_LINGER_S = 1.0
_PROGRESS = 4096
"""Bytes that a client must send of a packet that has begun, or its rest, whenever its patience is over."""


class ClientGone(Exception):  # noqa: N818 - it is what happened
    """The client closed the connection, or broke the framing."""


class ClientWire(asyncio.Protocol):
    """Bytes of one client connection.

    Parameters
    ----------
    accepted : callable
        Called once with this wire when the connection is there.

    Attributes
    ----------
    gone : asyncio.Event
        Set when the client has disconnected.
    on_gone : callable or None
        Called at that moment, if no further command of the client waits.
    resting : bool
        The next byte that is read begins a command.
    swift : callable or None
        Called when bytes have come while `resting`; returns whether they are looked after: no reader is woken.
    patience_s : float
        Seconds without progress after which a packet that has begun is given up; 0: never.
    """

    def __init__(
        self, accepted: Callable[[ClientWire], None] = lambda _: None, private: bool = False
    ) -> None:
        self._accepted, self._private = accepted, private
        self._transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()
        self.on_gone: Callable[[], None] | None = None
        self.resting = False
        self.patience_s = 0.0
        self._refusal: SkyError | None = None
        self._arrived = 0
        self._forgetting = False
        self.swift: Callable[[], bool] | None = None
        self._received = bytearray()
        self._buffer = bytearray()
        self._at = 0
        self._want = 0
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._paused = self._full = False
        self._compressed = False
        self._packed_seq = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._shaking = False

    # what the event loop calls -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport and tell whoever waits for clients."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no common class
        self._accepted(self)

    def data_received(self, data: bytes) -> None:
        """Keep received bytes; pause the transport past the limit."""
        self._arrived += len(data)
        if self._forgetting:
            return
        if self._tls is not None:
            self._incoming.write(data)
            if not self._shaking:
                self._decrypt()
        else:
            self._keep(data)
        if self.resting and self.swift is not None and self.swift():
            return
        self._throttle()
        self.wake()

    def _keep(self, data: bytes) -> None:
        if self._compressed:
            self._received += data
        else:
            self._buffer += data

    def _decrypt(self) -> None:
        if self._tls is None:
            return
        try:
            while data := self._tls.read(1 << 18):
                self._keep(data)
            self._ended()
        except ssl.SSLWantReadError:
            self._flush()  # answers to key updates
        except ssl.SSLError:
            self._ended()
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, and wake whoever waits."""
        self._ended()
        self.resume_writing()

    def eof_received(self) -> bool:
        """Note that nothing more comes; the transport closes."""
        self._ended()
        return False

    def _ended(self) -> None:
        if not self.gone.is_set():
            self.gone.set()
            if self.on_gone is not None and self._waiting_bytes() == 0:
                self.on_gone()
        self.wake()

    def pause_writing(self) -> None:
        """Note that the transport is full."""
        self._full = True

    def resume_writing(self) -> None:
        """Note that the transport has room again."""
        self._full = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    # reading -------------------------------------------------------------------------------------

    def _waiting_bytes(self) -> int:
        return len(self._received) + len(self._buffer) - self._at

    def _throttle(self) -> None:
        if (
            not self._paused
            and self._transport is not None
            and self._waiting_bytes() > HIGH_WATER + self._want
        ):
            self._paused = True
            self._transport.pause_reading()

    def wake(self) -> None:
        """Wake whoever waits for bytes."""
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def refuse(self, why: SkyError) -> None:
        """Let who reads the rest of a packet have an error in its place."""
        self._refusal = why
        self.wake()

    def check(self) -> None:
        """Raise the error that this client's packet was refused with, if it was."""
        if self._refusal is not None:
            raise self._refusal

    def whole(self) -> bytes | None:
        """Return the only packet that waits, if it is whole: header and payload; it stays where it is."""
        size = len(self._buffer) - self._at
        if self._compressed or size < 5 or size > _SWIFT_BYTES:
            return None
        data = bytes(memoryview(self._buffer)[self._at :])
        return data if int.from_bytes(data[:3], "little") == size - 4 else None

    @property
    def quiet(self) -> bool:
        """Whether a command is waited for, and nothing of it has come."""
        return self.resting and self._waiting_bytes() == 0

    def skip(self, size: int) -> None:
        """Forget received bytes."""
        del self._buffer[: self._at + size]
        self._at = 0

    @property
    def ready(self) -> bool:
        """Whether bytes that are posted go to the client at once."""
        transport = self._transport
        gone = self.gone.is_set() or transport is None or transport.is_closing()
        return not (gone or self._full or self._compressed)

    def post(self, data: bytes | bytearray) -> None:
        """Send a few bytes of the packet stream, and do not wait; only while `ready`."""
        if self._transport is None:
            raise ClientGone
        if self._tls is None:
            self._transport.write(data)
        else:
            try:
                self._tls.write(data)
            except ssl.SSLError:
                self.abort()
            self._flush()

    async def _more(self, want: int) -> None:
        """Wait for bytes; `want` is how many the reader needs in all."""
        if self.gone.is_set():
            raise ClientGone
        self.check()
        self._want = want
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader, self._want = None, 0

    async def read(self, size: int, begun: bool = False) -> bytes:
        """Return exactly so many bytes of the packet stream.

        Parameters
        ----------
        begun : bool
            They belong to a packet, or a command, whose beginning has been read.

        Raises
        ------
        ClientGone
            If they do not come.
        SkyError
            If they are waited for, and the packet is refused.
        """
        loop = asyncio.get_running_loop()
        seen, until = 0, 0.0
        while len(self._buffer) - self._at < size:
            if self._compressed and self._open_one():
                continue
            if not self.patience_s or not (begun or self._waiting_bytes()):
                until = 0.0
                await self._more(size)
                continue
            now = loop.time()
            if not until or self._arrived - seen >= _PROGRESS:
                seen, until = self._arrived, now + self.patience_s
            if now >= until:
                self.abort()
                raise ClientGone
            timer = loop.call_at(until, self.wake)
            try:
                await self._more(size)
            finally:
                timer.cancel()
        end = self._at + size
        data = bytes(memoryview(self._buffer)[self._at : end])
        self._at = end
        if self._at >= 1 << 16 or self._at == len(self._buffer):
            del self._buffer[: self._at]
            self._at = 0
        return data

    def _open_one(self) -> bool:
        """Open the next compressed packet, if it is there as a whole."""
        if len(self._received) < 7:
            return False
        size = int.from_bytes(self._received[:3], "little")
        if len(self._received) < 7 + size:
            self._want = 7 + size
            return False
        self._packed_seq = (self._received[3] + 1) & 255
        plain = int.from_bytes(self._received[4:7], "little")
        body = bytes(memoryview(self._received)[7 : 7 + size])
        del self._received[: 7 + size]
        if plain:
            body = _inflate(body, plain)
        self._buffer += body
        return True

    # writing -------------------------------------------------------------------------------------

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes of the packet stream, waiting while the client does not take them."""
        if self._transport is None or self.gone.is_set():
            raise ClientGone
        if self._compressed:
            data = await self._pack(data)
        if self._tls is not None:
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise ClientGone from error
            self._flush()
        else:
            self._transport.write(data)
        while self._full and not self.gone.is_set():
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None

    async def _pack(self, data: bytes | bytearray | memoryview) -> bytes:
        out = bytearray()
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            piece = bytes(view[start : start + _PIECE])
            packed = b""
            if len(piece) >= _IN_THREAD:
                packed = await asyncio.to_thread(zlib.compress, piece, _LEVEL)
            elif len(piece) >= _PLAIN_BELOW:
                packed = zlib.compress(piece, _LEVEL)
            small = bool(packed) and len(packed) < len(piece)
            body = packed if small else piece
            out += len(body).to_bytes(3, "little") + bytes((self._packed_seq,))
            out += (len(piece) if small else 0).to_bytes(3, "little") + body
            self._packed_seq = (self._packed_seq + 1) & 255
        return bytes(out)

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    # changes of the connection -------------------------------------------------------------------

    def compress(self) -> None:
        """From here on both directions are compressed packets."""
        self._compressed = True
        self._received += self._buffer[self._at :]
        self._buffer.clear()
        self._at = 0

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's side of a TLS handshake.

        Raises
        ------
        ClientGone
            If it fails.
        """
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaking = True
        self._incoming.write(bytes(self._buffer[self._at :]))
        self._buffer.clear()
        self._at = 0
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                await self._more(HIGH_WATER)
            except ssl.SSLError as error:
                self._flush()
                raise ClientGone from error
        self._shaking = False
        self._flush()
        self._decrypt()

    @property
    def secure(self) -> bool:
        """Whether nobody can listen: the connection is encrypted, or does not leave this process."""
        return self._tls is not None or self._private

    @property
    def private(self) -> bool:
        """Whether this is a connection of the process to itself."""
        return self._private

    @property
    def cipher(self) -> str:
        """Name of the cipher; empty without TLS."""
        found = self._tls.cipher() if self._tls is not None else None
        return found[0] if found is not None else ""

    @property
    def tls_version(self) -> str:
        """Name of the protocol's version, as ``TLSv1.3``; empty without TLS."""
        return (self._tls.version() or "") if self._tls is not None else ""

    @property
    def peer(self) -> tuple[str, int]:
        """The client's address and port; empty and 0 if it has none."""
        return _address(self._transport, "peername")

    @property
    def local(self) -> tuple[str, int]:
        """The address and port the client connected to."""
        return _address(self._transport, "sockname")

    def farewell(self, data: bytes) -> None:
        """Send the home server's last words, whatever they are, and close."""
        if self._transport is not None and data and not self._compressed and not self._shaking:
            if self._tls is None:
                self._transport.write(data)
            else:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.write(data)
        self.close()

    async def linger(self) -> None:
        """Close to who may still be sending, and would lose the last words if bytes of his were not read."""
        self._forgetting = True
        self._received.clear()
        self._buffer.clear()
        self._at = 0
        self._goodbye()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    await self.gone.wait()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what is left and close."""
        if not self._forgetting:
            self._goodbye()
        if self._transport is not None:
            self._transport.close()

    def _goodbye(self) -> None:
        if self._tls is not None and not self._shaking and not self.gone.is_set():
            with contextlib.suppress(ssl.SSLError):  # the client's own goodbye is not waited for
                self._tls.unwrap()
            self._flush()


def _address(transport: asyncio.Transport | None, what: str) -> tuple[str, int]:
    found = transport.get_extra_info(what) if transport is not None else None
    if isinstance(found, tuple) and len(found) >= 2:
        return str(found[0]), int(found[1])
    return "", 0


def _inflate(body: bytes, size: int) -> bytes:
    """Return a compressed packet's content, which must be exactly `size` bytes."""
    if size > MAX_PAYLOAD + 4:
        raise ClientGone
    try:
        inflater = zlib.decompressobj()
        plain = inflater.decompress(body, size + 1)
    except zlib.error as error:
        raise ClientGone from error
    if len(plain) != size or not inflater.eof:
        raise ClientGone
    return plain
