"""Many connections at once: idle ones cost little and stay usable while others are busy.

`SKYSHARD_IDLE` and `SKYSHARD_BUSY` are how many; `make test-load` runs the whole load.
"""

import os
import resource
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.support.rawclient import RawClient

IDLE, BUSY = int(os.environ.get("SKYSHARD_IDLE", "200")), int(os.environ.get("SKYSHARD_BUSY", "20"))
QUERIES = [
    ("SELECT COUNT(*) FROM hip.Object WHERE objectId < 5000", [(b"4996",)]),
    ("SELECT objectId FROM hip.Object WHERE objectId = 7", [(b"7",)]),
    ("SELECT COUNT(*) FROM hip.Detection WHERE objectId = 7 AND flux IS NULL", [(b"0",)]),
    ("SELECT 1 + 1", [(b"2",)]),
]


@pytest.mark.timeout(110 + IDLE // 5)
def test_idle_and_busy_connections(cluster, proxy):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * (IDLE + BUSY) + 1000)), hard))
    started = proxy(log_level="WARNING", max_connections=IDLE + BUSY + 10)
    process = psutil.Process(started.process.pid)
    before = process.memory_info().rss
    opened = []
    try:
        for _ in range(IDLE):
            opened.append(RawClient(started.port, timeout=60).connect(database="hip"))
        grown = (process.memory_info().rss - before) / IDLE
        assert grown < 300 << 10, f"an idle connection costs {grown:.0f} bytes"
        assert len({client.thread_id for client in opened}) == IDLE
        wrong, slowest = [], [0.0] * BUSY

        def work(number):
            with RawClient(started.port, timeout=60).connect(database="hip") as client:
                for turn in range(8):
                    sql, expected = QUERIES[(number + turn) % len(QUERIES)]
                    begun = time.monotonic()
                    found = client.query(sql).rows
                    slowest[number] = max(slowest[number], time.monotonic() - begun)
                    if found != expected:
                        wrong.append((sql, found))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(BUSY)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        assert opened[0].query("SELECT 5").rows == [(b"5",)]  # while the others work
        assert time.monotonic() - begun < 10
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads)
        assert not wrong
        assert max(slowest) < 60
        for number, client in enumerate(opened[:: max(1, IDLE // 50)]):
            assert client.query(f"SELECT {number}").rows == [(str(number).encode(),)]
    finally:
        for client in opened:
            client.socket.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    gone = {str(client.thread_id).encode() for client in opened}
    with RawClient(started.port, timeout=60).connect() as client:
        deadline = time.monotonic() + 20
        while gone & {row[0] for row in client.query("SHOW PROCESSLIST").rows}:
            assert time.monotonic() < deadline, "sessions of clients that left are still there"


def test_the_kernel_asks_after_clients_that_say_nothing(cluster):
    with RawClient(cluster.port).connect() as client:
        ours, theirs = (
            f":{name[1]:04X}" for name in (client.socket.getsockname(), client.socket.getpeername())
        )
        timer, deadline = "", time.monotonic() + 10
        while not timer.startswith("02:"):  # keepalive; till the last answer is acknowledged it is another
            assert time.monotonic() < deadline, timer
            lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
            ((*_, timer),) = (
                line[:6] for line in lines if line[1].endswith(theirs) and line[2].endswith(ours)
            )
