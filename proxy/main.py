"""The proxy process: configuration in, MySQL port and HTTP port until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys

import msgspec
import uvloop
from prometheus_client import generate_latest

from backend import repair_watch, secret_file
from backend.agent_link import AgentPool
from backend.agent_tls import BadTlsFiles
from backend.http import Answer, HttpServer
from backend.keepalive import keep_socket_alive
from backend.pool import Pool
from backend.stopping import Stopping
from backend.wire import ConnectionLost
from proxy.config import ConfigError, ProxyConfig, host_port
from proxy.draining import drain, end_all
from proxy.engine import Engine
from proxy.execute.admission import Admissions
from proxy.execute.budget import ByteBudget
from proxy.execute.dispatcher import Dispatcher
from proxy.execute.health import Health
from proxy.home.link import HomeLink
from proxy.home.metadata import Catalogue, WrongMetadata
from proxy.home.proxy_protocol import proxy_header
from proxy.home.silence import HomeWatch
from proxy.home.spares import SpareLinks
from proxy.home.traps import TrapWatch
from proxy.jobs.runner import Jobs
from proxy.metrics import Metrics
from proxy.registry import Registry
from proxy.session.board import Share
from proxy.session.client import ClientGone, ClientStream
from proxy.session.inbox import Inbox
from proxy.session.limits import Limits, Usage
from proxy.session.login import Doorkeeper
from proxy.session.passwords import KeyPair
from proxy.session.session import Session
from proxy.session.throttle import LoginThrottle
from proxy.session.wire import ClientWire
from shard.errors import TOO_MANY_CONNECTIONS, ServerError, SkyError

log = logging.getLogger("skyshard.proxy")


class Proxy:
    """Everything of one proxy process."""

    def __init__(self, config: ProxyConfig, share: Share | None = None) -> None:
        self.config, self._share = config, share
        self.pool = Pool(config.home.address(), config.service_connections)
        self.home_watch = HomeWatch(self.pool, config.home_silence_s)
        self.catalogue = Catalogue(self.pool)
        self.traps = TrapWatch(self.pool, self.catalogue, config.trap_check_s)
        self.agents = AgentPool(
            self.catalogue.workers,
            secret_file.read(config.secret_file),
            config.agent_timeout_s,
            config.agent_silence_s,
            tls=None if config.agent_tls is None else config.agent_tls.for_caller(),
        )
        self.health_of_workers = Health(self.agents, config.heartbeat_s, config.heartbeat_timeout_s)
        self.budget = ByteBudget(config.byte_budget_bytes)
        self.inbox = Inbox(config.inbox_bytes)
        self.registry = Registry(None if share is None else share.running)
        self.metrics = Metrics()
        self.dispatcher = Dispatcher(self.agents, self.budget, self.health_of_workers)
        self.jobs = Jobs(self.pool, self.registry, config.jobs)
        self.admissions = Admissions(config.admission.share(1 if share is None else share.processes))
        self.engine = Engine(
            config,
            self.pool,
            self.catalogue,
            self.dispatcher,
            self.registry,
            self.metrics,
            self.jobs,
            self.admissions,
        )
        throttle = LoginThrottle(None if share is None else share.failures)
        by_socket = config.home.socket is not None and config.home.proxy_protocol
        self.door = Doorkeeper(self.pool, config.client_tls(), throttle, KeyPair(), by_socket)
        self.usage = Usage(config.limits, {config.home.user: Limits(), **config.user_limits}, share)
        self.spares = SpareLinks(self.pool.address)
        self._sessions: dict[asyncio.Task[None], Session | None] = {}  # None: it has no link home yet
        self._draining = False

    def accept(self, wire: ClientWire) -> None:
        """Begin to serve a client."""
        task = asyncio.get_running_loop().create_task(self._serve(wire), name="session")
        self._sessions[task] = None
        task.add_done_callback(self._sessions.pop)

    def _connections(self) -> int:
        """Return how many connections this process has, and those it shares its port with."""
        if self._share is None:
            return len(self._sessions)
        self._share.set("sessions", "", len(self._sessions))
        return self._share.total("sessions", "")

    async def _serve(self, wire: ClientWire) -> None:
        """Serve one client to its end."""
        client = ClientStream(wire, self.inbox)
        home: HomeLink | None = None
        self.metrics.sessions.inc()
        try:
            if self._connections() > self.config.max_connections:
                raise SkyError(TOO_MANY_CONNECTIONS)  # noqa: TRY301 - sent by the handler below
            header = proxy_header(wire.peer, wire.local) if self.config.home.proxy_protocol else b""
            self.home_watch.check()
            home = await self.spares.take(header)
            self.home_watch.attend(home)
            self.spares.prepare()
            session = Session(
                client, home, self.engine, self.registry, self.door, self.usage, self.config.session_limits()
            )
            if (task := asyncio.current_task()) is not None:
                self._sessions[task] = session
            await session.run(self.config.handshake_timeout_s)
        except SkyError as error:
            with contextlib.suppress(ClientGone):
                await client.error(error)
        except (ClientGone, ConnectionError, TimeoutError):
            pass
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("session failed")
        finally:
            self.metrics.sessions.dec()
            if self._share is not None:
                self._share.set("sessions", "", len(self._sessions) - 1)  # this one is still among them
            if home is not None:
                await home.close()
            wire.close()

    async def health(self) -> Answer:
        """Whether this proxy takes clients, the home server answers and the catalogue is loaded."""
        if self._draining:
            return Answer(503, "text/plain", b"draining\n")
        try:
            async with asyncio.timeout(3):
                await self.catalogue.refresh()
        except (Exception, TimeoutError):
            return Answer(503, "text/plain", b"the home server does not answer\n")
        return Answer(200, "text/plain", b"ok\n")

    async def show_metrics(self) -> Answer:
        """Return the figures."""
        self.metrics.budget.set(self.budget.used)
        self.metrics.running.set(len(self.registry.queries))
        self.metrics.admitted(self.admissions)
        for worker in self.catalogue.workers.values():
            self.metrics.worker(worker.name, self.health_of_workers.up(worker.worker_id))
        for state in ("active", "draining"):
            number = sum(worker.state == state for worker in self.catalogue.workers.values())
            self.metrics.workers.labels(state).set(number)
        self.metrics.bad_copies.set(len(self.dispatcher.copies))
        with contextlib.suppress(ServerError, ConnectionLost, OSError, TimeoutError):
            async with asyncio.timeout(1), self.pool.lease() as connection:
                watched = await repair_watch.read(connection)
            self.metrics.auto_repair.set(watched.after_s if watched is not None and watched.alive else 0)
            self.metrics.missing_copies.set(0 if watched is None else watched.missing)
            async with asyncio.timeout(1):
                self.metrics.jobs(await self.jobs.store.states())
        return Answer(200, "text/plain; version=0.0.4", generate_latest(self.metrics.registry))

    async def status_page(self) -> Answer:
        """Return a small page for people."""
        lines = [
            f"skyshard proxy: {len(self._sessions)} sessions, {len(self.registry.queries)} running queries"
        ]
        for name, database in self.catalogue.databases.items():
            chunks = len(self.catalogue.contents.replicas[name])
            lines.append(f"database {name}: {len(database.tables)} tables, {chunks} chunks")
        lines += [
            f"worker {worker.name}: {worker.state}"
            + ("" if self.health_of_workers.up(worker.worker_id) else ", does not answer")
            for worker in self.catalogue.workers.values()
        ]
        return Answer(200, "text/plain; charset=utf-8", ("\n".join(lines) + "\n").encode())

    async def drain(self) -> None:
        """Let clients finish what they do, within `drain_s`; jobs are given back at once."""
        self._draining = True
        log.info("draining: %d sessions, %d running queries", len(self._sessions), len(self.registry.queries))
        async with asyncio.TaskGroup() as group:
            group.create_task(self.jobs.give_back())
            group.create_task(drain(self._sessions, self.config.drain_s))

    async def close(self) -> None:
        """End all sessions and connections."""
        await self.home_watch.close()
        await self.jobs.close()
        await end_all(self._sessions)
        await self.spares.close()
        await self.traps.close()
        await self.catalogue.close()
        await self.health_of_workers.close()
        await self.agents.close()
        await self.engine.close()
        await self.pool.close()


async def serve(config: ProxyConfig, stop: Stopping, share: Share | None = None) -> None:
    """Run a proxy until it is to stop."""
    proxy = Proxy(config, share)
    await proxy.catalogue.start()
    proxy.home_watch.start()
    proxy.traps.start()
    proxy.engine.start()
    proxy.health_of_workers.start()
    host, port = host_port(config.listen)
    server = await asyncio.get_running_loop().create_server(
        lambda: ClientWire(proxy.accept), host, port, reuse_port=config.reuse_port or None, backlog=1024
    )
    for listening in server.sockets:
        keep_socket_alive(listening)
    await proxy.jobs.start(proxy.accept)
    http = HttpServer({"/metrics": proxy.show_metrics, "/healthz": proxy.health, "/": proxy.status_page})
    if config.http is not None:
        await http.start(*host_port(config.http))
    try:
        await stop.asked.wait()
        server.close()
        await stop.patiently(proxy.drain())
    finally:
        server.close()
        await proxy.close()
        await http.close()


def settle() -> None:
    """Keep garbage collection away from what lives as long as the process, and from the middle of a plan.

    The tree of a statement with a thousand columns is a hundred thousand objects, none of them garbage
    before its end: with Python's own thresholds, looking through them took as long as planning.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def main(config_path: str, number: int = 0, share: Share | None = None) -> int:
    """Run the proxy of a configuration file; return the exit code.

    Parameters
    ----------
    number : int
        Which of several processes this is, from 0; each has the HTTP port of its number behind the configured one.
    share : Share or None
        What the processes count together; None: there is one.
    """
    try:
        config = ProxyConfig.load(config_path)
        config.client_tls()
        if config.agent_tls is not None:
            config.agent_tls.for_caller()
        secret_file.read(config.secret_file)
    except (ConfigError, BadTlsFiles, secret_file.BadSecret) as error:
        print(f"skyshard proxy: {error}", file=sys.stderr)  # noqa: T201 - a command's message
        return 1
    if share is not None:
        http = config.http
        if http is not None:
            host, port = host_port(http)
            http = f"{host}:{port + number}"
        config = msgspec.structs.replace(config, reuse_port=True, http=http)
    # A line a query is written: what no line has need not be found out.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=config.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    async def run() -> None:
        stop = Stopping()
        stop.heed(repeated=share is not None)
        await serve(config, stop, share)

    settle()
    try:
        uvloop.run(run())
    except (OSError, ConnectionLost, ServerError, WrongMetadata) as error:
        print(f"skyshard proxy: {error}", file=sys.stderr)  # noqa: T201 - a command's message
        return 1
    return 0
