"""Asynchronous jobs on two proxies, of which one is killed or restarted while they run: none is lost.

    python -m tests.faults.jobs --count 100 --seed 1

One proxy has two processes. Jobs are submitted to both in turn; in the middle of them the processes of one proxy are killed,
or it is asked to stop, and started again. Every job must be completed in the end, and its result is compared with the
answer of plain MariaDB.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from backend.connection import ConnectionLost, RawConnection
from shard.errors import ServerError
from tests.faults.field import Field, ask, some_query
from tests.support.servers import ExtraProxy

DONE_S = 240.0
"""Seconds in which all jobs must have ended."""
SLOW = "SELECT visitId, n FROM Visit WHERE SHA2(REPEAT(visitId, 30000), 512) > ''"
SAME = "SELECT visitId, n FROM Visit"
"""Has the rows of SLOW, and takes no time."""


@dataclass
class Tally:
    """What became of the jobs."""

    states: Counter = field(default_factory=Counter)
    again: int = 0  # begun more than once
    wrong: list[str] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    seconds: float = 0.0


class Jobs:
    """One run."""

    def __init__(self, there: Field, directory: Path, seed: int) -> None:
        self.field, self.rng = there, random.Random(seed)
        self.proxies = [
            ExtraProxy(there.cluster, directory / "one", processes=2),
            ExtraProxy(there.cluster, directory / "two"),
        ]
        self._jobs: dict[int, tuple[str, str]] = {}  # submitted and plain query

    async def close(self) -> None:
        """Stop the proxies."""
        for proxy in self.proxies:
            await asyncio.to_thread(proxy.stop)

    async def run(self, count: int, how: signal.Signals) -> Tally:
        """Submit jobs, end a proxy in the middle, and wait for all of them."""
        began = time.monotonic()
        broken = self.rng.randrange(2)
        for number in range(count):
            if number == count // 2:
                await self._restart(self.proxies[broken], how)
            await self._submit(number)
        tally = Tally()
        states = await self._ended()
        tally.seconds = time.monotonic() - began
        for job, (submitted, plain) in self._jobs.items():
            status, attempts = states.get(job, ("LOST", 0))
            tally.states[status] += 1
            tally.again += attempts > 1
            if status != "COMPLETED":
                tally.lost.append(job)
            elif not await self._is_right(job, plain):
                tally.wrong.append(submitted)
        return tally

    async def _submit(self, number: int) -> None:
        sql = SLOW if number % 3 == 0 else some_query(self.rng)
        proxy = self.proxies[number % 2]
        async with self.field.client(proxy.port) as client:
            ((job, _),) = await client.fetch(f"SUBMIT {sql}")
        self._jobs[int(job)] = sql, SAME if sql == SLOW else sql

    async def _restart(self, proxy: ExtraProxy, how: signal.Signals) -> None:
        """End a proxy while jobs run on it, and start it again on its port."""
        async with self.field.client() as client:
            while not (found := [row[0] for row in await client.fetch(UNDONE)]).count(b"EXECUTING"):
                if not found:  # all have ended
                    await self._submit(0)
                await asyncio.sleep(0.02)
        parent = psutil.Process(proxy.process.pid)
        family = [parent, *parent.children(recursive=True)]
        for process in family if how is signal.SIGKILL else [parent]:
            process.send_signal(how)
        await asyncio.to_thread(proxy.process.wait, 30)
        _, left = await asyncio.to_thread(psutil.wait_procs, family[1:], 30)
        assert not left
        await asyncio.to_thread(proxy.again)

    async def _ended(self) -> dict[int, tuple[str, int]]:
        """Wait until all jobs have ended; return their states and attempts."""
        home = await RawConnection.open(self.field.inside.server("home"))
        try:
            async with asyncio.timeout(DONE_S):
                while True:
                    listed = ", ".join(map(str, self._jobs))
                    rows = await home.fetch(
                        f"SELECT id, status, attempts FROM skyshard_meta.queries WHERE id IN ({listed})"
                    )
                    if not any(row[1] in (b"QUEUED", b"EXECUTING") for row in rows):
                        return {int(a or b"0"): ((b or b"").decode(), int(c or b"0")) for a, b, c in rows}
                    await asyncio.sleep(0.2)
        finally:
            await home.close()

    async def _is_right(self, job: int, plain: str) -> bool:
        async with self.field.client(self.rng.choice(self.proxies).port) as client, self.field.twin() as twin:
            found = await ask(client, f"SELECT * FROM qserv_result({job})")
            await client.run(f"CALL qserv_result_delete({job})")
            return found == await ask(twin, plain)


UNDONE = (
    "SELECT STATUS FROM information_schema.queries WHERE TYPE = 'ASYNC' AND STATUS IN ('QUEUED', 'EXECUTING')"
)


async def leftovers(there: Field) -> list[str]:
    """Return the tables of jobs that are left at home."""
    home = await RawConnection.open(there.inside.server("home"))
    try:
        rows = await home.fetch("SHOW FULL TABLES FROM skyshard_jobs WHERE Table_type = 'BASE TABLE'")
        return [(row[0] or b"").decode() for row in rows]
    finally:
        await home.close()


async def play(there: Field, directory: Path, count: int, seed: int, how: signal.Signals) -> Tally:
    """Run some jobs on a field."""
    await there.until_well()
    jobs = await asyncio.to_thread(Jobs, there, directory, seed)
    try:
        tally = await jobs.run(count, how)
    finally:
        await jobs.close()
    left = await leftovers(there)
    assert not left, left
    return tally


def report(tally: Tally) -> str:
    """Return what happened, in lines."""
    states = ", ".join(f"{number} {state}" for state, number in sorted(tally.states.items()))
    return "\n".join(
        [
            f"jobs: {states} in {tally.seconds:.0f} s; {tally.again} were begun again; {len(tally.wrong)} wrong",
            *(f"WRONG {sql}" for sql in tally.wrong),
            *(f"LOST job {job}" for job in tally.lost),
        ]
    )


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="jobs")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    bad = False
    with tempfile.TemporaryDirectory(prefix="skyshard-jobs-") as directory:
        there = Field(Path(directory))
        try:
            for how in (signal.SIGKILL, signal.SIGTERM):
                place = Path(directory) / how.name
                tally = asyncio.run(play(there, place, asked.count, asked.seed, how))
                print(f"{how.name}: {report(tally)}", flush=True)
                bad |= bool(tally.wrong or tally.lost)
        except ConnectionLost as error:
            print(f"a proxy that was not touched was lost: {error}")
            bad = True
        except ServerError as error:
            print(f"a statement about jobs was refused: {error}")
            bad = True
        finally:
            there.close()
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
