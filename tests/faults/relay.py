"""A door between two parts of a cluster that can be held, slowed and shut: what a bad network does.

One `Relay` stands for one connection path, by TCP or a unix socket. It belongs to who has opened it and leaves nothing
running when it is closed. `Wires` puts relays between all parts of a cluster that runs, and takes them out again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from backend.connection import RawConnection
from tests.faults.field import WORKERS, Field
from tests.support.servers import ExtraProxy

_READ = 1 << 16


@dataclass(frozen=True)
class Way:
    """How bytes pass.

    `open` is False where nothing passes and nothing is answered (a black hole); `delay_s` holds every piece, and
    `piece` is how many bytes pass at once (0: as they come).
    """

    open: bool = True
    delay_s: float = 0.0
    piece: int = 0


FREE = Way()


class Relay:
    """One path.

    Parameters
    ----------
    target : tuple or str
        Host and port, or a unix socket, to which connections are handed on.
    path : Path or None
        A unix socket to listen on; None: a port of loopback, `port`.
    """

    def __init__(self, target: tuple[str, int] | str, path: Path | None = None) -> None:
        self._target, self.path = target, path
        self._way = FREE
        self._refuses = False
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        self.port = 0
        self.passed = 0

    async def __aenter__(self) -> Relay:
        if self.path is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        else:
            self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_) -> None:
        self._server.close()
        await self.cut()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @property
    def connections(self) -> int:
        """Connections that pass now."""
        return len(self._tasks)

    def set(self, way: Way) -> None:
        """Let bytes pass in another way from now on, on connections that are there, too."""
        self._way = way
        self._changed.set()
        self._changed = asyncio.Event()

    def refuse(self, refuses: bool) -> None:
        """Close new connections at once, or no more."""
        self._refuses = refuses

    async def cut(self) -> None:
        """Break all connections, within whatever they carry."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        try:
            if self._refuses:
                return
            await self._opened()
            there, back = await self._connect()
            ends.append(back)
            async with asyncio.TaskGroup() as group:
                copies = [
                    group.create_task(self._copy(reader, back)),
                    group.create_task(self._copy(there, writer)),
                ]
                await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
                for copy in copies:
                    copy.cancel()
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            pass  # a cut, or one of the two has gone
        finally:
            for end in ends:
                end.transport.abort()
            self._tasks.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            opening = asyncio.ensure_future(asyncio.open_unix_connection(self._target))
        else:
            opening = asyncio.ensure_future(asyncio.open_connection(*self._target))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:  # a connection that is only just made has no other owner
            with contextlib.suppress(OSError):
                (await opening)[1].transport.abort()
            raise

    async def _opened(self) -> None:
        while not self._way.open:
            await self._changed.wait()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_READ):
            start = 0
            while start < len(data):
                await self._opened()
                end = start + self._way.piece if self._way.piece else len(data)
                if self._way.delay_s:
                    await asyncio.sleep(self._way.delay_s)  # the delay is what is tried
                    await self._opened()
                writer.write(data[start:end])
                await writer.drain()
                self.passed += len(data[start:end])
                start = end


class Wires:
    """Relays between all parts of a field.

    Attributes
    ----------
    paths : dict
        By what they lead from and to: ``client``, ``home``, ``agentN`` (from proxies), ``serverN`` (from agent N).
    proxy : ExtraProxy
        The proxy behind ``client``.
    """

    def __init__(self, field: Field) -> None:
        self.field = field
        self.paths: dict[str, Relay] = {}

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self.paths["client"].port


@contextlib.asynccontextmanager
async def wired(field: Field, directory: Path, **settings: object) -> AsyncIterator[Wires]:
    """Put relays between all parts of a field; `settings` are those of the proxy, taken away at the end."""
    wires, state = Wires(field), field.inside.state
    async with contextlib.AsyncExitStack() as stack:
        sockets = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="relay"))
        )  # its path must be short

        async def lay(name: str, target: tuple[str, int] | str, path: Path | None = None) -> Relay:
            wires.paths[name] = await stack.enter_async_context(Relay(target, path))
            return wires.paths[name]

        stack.push_async_callback(field.until_well)
        home = await lay("home", state.sockets["home"], sockets / "home")
        numbers = range(1, WORKERS + 1)
        for number in numbers:
            await lay(f"server{number}", state.sockets[f"worker{number}"], sockets / f"server{number}")
            await lay(f"agent{number}", ("127.0.0.1", state.ports[f"worker{number}"]))
        stack.push_async_callback(_aim, field, {number: state.ports[f"worker{number}"] for number in numbers})
        configs = {number: field.cluster.directory / "run" / f"worker{number}.yaml" for number in numbers}
        texts = {number: path.read_text() for number, path in configs.items()}
        stack.push_async_callback(_restarted, field, configs, texts)
        changed = {}
        for number in numbers:
            config = yaml.safe_load(texts[number])
            config["mariadb"]["socket"] = str(sockets / f"server{number}")
            changed[number] = yaml.safe_dump(config)
        await _restarted(field, configs, changed)
        await _aim(field, {number: wires.paths[f"agent{number}"].port for number in numbers})
        inside = yaml.safe_load((field.cluster.directory / "run" / "proxy1.yaml").read_text())["home"]
        proxy = await asyncio.to_thread(
            ExtraProxy, field.cluster, directory / secrets.token_hex(4),
            home=inside | {"socket": str(home.path)}, **settings,
        )  # fmt: skip
        stack.push_async_callback(asyncio.to_thread, proxy.stop)
        await lay("client", ("127.0.0.1", proxy.port))
        await field.until_well()
        yield wires


async def _restarted(field: Field, configs: dict[int, Path], texts: dict[int, str]) -> None:
    """Restart agents with other configurations."""
    for number, path in configs.items():
        path.write_text(texts[number])
    await asyncio.gather(*(field.inside.renew(f"agent-worker{number}") for number in configs))


async def _aim(field: Field, ports: dict[int, int]) -> None:
    """Let proxies reach the agents at other ports."""
    connection = await RawConnection.open(field.inside.server("home"))
    try:
        for number, port in ports.items():
            await connection.run(f"UPDATE skyshard_meta.workers SET port = {port} WHERE worker_id = {number}")
        await connection.run(
            "UPDATE skyshard_meta.cluster SET value = value + 1 WHERE name = 'catalogue_version'"
        )
    finally:
        await connection.close()


def some_way(rng: random.Random) -> Way:
    """Return a bad way, other than a cut: delayed, in small pieces, or none at all."""
    kind = rng.choice(("delay", "trickle", "hole"))
    if kind == "delay":
        return Way(delay_s=rng.uniform(0.02, 0.4))
    if kind == "trickle":
        return Way(piece=rng.choice((7, 64, 500)), delay_s=0.001)
    return Way(open=False)
