"""TLS for clients, as sessions use it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tls:
    """The server's context, its certificate's fingerprint (SHA-256), and whether clients must use it."""

    context: ssl.SSLContext
    fingerprint: bytes
    required: bool = False


def towards_home() -> ssl.SSLContext:
    """Return the context of sessions at home whose accounts demand TLS.

    The home server's certificate is not verified: without such a demand the same connection has no TLS at all.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
