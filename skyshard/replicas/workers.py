"""`skyshard worker status|drain|remove`: how workers are, and how they leave a cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator

import click
import msgspec

from shard.catalog.model import Worker
from shard.catalog.naming import literal, stage_name
from shard.catalog.timing import GRACE_S
from shard.errors import SkyError
from skyshard.catalog.cluster import META, Cluster, alive, opened, read_workers
from skyshard.cluster.connect import ClusterAddress, plain_errors
from skyshard.cluster.options import cluster_options
from skyshard.errors import UserError
from skyshard.home.provision import bump
from skyshard.ingest.debts import Debt, owe, pay, settle
from skyshard.ingest.transactions import lock_database, transactions, unlock_database
from skyshard.replicas.repair import Repairer, databases

_JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker; `chunks` by database, `only_here` those of which no other worker that answers has a copy."""

    id: int
    name: str
    host: str
    port: int
    state: str
    agent: bool
    mariadb: bool
    running: int
    queued: int
    chunks: dict[str, int]
    only_here: dict[str, int]


@click.command()
@click.argument("name", required=False)
@cluster_options
@_JSON
def status(address: ClusterAddress, name: str | None, as_json: bool) -> None:
    """Show how workers are (or worker NAME), and what they hold."""
    with plain_errors():
        found = asyncio.run(_status(address, name))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    for one in found:
        health = "ok" if one.mariadb else "MariaDB does not answer" if one.agent else "no answer"
        click.echo(f"worker {one.name} (id {one.id}) at {one.host}:{one.port}: {one.state}, {health}")
        click.echo(f"  chunk queries: {one.running} running, {one.queued} waiting")
        for database, chunks in one.chunks.items():
            alone = one.only_here.get(database, 0)
            click.echo(
                f"  {database}: {chunks} chunks"
                + (f", {alone} of them on no other worker that answers" if alone else "")
            )


@click.command()
@click.argument("name")
@cluster_options
@click.option("--cancel", is_flag=True, help="Give the worker new chunks again.")
def drain(address: ClusterAddress, name: str, cancel: bool) -> None:
    """Empty worker NAME: its chunks move to other workers while queries run.

    If this is interrupted, run it again; `skyshard worker remove NAME` comes after.
    """
    with plain_errors():
        asyncio.run(_cancel(address, name) if cancel else _drain(address, name))
    click.echo(f"Worker {name} is active." if cancel else f"Worker {name} is empty.")


@click.command()
@click.argument("name")
@cluster_options
def remove(address: ClusterAddress, name: str) -> None:
    """Take worker NAME, which need not answer any more, out of the cluster; no chunk may be on it alone."""
    with plain_errors():
        missing = asyncio.run(_remove(address, name))
    click.echo(f"Worker {name} is removed.")
    if missing:
        click.echo(f"  note: it had {missing} chunks; 'skyshard repair' makes other copies of them")


def _find(cluster: Cluster, name: str) -> Worker:
    for worker in cluster.workers.values():
        if worker.name == name:
            return worker
    known = ", ".join(worker.name for worker in cluster.workers.values()) or "none"
    raise UserError(f"there is no worker '{name}'; workers: {known}")


async def _status(address: ClusterAddress, name: str | None) -> list[WorkerStatus]:
    async with opened(address) as cluster:
        wanted = [_find(cluster, name)] if name is not None else list(cluster.workers.values())
        pongs = await asyncio.gather(*(cluster.agents.ping(worker.worker_id) for worker in wanted))
        there, out = await alive(cluster), []
        for worker, pong in zip(wanted, pongs, strict=True):
            out.append(
                WorkerStatus(
                    id=worker.worker_id,
                    name=worker.name,
                    host=worker.host,
                    port=worker.port,
                    state=worker.state,
                    agent=pong is not None,
                    mariadb=pong is not None and pong.mariadb_ok,
                    running=0 if pong is None else pong.running,
                    queued=0 if pong is None else pong.queued,
                    chunks=await _chunks(cluster, worker, ""),
                    only_here=await _only_here(cluster, worker, there),
                )
            )
        return out


async def _chunks(cluster: Cluster, worker: Worker, where: str) -> dict[str, int]:
    rows = await cluster.home.fetch_texts(
        f"SELECT d.name, COUNT(*) FROM {META}.chunk_replicas r JOIN {META}.`databases` d USING (db_id) "
        f"WHERE r.worker_id = {worker.worker_id} AND r.state = 'ok'{where} GROUP BY d.name ORDER BY d.name"
    )
    return {name: int(count) for name, count in rows}


def _others(worker: Worker, there: Iterable[int]) -> str:
    """Return the SQL list of the workers that answer, but for one: a copy that nobody can read may be lost for good."""
    return ", ".join(str(one) for one in sorted(there) if one != worker.worker_id) or "0"


async def _only_here(cluster: Cluster, worker: Worker, there: Iterable[int]) -> dict[str, int]:
    """Return database → chunks of which no other worker that answers has a copy."""
    elsewhere = (
        f"SELECT 1 FROM {META}.chunk_replicas o WHERE o.db_id = r.db_id AND o.chunk_id = r.chunk_id "
        f"AND o.worker_id IN ({_others(worker, there)}) AND o.state = 'ok'"
    )
    return await _chunks(cluster, worker, f" AND d.state <> 'dropping' AND NOT EXISTS ({elsewhere})")


async def _no_ingest(cluster: Cluster) -> None:
    rows = await cluster.home.fetch_texts(
        f"SELECT ingest_id, db_name, state, fingerprint <> '' FROM {META}.ingests WHERE finished_at IS NULL "
        "ORDER BY ingest_id LIMIT 1"
    )
    for number, database, state, has_number in rows:
        ways = "wait for it, or run its command again"
        if has_number == "1" and state in ("open", "running", "committing", "aborting"):
            ways += f", or abort it (skyshard ingest --abort {number})"
        raise UserError(
            f"ingest {number} of database '{database}' has not been finished, it is {state}; {ways}; then run "
            "this again"
        )


@contextlib.asynccontextmanager
async def _alone(cluster: Cluster) -> AsyncIterator[None]:
    """Keep ingests, drops and repairs of all databases away while copies of a worker are given up."""
    rows = await cluster.home.fetch_texts(f"SELECT name FROM {META}.`databases` ORDER BY name")
    names = [row[0] for row in rows]
    taken: list[str] = []
    try:
        for name in names:
            await lock_database(cluster.home, name)
            taken.append(name)
        yield
    finally:
        if not cluster.home.busy and not cluster.home.closed:
            for name in taken:
                await unlock_database(cluster.home, name)


async def _set_state(cluster: Cluster, worker: Worker, state: str) -> None:
    await cluster.home.run("START TRANSACTION")
    await cluster.home.run(
        f"UPDATE {META}.workers SET state = {literal(state)} WHERE worker_id = {worker.worker_id}"
    )
    await bump(cluster.home)
    await cluster.home.run("COMMIT")


async def _cancel(address: ClusterAddress, name: str) -> None:
    async with opened(address) as cluster:
        worker = _find(cluster, name)
        if worker.state == "draining":
            await _set_state(cluster, worker, "active")


async def _drain(address: ClusterAddress, name: str) -> None:
    async with opened(address) as cluster:
        worker = _find(cluster, name)
        there = await alive(cluster)
        others = [
            other
            for other in cluster.workers.values()
            if other.name != name and other.state == "active" and other.worker_id in there
        ]
        if not others:
            raise UserError(
                f"worker '{name}' is the last active one that answers: its chunks have nowhere to go"
            )
        await _no_ingest(cluster)
        await _set_state(cluster, worker, "draining")
        cluster.workers.update(await read_workers(cluster.home))
        repairer = Repairer(cluster)
        for database in await databases(cluster):
            outcome = await repairer.run(database)
            if outcome.failed or outcome.lost:
                what = (
                    outcome.failed[0] if outcome.failed else f"nobody who answers has chunk {outcome.lost[0]}"
                )
                raise UserError(
                    f"worker '{name}' is not empty yet: database '{database}': {what}; run it again"
                )
        async with _alone(cluster):
            await _no_ingest(cluster)
            await _give_up(cluster, worker, await alive(cluster))


async def _give_up(cluster: Cluster, worker: Worker, there: set[int], removed: bool = False) -> None:
    """Take all copies of a worker out of use, and drop them.

    What it has still to drop is written down in the same transaction (that which removes it, if it is `removed`), so that
    whatever ends this leaves no copy that is used once more, one day, as it is now.

    Parameters
    ----------
    there : set of int
        The workers that answer, whose copies stay.
    """
    here, home = f"r.worker_id = {worker.worker_id}", cluster.home
    replicas = f"{META}.chunk_replicas"
    await home.run(f"USE {META}")  # DELETE with an alias wants a default database
    await home.run("START TRANSACTION")
    if removed:
        await home.run(f"UPDATE {META}.workers SET state = 'removed' WHERE worker_id = {worker.worker_id}")
        await _no_ingest(cluster)  # one that begins later sees that the worker is removed
    await home.run(f"DELETE r FROM {replicas} r WHERE {here} AND r.state <> 'ok'")
    await home.run(
        f"DELETE r FROM {replicas} r JOIN {META}.`databases` d USING (db_id) WHERE {here} AND d.state = 'dropping'"
    )
    await home.run(  # never the last copy: without it queries would not know of the chunk
        f"DELETE r FROM {replicas} r JOIN {replicas} o ON o.db_id = r.db_id AND o.chunk_id = r.chunk_id "
        f"AND o.worker_id IN ({_others(worker, there)}) AND o.state = 'ok' WHERE {here}"
    )
    if left := await _chunks(cluster, worker, ""):
        await home.run("ROLLBACK")
        raise UserError(
            f"worker '{worker.name}' has the only copies of chunks ({', '.join(left)}); run it again"
        )
    parts = await _here(cluster)
    for database, names in parts.items():
        await owe(home, database, [worker.worker_id], Debt(db_id=0, databases=tuple(names)))
    await bump(home)
    await home.run("COMMIT")
    if worker.worker_id not in there:
        return
    await asyncio.sleep(GRACE_S)
    await _paid(cluster, worker, parts)


async def _paid(cluster: Cluster, worker: Worker, databases: Iterable[str]) -> None:
    """Let a worker that answers drop all that it has still to; of some databases it must."""
    for database in databases:
        await pay(cluster.home, cluster.agents, database, [worker.worker_id])
    await settle(cluster.home, cluster.agents, [worker.worker_id], lambda text: click.echo(text, err=True))


async def _here(cluster: Cluster) -> dict[str, list[str]]:
    """Return published database → databases on workers that have parts of it."""
    out = {name: [name] for name in await databases(cluster)}
    for one in await transactions(cluster.home, "i.state = 'committed'"):
        out.setdefault(one.database, []).append(stage_name(one.number))
    return out


async def _remove(address: ClusterAddress, name: str) -> int:
    async with opened(address) as cluster:
        if (gone := await _removed(cluster, name)) is not None:
            return await _finish(cluster, gone)
        worker = _find(cluster, name)
        if not any(one.state == "active" and one.name != name for one in cluster.workers.values()):
            raise UserError(f"worker '{name}' is the last active one")
        async with _alone(cluster):
            await _no_ingest(cluster)
            there = await alive(cluster)
            if alone := await _only_here(cluster, worker, there):
                raise UserError(_alone_with(cluster, worker, alone, there))
            held = sum((await _chunks(cluster, worker, "")).values())
            with _left_on(name):
                await _give_up(cluster, worker, there, removed=True)
        return held


def _alone_with(cluster: Cluster, worker: Worker, alone: dict[str, int], there: Iterable[int]) -> str:
    """Return what there is to say of a worker without which chunks would be lost, and what to do."""
    database, chunks = next(iter(alone.items()))
    away = [one.name for one in cluster.workers.values() if one is not worker and one.worker_id not in there]
    ways = [f"start {', '.join(away)}"] if away else []
    ways.append(f"run 'skyshard worker drain {worker.name}'")
    kind = "copy that can be reached" if away else "copy"
    return (
        f"worker '{worker.name}' has the only {kind} of {chunks} chunks of database '{database}'; first "
        f"{', or '.join(ways)}, or, if it is lost for good, restore or drop that database"
    )


@contextlib.contextmanager
def _left_on(name: str) -> Iterator[None]:
    """Say what it means that a worker did not drop its tables."""
    try:
        yield
    except SkyError as error:
        raise UserError(
            f"worker '{name}' is removed, but tables are left on it: {error}; run this again to drop them"
        ) from error


async def _removed(cluster: Cluster, name: str) -> Worker | None:
    """Return a worker that has been removed; None if there is none of that name."""
    found = await cluster.home.fetch(
        f"SELECT worker_id, host, port FROM {META}.workers WHERE name = {literal(name)} AND state = 'removed'"
    )
    for number, host, port in found:
        at, state = (host or b"").decode(), "removed"
        return Worker(worker_id=int(number or b"0"), name=name, host=at, port=int(port or b"0"), state=state)
    return None


async def _finish(cluster: Cluster, worker: Worker) -> int:
    """Let a worker that has been removed drop what is left on it, if it answers; it is removed in any case."""
    cluster.workers[worker.worker_id] = worker
    if worker.worker_id in await alive(cluster):
        async with _alone(cluster):
            with _left_on(worker.name):
                await _paid(cluster, worker, await _here(cluster))
    return 0
