"""Servers that suites share, made once a session, and the seconds each suite took."""

import asyncio
import contextlib
import os
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from skyshard.cluster.local import free_port
from tests.support import handmade, twin
from tests.support.servers import LocalCluster, PlainMariaDB, skyshard

# A run of a commit is as good as any other; what a busy machine takes for an example says nothing.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("SKYSHARD_PROPERTIES", "repeatable"))
# Hundreds of processes are started; each would compile what it imports, where the environment says to keep no bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
IN_MEMORY = Path("/dev/shm")
ROOM_BYTES = 10 << 30
"""What must be free for servers' files to be in memory; a whole run has some 4 GB at most."""


def _keep_files_in_memory() -> None:
    """Put temporary directories into memory where it has room: syncs of servers' files take a third of the processor time."""
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or not IN_MEMORY.is_dir() or not os.access(IN_MEMORY, os.W_OK):
        return
    if min(psutil.disk_usage(str(IN_MEMORY)).free, psutil.virtual_memory().available) >= ROOM_BYTES:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(IN_MEMORY)


_keep_files_in_memory()
SHARED = "shared servers"
BUDGET_S = {
    SHARED: 140,
    "shard": 15,
    "proxy": 270,
    "backend": 10,
    "worker_agent": 25,
    "deploy": 25,
    "differential": 60,
    "fuzz": 125,
    "faults": 210,
    "skyshard": 560,
    "": 10,
}
FIRST = ("faults", "skyshard")
"""Suites of long files come first, so that at the end no process waits for another's last file; in turn, for one waits
where the other computes."""
_spent: dict[str, float] = defaultdict(float)
_of_servers: list[float] = []


def pytest_collection_modifyitems(items):
    """Put the files of long suites first; the order within a suite stays."""
    places: dict[str, int] = {}
    seen: Counter[str] = Counter()
    for item in items:
        file, suite = item.nodeid.split("::")[0], item.nodeid.split("/")[1]
        if file not in places:
            places[file] = seen[suite] if suite in FIRST else len(items)
            seen[suite] += 1
    items.sort(key=lambda item: places[item.nodeid.split("::")[0]])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Tell whoever counts what of a phase's time servers took that suites share."""
    outcome = yield
    outcome.get_result().user_properties.append((SHARED, sum(_of_servers)))
    _of_servers.clear()


def pytest_runtest_logreport(report):
    """Count a phase; the tests themselves may have run in other processes."""
    parts = Path(report.nodeid.split("::")[0]).parts
    servers = sum(seconds for name, seconds in report.user_properties if name == SHARED)
    _spent[SHARED] += servers
    _spent[parts[1] if len(parts) > 2 else ""] += report.duration - servers


@contextlib.contextmanager
def shared():
    """Count the time of the block as that of shared servers, not of the suite that happens to be first."""
    started = time.monotonic()
    yield
    _of_servers.append(time.monotonic() - started)


def pytest_terminal_summary(terminalreporter):
    """Print what each suite took; servers that suites share are a line of their own.

    Two processes share the tests of `make test`: by the clock it takes half of what the suites add up to.
    """
    for suite, seconds in sorted(_spent.items()):
        budget = (BUDGET_S | {"clients": 480}).get(suite, 60)  # the clients have a target of their own
        mark = "  OVER BUDGET" if seconds > budget else ""
        terminalreporter.write_line(f"suite {suite or 'repository':14} {seconds:6.1f} s of {budget} s{mark}")
    everything = sum(BUDGET_S.values())
    terminalreporter.write_line(f"all suites           {sum(_spent.values()):6.1f} s of {everything} s")


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    with shared():
        server = PlainMariaDB(tmp_path_factory.mktemp("plain") / "server")
    yield server
    with shared():
        server.stop()


def grown(directory):
    """Return the catalogue files of `lab`: one, or, by SKYSHARD_GROWN=1, one and what is added in transactions."""
    if os.environ.get("SKYSHARD_GROWN"):
        return handmade.write_grown(directory)
    return [handmade.write(directory)]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, plain):
    """Two workers with the sample and the handmade catalogue, and the plain twin with the same rows."""
    directory = tmp_path_factory.mktemp("cluster")
    with shared():
        running = LocalCluster(directory / "c", free_port())
    try:
        with shared():
            skyshard("sample", "--dir", directory / "sample")
            running.ingest(directory / "sample" / "CATALOG.yaml")
            first, *more = grown(directory / "lab")
            running.ingest(first)
            for catalog in more:
                running.ingest(catalog, "--append")
            for database in ("hip", "lab"):
                asyncio.run(twin.copy_database(running.directory, database, plain.address))
        yield running
    finally:
        with shared():
            running.stop()
