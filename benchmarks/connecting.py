"""Connecting and a first query, at skyshard and at one plain MariaDB, in turn.

    python benchmarks/connecting.py [--repeats 300] [--cli 40] [--write benchmarks/FILE.md]

A cluster with the sample catalogue and a plain server with the same certificate and the same rows are made in a
private directory. Each client connects, asks one statement and leaves; medians of the time of all of it, and the
processor time that it costs at the proxy and at the home server, which is plain MariaDB's too. The command-line
client's own start is measured by asking it for its version.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pymysql

sys.path.insert(0, str(Path(__file__).parents[1]))

from skyshard.cluster import certificate
from skyshard.cluster.local import free_port
from tests.support import twin
from tests.support.servers import Inside, LocalCluster, PlainMariaDB, skyshard

STATEMENTS = {
    "SELECT 1": "SELECT 1",
    "count of a table": "SELECT COUNT(*) FROM hip.Object",
    "look-up by key": "SELECT objectId, ra, decl FROM hip.Object WHERE objectId = 32349",
}


@dataclass(slots=True)
class Server:
    """One side: where it listens, and the processes that serve it."""

    name: str
    port: int
    processes: dict[str, psutil.Process]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    used: dict[str, dict[str, float]] = field(default_factory=dict)

    def usage(self) -> dict[str, float]:
        """Return each process's processor seconds so far."""
        return {name: sum(process.cpu_times()[:2]) for name, process in self.processes.items()}


def by_pymysql(port: int, sql: str, tls: bool) -> None:
    """Connect, ask and leave in this process."""
    ways = {"ssl": {"check_hostname": False, "verify_mode": False}} if tls else {"ssl_disabled": True}
    with (
        pymysql.connect(host="127.0.0.1", port=port, user="root", **ways) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)
        if not cursor.fetchall():
            raise SystemExit(f"no rows: {sql}")


def by_cli(port: int, sql: str, tls: bool) -> None:
    """Run the command-line client."""
    ways = ["--ssl", "--skip-ssl-verify-server-cert"] if tls else ["--skip-ssl"]
    command = ["mariadb", "--no-defaults", "-uroot", "-h127.0.0.1", f"-P{port}", "-NBe", sql, *ways]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def ask(
    servers: list[Server], how: Callable[[int, str, bool], None], key: str, sql: str, tls: bool, repeats: int
) -> None:
    """Ask each server in turn, and note times."""
    for server in servers:
        how(server.port, sql, tls)
        server.seconds[key] = []
    before = [server.usage() for server in servers]
    for turn in range(repeats):
        for server in servers if turn % 2 else servers[::-1]:
            started = time.perf_counter()
            how(server.port, sql, tls)
            server.seconds[key].append(time.perf_counter() - started)
    for server, was in zip(servers, before, strict=True):
        server.used[key] = {name: (now - was[name]) / repeats for name, now in server.usage().items()}


def table(servers: list[Server], keys: list[tuple[str, str]]) -> str:
    """Return the rows of the report."""
    plain, sky = servers
    lines = [
        "| client | TLS | statement | plain ms | skyshard ms | ratio | plain CPU ms | proxy CPU ms | home CPU ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, label in keys:
        one, other = (1000 * statistics.median(server.seconds[key]) for server in servers)
        figures = [plain.used[key]["server"], sky.used[key]["proxy"], sky.used[key]["home"]]
        cells = " | ".join(f"{1000 * figure:.2f}" for figure in figures)
        lines.append(f"| {label} | {one:.2f} | {other:.2f} | {other / one:.2f} | {cells} |")
    return "\n".join(lines)


def measure(servers: list[Server], repeats: int, cli: int) -> str:
    """Ask everything; return the report."""
    keys = []
    for name, how, times in (("pymysql", by_pymysql, repeats), ("mariadb CLI", by_cli, cli)):
        for tls in (False, True):
            for label, sql in STATEMENTS.items():
                key = f"{name} {tls} {label}"
                ask(servers, how, key, sql, tls, times)
                keys.append((key, f"{name} | {'yes' if tls else 'no'} | {label}"))
    return table(servers, keys)


def main() -> None:
    """Make the servers, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--cli", type=int, default=40)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        cluster = LocalCluster(root / "c", free_port())
        plain = None
        try:
            tls = root / "c" / "tls"
            plain = PlainMariaDB(
                root / "plain", free_port(), certificate.Files(tls / "server.crt", tls / "server.key")
            )
            skyshard("sample", "--dir", root / "sample")
            cluster.ingest(root / "sample" / "CATALOG.yaml")
            asyncio.run(twin.copy_database(cluster.directory, "hip", plain.address))
            inside = Inside(cluster.directory)
            servers = [
                Server("plain", plain.port or 0, {"server": psutil.Process(plain.process.pid)}),
                Server(
                    "skyshard",
                    cluster.port,
                    {"proxy": inside.process("proxy1"), "home": inside.process("home")},
                ),
            ]
            report = measure(servers, options.repeats, options.cli)
        finally:
            if plain is not None:
                plain.stop()
            cluster.stop()
    text = f"{datetime.now(UTC):%Y-%m-%d}, load {os.getloadavg()[0]:.1f}\n\n{report}\n"
    print(text)
    if options.write is not None:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
