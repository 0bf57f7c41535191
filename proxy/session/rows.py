"""Rows that the proxy itself answers with, in both protocols."""

from __future__ import annotations

from shard.wire.packets import lenenc_bytes

_INTEGER_SIZES = {1: 1, 2: 2, 3: 4, 8: 8, 9: 4}
"""Type byte → bytes."""


def binary_row(values: list[bytes | None], kinds: list[int]) -> bytes:
    """Return a binary-protocol row of small integers and texts, given as text."""
    nulls = sum(1 << (index + 2) for index, value in enumerate(values) if value is None)
    out = bytearray(b"\0" + nulls.to_bytes((len(values) + 9) // 8, "little"))
    for value, kind in zip(values, kinds, strict=True):
        if value is not None:
            size = _INTEGER_SIZES.get(kind)
            out += lenenc_bytes(value) if size is None else int(value).to_bytes(size, "little")
    return bytes(out)


def text_row(values: list[bytes | None]) -> bytes:
    """Return a text-protocol row."""
    return b"".join(b"\xfb" if value is None else lenenc_bytes(value) for value in values)
