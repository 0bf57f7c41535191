"""`skyshard repair`: makes missing copies of chunks, once or whenever they have been missing for too long."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable

import click
import msgspec

from backend import repair_watch as watch
from backend.connection import ConnectionLost
from shard.catalog.naming import literal
from shard.errors import SkyError
from skyshard.catalog.cluster import META, Cluster, alive, opened
from skyshard.cluster.connect import ClusterAddress, mistake, plain_errors
from skyshard.cluster.options import cluster_options
from skyshard.errors import UserError
from skyshard.ingest.debts import settle
from skyshard.replicas.repair import Outcome, Repairer, databases

WATCH_S = 2.0
"""Seconds between two looks of `--auto-repair-after`."""
EXAMINE_S = 60.0
"""Seconds after which it counts the rows of all copies again."""


@click.command()
@click.argument("database", required=False)
@cluster_options
@click.option("--rebalance", is_flag=True, help="Move chunks, too, until workers hold equally many.")
@click.option(
    "--auto-repair-after",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Run until a signal, and repair whenever copies have been missing for so long.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def repair_command(
    address: ClusterAddress,
    database: str | None,
    rebalance: bool,
    auto_repair_after: float | None,
    as_json: bool,
) -> None:
    """Copy the chunks of DATABASE (or of all) that have too few copies, while queries run.

    Copies on workers that do not answer do not count. Workers that were away drop what they have still to. If this is
    interrupted, run it again.
    """
    if auto_repair_after is not None:
        asyncio.run(_watch(address, database, auto_repair_after, rebalance))
        return
    with plain_errors():
        outcomes = asyncio.run(_repair(address, database, rebalance, _quiet if as_json else _progress))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(outcomes)).decode())
    else:
        for outcome in outcomes:
            click.echo(_line(outcome))
    bad = [outcome for outcome in outcomes if outcome.failed or outcome.lost]
    if bad:
        what = bad[0].failed[0] if bad[0].failed else f"nobody who answers has chunk {bad[0].lost[0]}"
        raise UserError(f"database '{bad[0].database}': {what}")


def _quiet(text: str) -> None:
    """Say nothing."""


def _problem(text: str) -> None:
    click.echo(f"skyshard repair: {text}", err=True)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{text}", err=True, nl=False)


def _line(outcome: Outcome) -> str:
    return (
        f"{outcome.database}: {outcome.chunks} chunks, {outcome.copied} copies made ({outcome.rows:,} rows), "
        f"{outcome.removed} taken away, {outcome.damaged} were damaged, {len(outcome.lost)} lost, "
        f"{len(outcome.failed)} failed"
    )


async def _repair(
    address: ClusterAddress, database: str | None, rebalance: bool, say: Callable[[str], None]
) -> list[Outcome]:
    async with opened(address) as cluster:
        repairer = Repairer(cluster, say)
        await settle(cluster.home, cluster.agents, await alive(cluster), _problem)
        if database is not None:
            return [await repairer.run(database, rebalance)]
        out = []
        for name in await databases(cluster):
            try:
                out.append(await repairer.run(name, rebalance))
            except (UserError, SkyError, ExceptionGroup) as error:
                out.append(Outcome(database=name, failed=[_reason(cluster, error)]))
        return out


def _reason(cluster: Cluster, error: Exception) -> str:
    """Return why nothing was done about one database; others go on if that is no bug, and the home server is there."""
    found = mistake(error)
    if cluster.home.closed or cluster.home.busy or isinstance(found, ExceptionGroup):
        raise found
    return str(found)


async def _watch(address: ClusterAddress, database: str | None, patience_s: float, rebalance: bool) -> None:
    """Repair what has been incomplete for `patience_s` seconds, until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    since: float | None = None
    examined = time.monotonic()
    told: set[str] = set()
    while not stop.is_set():
        try:
            async with opened(address) as cluster:
                if time.monotonic() - examined >= EXAMINE_S:
                    examined = time.monotonic()
                    await _examine(cluster, database)
                found: set[str] = set()
                await settle(cluster.home, cluster.agents, await alive(cluster), found.add)
                for text in sorted(found - told):  # not every two seconds
                    _problem(text)
                told = found
                missing = await _missing(cluster, database)
                since = (since or time.monotonic()) if missing else None
                await watch.say(cluster.home, patience_s, missing)
            if since is not None and time.monotonic() - since >= patience_s:
                for outcome in await _repair(address, database, rebalance, _quiet):
                    click.echo(_line(outcome))
                    for problem in outcome.failed:
                        click.echo(f"  {problem}", err=True)
                since = None
        except (UserError, SkyError, ConnectionLost, ExceptionGroup) as error:
            reason = mistake(error)
            if isinstance(reason, ExceptionGroup):
                raise
            _problem(str(reason))
        try:
            await asyncio.wait_for(stop.wait(), WATCH_S)
        except TimeoutError:
            continue
    with contextlib.suppress(UserError, SkyError, ConnectionLost):
        async with opened(address) as cluster:
            await watch.leave(cluster.home)


async def _examine(cluster: Cluster, database: str | None) -> None:
    """Take copies that have lost tables or rows out of use."""
    repairer = Repairer(cluster, click.echo)
    for name in [database] if database is not None else await databases(cluster):
        try:
            damaged = await repairer.examine(name)
        except (UserError, SkyError, ExceptionGroup) as error:
            _problem(f"{name}: {_reason(cluster, error)}")
            continue
        if damaged:
            click.echo(f"{name}: {damaged} copies are damaged")


async def _missing(cluster: Cluster, database: str | None) -> int:
    """Return how many copies of chunks there could be, on active workers that answer, and are not."""
    there = await alive(cluster)
    active = [number for number in there if cluster.workers[number].state == "active"]
    listed = ", ".join(map(str, active)) or "0"
    total = 0
    for name in [database] if database is not None else await databases(cluster):
        rows = await cluster.home.fetch(
            f"SELECT COALESCE(SUM(GREATEST(0, wanted - there)), 0) FROM (SELECT LEAST(d.replicas, {len(active)}) AS wanted, "
            f"SUM(r.state = 'ok' AND r.worker_id IN ({listed})) AS there "
            f"FROM {META}.chunk_replicas r JOIN {META}.`databases` d USING (db_id) "
            f"WHERE d.name = {literal(name)} GROUP BY r.chunk_id, d.replicas) AS chunks"
        )
        total += int(rows[0][0] or b"0")
    return total
