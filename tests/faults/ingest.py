"""Kills or stops something at a random moment of an ingest, again and again; the same command finishes the job each time.

    python -m tests.faults.ingest --count 50 --seed 1

Each round adds rows to a published catalogue of its own by `skyshard ingest --append`, kills the command, an agent, a
worker's server or the home server meanwhile, or stops one of these for a while (SIGSTOP), and repeats the command until it has succeeded. In between queries see all rows of
the round or none, and afterwards there is no row more or less than there should be. After every third round the same happens
to the first ingest of a new catalogue. `--count` are faults that came before the command had ended; others do not count.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from backend.agent_link import SILENCE_S
from backend.connection import ConnectionLost, RawConnection
from shard.errors import ServerError
from tests.faults.field import WORKERS, Field
from tests.support.servers import skyshard
from tests.support.sky import Sky, signature, written

DATABASE = "grows"
ALL = ("Star", "Ref", "Visit", "Pair", "Band")
STARS = 12
_WHAT = (
    *["ingest"] * 4, *["agent"] * 2, *["server"] * 2, "home",
    "ingest stopped", "agent stopped", "server stopped", "server stopped",
)  # fmt: skip
TRIES = 6
"""Times that a command is repeated."""
CONSOLIDATE = 8
"""Rounds after which the rows are consolidated."""


class Rounds:
    """Kills during ingests on one cluster.

    Parameters
    ----------
    field : Field
        The cluster.
    directory : Path
        For the files.
    seed : int
        Of the choices: what is killed, and when.
    """

    def __init__(self, field: Field, directory: Path, seed: int) -> None:
        self._field, self._directory, self._rng = field, directory, random.Random(seed)
        self.skies = [Sky(0, 40)]
        self._bands = 1  # times that the bands u and g are there
        self._took = 6.0  # seconds of a command that nobody kills
        self.killed: Counter[str] = Counter()
        self.landed = 0  # kills that came before the command had ended

    def publish(self) -> None:
        """Publish the catalogue that grows, in two copies."""
        catalog = written(self._directory / "first", DATABASE, self.skies[0], ALL)
        self._field.cluster.ingest(catalog, "--replicas", "2")

    async def state(
        self, database: str = DATABASE, may_lack: bool = False
    ) -> dict[str, tuple[str, ...]] | None:
        """Return the answers that tell all rows; a proxy or server that is just coming back is waited for.

        Parameters
        ----------
        may_lack : bool
            The database may not be there; then the answer is None.
        """
        deadline = time.monotonic() + 60
        while True:
            try:
                async with self._field.client() as client:
                    found = {}
                    for sql in signature(self.skies[0]):
                        (row,) = await client.fetch(
                            sql.replace("FROM ", f"FROM {database}.").replace("JOIN ", f"JOIN {database}.")
                        )
                        found[sql] = tuple((value or b"").decode() for value in row)
                    return found
            except (ServerError, ConnectionLost, OSError) as error:
                if may_lack and isinstance(error, ServerError) and error.errno in (1049, 1146):
                    return None
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)

    def _run(self, catalog: Path, *options: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "skyshard.cli", "ingest", str(catalog), *options, "--dir", str(self._field.cluster.directory)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    async def round(self, number: int) -> None:
        """Add rows, kill something meanwhile, and finish."""
        sky = Sky(1000 + number * STARS, STARS)
        has_bands = number % 2 == 1
        catalog = written(self._directory / f"round{number}", DATABASE, sky, ALL if has_bands else ALL[:4])
        before, after = signature(*self.skies), signature(*self.skies, sky)
        await self._survive(number, catalog, ("--append",), before, after)
        self.skies.append(sky)
        self._bands += has_bands
        await self._joined(number)
        if number % CONSOLIDATE == CONSOLIDATE - 1:
            skyshard(
                "ingest", "--consolidate", DATABASE, "--grace", "0", "--dir", self._field.cluster.directory
            )
            assert await self.state() == after, (number, "consolidated")
            await self._joined(number)

    async def _joined(self, number: int) -> None:
        """Join with the replicated table, on the workers, and look at it at home."""
        lit = sum(str(row[4])[0] in "ug" for sky in self.skies for row in sky.star)
        wanted = [[str(lit * self._bands).encode()]], [[str(2 * self._bands).encode()]]
        async with self._field.client() as client:
            found = (
                await client.fetch(
                    f"SELECT COUNT(*) FROM {DATABASE}.Star s JOIN {DATABASE}.Band b ON b.band = LEFT(s.note, 1)"
                ),
                await client.fetch(f"SELECT COUNT(*) FROM {DATABASE}.Band"),
            )
        assert found == wanted, number

    async def first(self, number: int) -> None:
        """Publish a new catalogue, kill something meanwhile, finish, and drop it."""
        database, sky = f"fresh{number}", Sky(number * STARS, 2 * STARS)
        catalog = written(self._directory / database, database, sky, ALL)
        await self._survive(
            number, catalog, ("--replicas", "2", "--batch", "0"), None, signature(sky), database
        )
        skyshard("catalog", "drop", database, "--dir", self._field.cluster.directory)

    async def _survive(
        self,
        number: int,
        catalog: Path,
        options: tuple[str, ...],
        before: dict[str, tuple[str, ...]] | None,
        after: dict[str, tuple[str, ...]],
        database: str = DATABASE,
    ) -> None:
        """Run an ingest, kill something meanwhile, and repeat it; without `before` nothing must be seen of it till then."""
        what = self._rng.choice(_WHAT)
        moment = self._rng.uniform(0.3, self._took)
        began = time.monotonic()
        command = self._run(catalog, *options)
        await asyncio.sleep(moment)
        self.killed[what] += 1
        self.landed += command.poll() is None
        self._strike(what, command)
        output, _ = await asyncio.to_thread(command.communicate, timeout=120)
        assert await self._all_or_none(database, before, after), (number, what, moment)
        for _ in range(TRIES):
            if command.returncode == 0:
                break
            assert "Traceback" not in output, output
            command = self._run(catalog, *options)
            output, _ = await asyncio.to_thread(command.communicate, timeout=120)
        assert command.returncode == 0, (number, what, moment, output)
        if not what.startswith("ingest"):
            await self._field.until_well()
        assert await self.state(database) == after, (number, what, moment)
        self._took = 0.7 * self._took + 0.3 * min(12.0, time.monotonic() - began)

    async def _all_or_none(
        self, database: str, before: dict[str, tuple[str, ...]] | None, after: dict[str, tuple[str, ...]]
    ) -> bool:
        """Whether every query sees all rows, or none; proxies may hear of a commit between two of the queries."""
        found = await self.state(database, before is None)
        if found in (before, after):
            return True
        if found is None or before is None:
            return False
        each = all(answer in (before[sql], after[sql]) for sql, answer in found.items())
        return each and await self.state(database) == after

    def _strike(self, what: str, command: subprocess.Popen) -> None:
        part, _, stopped = what.partition(" ")
        number = signal.SIGSTOP if stopped else signal.SIGKILL
        worker = self._rng.randrange(1, WORKERS + 1)
        if part == "ingest":
            if command.poll() is None:
                os.killpg(command.pid, number)
        else:
            name = {"agent": f"agent-worker{worker}", "server": f"worker{worker}", "home": "home"}[part]
            process = self._field.signal(name, number)
        if stopped:
            away = self._rng.choice((self._rng.uniform(0.2, 5.0), SILENCE_S + 5.0))
            loop = asyncio.get_running_loop()
            if part == "ingest":
                loop.call_later(away, _go_on, command)
            else:
                loop.call_later(away, process.send_signal, signal.SIGCONT)

    async def nothing_left(self) -> None:
        """Look for what a transaction may leave behind, when workers that were away have dropped what they had still to."""
        skyshard("repair", "--dir", self._field.cluster.directory)
        skyshard("ingest", "--consolidate", DATABASE, "--grace", "0", "--dir", self._field.cluster.directory)
        connection = await RawConnection.open(self._field.inside.server("home"))
        try:
            opened = await connection.fetch("SELECT COUNT(*) FROM skyshard_meta.ingest_chunks")
            assert opened == [[b"0"]]
        finally:
            await connection.close()
        for number in range(1, WORKERS + 1):
            names = [(row[0] or b"").decode() for row in await self._field.worker(number, "SHOW DATABASES")]
            assert not [name for name in names if name.startswith("skyshard_stage")], names
            tables = await self._field.worker(
                number,
                f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{DATABASE}' AND ENGINE <> 'MyISAM'",
            )
            assert tables == []
        skyshard("catalog", "drop", DATABASE, "--dir", self._field.cluster.directory)


def _go_on(command: subprocess.Popen) -> None:
    if command.poll() is None:
        os.killpg(command.pid, signal.SIGCONT)


async def play(field: Field, directory: Path, count: int, seed: int, say: bool = False) -> Rounds:
    """Play rounds until so many faults have come in time."""
    rounds = Rounds(field, directory, seed)
    rounds.publish()
    for number in itertools.count():
        if rounds.landed >= count:
            break
        await rounds.round(number)
        if number % 3 == 2:
            await rounds.first(number)
        if say:
            print(
                f"{number + 1} rounds, killed: {dict(rounds.killed)}, {rounds.landed} of them in time",
                flush=True,
            )
    await rounds.nothing_left()
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        field = Field(Path(directory))
        try:
            asyncio.run(play(field, Path(directory), options.count, options.seed, say=True))
        finally:
            field.close()
    print("no row lost or doubled")


if __name__ == "__main__":
    main()
