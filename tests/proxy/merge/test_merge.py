"""Rows on their way into a table at home: which of them are left out, also where long ones come in pieces."""

import pytest

from backend.row_blocks import RowBlock
from proxy.merge.merge import cut

ROW, PIECE, END = b"\1\0\0\0\1", b"a piece", b"its end"
BLOCKS = [
    RowBlock(ROW * 2, 2),
    RowBlock(PIECE, 0, more=True),
    RowBlock(PIECE, 0, more=True),
    RowBlock(END, 1),
]
BLOCKS += [RowBlock(ROW, 1)]


async def coming():
    for block in BLOCKS:
        yield block


@pytest.mark.parametrize(
    ("skip", "left"),
    [(0, ROW * 2 + PIECE * 2 + END + ROW), (1, ROW + PIECE * 2 + END + ROW), (2, PIECE * 2 + END + ROW),
     (3, ROW), (4, b""), (5, b"")],
)  # fmt: skip
async def test_the_first_rows_are_left_out(skip, left):
    found = [block async for block in cut(coming(), skip)]
    assert b"".join(block.data for block in found) == left
    assert sum(block.rows for block in found) == max(0, 4 - skip)
