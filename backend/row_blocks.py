"""Rows as they travel: blocks of whole packets, and small answers that came all at once."""

from __future__ import annotations

from dataclasses import dataclass

from shard.wire import rows
from shard.wire.replies import RowsEvent


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Whole row packets and how many rows end in them.

    A row of 16 MiB or more may come in several blocks, which then hold nothing else: `more` says that it
    goes on in the next one. A block in a bytearray belongs to whoever sends it, and is numbered in place.
    """

    data: bytes | bytearray
    rows: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class Small:
    """A whole reply: the columns' tails (see `rows.small_reply`), its rows, and the number of its warnings."""

    tails: bytes
    block: RowBlock
    warnings: int


@dataclass(frozen=True, slots=True)
class Several:
    """Whole replies of the same columns: their tails, the rows of all, how many replies, and which of them have warnings.

    `warned` has the place of a reply among these, from 0, and the number of its warnings.
    """

    tails: bytes
    block: RowBlock
    replies: int
    warned: tuple[tuple[int, int], ...]


class Cutter:
    """Makes blocks of the packets that a reply's scanner finds, which may end within a row.

    Parameters
    ----------
    pieces : bool
        Whether a row of 16 MiB or more comes in several blocks, which then hold nothing else. If not, every
        block ends where a row ends, however long it gets.
    """

    def __init__(self, pieces: bool) -> None:
        self._pieces = pieces
        self._within = False
        self._held: list[RowBlock] = []

    def feed(self, event: RowsEvent) -> list[RowBlock]:
        """Return the blocks that some packets complete."""
        block = RowBlock(event.block, event.rows, not event.whole)
        if self._pieces:
            out = _cut(block, self._within)
            self._within = block.more
            return out
        self._held.append(block)
        if block.more:
            return []
        held, self._held = self._held, []
        if len(held) == 1:
            return held
        return [RowBlock(b"".join(one.data for one in held), sum(one.rows for one in held))]


def _cut(block: RowBlock, continued: bool) -> list[RowBlock]:
    """Return a block in parts: pieces of rows that are not whole, and whole rows between them."""
    data, count, out = block.data, block.rows, []
    if continued and count:
        end = rows.take(data, 1)
        out.append(RowBlock(data[:end], 1))
        data, count, continued = data[end:], count - 1, False
    if continued:
        return [RowBlock(data, 0, more=True)]
    end = rows.take(data, count) if block.more else len(data)
    if end:
        out.append(RowBlock(data[:end], count))
    if end < len(data):
        out.append(RowBlock(data[end:], 0, more=True))
    return out
