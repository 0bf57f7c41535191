"""What the home server is told about a client whose session comes to it through this proxy."""

from __future__ import annotations

import functools
import ipaddress


@functools.lru_cache(1024)
def _told(source: str, target: str) -> str:
    """Return what the PROXY protocol says of two addresses; empty if it can say nothing."""
    try:
        one, other = ipaddress.ip_address(source), ipaddress.ip_address(target)
    except ValueError:
        return ""
    return f"PROXY TCP{one.version} {one} {other}" if one.version == other.version else ""


def proxy_header(peer: tuple[str, int], local: tuple[str, int]) -> bytes:
    """Return the PROXY protocol's first line (version 1), which tells the home server who the client is."""
    told = _told(peer[0], local[0])
    return f"{told} {peer[1]} {local[1]}\r\n".encode() if told else b""
