"""The session's own home connection as the place where rows are put together.

A statement that stores rows, or reads the user's own tables, must run in the user's session: with its
privileges, temporary tables, open transaction and warnings. The session sees only traps of sharded
tables, so that the shapes of temporary tables come from a service connection, where shadows are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proxy.home.definitions import Shadow, ShadowPool, set_statement, show_create
from proxy.home.link import HomeLink
from proxy.merge.merge import PLAIN, PLAINLY, Making, ServiceDesk
from shard.planner.plan import Sql
from shard.wire.frames import Parameter
from shard.wire.immediate import immediate
from shard.wire.packets import Ok


@dataclass(frozen=True, slots=True)
class SessionDesk:
    """The session's own connection.

    Attributes
    ----------
    shadow_pool : ShadowPool
        Service connections that know the columns of sharded tables.
    shadows, settings, database, variables
        What a service connection needs to read the statement as the session would.
    encoding, charset, parameters
        How the statement's text is written, and its parameters.
    """

    home: HomeLink
    shadow_pool: ShadowPool
    shadows: Sequence[Shadow]
    settings: Mapping[str, str]
    database: str | None
    variables: Mapping[str, str]
    encoding: tuple[str, str]
    charset: str
    parameters: Sequence[Parameter]

    async def make(self, making: Making) -> None:
        """Make a temporary table like one that is made on a service connection."""
        async with self.shadow_pool.lease(
            self.shadows, self.settings, self.database, self.variables
        ) as connection:
            desk = ServiceDesk(connection, self.encoding, self.parameters, self.settings)
            await desk.make(making)
            found = await connection.fetch(show_create(making.name))
            await connection.run(f"DROP TEMPORARY TABLE {making.name}")
        body = (found[0][1] or b"").partition(b" (\n")[2]
        async with self._plainly():
            await self.home.table(f"CREATE OR REPLACE TEMPORARY TABLE {making.name} (\n".encode() + body)

    @asynccontextmanager
    async def _plainly(self) -> AsyncIterator[None]:
        """Read statements of ours, which are utf8mb4 and need no strictness, whatever the session's settings."""
        await self.home.table(PLAINLY.encode())
        try:
            yield
        finally:
            kept = {name: self.settings[name] for name in PLAIN}
            await self.home.table(set_statement(kept).encode())

    async def run(self, sql: Sql) -> None:
        """Run a statement with the query's parameters; no rows."""
        text = sql.text.encode(*self.encoding)
        if sql.parameters:
            text = immediate(text, [self.parameters[index] for index in sql.parameters], self.charset)
        await self.home.table(text)

    async def load(self, sql: bytes, pieces: AsyncIterator[bytes]) -> Ok:
        """Run LOAD DATA LOCAL."""
        async with self._plainly():
            return await self.home.load(sql, pieces)
