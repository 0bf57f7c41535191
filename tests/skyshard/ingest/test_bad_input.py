"""What cannot be done is refused with a clear error, and nothing of it is half done.

Second ingests of a table, files that change while they are queued, and undoing what is consolidated: see test_append.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shard.catalog.traps import INGEST_LOCK
from skyshard.catalog.cluster import opened
from skyshard.cluster.connect import from_dir
from skyshard.ingest import sources
from skyshard.replicas import repair
from skyshard.replicas.command import _examine
from tests.skyshard.conftest import Lab
from tests.skyshard.held import Held, home_of
from tests.support.sky import Sky, signature, written

ALL = ("Star", "Ref", "Visit", "Pair", "Band")
FIRST, MORE = Sky(0, 20), Sky(20, 8)


@pytest.fixture(scope="module")
def name(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A published catalogue of one copy, which all these refusals leave as it is."""
    lab.publish(written(tmp_path_factory.mktemp("bad"), "badly", FIRST, ALL), "--replicas", "1")
    yield "badly"
    assert {sql: lab.ask(sql, "badly")[0] for sql in signature(FIRST)} == signature(FIRST)
    assert lab.command("catalog", "verify", "badly").exit_code == 0
    lab.drop("badly")
    assert lab.traces("badly") == []


def refused(lab: Lab, *arguments: str | Path) -> str:
    done = lab.command(*map(str, arguments))
    assert done.exit_code == 1, done.output
    return done.output


def test_workers_that_are_unknown_or_the_last(lab: Lab, name: str) -> None:
    for command in ("drain", "remove"):
        assert "there is no worker 'worker9'; workers: worker1, worker2" in refused(
            lab, "worker", command, "worker9"
        )
    lab.home("UPDATE skyshard_meta.workers SET state = 'draining' WHERE worker_id = 2")
    try:
        said = refused(lab, "worker", "drain", "worker1")
        states = lab.home("SELECT name, state FROM skyshard_meta.workers ORDER BY 1")
        assert "worker2 is active" in lab.command("worker", "drain", "worker2", "--cancel").output
        again = lab.home("SELECT state FROM skyshard_meta.workers WHERE worker_id = 2")
    finally:
        lab.home("UPDATE skyshard_meta.workers SET state = 'active'")
    assert again == [("active",)]
    assert "worker 'worker1' is the last active one that answers: its chunks have nowhere to go" in said
    assert states == [("worker1", "active"), ("worker2", "draining")]


def test_a_worker_with_the_only_copy_is_not_removed(lab: Lab, name: str) -> None:
    said = refused(lab, "worker", "remove", "worker2")
    assert "worker 'worker2' has the only copy of" in said
    assert "first run 'skyshard worker drain worker2'" in said
    assert lab.home("SELECT state FROM skyshard_meta.workers WHERE worker_id = 2") == [("active",)]


def test_one_busy_database_does_not_keep_repairs_from_others(
    lab: Lab, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(repair, "LOCK_S", 0)
    lab.publish(written(tmp_path, "after_badly", Sky(0, 3), ("Star",)))
    with closing(Held(home_of(lab), f"DO GET_LOCK('{INGEST_LOCK.format(database='after_badly')}', 5)")):
        done = lab.command("repair")
        asyncio.run(examined(lab))
    told = "an ingest, drop or repair of database 'after_badly' is running"
    assert (done.exit_code, told in done.output, f"{name}: " in done.output) == (1, True, True), done.output
    assert told in capsys.readouterr().err
    lab.drop("after_badly")


async def examined(lab: Lab) -> None:
    async with opened(from_dir(lab.directory)) as cluster:
        await _examine(cluster, None)


def test_metadata_of_another_release(lab: Lab, name: str) -> None:
    lab.home("INSERT INTO skyshard_meta.schema_migrations (version) VALUES (999)")
    try:
        said = refused(lab, "worker", "status")
    finally:
        lab.home("DELETE FROM skyshard_meta.schema_migrations WHERE version = 999")
    assert "the cluster's metadata are of version 999" in said
    assert "use the release that the cluster runs" in said


def test_a_machine_that_is_gone_keeps_no_locks(lab: Lab, name: str) -> None:
    asked = "SELECT @@tcp_keepalive_time, @@tcp_keepalive_interval, @@tcp_keepalive_probes"
    assert lab.home(asked) == [("30", "10", "3")]


@pytest.mark.parametrize("append", [False, True])
def test_sources_that_cannot_be_read(
    lab: Lab, name: str, tmp_path: Path, append: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not there, is a directory, is cut off, or is of a server that does not answer."""
    monkeypatch.setattr(sources, "ATTEMPTS", 1)
    database, options = (name, ["--append"]) if append else ("badfiles", [])
    sky = MORE if append else FIRST
    catalog = written(tmp_path, database, sky, ("Star",))
    text = catalog.read_text()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    for file, said in (
        ("nothing.csv", "nothing.csv does not exist"),
        ("folder.csv", "folder.csv"),
        ("cut.csv.gz", "cut.csv.gz"),
        ("cut.parquet", "cut.parquet"),
        ("http://127.0.0.1:9/star.csv", "http://127.0.0.1:9/star.csv: "),
        ("s3://none/star.csv?endpoint_override=127.0.0.1:9&scheme=http", "s3://none/star.csv"),
    ):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        catalog.write_text(text.replace("star.csv", f"'{file}'"))
        assert said in refused(lab, "ingest", catalog, *options)
    assert lab.traces("badfiles") == []
    assert lab.home("SELECT state FROM skyshard_meta.ingests WHERE state IN ('open', 'running')") == []


def test_a_file_that_goes_or_changes_under_an_ingest(lab: Lab, name: str, tmp_path: Path) -> None:
    catalog = written(tmp_path, name, MORE, ALL[:4])
    number = str(json.loads(lab.command("ingest", "register", str(catalog), "--json").stdout)["id"])
    star, kept = tmp_path / "star.csv", (tmp_path / "star.csv").read_text()
    star.unlink()
    assert "star.csv: No such file or directory" in refused(lab, "ingest", "load", number)
    star.write_text(kept)
    assert lab.command("ingest", "load", number).exit_code == 0
    star.write_text(kept.replace("note", "nose"))  # after it was loaded, too
    assert "its checksum is another one" in refused(lab, "ingest", "check", number)
    assert lab.command("ingest", "--abort", number).exit_code == 0
