"""Locks that a command has to wait for, so that it is killed at a moment that is known."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import TYPE_CHECKING

from backend.address import Address
from backend.connection import RawConnection
from skyshard.cluster import health
from skyshard.cluster import state as states

if TYPE_CHECKING:
    from tests.skyshard.conftest import Lab


class Held:
    """A connection of another client, which holds locks that the ingest waits for."""

    def __init__(self, address: Address, *statements: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(RawConnection.open(address))
        for statement in statements:
            self.fetch(statement)

    def fetch(self, sql: str) -> list[list[bytes | None]]:
        return self._loop.run_until_complete(self._connection.fetch(sql))

    def until_waiting(self, process: subprocess.Popen[str], text: str = "") -> None:
        """Return when a statement of another connection, with some text in it, waits for a lock."""
        deadline = time.monotonic() + 60
        me = self.fetch("SELECT CONNECTION_ID()")[0][0]
        while True:
            found = self.fetch(
                "SELECT STATE FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for%lock%' "
                f"AND LOCATE('{text}', INFO) > 0"
            )
            if found:
                return
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, me

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


def home_of(lab: Lab) -> Address:
    return health.server_address(lab.directory, states.require(lab.directory))


def worker_of(lab: Lab, number: int = 1) -> Address:
    state = states.require(lab.directory)
    path = [path for name, path in sorted(state.sockets.items()) if name != "home"][number - 1]
    return Address("skyshard", (lab.directory / "secrets" / "service").read_text().strip(), socket=path)
