"""A TCP door to a server's unix socket, which can cut what passes into pieces or stop after some bytes."""

import asyncio

from backend.address import Address


class Relay:
    """Forwards loopback connections to a unix socket.

    Parameters
    ----------
    piece : int or None
        Hand the server's bytes on in pieces of that many bytes, each in a segment of its own.
    cut_after : int or None
        Close a connection once so many bytes of the server have passed.
    """

    def __init__(self, socket: str, piece: int | None = None, cut_after: int | None = None) -> None:
        self._socket, self._piece, self.cut_after = socket, piece, cut_after
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports close

    def address(self, user: str = "root") -> Address:
        return Address(user, "", host="127.0.0.1", port=self.port)

    def _begin(self, reader, writer) -> None:
        """Serve a connection in a task of our own from the first: one that has not begun would not be known."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader, writer) -> None:
        opening = asyncio.ensure_future(asyncio.open_unix_connection(self._socket))
        try:
            inner_reader, inner_writer = await asyncio.shield(opening)
        except asyncio.CancelledError:  # a connection that is only just made has no other owner
            _, inner_writer = await opening
            for end in (writer, inner_writer):
                end.transport.abort()
            raise
        up = asyncio.ensure_future(self._copy(reader, inner_writer, None, None))
        down = asyncio.ensure_future(self._copy(inner_reader, writer, self._piece, self.cut_after))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for copy in (up, down):
                copy.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            for end in (writer, inner_writer):
                end.transport.abort()

    async def _copy(self, reader, writer, piece, cut_after) -> None:
        passed = 0
        while data := await reader.read(1 << 16):
            if cut_after is not None:
                data = data[: cut_after - passed]
            for start in range(0, len(data), piece or len(data) or 1):
                writer.write(data[start : start + (piece or len(data))])
                await writer.drain()
                if piece:
                    await asyncio.sleep(0)
            passed += len(data)
            if cut_after is not None and passed >= cut_after:
                return
