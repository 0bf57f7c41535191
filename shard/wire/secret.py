"""How agents and their callers prove to each other that they know the shared secret, without sending it.

The two proofs differ by a word, so that neither side can have its own question answered by the other.
"""

from __future__ import annotations

import hashlib
import hmac

NONCE_BYTES = 32


def caller_proof(secret: bytes, agent_nonce: bytes) -> bytes:
    """Return what a caller answers to the agent's nonce (32 bytes)."""
    return _proof(secret, b"caller", agent_nonce)


def agent_proof(secret: bytes, agent_nonce: bytes, caller_nonce: bytes) -> bytes:
    """Return what the agent answers to the caller's nonce (32 bytes)."""
    return _proof(secret, b"agent", agent_nonce, caller_nonce)


def same(one: bytes, other: bytes) -> bool:
    """Compare two proofs in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def _proof(secret: bytes, *parts: bytes) -> bytes:
    sized = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return hmac.new(secret, sized, hashlib.sha256).digest()
