"""Keeps an eye on connections over a network on which nothing may be said for long.

Without it a peer whose machine is gone leaves its connection, and what was done for it, open for hours.
"""

from __future__ import annotations

import asyncio
import socket

IDLE_S, EVERY_S, TRIES = 30, 10, 3
"""Seconds of silence before the first question to the peer's kernel, between questions, and how many go unanswered."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel end a TCP connection whose peer is gone; others stay as they are."""
    found = transport.get_extra_info("socket")
    if found is not None:
        keep_socket_alive(found)


def keep_socket_alive(found: socket.socket) -> None:
    """Do so for a socket; Linux gives what is set on one that listens to those that it accepts."""
    if found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", IDLE_S), ("TCP_KEEPINTVL", EVERY_S), ("TCP_KEEPCNT", TRIES)):
        if hasattr(socket, name):  # not everywhere under these names
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
