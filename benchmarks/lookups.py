"""Look-ups by key and light curves: by several clients, with keys that are new or known, and how many a second.

One connection's time is told for each client, for keys that were not asked for before and for a few that come again
(their chunks are in the proxy's memory). Rates are told for several numbers of connections, at a proxy of one process and at
one of two on the same cluster; the client is one process for all, which bounds what the fastest can show.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pymysql

from backend.address import Address
from backend.connection import RawConnection
from benchmarks.contest import PLAIN, SKYSHARD
from benchmarks.findings import Findings, table
from tests.support.rawclient import RawClient

LEVELS = (1, 8, 64)
RUNS = 3
"""Runs of each level, of which the median is told."""
TWO = "skyshard, 2 processes"
KNOWN = 20
"""Keys that come again."""
_STAR = "SELECT * FROM synth.Object WHERE objectId = {}"
_CURVE = "SELECT * FROM synth.Detection WHERE objectId = {}"


class Client(Protocol):
    """A connection that asks one statement with different keys."""

    async def ask(self, key: int) -> int:
        """Return how many rows there are."""

    async def close(self) -> None:
        """Disconnect."""


class Raw:
    """The benchmark's own client: text rows, which are not decoded."""

    def __init__(self, connection: RawConnection, sql: str) -> None:
        self._connection, self._sql = connection, sql

    @staticmethod
    async def open(address: Address, sql: str) -> Raw:
        return Raw(await RawConnection.open(address), sql)

    async def ask(self, key: int) -> int:
        return len(await self._connection.fetch(self._sql.format(key)))

    async def close(self) -> None:
        await self._connection.close()


class PyMySQL:
    """pymysql: text rows, which it decodes; with TLS, as is its default, or without."""

    def __init__(self, address: Address, sql: str, tls: bool) -> None:
        how = {} if tls else {"ssl_disabled": True}
        self._connection = pymysql.connect(host=address.host, port=address.port, user="root", **how)
        self._cursor, self._sql = self._connection.cursor(), sql

    async def ask(self, key: int) -> int:
        self._cursor.execute(self._sql.format(key))
        return len(self._cursor.fetchall())

    async def close(self) -> None:
        self._connection.close()


class Prepared:
    """A statement that is prepared once and executed with each key: binary rows."""

    def __init__(self, address: Address, sql: str) -> None:
        self._client = RawClient(address.port).connect()
        self._number = self._client.prepare(sql.format("?"))[0]

    async def ask(self, key: int) -> int:
        return len(self._client.execute(self._number, (key,)).rows)

    async def close(self) -> None:
        self._client.socket.close()


CLIENTS = ("the benchmark's own", "pymysql without TLS", "pymysql", "prepared, binary rows")
_ASKED = (
    *((name, what, keys) for name in CLIENTS for what in ("look-up",) for keys in ("new", "known")),
    *((name, "light curve", "new") for name in (CLIENTS[1], CLIENTS[3])),
)


async def opened(name: str, address: Address, sql: str) -> Client:
    """Return a connected client."""
    if name == CLIENTS[0]:
        return await Raw.open(address, sql)
    return Prepared(address, sql) if name == CLIENTS[3] else PyMySQL(address, sql, tls=name == CLIENTS[2])


async def alone(addresses: Mapping[str, Address], keys: int, number: int) -> Findings:
    """Ask by each client in turn, with one connection each."""
    out, lines = Findings(), []
    fresh = iter(random.Random(21).sample(range(1, keys + 1), min(keys, len(_ASKED) * (number + KNOWN))))
    for client, what, which in _ASKED:
        sql = _STAR if what == "look-up" else _CURVE
        clients = {name: await opened(client, address, sql) for name, address in addresses.items()}
        medians = await _medians(clients, _keys(fresh, which, number), what, out)
        for one in clients.values():
            await one.close()
        plain = medians[PLAIN]
        cells = [f"{value * 1e3:.3f} ({value / plain:.2f}x)" for value in list(medians.values())[1:]]
        lines.append([client, what, which, f"{plain * 1e3:.3f}", *cells])
        out.figures[f"{what}, {client}, {which} keys"] = medians[SKYSHARD] / plain
    names = list(addresses)
    out.lines = [
        "### Look-ups with one connection", "",
        f"Medians of {number}, in milliseconds; all servers have a certificate, so that pymysql speaks TLS with all.", "",
        *table(["client", "query", "keys", *(f"{name} ms" for name in names)], lines),
    ]  # fmt: skip
    return out


def _keys(fresh: Iterator[int], which: str, number: int) -> list[int]:
    """Return the keys to ask for: the first `KNOWN` of them are not counted."""
    first = [next(fresh) for _ in range(KNOWN)]
    rest = (
        [next(fresh) for _ in range(number)] if which == "new" else [first[i % KNOWN] for i in range(number)]
    )
    return first + rest


async def _medians(
    clients: Mapping[str, Client], keys: Sequence[int], what: str, out: Findings
) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in clients}
    for turn, key in enumerate(keys):
        rows: dict[str, int] = {}
        for name, client in list(clients.items())[:: 1 if turn % 2 else -1]:
            started = time.perf_counter()
            rows[name] = await client.ask(key)
            if turn >= KNOWN:
                taken[name].append(time.perf_counter() - started)
        if rows[SKYSHARD] != rows[PLAIN]:
            out.wrong.append(f"{what} of {key}: {rows[SKYSHARD]} rows, not {rows[PLAIN]}")
    return {name: statistics.median(found) for name, found in taken.items()}


async def rates(addresses: Mapping[str, Address], keys: int, seconds: float) -> Findings:
    """Return look-ups a second of several connections, contestants in turn."""
    out, lines = Findings(), []
    for level in LEVELS:
        found: dict[str, list[float]] = {name: [] for name in addresses}
        for run in range(RUNS):
            for name, address in addresses.items():
                found[name].append(await _rate(address, keys, level, seconds, run))
        medians = {name: statistics.median(each) for name, each in found.items()}
        cells = [f"{rate:.0f} ({rate / medians[PLAIN]:.2f}x)" for rate in list(medians.values())[1:]]
        lines.append([str(level), f"{medians[PLAIN]:.0f}", *cells])
        for name in set(addresses) & {SKYSHARD, TWO}:
            out.figures[f"look-ups a second, {level} connections, {name}"] = medians[name] / medians[PLAIN]
    out.lines = [
        "### Look-ups a second", "",
        f"Random keys, the benchmark's own client; medians of {RUNS} runs of {seconds:g} s, in turn.", "",
        *table(["connections", *addresses], lines),
    ]  # fmt: skip
    return out


async def _rate(address: Address, keys: int, level: int, seconds: float, run: int) -> float:
    clients = [await Raw.open(address, _STAR) for _ in range(level)]
    counts = [0] * level
    await asyncio.gather(*(client.ask(1) for client in clients))  # what a first statement costs is not meant
    end = time.perf_counter() + seconds

    async def loop(number: int) -> None:
        chance = random.Random(f"{level} {run} {number}")
        while time.perf_counter() < end:
            if await clients[number].ask(chance.randrange(1, keys + 1)) != 1:
                raise RuntimeError("a look-up by key did not answer one row")
            counts[number] += 1

    await asyncio.gather(*map(loop, range(level)))
    for client in clients:
        await client.close()
    return sum(counts) / seconds
