"""What the tests of real clients share: both servers over TCP with TLS and the same accounts, and how a
client's script is run on both. They run by `make test-clients`, not with the other tests.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backend.connection import RawConnection
from skyshard.cluster import certificate
from skyshard.cluster.local import free_port
from tests.clients import table
from tests.support import every_type, handmade, twin
from tests.support.servers import LocalCluster, PlainMariaDB, skyshard

REPOSITORY = Path(__file__).parents[2]
CLIENTS = Path(os.environ.get("SKYSHARD_CLIENTS", REPOSITORY / ".clients"))
DRIVERS = Path(__file__).parent / "drivers"
NEVER_SKIPPED = ("mariadb CLI", "pymysql", "SQLAlchemy", "pandas", "Connector/J", "ODBC", "pyodbc", "mysql2")
SCRATCH = dict.fromkeys(
    ("databases", "databases --batch", "catalogs", "schemas"),
    "the database skyshard_scratch, where tables of sessions are made, is listed too",
)
CAREFUL = ("careful", "gehe'im \"$x")
ACCOUNTS = {"open": ("ordinary", ""), "password": CAREFUL, "tls": CAREFUL}
"""How the clients' scripts are run: user and password; "tls" alone is with TLS."""
MORE_KB = 24 << 10
"""How much more memory than with plain MariaDB a client may have with skyshard: its collections of garbage are no clockwork."""


def pytest_ignore_collect(collection_path, config):
    asked = [Path(arg.split("::")[0]).resolve() for arg in config.args]
    if not any(Path(__file__).parent in (path, *path.parents) for path in asked):
        return True
    return None


@dataclass
class Server:
    """One of the two servers, as a client sees it."""

    port: int
    certificate: Path
    name: str

    def environment(self, mode: str, database: str) -> dict[str, str]:
        user, password = ACCOUNTS[mode]
        wanted = {
            "HOST": "127.0.0.1", "PORT": str(self.port), "DBUSER": user, "PASSWORD": password, "DB": database,
            "CA": str(self.certificate) if mode == "tls" else "",
        }  # fmt: skip
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
        return kept | wanted | {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass
class Both:
    """Plain MariaDB and skyshard."""

    plain: Server
    ours: Server
    directory: Path
    cluster: LocalCluster
    runs: int = field(default=0)

    def script(self, database: str) -> Path:
        path = self.directory / f"{database}.tsv"
        path.write_text((DRIVERS / "script.tsv").read_text().replace("$DB", database))
        return path

    def run(self, command: list[str], mode: str, timeout: float = 150) -> dict[str, dict[str, str]]:
        """Run a driver at both servers at once; return what each said by step."""
        self.runs += 1
        database = "own_clients"
        script = self.script(database)
        begun = {
            server.name: subprocess.Popen(
                measured(command), env=server.environment(mode, database) | {"SCRIPT": str(script)}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.directory, text=True,
                start_new_session=True,
            )
            for server in (self.plain, self.ours)
        }  # fmt: skip
        said = {}
        try:
            for name, process in begun.items():
                out, err = process.communicate(timeout=timeout)
                assert process.returncode == 0, f"{name}:\n{out[-300:]}\n{err[-2500:]}"
                said[name] = dict(line.split("\t", 1) for line in out.splitlines() if "\t" in line)
        finally:
            for process in begun.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        return said

    def compare(
        self, client: str, command: list[str], mode: str, explained: dict[str, str] | None = None
    ) -> None:
        """Run a driver at both servers; every step must have said the same, but for explained ones."""
        started = time.monotonic()
        said = self.run(command, mode)
        plain, ours = said["plain"], said["skyshard"]
        compare_peaks(client, plain, ours)
        explained = SCRATCH | (explained or {})
        table.note(client, mode, plain, ours, explained, time.monotonic() - started)
        assert len(plain) > 5, plain
        assert list(plain) == list(ours)
        differ = {step: (plain[step], ours[step]) for step in plain if plain[step] != ours[step]}
        unexplained = {
            step: pair for step, pair in differ.items()
            if step not in explained or (step in SCRATCH and without_scratch(pair[1]) != pair[0])
        }  # fmt: skip
        assert not unexplained, "\n".join(
            f"{step}\n  plain    {_around(*pair)}\n  skyshard {_around(*reversed(pair))}"
            for step, pair in unexplained.items()
        )


def measured(command: list[str], *options: str) -> list[str]:
    """Return the command that runs a client and says what memory it had at most."""
    return [sys.executable, str(DRIVERS / "measured.py"), *options, *command]


def compare_peaks(client: str, plain: dict[str, str], ours: dict[str, str]) -> None:
    """Take the steps that say the most memory out of both; a client that streams must not have more with skyshard."""
    peaks = int(plain.pop("peak")), int(ours.pop("peak"))
    table.note_peaks(client, *peaks)
    assert peaks[1] <= peaks[0] + MORE_KB, f"{client}: {peaks} KiB at most"


def without_scratch(text: str) -> str:
    """Return a list of databases without the one that every user of skyshard sees."""
    return re.sub(
        r', \["skyshard_scratch"\]|, "skyshard_scratch"|,\{"Database":"skyshard_scratch"\}| \| String skyshard_scratch, |skyshard_scratch(\\n|\n)',
        "",
        text,
    )


def _around(text: str, other: str) -> str:
    """Return a text from shortly before where it differs."""
    at = next(
        (i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other))
    )
    return f"…{text[max(0, at - 60) : at + 200]}"


async def _accounts(server) -> None:
    connection = await RawConnection.open(server.address)
    for user, password in set(ACCOUNTS.values()):
        quoted = password.replace("'", "''")
        await connection.run(f"CREATE OR REPLACE USER {user}@'127.0.0.1' IDENTIFIED BY '{quoted}'".encode())
        for database in ("hip", "lab", "odd"):
            await connection.run(
                f"GRANT SELECT, SHOW VIEW, LOCK TABLES ON {database}.* TO {user}@'127.0.0.1'"
            )
        await connection.run(f"GRANT ALL ON `own\\_%`.* TO {user}@'127.0.0.1'")
    await connection.close()


@pytest.fixture(scope="session")
def both(tmp_path_factory):
    """Both servers with the same rows and accounts, over TCP with TLS."""
    directory = tmp_path_factory.mktemp("clients")
    files = certificate.provide(directory / "plain-tls")
    plain = PlainMariaDB(directory / "plain", free_port(), files)
    cluster = LocalCluster(directory / "c", free_port())
    try:
        skyshard("sample", "--dir", directory / "sample")
        cluster.ingest(directory / "sample" / "CATALOG.yaml")
        cluster.ingest(handmade.write(directory / "lab"))
        cluster.ingest(every_type.write(directory / "odd"))
        for database in ("hip", "lab", "odd"):
            asyncio.run(twin.copy_database(cluster.directory, database, plain.address))
        for server in (plain, cluster):
            asyncio.run(_accounts(server))
        yield Both(
            Server(plain.port, files.certificate, "plain"),
            Server(cluster.port, cluster.directory / "tls" / "server.crt", "skyshard"),
            directory,
            cluster,
        )
    finally:
        cluster.stop()
        plain.stop()


def missing(client: str) -> str | None:
    """Return why a client was not installed."""
    listed = CLIENTS / "missing"
    assert listed.exists(), "run `make clients` first"
    for line in listed.read_text().splitlines():
        name, _, why = line.partition(": ")
        if name == client:
            return why
    return None


@pytest.fixture
def need():
    """Return a function that skips a test whose client could not be installed, unless it may never be."""

    def check(client: str) -> None:
        why = missing(client)
        if why is not None:
            table.note_missing(client, why)
            assert client not in NEVER_SKIPPED, f"{client} is not installed: {why}"
            pytest.skip(f"{client} could not be installed: {why}")

    return check


def pytest_sessionfinish(session):
    del session
    if table.RESULTS:
        (CLIENTS / "results.json").write_text(json.dumps(table.RESULTS, indent=1))


def pytest_terminal_summary(terminalreporter):
    for line in table.render(table.RESULTS):
        terminalreporter.write_line(line)
