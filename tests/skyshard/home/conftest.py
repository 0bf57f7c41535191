"""A private home server for the tests of what stands on it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from shard.errors import ServerError
from skyshard.cluster import mariadb
from skyshard.home.provision import provision


class Server:
    """A MariaDB server that can be stopped, killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = Address("skyshard", "secret", socket=str(directory / "s"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = mariadb.command(
            self.directory / "data", str(self.directory / "s"), self.directory, "home", home=True
        )
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None
            Path(str(self.address.socket)).unlink(missing_ok=True)

    async def connect(self, database: str | None = None) -> RawConnection:
        assert self._process is not None
        async with asyncio.timeout(60):
            while True:
                try:
                    return await RawConnection.open(self.address, database)
                except (ConnectionLost, ServerError, OSError):
                    assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
                    await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def home_server() -> Iterator[Server]:
    directory = Path(tempfile.mkdtemp(prefix="skyshard-test-"))
    server = Server(directory)
    try:
        mariadb.initialise(directory / "data", mariadb.account_sql("secret"))
        server.start()
        yield server
    finally:
        server.end()
        shutil.rmtree(directory)


@pytest.fixture
async def home(home_server: Server) -> AsyncIterator[RawConnection]:
    connection = await home_server.connect()
    await provision(connection)
    try:
        yield connection
    finally:
        await connection.close()
