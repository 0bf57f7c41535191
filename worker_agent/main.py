"""The agent process: configuration in, data port and HTTP port until a signal."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import uvloop
from prometheus_client import generate_latest

from backend import secret_file
from backend.agent_tls import SHUTDOWN_S, BadTlsFiles
from backend.http import Answer, HttpServer
from backend.stopping import Stopping
from worker_agent.config import AgentConfig, ConfigError, host_port
from worker_agent.metrics import AgentMetrics
from worker_agent.server import AgentServer


async def serve(config: AgentConfig, secret: bytes, stop: Stopping) -> None:
    """Run an agent until it is to stop."""
    metrics = AgentMetrics()
    agent = AgentServer(config, secret, metrics)
    host, port = host_port(config.listen)
    context = None if config.tls is None else config.tls.for_agent()
    secured: dict[str, Any] = {} if context is None else {"ssl_shutdown_timeout": SHUTDOWN_S}
    server = await asyncio.get_running_loop().create_server(agent.accept, host, port, ssl=context, **secured)

    async def show_metrics() -> Answer:
        metrics.scheduled(agent.scheduler)
        metrics.spooled(agent.space.memory, agent.space.disk)
        metrics.mariadb_up.set(await agent.mariadb_ok())
        return Answer(200, "text/plain; version=0.0.4", generate_latest(metrics.registry))

    async def health() -> Answer:
        if agent.draining:
            return Answer(503, "text/plain", b"draining\n")
        ok = await agent.mariadb_ok()
        return Answer(200 if ok else 503, "text/plain", b"ok\n" if ok else b"MariaDB does not answer\n")

    http = HttpServer({"/metrics": show_metrics, "/healthz": health})
    if config.http is not None:
        await http.start(*host_port(config.http))
    try:
        await stop.asked.wait()
        await stop.patiently(agent.drain())  # still listening: proxies ask how it is, and jobs are refused
    finally:
        server.close()
        await agent.close()
        await http.close()


def main(config_path: str) -> int:
    """Run the agent of a configuration file; return the exit code."""
    try:
        config = AgentConfig.load(config_path)
        secret = secret_file.read(config.secret_file)
    except (ConfigError, secret_file.BadSecret) as error:
        print(f"skyshard agent: {error}", file=sys.stderr)  # noqa: T201 - a command's message
        return 1
    # A line a query is written: what no line has need not be found out.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=config.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    async def run() -> None:
        stop = Stopping()
        stop.heed()
        await serve(config, secret, stop)

    try:
        uvloop.run(run())
    except (OSError, BadTlsFiles) as error:
        print(f"skyshard agent: {error}", file=sys.stderr)  # noqa: T201 - a command's message
        return 1
    return 0
