"""What is not there as the metadata say is found before anything is changed: lost disks, late files, databases without chunks."""

from __future__ import annotations

import json
from pathlib import Path

from tests.skyshard.conftest import Lab, ask
from tests.skyshard.held import worker_of
from tests.skyshard.ingest.test_away import BANDS, bands, joined, repaired, right
from tests.skyshard.ingest.test_queue import ALL, PARTS, in_parts, step
from tests.support.sky import Sky, written

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
