"""What is not there as the metadata say is found before anything is changed: lost disks, late files, databases without chunks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from skyshard.catalog.cluster import opened
from skyshard.cluster.connect import from_dir
from skyshard.replicas.repair import Repairer
from tests.skyshard.conftest import Lab, ask
from tests.skyshard.held import worker_of
from tests.skyshard.ingest.test_away import BANDS, bands, joined, repaired, right
from tests.skyshard.ingest.test_queue import ALL, PARTS, in_parts, only_of, step
from tests.support.sky import Sky, signature, written

FIRST, MORE = Sky(0, 30), Sky(30, 20)


def emptied(lab: Lab, name: str, worker: int) -> None:
    """Take a worker's rows of a chunk that has some."""
    server = worker_of(lab, worker)
    asked = (
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}' AND TABLE_ROWS > 0 "
    )
    (table, *_), *_ = ask(server, asked + "AND ENGINE = 'MyISAM' AND TABLE_NAME REGEXP '^Star_[0-9]+$'")
    ask(server, f"TRUNCATE TABLE {name}.{table}")


def test_a_worker_that_lost_its_disk(lab: Lab, name: str, tmp_path: Path) -> None:
    """It answers, and has copies by the metadata: a commit or consolidation names it, and has changed nothing."""
    lab.publish(written(tmp_path / "first", name, FIRST, ALL), "--replicas", "2")
    ask(worker_of(lab, 2), f"DROP DATABASE {name}")
    catalog = written(tmp_path / "more", name, MORE, ALL[:4])
    refused = lab.ingest(catalog, "--append")
    assert refused.exit_code == 1
    assert "worker2 (id 2) has no table" in refused.output
    assert f"run 'skyshard repair {name}', and this again" in refused.output
    assert json.loads(lab.command("ingest", "status", name, "--json").stdout)[-1]["state"] == "open"
    repaired(lab, name)
    lab.publish(catalog, "--append")
    right(lab, name, FIRST, MORE)
    emptied(lab, name, 2)
    refused = lab.command("ingest", "--consolidate", name, "--grace", "0")
    assert (refused.exit_code, "worker2 (id 2) has " in refused.output) == (1, True), refused.output
    assert f"run 'skyshard repair {name}', and this again" in refused.output
    repaired(lab, name)
    done = lab.command("ingest", "--consolidate", name, "--grace", "0")
    assert done.exit_code == 0, done.output
    right(lab, name, FIRST, MORE)


def test_rows_whose_only_copy_is_lost(lab: Lab, name: str, tmp_path: Path) -> None:
    """A consolidation does not begin, and says what is left to do."""
    first = written(tmp_path / "first", name, FIRST, ALL)
    lab.publish(first)
    lab.publish(written(tmp_path / "more", name, MORE, ALL[:4]), "--append")
    emptied(lab, name, 1)
    refused = lab.command("ingest", "--consolidate", name, "--grace", "0")
    assert (refused.exit_code, "worker1 (id 1) has " in refused.output) == (1, True), refused.output
    assert "these rows are lost; put a backup in the database's place" in refused.output
    states = lab.home(f"SELECT state FROM skyshard_meta.ingests WHERE db_name = '{name}'")
    assert sorted(states) == [("committed",), ("published",)]
    lab.publish(first, "--replace")
    right(lab, name, FIRST)


def test_a_file_that_comes_late(lab: Lab, name: str, tmp_path: Path) -> None:
    """Its table is loaded: it is refused, in words, and what was loaded can be published."""
    lab.publish(written(tmp_path / "first", name, Sky(100, 10), ALL))
    catalog = in_parts(tmp_path / "more", name, *ALL[:4])
    late = tmp_path / "more" / "star3.csv"
    kept = late.read_text()
    late.unlink()
    (tmp_path / "more" / "visit3.csv").unlink()
    (tmp_path / "more" / "pair3.csv").unlink()
    number = str(step(lab, "register", str(catalog))["id"])
    step(lab, "load", number)
    late.write_text(kept)
    for again in (("register", str(catalog)), (str(catalog), "--append")):
        refused = lab.command("ingest", *again)
        assert refused.exit_code == 1
        assert f"table 'Star' is loaded already, and {late} has come about since" in refused.output
    step(lab, "check", number)
    step(lab, "publish", number)
    right(lab, name, Sky(100, 10), *PARTS[:3])


def test_a_database_without_chunks(lab: Lab, name: str, tmp_path: Path) -> None:
    """A worker that has none of its tables gets no new ones, and all of them with its first chunk."""
    lab.publish(bands(tmp_path / "first", name, "ug"))
    second = worker_of(lab, 2)
    ask(second, f"DROP DATABASE {name}")  # as if it had been added since
    lab.publish(written(tmp_path / "empty", name, Sky(0, 0), ALL[:4]), "--append")
    lab.publish(bands(tmp_path / "more", name, "r"), "--append")
    assert lab.ask("SELECT GROUP_CONCAT(band ORDER BY band) FROM Band", name) == [("g,r,u",)]
    assert ask(second, f"SHOW DATABASES LIKE '{name}'") == []
    lab.publish(written(tmp_path / "rows", name, FIRST, ALL[:4]), "--append")
    right(lab, name, FIRST)
    assert lab.ask(BANDS, name) == joined("ugr", FIRST)
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output


def test_a_replicated_table_that_is_lost_is_made_again(lab: Lab, name: str, tmp_path: Path) -> None:
    """Whoever watches mends it: no chunk's copy is missing, so that nothing else would show it."""
    lab.publish(written(tmp_path / "first", name, FIRST, ALL), "--replicas", "2")
    lab.publish(bands(tmp_path / "more", name, "r"), "--append")
    (stored,) = [row[0] for row in ask(worker_of(lab, 2), f"SHOW TABLES FROM {name} LIKE 'Band$%'")]
    ask(worker_of(lab, 2), f"DROP TABLE {name}.`{stored}`")
    ask(worker_of(lab, 2), f"DROP TABLE {name}.Band")

    async def examine() -> int:
        async with opened(from_dir(lab.directory)) as cluster:
            return await Repairer(cluster).examine(name)

    assert asyncio.run(examine()) == 0
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    assert lab.ask(BANDS, name) == joined("ugr", FIRST)


def test_a_replicated_table_is_copied_from_one_whose_copies_are_used(
    lab: Lab, name: str, tmp_path: Path
) -> None:
    """As many rows are not the same rows: what a worker without a copy in use has may be what was replaced."""
    lab.publish(written(tmp_path / "first", name, FIRST, ALL), "--replicas", "2")
    first, second = worker_of(lab, 1), worker_of(lab, 2)
    found = ask(second, f"SELECT band FROM {name}.Band ORDER BY 1")
    ask(first, f"UPDATE {name}.Band SET band = 'x'")
    lab.home(
        "UPDATE skyshard_meta.chunk_replicas SET state = 'stale' WHERE worker_id = 1 AND db_id = "
        f"(SELECT db_id FROM skyshard_meta.`databases` WHERE name = '{name}')"
    )
    ask(second, f"DELETE FROM {name}.Band LIMIT 1")
    failed = lab.command("repair", name)
    assert (failed.exit_code, "no worker that answers has all of them" in failed.output) == (1, True)
    assert set(ask(second, f"SELECT band FROM {name}.Band")) < set(found)
    ask(second, f"DELETE FROM {name}.Band")
    for (band,) in found:
        ask(second, f"INSERT INTO {name}.Band (band) VALUES ('{band}')")
    repaired(lab, name)
    assert ask(first, f"SELECT band FROM {name}.Band ORDER BY 1") == found


def test_a_bad_copy_of_added_rows_is_left_out(lab: Lab, name: str, tmp_path: Path) -> None:
    """Another copy is whole: the rows are published, and copied from there; without one nothing is."""
    lab.publish(written(tmp_path / "first", name, FIRST, ALL), "--replicas", "2")
    number = str(step(lab, "register", str(written(tmp_path / "more", name, MORE, ALL[:4])))["id"])
    step(lab, "load", number)
    stage = f"skyshard_stage_{number}"
    first, second = worker_of(lab, 1), worker_of(lab, 2)
    tables = [row[0] for row in ask(second, f"SHOW TABLES FROM {stage} LIKE 'Star\\_%'")]
    (bad,) = [one for one in tables if ask(second, f"SELECT COUNT(*) > 0 FROM {stage}.`{one}`") == [("1",)]][
        :1
    ]
    ask(first, f"RENAME TABLE {stage}.`{bad}` TO {stage}.kept")
    ask(first, f"CREATE TABLE {stage}.`{bad}` LIKE {stage}.kept")
    ask(second, f"DELETE FROM {stage}.`{bad}`")
    refused = lab.command("ingest", "publish", number)
    assert (refused.exit_code, f"rows of {bad}" in refused.output) == (1, True), refused.output
    ask(first, f"DROP TABLE {stage}.`{bad}`")
    ask(first, f"RENAME TABLE {stage}.kept TO {stage}.`{bad}`")
    published = lab.command("ingest", "publish", number)
    assert published.exit_code == 0, published.output
    assert f"rows of {bad}; this copy is left out" in published.output
    right(lab, name, FIRST, MORE)
    repaired(lab, name)
    assert only_of(lab, name, 2) == signature(FIRST, MORE)


def test_a_bad_copy_of_first_rows_is_left_out(lab: Lab, name: str, tmp_path: Path) -> None:
    """So it is with a first ingest; if no copy is whole, the message says how it ends."""
    number = str(step(lab, "register", str(written(tmp_path, name, MORE, ALL)), "--replicas", "2")["id"])
    step(lab, "load", number)
    band = f"skyshard_stage_{number}.Band"
    for worker in (1, 2):
        ask(worker_of(lab, worker), f"DELETE FROM {band} LIMIT 1")
    refused = lab.command("ingest", "publish", number)
    assert (refused.exit_code, f"skyshard ingest --abort {number}" in refused.output) == (1, True), (
        refused.output
    )
    ask(worker_of(lab, 1), f"DELETE FROM {band}")
    ask(worker_of(lab, 1), f"INSERT INTO {band} VALUES ('u'), ('g')")
    published = lab.command("ingest", "publish", number)
    assert published.exit_code == 0, published.output
    assert "worker2 has 1 of 2 rows of Band; its copies that are wrong are left out" in published.output
    right(lab, name, MORE)
    repaired(lab, name)
    assert only_of(lab, name, 2) == signature(MORE)


def test_a_replicated_table_that_cannot_be_moved(lab: Lab, name: str, tmp_path: Path) -> None:
    """A good copy takes the place of one whose files are gone, too."""
    lab.publish(written(tmp_path / "first", name, FIRST, ALL), "--replicas", "2")
    second = worker_of(lab, 2)
    ((data,),) = ask(second, "SELECT @@datadir")
    ask(second, f"FLUSH TABLES {name}.Band")
    for end in ("MYD", "MYI"):
        (Path(str(data)) / name / f"Band.{end}").unlink()
    repaired(lab, name)
    assert only_of(lab, name, 2) == signature(FIRST)
