"""Workers that fail under sorted streams: others answer while no row of theirs has gone on; else an error names the worker."""

import asyncio
import re
import signal

import pytest

from shard.errors import ServerError
from shard.wire import rows
from tests.faults.field import MARK
from tests.support.agents import until

SLOW = "SELECT visitId, n, flux FROM Visit WHERE SHA2(REPEAT(visitId, 150000), 512) > '' ORDER BY n, visitId"
WIDE = "SELECT visitId, REPEAT('x', 150000) FROM Visit ORDER BY visitId"
"""More than proxy, sockets and client hold between them: rows are still to come when the first one is here."""


async def listed(connection, sql):
    result = await connection.query(sql.encode())
    found = []
    async for block in result.blocks():
        found += rows.split(block.data)
    return found


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("agent-worker2", signal.SIGKILL),
        ("agent-worker2", signal.SIGSTOP),
        ("worker2", signal.SIGKILL),
        ("worker2", signal.SIGSTOP),
    ],
)
async def test_before_the_first_row_others_answer(field, name, number):
    async with field.client() as client, field.twin() as twin:
        running = asyncio.create_task(listed(client, SLOW))
        await until(lambda: field.runs(2, MARK))
        process = field.signal(name, number)
        try:
            found = await running
        finally:
            if number is signal.SIGSTOP:
                process.send_signal(signal.SIGCONT)
        assert found == await listed(twin, SLOW.replace("150000", "1"))


async def test_behind_the_first_row_the_worker_is_named(field):
    async with field.client(keep=True) as client:
        try:
            result = await client.query(WIDE.encode())
            blocks = result.blocks()
            first = await anext(blocks)
            assert int(rows.split(first.data)[0][0]) == 1
            field.signal("agent-worker2", signal.SIGKILL)
            with pytest.raises(ServerError) as caught:
                async for _ in blocks:
                    pass
            assert caught.value.errno == 1158
            assert re.search(r"worker worker2 \(id 2\) was lost", caught.value.message)
            assert await client.fetch("SELECT 1") == [[b"1"]]
        finally:
            client.abort()
    await field.until_well()
    await field.until_spools_are_empty()
