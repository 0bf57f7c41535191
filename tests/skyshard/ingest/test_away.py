"""A worker is away during each command: the others go on, and what it misses or keeps is made good when it is back."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from tests.skyshard.conftest import Lab, ask
from tests.skyshard.held import Held, home_of, worker_of
from tests.skyshard.ingest.test_queue import ALL, away, only_of, step
from tests.support.sky import HEAD, Sky, signature, spec, written

FIRST, MORE = Sky(0, 30), Sky(30, 20)
BANDS = "SELECT COUNT(*) FROM Star s JOIN Band b ON b.band = LEFT(s.note, 1)"
OWED = "SELECT COUNT(*) FROM skyshard_meta.worker_debts"


@pytest.fixture
def name(paid_name: str) -> str:
    """The name of a catalogue that leaves nothing, and nothing to be done later."""
    return paid_name


def right(lab: Lab, name: str, *skies: Sky) -> None:
    wanted = signature(*skies)
    assert {sql: lab.ask(sql, name)[0] for sql in wanted} == wanted


def joined(bands: str, *skies: Sky) -> list[tuple[str]]:
    """Return what BANDS gives."""
    return [(str(sum(bands.count(str(row[4])[0]) for sky in skies for row in sky.star)),)]


def repaired(lab: Lab, name: str) -> None:
    done = lab.command("repair")
    assert done.exit_code == 0, done.output
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output


def bands(directory: Path, name: str, letters: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "band.csv").write_text("band\n" + "".join(f"{letter}\n" for letter in letters))
    catalog = directory / "catalog.yaml"
    catalog.write_text(HEAD.format(name) + "  " + spec("Band").strip().replace("\n", "\n  ") + "\n")
    return catalog


def test_a_first_ingest(lab: Lab, name: str, tmp_path: Path) -> None:
    """Each chunk has a copy on a worker that answers, and a repair makes the others."""
    catalog = written(tmp_path, name, FIRST, ALL)
    with away(lab):
        told = lab.publish(catalog, "--replicas", "2")
        assert "worker2 (id 2) does not answer; 'skyshard repair' will make its copies" in told
        right(lab, name, FIRST)
    right(lab, name, FIRST)
    repaired(lab, name)
    assert only_of(lab, name, 2) == signature(FIRST)


def test_a_first_ingest_step_by_step(lab: Lab, name: str, tmp_path: Path) -> None:
    """It is away when rows are loaded, and back when they are published; or the other way round."""
    catalog = written(tmp_path, name, FIRST, ALL)
    number = str(step(lab, "register", str(catalog), "--replicas", "2")["id"])
    with away(lab):
        step(lab, "load", number)
    step(lab, "check", number)
    step(lab, "publish", number)
    right(lab, name, FIRST)
    repaired(lab, name)
    number = str(
        step(lab, "register", str(written(tmp_path, name, MORE, ALL)), "--replicas", "2", "--replace")["id"]
    )
    step(lab, "load", number)
    with away(lab):
        step(lab, "publish", number)
        right(lab, name, MORE)
    right(lab, name, MORE)  # what it has is the old one
    repaired(lab, name)
    assert only_of(lab, name, 2) == signature(MORE)


def test_a_first_ingest_that_is_given_up(lab: Lab, name: str, tmp_path: Path) -> None:
    number = str(step(lab, "register", str(written(tmp_path, name, FIRST, ALL)))["id"])
    step(lab, "load", number)
    with away(lab):
        assert step(lab, "--abort", number)["state"] == "abandoned"
    assert lab.workers("SHOW DATABASES LIKE 'skyshard\\_stage%'") != []
    assert lab.command("repair").exit_code == 0  # of all: nothing of that name is published
    assert lab.workers("SHOW DATABASES LIKE 'skyshard\\_stage%'") == []


def test_a_killed_first_ingest_is_begun_anew(lab: Lab, name: str, tmp_path: Path) -> None:
    catalog = written(tmp_path, name, FIRST, ALL)
    with closing(Held(home_of(lab), "LOCK TABLES skyshard_meta.`tables` READ")) as held:
        lab.killed(held, "ingest", catalog, "--replicas", "2", text="skyshard_meta`.`tables")
    with away(lab):
        lab.publish(written(tmp_path, name, MORE, ALL), "--replicas", "2")
        right(lab, name, MORE)
    right(lab, name, MORE)
    repaired(lab, name)
    assert lab.workers("SHOW DATABASES LIKE 'skyshard\\_stage%'") == []


def test_replicated_rows_and_new_tables(lab: Lab, name: str, tmp_path: Path) -> None:
    """A worker that misses them is asked for no chunk until a repair has given it all."""
    lab.publish(written(tmp_path / "first", name, FIRST, ALL[:4]), "--replicas", "2")
    with away(lab):
        lab.publish(bands(tmp_path / "bands", name, "ug"), "--append")
        assert lab.ask(BANDS, name) == joined("ug", FIRST)
    assert lab.ask(BANDS, name) == joined("ug", FIRST)
    repaired(lab, name)
    more = str(step(lab, "register", str(bands(tmp_path / "more", name, "rz")))["id"])
    with away(lab):
        step(lab, "load", more)
    step(lab, "check", more)
    step(lab, "publish", more)  # back by now, it gets them
    assert lab.ask(BANDS, name) == joined("ugrz", FIRST)
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    with away(lab):
        lab.publish(bands(tmp_path / "last", name, "i"), "--append")
        assert lab.ask(BANDS, name) == joined("ugrzi", FIRST)
        done = lab.command("ingest", "--consolidate", name, "--grace", "0")
        assert done.exit_code == 0, done.output
        assert lab.ask(BANDS, name) == joined("ugrzi", FIRST)
    assert lab.ask(BANDS, name) == joined("ugrzi", FIRST)
    repaired(lab, name)
    assert only_of(lab, name, 2) == signature(FIRST)
    assert lab.ask(BANDS, name) == joined("ugrzi", FIRST)


def test_one_that_has_the_only_copies(lab: Lab, name: str, tmp_path: Path) -> None:
    """The message names a way out that the next command does not refuse."""
    lab.publish(written(tmp_path / "first", name, FIRST, ALL), "--replicas", "1")
    more = str(step(lab, "register", str(bands(tmp_path / "more", name, "r")))["id"])
    step(lab, "load", more)
    with away(lab):
        refused = lab.command("ingest", "publish", more)
        assert refused.exit_code == 1
        assert "worker2 (id 2) does not answer, and nobody else has chunk" in refused.output
        assert f"skyshard ingest --abort {more}" in refused.output
        assert step(lab, "--abort", more)["state"] == "aborted"
    assert lab.command("repair").exit_code == 0
    right(lab, name, FIRST)


def test_a_worker_that_comes_between_two_commits(lab: Lab, name: str, tmp_path: Path) -> None:
    """It gets its first chunks from an append, and with these all states of replicated tables."""
    second = worker_of(lab, 2)
    workers = "UPDATE skyshard_meta.workers SET state = '{}' WHERE worker_id = 2"
    lab.home(workers.format("removed"))
    lab.publish(written(tmp_path / "first", name, FIRST, ALL), "--replicas", "1")
    lab.publish(bands(tmp_path / "more", name, "r"), "--append")
    lab.home(workers.format("active"))
    ask(second, f"CREATE DATABASE {name}")
    ask(second, f"CREATE TABLE {name}.Band (band CHAR(1)) ENGINE=MyISAM")  # left by one of that name
    ask(second, f"INSERT INTO {name}.Band VALUES ('u'), ('u'), ('u')")
    new = Sky(30, 40, seed=2)
    number = json.loads(lab.publish(written(tmp_path / "new", name, new, ALL[:4]), "--append", "--json"))[
        "id"
    ]
    held = "SELECT COUNT(*) > 0 FROM skyshard_meta.ingest_replicas WHERE worker_id = 2 AND ingest_id = "
    assert lab.home(f"{held}{number}") == [("1",)]
    right(lab, name, FIRST, new)
    assert lab.ask(BANDS, name) == joined("ugr", FIRST, new)
    lab.publish(bands(tmp_path / "last", name, "zz"), "--append")
    assert lab.ask(BANDS, name) == joined("ugrzz", FIRST, new)
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output


def test_new_tables_reach_copies_that_were_made_since(lab: Lab, name: str, tmp_path: Path) -> None:
    """Rows of a table that a transaction brings go to a worker that has got its chunks after they were loaded."""
    lab.publish(written(tmp_path / "first", name, FIRST, ("Star", "Band")), "--replicas", "2")
    visits = str(step(lab, "register", str(written(tmp_path / "visits", name, FIRST, ("Visit",))))["id"])
    with away(lab):
        step(lab, "load", visits)
    step(lab, "check", visits)
    step(lab, "publish", visits)
    sql = "SELECT COUNT(*), ROUND(SUM(v.flux * 4)) FROM Star s JOIN Visit v ON s.id = v.id"
    wanted = [signature(FIRST)[sql]]
    assert lab.ask(sql, name) == wanted
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output


def test_one_that_goes_while_a_catalogue_is_swapped(lab: Lab, name: str, tmp_path: Path) -> None:
    """Nobody waits for it, however far it has come; what it has of the old and the new catalogue is not used."""
    lab.publish(written(tmp_path / "old", name, MORE, ALL), "--replicas", "2")
    catalog = written(tmp_path / "new", name, FIRST, ALL)
    number = str(step(lab, "register", str(catalog), "--replicas", "2", "--replace")["id"])
    step(lab, "load", number)
    second, stage = worker_of(lab, 2), f"skyshard_stage_{number}"
    (table, *_) = ask(second, f"SHOW TABLES FROM {stage} LIKE 'Star\\_%'")[0]
    with closing(Held(second, f"LOCK TABLES {stage}.{table} READ")) as held:
        lab.killed(held, "ingest", "publish", number, text="RENAME TABLE")
        with away(lab):
            step(lab, "publish", number)
            right(lab, name, FIRST)
    right(lab, name, FIRST)
    repaired(lab, name)
    assert only_of(lab, name, 2) == signature(FIRST)
    assert lab.ask(BANDS, name) == joined("ug", FIRST)


@pytest.mark.parametrize("is_back", [False, True])
def test_one_that_goes_while_tables_are_committed(lab: Lab, name: str, tmp_path: Path, is_back: bool) -> None:
    lab.publish(written(tmp_path / "first", name, FIRST, ("Star", "Ref", "Visit")), "--replicas", "2")
    catalog = written(tmp_path / "more", name, MORE, ("Star", "Band"))
    number = str(step(lab, "register", str(catalog))["id"])
    step(lab, "load", number)
    second, stage = worker_of(lab, 2), f"skyshard_stage_{number}"
    with closing(Held(second, f"LOCK TABLES {stage}.Band READ")) as held:
        lab.killed(held, "ingest", "publish", number, text="RENAME TABLE")
    if not is_back:
        with away(lab):
            step(lab, "publish", number)
            assert lab.ask(BANDS, name) == joined("ug", FIRST, MORE)
    else:
        ask(second, f"DROP DATABASE {stage}")  # it has lost what was loaded
        ask(second, f"CREATE DATABASE {stage}")
        refused = lab.command("ingest", "publish", number)
        if refused.exit_code:
            assert "Traceback" not in refused.output
            with away(lab):
                step(lab, "publish", number)
    assert lab.ask(BANDS, name) == joined("ug", FIRST, MORE)
    repaired(lab, name)
    assert lab.ask(BANDS, name) == joined("ug", FIRST, MORE)
    assert lab.ask("SELECT COUNT(*) FROM Star", name) == [(str(len(FIRST.star) + len(MORE.star)),)]


def test_a_first_ingest_comes_after_one_that_was_half_swapped(lab: Lab, name: str, tmp_path: Path) -> None:
    """`publish` of another one finishes that first, with which all goes that was to come to the database before."""
    lab.publish(written(tmp_path / "old", name, MORE, ALL), "--replicas", "2")
    numbers = []
    for part, sky in (("new", FIRST), ("last", Sky(0, 20, seed=9))):
        catalog = written(tmp_path / part, name, sky, ALL)
        numbers.append(str(step(lab, "register", str(catalog), "--replicas", "2", "--replace")["id"]))
        step(lab, "load", numbers[-1])
        # Commands let only one be open at a time.
        lab.home(f"UPDATE skyshard_meta.ingests SET state = 'failed' WHERE ingest_id = {numbers[-1]}")
    new, last = numbers
    lab.home(f"UPDATE skyshard_meta.ingests SET state = 'open' WHERE ingest_id = {new}")
    second, stage = worker_of(lab, 2), f"skyshard_stage_{new}"
    (table, *_) = ask(second, f"SHOW TABLES FROM {stage} LIKE 'Star\\_%'")[0]
    with closing(Held(second, f"LOCK TABLES {stage}.{table} READ")) as held:
        lab.killed(held, "ingest", "publish", new, text="RENAME TABLE")
    lab.home(f"UPDATE skyshard_meta.ingests SET state = 'open' WHERE ingest_id = {last}")
    refused = lab.command("ingest", "publish", last)
    assert (refused.exit_code, f"transaction {last} is dropped" in refused.output) == (1, True)
    right(lab, name, FIRST)
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
