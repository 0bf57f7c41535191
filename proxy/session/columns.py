"""Column definitions as one client wants them.

The proxy's own connections make definitions under settings that name the same character sets but not always
the same collations, and without MariaDB's extended metadata; the session's home connection, which has the
client's own capabilities, says both when it prepares the statement.
"""

from __future__ import annotations

from collections.abc import Sequence

from shard.wire.packets import PacketError, read_lenenc_bytes
from shard.wire.protocol import BINARY_CHARSET

_FIXED = 13
"""Bytes after the names: a length and twelve bytes of properties, of which the first two are the collation."""


def dressed(definitions: Sequence[bytes], like: Sequence[bytes], extended: bool) -> list[bytes]:
    """Return definitions for a client.

    Parameters
    ----------
    definitions : sequence of bytes
        Payloads of column definitions.
    like : sequence of bytes
        The same columns as the session's home connection defines them, or nothing.
    extended : bool
        Whether the client reads extended metadata.
    """
    models = [_parts(model) for model in like] if len(like) == len(definitions) else []
    out = []
    for index, definition in enumerate(definitions):
        names, more, fixed = _parts(definition)
        if models:
            more = more or models[index][1]
            fixed = _collated(fixed, models[index][2])
        out.append(names + ((more or b"\0") if extended else b"") + fixed)
    return out


def _parts(definition: bytes) -> tuple[bytes, bytes, bytes]:
    """Return names, extended metadata and properties of a definition."""
    at = 0
    for _ in range(6):
        _, at = read_lenenc_bytes(definition, at)
    end = len(definition) - _FIXED
    if end < at:
        raise PacketError("column definition cut short")
    return definition[:at], definition[at:end], definition[end:]


def _collated(fixed: bytes, model: bytes) -> bytes:
    """Return properties with the model's collation, if both are text."""
    if BINARY_CHARSET in (int.from_bytes(fixed[1:3], "little"), int.from_bytes(model[1:3], "little")):
        return fixed
    return fixed[:1] + model[1:3] + fixed[3:]
