"""`skyshard worker`: which workers a cluster has."""

from __future__ import annotations

import asyncio

import click

from backend import repair_watch as watch
from backend.agent_link import AgentPool
from shard.catalog.model import Worker
from shard.catalog.naming import META_DATABASE, quote
from shard.errors import WORKER_RELEASE, SkyError
from skyshard.cluster.connect import ClusterAddress
from skyshard.cluster.options import cluster_options
from skyshard.errors import UserError
from skyshard.home.command import checked
from skyshard.home.provision import add_worker
from skyshard.replicas.workers import drain, remove, status


@click.group("worker")
def worker_command() -> None:
    """Add workers to a cluster, list them, empty and remove them."""


for command in (status, drain, remove):
    worker_command.add_command(command)


@worker_command.command()
@click.argument("name")
@cluster_options
@click.option("--host", required=True, help="Where proxies reach the worker's agent.")
@click.option("--port", type=click.IntRange(1, 65535), default=4041, show_default=True, help="Its data port.")
@click.option(
    "--http-port",
    type=click.IntRange(0, 65535),
    default=4042,
    show_default=True,
    help="Its HTTP port; 0: none.",
)
@click.option(
    "--wait", type=click.FloatRange(0), default=0.0, help="Seconds to wait for home server and agent."
)
def add(address: ClusterAddress, name: str, host: str, port: int, http_port: int, wait: float) -> None:
    """Add worker NAME, or note that it has moved; its agent must answer by that name."""
    number = asyncio.run(_add(address, name, host, port, http_port, wait))
    click.echo(f"Worker {number} is {name} at {host}:{port}.")


async def _add(address: ClusterAddress, name: str, host: str, port: int, http_port: int, wait: float) -> int:
    connection = await checked(address.home, wait)
    try:
        await _check_agent(address, Worker(worker_id=0, name=name, host=host, port=port), wait)
        return await add_worker(connection, name, host, port, http_port)
    finally:
        await connection.close()


async def _check_agent(address: ClusterAddress, worker: Worker, wait: float) -> None:
    """Wait until the agent and its MariaDB server answer.

    Raises
    ------
    UserError
        If they do not, or the agent is another worker's.
    """
    pool = AgentPool({0: worker}, address.secret, tls=address.tls)
    deadline = asyncio.get_running_loop().time() + wait
    try:
        while (problem := await _problem(pool, worker)) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.2)
    finally:
        await pool.close()
    if problem:
        raise UserError(problem)


async def _problem(pool: AgentPool, worker: Worker) -> str:
    where = f"{worker.host}:{worker.port}"
    try:
        async with pool.lease(0) as link:
            said = link.worker
    except SkyError as error:
        if error.code is WORKER_RELEASE:
            return str(error)
        return f"no agent that knows the secret answers at {where}"
    if said != worker.name:
        return f"the agent at {where} is worker {said}, not {worker.name}"
    pong = await pool.ping(0)
    return "" if pong is not None and pong.mariadb_ok else f"{worker.name}'s MariaDB server does not answer"


async def _health(pool: AgentPool, number: int) -> str:
    """Return how a worker is, for people."""
    try:
        pong = await pool.ping(number)
    except SkyError:
        return "agent of another release"
    return "no answer" if pong is None else "ok" if pong.mariadb_ok else "MariaDB is down"


@worker_command.command("list")
@cluster_options
def list_workers(address: ClusterAddress) -> None:
    """Show one line a worker: id, name, address, state, chunks, whether it answers, and its debts.

    A debt is what a command that went on without the worker has left it to drop; `skyshard repair` has it paid.
    """
    for line in asyncio.run(_list(address)):
        click.echo(line)


async def _list(address: ClusterAddress) -> list[str]:
    meta = quote(META_DATABASE)
    connection = await checked(address.home)
    try:
        rows = await connection.fetch_texts(
            f"SELECT worker_id, name, host, port, state, (SELECT COUNT(*) FROM {meta}.chunk_replicas r "
            f"WHERE r.worker_id = w.worker_id), (SELECT COUNT(*) FROM {meta}.worker_debts d "
            f"WHERE d.worker_id = w.worker_id) FROM {meta}.workers w ORDER BY worker_id"
        )
        watched = await watch.read(connection)
    finally:
        await connection.close()
    workers = {int(r[0]): Worker(worker_id=int(r[0]), name=r[1], host=r[2], port=int(r[3])) for r in rows}
    pool = AgentPool(workers, address.secret, tls=address.tls)
    try:
        healths = await asyncio.gather(*(_health(pool, number) for number in workers))
    finally:
        await pool.close()
    lines = []
    for (number, name, host, port, state, chunks, debts), health in zip(rows, healths, strict=True):
        owed = f", debts: {debts}" if debts != "0" else ""
        lines.append(
            f"{number:>3}  {name:16} {host + ':' + port:24} {state:9} {chunks:>7} chunks  {health}{owed}"
        )
    if watched is not None:
        state = "runs" if watched.alive else f"has given no sign of life for {watched.seen_s:.0f} s"
        lines.append(
            f"automatic repair (after {watched.after_s:g} s) {state}; {watched.missing} copies of chunks are missing"
        )
    return lines
