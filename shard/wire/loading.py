r"""LOAD DATA text of text-protocol rows that come in pieces: a row of 16 MiB and more is never put together.

Its packets cut its fields anywhere, and the lengths before them, too; escapes are of single bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from shard.wire import rows
from shard.wire.packets import MAX_PAYLOAD

SLICE_BYTES = 1 << 20
"""Bytes of a long field that are written at once."""
_NULL = 0xFB
_WIDTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}
"""Bytes of a field's length that follow its first."""


class LoadText:
    """Turns blocks of row packets into LOAD DATA text, as `rows.rows_to_load` does with whole rows."""

    def __init__(self) -> None:
        self._within = False  # the next packet goes on with a row
        self._left = 0  # bytes of the current field that are still to come
        self._length = b""  # what has come of the next field's length
        self._first = True  # no field of this row has begun

    def feed(self, block: bytes | bytearray, more: bool) -> Iterator[bytes]:
        """Yield a block's text; `more` says that the block ends within a row.

        Raises
        ------
        ValueError
            If it ends elsewhere than `more` says, or a field runs past its row.
        """
        if not self._within and not more:
            yield rows.rows_to_load(block)
            return
        at = 0
        with memoryview(block) as view:
            while at < len(block):
                length = int.from_bytes(block[at : at + 3], "little")
                end = at + 4 + length
                if end > len(block):
                    raise ValueError("block ends within a packet")
                yield from self._packet(view[at + 4 : end])
                self._within = length == MAX_PAYLOAD
                if not self._within:
                    yield self._end_row()
                at = end
        if self._within != more:
            raise ValueError("block ends elsewhere than it should")

    def _packet(self, payload: memoryview) -> Iterator[bytes]:
        at = 0
        while at < len(payload):
            if self._left:
                piece = bytes(payload[at : at + min(self._left, SLICE_BYTES)])
                self._left -= len(piece)
                at += len(piece)
                yield _escaped(piece)
                continue
            known = len(self._length)
            lead = self._length[0] if known else payload[at]
            if lead == 0xFF:
                raise ValueError("no field begins with 0xFF")
            size = 1 + _WIDTHS.get(lead, 0)
            self._length += payload[at : at + size - known]
            at += len(self._length) - known
            if len(self._length) == size:
                yield self._begin_field(lead)

    def _begin_field(self, lead: int) -> bytes:
        text = b"" if self._first else b"\t"
        length, self._length, self._first = self._length, b"", False
        if lead == _NULL:
            return text + b"\\N"
        self._left = lead if lead < _NULL else int.from_bytes(length[1:], "little")
        return text

    def _end_row(self) -> bytes:
        if self._left or self._length:
            raise ValueError("field runs past its row")
        self._first = True
        return b"\n"


def _escaped(value: bytes) -> bytes:
    text = value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n")
    return text.replace(b"\0", b"\\0")


__all__ = ["LoadText"]
