"""A cluster for commands that fail, are killed and are repeated, and what of them can be seen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from backend.address import Address
from backend.connection import RawConnection
from skyshard.catalog import drop
from skyshard.cli import cli
from skyshard.cluster import health
from skyshard.cluster import state as states
from skyshard.cluster.local import free_port
from tests.skyshard.held import Held
from tests.support.servers import LocalCluster

Rows = list[tuple[str | None, ...]]


class Lab:
    """A running cluster, the command in this process, and looks at all of its servers."""

    def __init__(self, directory: Path, workers: int = 2) -> None:
        # others go without TLS
        self.cluster = LocalCluster(directory, free_port(), "--agent-tls", workers=workers)
        self.directory = directory

    def ingest(self, catalog: Path, *options: str) -> Result:
        """Run `skyshard ingest`; what went wrong is in `output`, never a traceback."""
        done = CliRunner().invoke(cli, ["ingest", str(catalog), "--dir", str(self.directory), *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return done

    def command(self, *arguments: str) -> Result:
        """Run a command on the cluster; what went wrong is in `output`, never a traceback."""
        done = CliRunner().invoke(cli, [*arguments, "--dir", str(self.directory)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return done

    @contextmanager
    def started(self, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Start a command on the cluster in a process of its own, and kill it in the end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "skyshard.cli", *map(str, arguments), "--dir", str(self.directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.communicate()

    def killed(self, held: Held, *arguments: str | Path, text: str = "") -> None:
        """Start a command, and kill it when a statement of it, with some text in it, waits for what somebody holds."""
        with self.started(*arguments) as process:
            held.until_waiting(process, text)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

    def publish(self, catalog: Path, *options: str) -> str:
        """Run `skyshard ingest`, which must succeed; return its output."""
        done = self.ingest(catalog, *options)
        assert done.exit_code == 0, done.output
        return done.output

    def drop(self, database: str) -> None:
        """Drop a database that nobody asks any more, without the time that queries get to end."""
        with patch.object(drop, "GRACE_S", 0.0):
            done = self.command("catalog", "drop", database)
        assert done.exit_code == 0, done.output

    def ask(self, sql: str, database: str | None = None) -> Rows:
        """Ask the proxy."""
        return ask(self.cluster.address, sql, database)

    def home(self, sql: str) -> Rows:
        """Ask the home server itself."""
        return ask(health.server_address(self.directory, states.require(self.directory)), sql)

    def workers(self, sql: str) -> Rows:
        """Ask every worker's server; return all rows."""
        state = states.require(self.directory)
        names = [name for name in state.sockets if name != "home"]
        password = (self.directory / "secrets" / "service").read_text().strip()
        return [
            row
            for name in names
            for row in ask(Address("skyshard", password, socket=state.sockets[name]), sql)
        ]

    def traces(self, database: str) -> Rows:
        """Return every trace of a database on any server: of what was published, staged or put aside."""
        found = self.home("SHOW DATABASES") + self.workers("SHOW DATABASES")
        names = [
            row
            for row in found
            if row[0] == database
            or (row[0] or "").startswith(("skyshard_st", "skyshard_old", "skyshard_drop"))
        ]
        names += self.home(
            f"SELECT name FROM skyshard_meta.`databases` WHERE name IN ('{database}') OR name LIKE 'skyshard%'"
        )
        names += self.home("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'skyshard_index' "
                           f"AND (TABLE_NAME LIKE '{database}\\_\\_%' OR TABLE_NAME LIKE 'skyshard%')")  # fmt: skip
        orphans = (
            ("tables", "db_id", "databases"),
            ("chunk_replicas", "db_id", "databases"),
            ("chunk_rows", "table_id", "tables"),
        )
        for table, key, parent in orphans:
            names += self.home(
                f"SELECT '{table}' FROM skyshard_meta.`{table}` WHERE {key} NOT IN "
                f"(SELECT {key} FROM skyshard_meta.`{parent}`) LIMIT 1"
            )
        return names


def ask(address: Address, sql: str, database: str | None = None) -> Rows:
    """Ask a server."""

    async def run() -> Rows:
        connection = await RawConnection.open(address, database)
        try:
            rows = await connection.fetch(sql)
        finally:
            await connection.close()
        return [tuple(None if value is None else value.decode() for value in row) for row in rows]

    return asyncio.run(run())


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("ingest") / "c")
    try:
        yield made
    finally:
        made.cluster.stop()


class Writer:
    """Writes catalogue files and data files into one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, database: str, tables: str, files: Mapping[str, str | bytes] | None = None) -> Path:
        for name, content in (files or {}).items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        catalog = self.directory / "catalog.yaml"
        head = f"database: {database}\npartitioning: {{stripes: 18, sub_stripes: 10, overlap_deg: 0.5}}\ntables:\n"
        catalog.write_text(head + textwrap.indent(textwrap.dedent(tables).strip("\n"), "  ") + "\n")
        return catalog


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


@pytest.fixture
def name(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a catalogue that leaves nothing."""
    made = request.node.name.removeprefix("test_")[:20].rstrip("_")
    yield made
    lab.drop(made)
    assert lab.traces(made) == []
