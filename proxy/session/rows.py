"""Rows that the proxy itself answers with, in both protocols."""

from __future__ import annotations

import re
import struct

from shard.wire.packets import lenenc_bytes
from shard.wire.protocol import INTEGER_SIZES, MOMENT_TYPES, REAL_FORMATS

_NUMBERS = re.compile(rb"\d+")


def binary_row(values: list[bytes | None], kinds: list[int]) -> bytes:
    """Return a binary-protocol row of numbers, dates and texts, given as text."""
    nulls = sum(1 << (index + 2) for index, value in enumerate(values) if value is None)
    out = bytearray(b"\0" + nulls.to_bytes((len(values) + 9) // 8, "little"))
    for value, kind in zip(values, kinds, strict=True):
        if value is not None:
            out += _binary(value, kind)
    return bytes(out)


def _binary(value: bytes, kind: int) -> bytes:
    if kind in INTEGER_SIZES:
        return (int(value) & (1 << 8 * INTEGER_SIZES[kind]) - 1).to_bytes(INTEGER_SIZES[kind], "little")
    if kind in REAL_FORMATS:
        return struct.pack(REAL_FORMATS[kind], float(value))
    if kind in MOMENT_TYPES:
        numbers = [int(number) for number in _NUMBERS.findall(value)]
        packed = struct.pack("<HBB", *numbers[:3])
        if len(numbers) > 3:
            packed += bytes(numbers[3:6])
        if len(numbers) > 6:
            packed += int(_NUMBERS.findall(value)[6].ljust(6, b"0")).to_bytes(4, "little")
        return bytes((len(packed),)) + packed
    return lenenc_bytes(value)


def text_row(values: list[bytes | None]) -> bytes:
    """Return a text-protocol row."""
    return b"".join(b"\xfb" if value is None else lenenc_bytes(value) for value in values)
