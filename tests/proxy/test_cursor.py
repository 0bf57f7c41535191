"""Cursors hand out rows as they are asked for; long ones packet by packet."""

import pytest

from proxy.session import cursor
from proxy.session.cursor import Cursor
from shard.wire.protocol import StatusFlag


class Client:
    """Keeps what a client would be sent."""

    def __init__(self):
        self.found, self.statuses = [], []

    async def rows(self, block, more):
        self.found.append((bytes(block), more))

    async def end(self, warnings, status):
        assert not warnings
        self.statuses.append(status)


def packets(row, size):
    parts = [row[at : at + size] for at in range(0, len(row) + 1, size)]
    return [len(part).to_bytes(3, "little") + b"\0" + part for part in parts]


@pytest.mark.parametrize("most", [7, 64, 1 << 20])
async def test_rows_of_several_packets(monkeypatch, most):
    monkeypatch.setattr(cursor, "MAX_PAYLOAD", 5)
    monkeypatch.setattr(cursor, "_READ", most)
    rows = [packets(row, 5) for row in (b"ab", b"c" * 5, b"d" * 23, b"", b"e" * 10, b"f")]
    whole = [b"".join(row) for row in rows]
    kept = Cursor(1 << 20)
    for row in rows:
        for part in row:
            await kept.rows(part, more=len(part) == 9)
    kept._file.seek(0)
    at = 0
    for wanted in (1, 2, 4, 1):
        client = Client()
        more = await kept.fetch(client, wanted, 2)
        assert b"".join(block for block, _ in client.found) == b"".join(whole[at : at + wanted])
        seen = b""
        for block, within in client.found:
            seen += block
            assert within == (seen not in {b"".join(whole[at:end]) for end in range(at, 8)})
        at += wanted
        assert more == (at < 7)
        assert client.statuses == [2 | (StatusFlag.CURSOR_EXISTS if more else StatusFlag.LAST_ROW_SENT)]
    kept.close()
