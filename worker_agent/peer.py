"""One caller of an agent: its connection, its frames, and whether it is still there.

What an agent does for a caller ends with a `Cancel` frame, or with the connection; meanwhile there are signs of life.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from backend.connection import ConnectionLost
from backend.keepalive import keep_alive
from backend.tasks import ended
from backend.wire import Wire
from shard.wire import frames
from worker_agent.flight import AFTER_S, Flight

ALIVE_S = 2.0
"""Seconds between signs of life while a job has nothing to send."""
_JOINED = 1 << 14
"""Bytes of a frame's body up to which header and body are one write."""


class Gone(Exception):  # noqa: N818 - it is what happened
    """The peer closed the connection or broke the protocol."""


class PeerWire(Wire):
    """Bytes of one peer; its task is begun with the connection."""

    def __init__(self, accepted: Callable[[PeerWire], None]) -> None:
        super().__init__()
        self._accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        super().connection_made(transport)
        keep_alive(transport)
        self._accepted(self)


class Peer:
    """Frames over one TCP connection.

    Attributes
    ----------
    swift : callable or None
        Is given each frame that comes while the peer's task waits for one; returns whether it has answered it, or
        will. The task then waits on.
    flight : Flight or None
        The look-up that is on its way without a task; once the task gets its job, `begun`.
    serving : bool
        The peer's task does something.
    """

    def __init__(
        self, wire: Wire, transport: asyncio.Transport, server_answers: Callable[[], Awaitable[bool]]
    ) -> None:
        self._wire, self._transport, self._server_answers = wire, transport, server_answers
        self._decoder = frames.FrameDecoder()
        self._seen: deque[tuple[frames.Header, bytes | bytearray]] = deque()
        self._idle = self.serving = False
        self.swift: Callable[[frames.Header], bool] | None = None
        self.flight: Flight | None = None
        self.begun: Flight | None = None
        wire.first = self._arrived

    def post(self, header: frames.Header, body: bytes | bytearray = b"") -> None:
        """Send a small frame, and do not wait."""
        self._transport.write(b"".join(frames.encode(header, body)))

    async def send(self, header: frames.Header, body: bytes | bytearray = b"") -> None:
        """Send one frame; waits while the peer does not read."""
        if self._transport.is_closing():  # the loop would call that a mistake of ours
            raise Gone
        pieces = frames.encode(header, body)
        if len(body) < _JOINED:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)
        try:
            await self._wire.drain()
        except ConnectionLost as error:
            raise Gone from error

    async def say_alive(self) -> None:
        """Send `Alive` now and then, whenever nothing else is on its way and the worker's MariaDB answers.

        A server that hangs is nothing to wait for: whoever waits gives this worker up after its time of silence.
        """
        while True:
            await asyncio.sleep(ALIVE_S)
            if not self._transport.get_write_buffer_size() and await self._server_answers():
                self._transport.writelines(frames.encode(frames.Alive()))

    async def peek(self) -> frames.Header:
        """Wait for the next frame and return its header; `receive` returns the frame again."""
        self._seen.append(await self.receive())
        return self._seen[-1][0]

    async def next(self) -> tuple[frames.Header, bytes | bytearray]:
        """Return the next frame that the peer's task must serve; look-ups that `swift` answers are not among them."""
        self._idle = True
        try:
            return await self.receive()
        finally:
            self._idle = False

    async def receive(self) -> tuple[frames.Header, bytes | bytearray]:
        """Return the next frame."""
        while True:
            if self._seen:
                return self._seen.popleft()
            found = self._decoder.next() if self.flight is None else None
            if found is not None:
                return found
            try:
                self._decoder.feed(await self._wire.take(once=True))
            except ConnectionLost as error:
                raise Gone from error

    def _arrived(self, data: bytes) -> bool:
        """Offer the frames that come while the task waits to `swift`; wake the task for others."""
        if not self._idle or self.swift is None:
            return False
        if self.flight is not None:  # a cancel, or the next job: the task must see both
            self.flight.hand_over()
            return False
        self._decoder.feed(data)
        try:
            found = self._decoder.next()
        except frames.FrameError:
            self._transport.abort()
            return True
        if found is not None and not self.swift(found[0]):
            self._seen.append(found)
            self._wire.wake()
        return True

    def adopt(self, flight: Flight) -> None:
        """Give a look-up to the task."""
        self.flight, self.begun = None, flight
        self._seen.append((flight.job, b""))
        self._wire.wake()

    @property
    def busy(self) -> bool:
        """Whether something is done for it, or has not been sent."""
        unsent = self._transport.get_write_buffer_size() > 0 and not self._transport.is_closing()
        return self.serving or self.flight is not None or self.begun is not None or unsent

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def close(self) -> None:
        """Close once everything is sent."""
        self._transport.close()


class Watch:
    """Listens for the cancel of what the present task does, once that has taken a while."""

    def __init__(self, peer: Peer) -> None:
        self._peer, self._task = peer, asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(AFTER_S, self._begin)
        self._watches: list[asyncio.Task[None]] = []
        self._cause: BaseException | frames.Cancel | None = None

    def _begin(self) -> None:
        self._watches = [
            asyncio.ensure_future(self._listen()),
            asyncio.ensure_future(self._peer.say_alive()),
        ]

    async def _listen(self) -> None:
        try:
            header = await self._peer.peek()
        except (Gone, ConnectionError, frames.FrameError) as error:
            self._stop(error)
            return
        if isinstance(header, frames.Cancel):
            await self._peer.receive()
            self._stop(header)

    def _stop(self, cause: BaseException | frames.Cancel) -> None:
        self._cause = cause
        if self._task is not None:
            self._task.cancel()

    def caused(self) -> bool:
        """Whether the task was cancelled because the peer said so; raises if the peer has left."""
        if isinstance(self._cause, BaseException):
            raise self._cause
        if self._cause is not None and self._task is not None:
            self._task.uncancel()
        return self._cause is not None

    async def end(self) -> None:
        """Listen no more."""
        self._timer.cancel()
        watches, self._watches = self._watches, []
        await ended(watches)


@contextlib.asynccontextmanager
async def alive(peer: Peer) -> AsyncIterator[None]:
    """Send signs of life while something is done for a peer."""
    task = asyncio.ensure_future(peer.say_alive())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
