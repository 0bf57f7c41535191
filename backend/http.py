"""A very small HTTP server for /metrics and /healthz: GET only, one answer a connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    kind: str
    body: bytes


Route = Callable[[], Awaitable[Answer]]


class HttpServer:
    """Serves fixed routes.

    Parameters
    ----------
    routes : mapping
        Path → coroutine function that makes the answer.
    """

    def __init__(self, routes: dict[str, Route]) -> None:
        self._routes = routes
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._handle, host, port)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
                parts = head.split(b" ", 2)
                path = parts[1].split(b"?")[0].decode("ascii", "replace") if len(parts) == 3 else ""
                route = self._routes.get(path)
                answer = Answer(404, "text/plain", b"not found\n") if route is None else await route()
                reason = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}.get(answer.status, "")
                writer.write(
                    f"HTTP/1.1 {answer.status} {reason}\r\nContent-Type: {answer.kind}\r\n"
                    f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n".encode()
                    + answer.body
                )
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, OSError):
                await writer.wait_closed()

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
