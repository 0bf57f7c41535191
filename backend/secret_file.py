"""Reads the file of the secret that agents and their callers share."""

from __future__ import annotations

from pathlib import Path

SHORTEST = 12
"""Bytes of a secret at least."""


class BadSecret(ValueError):  # noqa: N818 - it is what happened
    """The secret cannot be used; the text says why."""


def read(path: str) -> bytes:
    """Return the secret of a file, without blanks around it.

    Raises
    ------
    BadSecret
        If it cannot be read, or is so short that it could be guessed.
    """
    try:
        secret = Path(path).read_bytes().strip()
    except OSError as error:
        raise BadSecret(f"secret_file: {path}: {error.strerror}") from error
    if len(secret) < SHORTEST:
        raise BadSecret(
            f"secret_file: {path}: it has {len(secret)} bytes; at least {SHORTEST} random ones are needed"
        )
    return secret
