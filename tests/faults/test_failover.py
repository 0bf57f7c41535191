"""Whatever happens to one worker, queries are answered by the others, and rightly."""

import asyncio
import re
import signal

import pytest

from proxy.execute.copies import MANY
from shard.errors import ServerError
from tests.faults.field import MARK, QUERIES, QUICKLY, SLOW, ask
from tests.support.agents import until
from tests.support.servers import ExtraProxy

FAULTS = {
    "agent killed": ("agent-worker2", signal.SIGKILL),
    "agent stopped": ("agent-worker2", signal.SIGSTOP),
    "server killed": ("worker2", signal.SIGKILL),
    "server stopped": ("worker2", signal.SIGSTOP),
    "server restarted": ("worker2", signal.SIGTERM),
}


REFUSED = 'skyshard_agent_jobs_total{outcome="error"}'


async def test_nothing_wrong(field):
    for sql in QUERIES:
        await field.compare(sql.format(star=7, other=32, lon=100))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_query_survives(field, fault):
    """Its worker fails in the middle of it; then others are asked, at once, until the worker is back."""
    name, number = FAULTS[fault]
    await field.until_well()
    running = asyncio.create_task(field.compare(SLOW, QUICKLY))
    await until(lambda: field.runs(2, MARK))
    process = field.signal(name, number)
    try:
        assert await running < 25
        await field.compare(SLOW.replace("150000", "5000"), QUICKLY)
        if number is signal.SIGSTOP:  # it stays away: no later query waits for it
            for sql in QUERIES:
                assert await field.compare(sql.format(star=7, other=32, lon=100)) < 3
    finally:
        if number is signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)


async def test_tables_that_are_missing_or_damaged_are_read_elsewhere(field):
    await field.until_well()
    found = await field.worker(
        1,
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab' AND TABLE_ROWS > 0 "
        "AND TABLE_NAME REGEXP '^(Star|Visit)_[0-9]+$'",
    )
    names = [row[0].decode() for row in found]
    assert len(names) > 4
    moves = [f"RENAME TABLE lab.`{name}` TO lab.`{name}_away`" for name in names[::2]]
    await field.worker(1, *moves)
    try:
        for sql in QUERIES:
            await field.compare(sql.format(star=7, other=32, lon=100))
        assert field.inside.figures("proxy1")["skyshard_bad_copies"] >= MANY
        for last in (False, False, True):
            before = field.inside.figures("worker1")[REFUSED]
            for (
                sql
            ) in QUERIES:  # what is known to be bad is not asked again, unless the good copy is in doubt too
                await field.compare(sql.format(star=7, other=32, lon=100))
            if field.inside.figures("worker1")[REFUSED] == before:
                break
            assert not last
    finally:
        await field.worker(1, *(f"RENAME TABLE lab.`{name}_away` TO lab.`{name}`" for name in names[::2]))


async def test_without_a_replica_left_the_worker_is_named(field):
    await field.until_well()
    chunk = next(iter(await field.worker(1, CHUNKS)))[0].decode()
    holders = [n for n in (1, 2, 3) if [chunk.encode()] in await field.worker(n, CHUNKS)]
    assert len(holders) == 2
    for number in holders:
        await field.worker(number, f"RENAME TABLE lab.`{chunk}` TO lab.`{chunk}_away`")
    try:
        for _ in range(2):
            with pytest.raises(ServerError, match=r"worker worker\d \(id \d\) failed") as caught:
                await field.compare("SELECT starId, d FROM Star")
            assert chunk not in caught.value.message
        await field.compare(QUICKLY)  # another table's chunks are all there
    finally:
        for number in holders:
            await field.worker(number, f"RENAME TABLE lab.`{chunk}_away` TO lab.`{chunk}`")
    await field.compare("SELECT starId, d FROM Star")


CHUNKS = (
    "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab' AND TABLE_ROWS > 0 "
    "AND TABLE_NAME REGEXP '^Star_[0-9]+$' ORDER BY 1"
)


async def test_past_the_commit_limit_the_worker_is_named(field, tmp_path):
    """Rows that have gone to the client cannot be taken back: no row is sent twice, the query fails."""
    proxy = ExtraProxy(field.cluster, tmp_path, chunk_commit_bytes=64)
    # Each row is more than servers and agents collect before they send (256 KiB), each chunk has many, and each
    # takes its time: when the client has the first row, its chunk is on its way.
    sql = (
        "SELECT visitId, Lut.n, REPEAT('x', 300000) FROM Visit, Lut "
        "WHERE SHA2(REPEAT(visitId + Lut.n, 400000), 512) > ''"
    )
    try:
        for _ in range(5):
            await field.until_well()
            async with field.client(proxy.port) as client:
                begun = asyncio.Event()
                running = asyncio.create_task(ask(client, sql, begun))
                await asyncio.wait(
                    {running, asyncio.create_task(begun.wait())}, return_when="FIRST_COMPLETED"
                )
                for number in (1, 2, 3):
                    field.signal(f"agent-worker{number}", signal.SIGKILL)
                (outcome,) = await asyncio.gather(running, return_exceptions=True)
                if not isinstance(outcome, ServerError):  # all were between two chunks, and came back in time
                    async with field.twin() as twin:
                        assert outcome == await ask(twin, sql)
                    continue
                if outcome.errno == 1158:
                    assert re.search(r"worker worker(\d) \(id \1\) was lost", outcome.message)
                    return
                assert outcome.errno == 1429  # they did not come back in time
        raise AssertionError("no row was on its way in five attempts")
    finally:
        proxy.stop()
