"""An agent whose spool cannot grow: others answer, or an error names the worker; the agent lives on, its spool empty."""

import asyncio
import contextlib
import os
import resource
import subprocess

import psutil
import pytest
import yaml

from shard.errors import ServerError
from tests.faults.field import WORKERS

LONG = "SELECT visitId, REPEAT('x', 20000) FROM Visit"
NUMBERS = range(1, WORKERS + 1)


@contextlib.contextmanager
def mounted(path):
    """A file system of one megabyte, if this user may make one."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


async def configured(field, changes):
    """Restart agents with changed settings."""
    for number, settings in changes.items():
        path = field.cluster.directory / "run" / f"worker{number}.yaml"
        config = yaml.safe_load(path.read_text())
        kept = {key: value for key, value in config.items() if key not in settings}
        path.write_text(
            yaml.safe_dump(kept | {key: value for key, value in settings.items() if value is not None})
        )
    await asyncio.gather(*(field.inside.renew(f"agent-worker{number}") for number in changes))
    await field.until_well()


def limited(field, number, process, size):
    """Let an agent write no file that is longer than `size` bytes, its log included; None: any."""
    os.truncate(field.cluster.directory / "logs" / f"agent-worker{number}.log", 0)  # it is appended to
    most = resource.RLIM_INFINITY if size is None else size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


async def test_a_spool_that_cannot_grow(field):
    """No file may be longer than the log is: the spool's cannot be written, first of one agent, then of all."""
    await configured(field, {number: {"spool_memory_bytes": 0} for number in NUMBERS})
    bad = field.inside.figures("proxy1")["skyshard_bad_copies"]
    agents = {number: field.inside.process(f"agent-worker{number}") for number in NUMBERS}
    try:
        await field.compare(LONG)
        limited(field, 2, agents[2], 60_000)
        for _ in range(3):
            await field.compare(LONG)
        for number in NUMBERS:
            limited(field, number, agents[number], 60_000)
        for _ in range(2):
            with pytest.raises(ServerError, match=r"worker worker(\d) \(id \1\) has no room") as caught:
                await field.compare(LONG)
            assert caught.value.errno == 1104
            assert "/" not in caught.value.message
        await field.until_spools_are_empty()
        for number in NUMBERS:
            limited(field, number, agents[number], None)
        await field.compare(LONG)
        await field.until_spools_are_empty()
        assert all(psutil.pid_exists(process.pid) and process.is_running() for process in agents.values())
        assert field.inside.figures("proxy1")["skyshard_bad_copies"] <= bad  # their copies are good
    finally:
        await configured(field, {number: {"spool_memory_bytes": None} for number in NUMBERS})


async def test_rows_that_no_worker_can_hold_are_sorted_at_home(field):
    """All of a worker's rows are more than one job may hold, and less than the spool: they pass, but do not stay."""
    sql = "SELECT visitId, REPEAT('x', 2000) FROM Visit ORDER BY visitId"
    small = {"spool_memory_bytes": 0, "spool_disk_bytes": 700_000}
    await configured(field, dict.fromkeys(NUMBERS, small))
    try:
        async with field.client() as client, field.twin() as twin:
            assert await client.fetch(sql) == await twin.fetch(sql)
            ((level, code, said),) = await client.fetch("SHOW WARNINGS")
        assert (level, code) == (b"Note", b"1105")
        assert b"sorted at home: worker worker" in said
        await field.until_spools_are_empty()
    finally:
        await configured(field, {number: dict.fromkeys(small) for number in NUMBERS})


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")
async def test_a_full_disk(field, tmp_path):
    """The disk of one agent's spool is full; it is emptied by each query that ends."""
    before = yaml.safe_load((field.cluster.directory / "run" / "worker2.yaml").read_text())["spool_dir"]
    with mounted(tmp_path / "disk"):
        await configured(field, {2: {"spool_memory_bytes": 0, "spool_dir": str(tmp_path / "disk")}})
        try:
            agent = field.inside.process("agent-worker2")
            for _ in range(3):
                await field.compare(LONG)
                await field.until_spools_are_empty()
            assert agent.is_running()
            log = (field.cluster.directory / "logs" / "agent-worker2.log").read_text()
            assert "outcome=error 1104" in log, "its disk was never full"
        finally:
            await configured(field, {2: {"spool_memory_bytes": None, "spool_dir": before}})
