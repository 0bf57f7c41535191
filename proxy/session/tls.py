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
