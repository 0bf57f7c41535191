"""A worker is away during each command: the others go on, and what it misses or keeps is made good when it is back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from skyshard.catalog import cluster
from skyshard.catalog.cluster import opened
from skyshard.cluster.connect import from_dir
from skyshard.replicas import repair
from skyshard.replicas.repair import Repairer
from tests.skyshard.conftest import Lab, ask
from tests.skyshard.held import Held, home_of, worker_of
from tests.skyshard.ingest.test_queue import ALL, away, only_of, step
from tests.support.agents import until
from tests.support.sky import HEAD, Sky, signature, spec, written

FIRST, MORE = Sky(0, 30), Sky(30, 20)
BANDS = "SELECT COUNT(*) FROM Star s JOIN Band b ON b.band = LEFT(s.note, 1)"
OWED = "SELECT COUNT(*) FROM skyshard_meta.worker_debts"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a worker that is away without a pause between: it is not starting again."""
    monkeypatch.setattr(cluster, "AGAIN_S", 0.1)


@pytest.fixture
def name(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a catalogue that leaves nothing, on any worker, and nothing to be done later."""
    made = request.node.name.removeprefix("test_")[:20].rstrip("_")
    yield made
    if made in lab.command("catalog", "list").output:
        lab.drop(made)
    assert lab.traces(made) == []
    assert lab.home(OWED) == [("0",)]


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


def test_a_drop(lab: Lab, name: str, tmp_path: Path) -> None:
    """A database that comes into its place has nothing of it."""
    lab.publish(written(tmp_path, name, FIRST, ALL), "--replicas", "2")
    lab.publish(written(tmp_path, name, MORE, ALL[:4]), "--append")
    with away(lab):
        done = lab.command("catalog", "drop", name)
        assert (done.exit_code, "worker2 (id 2) does not answer" in done.output) == (0, True), done.output
        assert name not in lab.command("catalog", "list").output
        lab.publish(written(tmp_path, name, MORE, ALL), "--replicas", "2")
        right(lab, name, MORE)
    right(lab, name, MORE)
    repaired(lab, name)
    assert only_of(lab, name, 2) == signature(MORE)
    with away(lab):
        assert lab.command("catalog", "drop", name).exit_code == 0
    assert lab.command("repair").exit_code == 0


def alone(lab: Lab) -> None:
    """Drop what earlier tests have left: a worker with the only copy of a chunk cannot be removed."""
    for (other,) in lab.home("SELECT name FROM skyshard_meta.`databases` WHERE state = 'published'"):
        lab.drop(other or "")


def test_a_worker_that_is_removed(lab: Lab, name: str, tmp_path: Path) -> None:
    """It comes back one day, as if it had never been there."""
    alone(lab)
    lab.publish(written(tmp_path, name, FIRST, ALL), "--replicas", "2")
    opened = str(step(lab, "register", str(bands(tmp_path / "bands", name, "r")))["id"])
    step(lab, "load", opened)
    port = lab.home("SELECT port FROM skyshard_meta.workers WHERE worker_id = 2")[0][0] or ""
    with away(lab):
        refused = lab.command("worker", "remove", "worker2")
        assert (refused.exit_code, f"skyshard ingest --abort {opened}" in refused.output) == (1, True)
        assert step(lab, "--abort", opened)["state"] == "aborted"
        mistyped = lab.command(
            "worker", "remove", "worker1"
        )  # the other copies are on one that does not answer
        assert mistyped.exit_code == 1
        assert "worker 'worker1' has the only copy that can be reached of" in mistyped.output
        assert "first start worker2" in mistyped.output
        removed = lab.command("worker", "remove", "worker2")
        assert removed.exit_code == 0, removed.output
        lab.drop(name)
        lab.publish(written(tmp_path, name, MORE, ALL), "--replicas", "1")
    back = lab.command("worker", "add", "worker2", "--host", "127.0.0.1", "--port", port)
    assert back.exit_code == 0, back.output
    lab.publish(written(tmp_path / "later", name, Sky(50, 40, seed=2), ALL[:4]), "--append")
    both = MORE, Sky(50, 40, seed=2)
    right(lab, name, *both)
    assert lab.ask(BANDS, name) == joined("ug", *both)
    repaired(lab, name)


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


def test_one_that_is_back_before_a_name_is_taken_again(lab: Lab, name: str, tmp_path: Path) -> None:
    """It drops what it had of that name before it gets the new, not after, however often the command is killed."""
    lab.publish(written(tmp_path / "old", name, MORE, ALL), "--replicas", "2")
    with away(lab):
        lab.drop(name)
        number = str(
            step(lab, "register", str(written(tmp_path / "new", name, FIRST, ALL)), "--replicas", "2")["id"]
        )
    assert lab.home(OWED) == [("1",)]
    step(lab, "load", number)
    second, stage = worker_of(lab, 2), f"skyshard_stage_{number}"
    (table, *_) = ask(second, f"SHOW TABLES FROM {stage} LIKE 'Star\\_%'")[0]
    with closing(Held(second, f"LOCK TABLES {stage}.{table} READ")) as held:
        lab.killed(held, "ingest", "publish", number, text="RENAME TABLE")
        assert lab.home(OWED) == [("0",)]
    step(lab, "publish", number)
    done = lab.command("repair", name, "--json")
    assert done.exit_code == 0, done.output
    assert [(one["copied"], one["damaged"]) for one in json.loads(done.output)] == [(0, 0)]
    assert only_of(lab, name, 2) == signature(FIRST)


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


def test_a_debt_that_cannot_be_paid(lab: Lab, name: str, tmp_path: Path) -> None:
    """It is told of, and keeps repairs of other databases, and of other workers' copies, from nothing."""
    lab.publish(written(tmp_path / "first", name, FIRST, ALL), "--replicas", "2")
    debt = json.dumps({"db_id": 0, "databases": ["x" * 70]})  # a name that no database can have
    lab.home(f"INSERT INTO skyshard_meta.worker_debts (worker_id, db_name, debt) VALUES (2, 'aaa', '{debt}')")
    (lost, *_) = ask(worker_of(lab, 1), f"SHOW TABLES FROM {name} LIKE 'Star\\_%'")[0]
    ask(worker_of(lab, 1), f"DROP TABLE {name}.`{lost}`")
    listed = [line.rpartition("chunks  ")[2] for line in lab.command("worker", "list").output.splitlines()]
    assert "ok, debts: 1" in listed
    told = lab.command("repair")
    assert "database 'aaa': worker2 (id 2) cannot drop what it has to" in told.output
    assert told.exit_code == 0, told.output
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    lab.home("DELETE FROM skyshard_meta.worker_debts WHERE db_name = 'aaa'")


def test_a_removal_that_is_killed(lab: Lab, name: str, tmp_path: Path) -> None:
    """What is left on the worker goes when the command is run again, and is of no use before."""
    alone(lab)
    lab.publish(written(tmp_path / "first", name, FIRST, ALL), "--replicas", "2")
    second = worker_of(lab, 2)
    (table, *_) = ask(second, f"SHOW TABLES FROM {name} LIKE 'Star\\_%'")[0]
    port = lab.home("SELECT port FROM skyshard_meta.workers WHERE worker_id = 2")[0][0] or ""
    with closing(Held(second, f"LOCK TABLES {name}.`{table}` READ")) as held:
        lab.killed(held, "worker", "remove", "worker2", text="DROP DATABASE")
    assert lab.home("SELECT state FROM skyshard_meta.workers WHERE worker_id = 2") == [("removed",)]
    assert lab.home("SELECT COUNT(*) FROM skyshard_meta.chunk_replicas WHERE worker_id = 2") == [("0",)]
    right(lab, name, FIRST)
    done = lab.command("worker", "remove", "worker2")
    assert done.exit_code == 0, done.output
    assert ask(second, f"SHOW DATABASES LIKE '{name}'") == []
    # as an earlier version could leave it: such copies are not used when the worker is back
    lab.home(
        "INSERT INTO skyshard_meta.chunk_replicas (db_id, chunk_id, worker_id) SELECT db_id, chunk_id, 2 FROM "
        f"skyshard_meta.chunk_replicas JOIN skyshard_meta.`databases` USING (db_id) WHERE name = '{name}'"
    )
    back = lab.command("worker", "add", "worker2", "--host", "127.0.0.1", "--port", port)
    assert back.exit_code == 0, back.output
    right(lab, name, FIRST)
    repaired(lab, name)
    assert only_of(lab, name, 2) == signature(FIRST)


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


def test_a_repair_that_is_killed_before_it_drops(
    lab: Lab, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it took out of use, and had still to drop, the next one drops."""
    lab.publish(written(tmp_path, name, Sky(0, 5), ("Star",)), "--replicas", "2")
    lab.home(f"UPDATE skyshard_meta.`databases` SET replicas = 1 WHERE name = '{name}'")
    tables = f"SHOW TABLES FROM {name} WHERE Tables_in_{name} REGEXP '^Star_[0-9]+$'"
    before = len(lab.workers(tables))
    asyncio.run(cut_short(lab, name))
    assert len(lab.workers(tables)) == before
    monkeypatch.setattr(repair, "GRACE_S", 0.0)
    done = lab.command("repair", name)
    assert done.exit_code == 0, done.output
    assert len(lab.workers(tables)) == before // 2 + 1  # each worker has a template besides
    assert lab.ask("SELECT COUNT(*) FROM Star", name) == [("5",)]


async def cut_short(lab: Lab, name: str) -> None:
    """Repair a catalogue until copies are out of use, and no further."""
    held = "SELECT COUNT(*) = COUNT(DISTINCT chunk_id) FROM skyshard_meta.chunk_replicas JOIN skyshard_meta.`databases` USING (db_id) "
    async with opened(from_dir(lab.directory)) as cluster, opened(from_dir(lab.directory)) as other:
        repairing = asyncio.create_task(Repairer(cluster).run(name))

        async def out_of_use() -> bool:
            assert not repairing.done(), repairing.result()
            found = await other.home.fetch(f"{held} WHERE name = '{name}'")
            return found[0][0] == b"1"

        await until(out_of_use, pause=0.05)
        repairing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await repairing


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
