"""`skyshard worker status|drain|remove`: how workers are, and how they leave a cluster."""

from __future__ import annotations

import asyncio

import click
import msgspec

from shard.catalog.model import Worker
from shard.catalog.naming import literal, quote, stage_name
from shard.errors import SkyError
from skyshard.catalog.cluster import META, Cluster, alive, opened, read_workers
from skyshard.cluster.connect import ClusterAddress, plain_errors
from skyshard.cluster.options import cluster_options
from skyshard.errors import UserError
from skyshard.home.provision import bump
from skyshard.ingest.transactions import transactions
from skyshard.replicas.repair import GRACE_S, Repairer, databases

_JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker; `chunks` by database, `only_here` those of which no other worker has a copy."""

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
                f"  {database}: {chunks} chunks" + (f", {alone} of them nowhere else" if alone else "")
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
        out = []
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
                    only_here=await _only_here(cluster, worker),
                )
            )
        return out


async def _chunks(cluster: Cluster, worker: Worker, where: str) -> dict[str, int]:
    rows = await cluster.home.fetch(
        f"SELECT d.name, COUNT(*) FROM {META}.chunk_replicas r JOIN {META}.`databases` d USING (db_id) "
        f"WHERE r.worker_id = {worker.worker_id} AND r.state = 'ok'{where} GROUP BY d.name ORDER BY d.name"
    )
    return {(name or b"").decode(): int(count or b"0") for name, count in rows}


async def _only_here(cluster: Cluster, worker: Worker) -> dict[str, int]:
    """Return database → chunks of which this worker has the only copy."""
    elsewhere = (
        f"SELECT 1 FROM {META}.chunk_replicas o JOIN {META}.workers w USING (worker_id) WHERE o.db_id = r.db_id "
        f"AND o.chunk_id = r.chunk_id AND o.worker_id <> {worker.worker_id} AND o.state = 'ok' "
        "AND w.state <> 'removed'"
    )
    return await _chunks(cluster, worker, f" AND d.state <> 'dropping' AND NOT EXISTS ({elsewhere})")


async def _no_ingest(cluster: Cluster) -> None:
    rows = await cluster.home.fetch(f"SELECT db_name FROM {META}.ingests WHERE finished_at IS NULL LIMIT 1")
    if rows:
        raise UserError(
            f"an ingest of database '{(rows[0][0] or b'').decode()}' has not been finished; wait for it, or run it again"
        )


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
        await _no_ingest(cluster)
        await _give_up(cluster, worker, worker.worker_id in there)


async def _give_up(cluster: Cluster, worker: Worker, answers: bool) -> None:
    """Take all copies of a worker out of use, and drop them."""
    here = f"r.worker_id = {worker.worker_id}"
    replicas = f"{META}.chunk_replicas"
    await cluster.home.run(f"USE {META}")  # DELETE with an alias wants a default database
    await cluster.home.run("START TRANSACTION")
    await cluster.home.run(f"DELETE r FROM {replicas} r WHERE {here} AND r.state <> 'ok'")
    await cluster.home.run(
        f"DELETE r FROM {replicas} r JOIN {META}.`databases` d USING (db_id) WHERE {here} AND d.state = 'dropping'"
    )
    await cluster.home.run(  # never the last copy: without it queries would not know of the chunk
        f"DELETE r FROM {replicas} r JOIN {replicas} o ON o.db_id = r.db_id AND o.chunk_id = r.chunk_id "
        f"AND o.worker_id <> r.worker_id AND o.state = 'ok' JOIN {META}.workers w ON w.worker_id = o.worker_id "
        f"AND w.state <> 'removed' WHERE {here}"
    )
    await bump(cluster.home)
    await cluster.home.run("COMMIT")
    if left := await _chunks(cluster, worker, ""):
        raise UserError(
            f"worker '{worker.name}' has the only copies of chunks ({', '.join(left)}); run it again"
        )
    if answers:
        await asyncio.sleep(GRACE_S)
        added = await transactions(cluster.home, "i.state = 'committed'")
        names = [*await databases(cluster), *(stage_name(one.number) for one in added)]
        drops = [f"DROP DATABASE IF EXISTS {quote(name)}" for name in names]
        await cluster.agents.admin(worker.worker_id, drops)


async def _remove(address: ClusterAddress, name: str) -> int:
    async with opened(address) as cluster:
        worker = _find(cluster, name)
        if not any(one.state == "active" and one.name != name for one in cluster.workers.values()):
            raise UserError(f"worker '{name}' is the last active one")
        await _no_ingest(cluster)
        if alone := await _only_here(cluster, worker):
            database, chunks = next(iter(alone.items()))
            raise UserError(
                f"worker '{name}' has the only copy of {chunks} chunks of database '{database}'; "
                f"first run 'skyshard worker drain {name}'"
            )
        held = sum((await _chunks(cluster, worker, "")).values())
        answers = worker.worker_id in await alive(cluster)
        await _set_state(cluster, worker, "removed")
        try:
            await _give_up(cluster, worker, answers)
        except SkyError as error:
            raise UserError(f"worker '{name}' is removed, but tables are left on it: {error}") from error
        return held
