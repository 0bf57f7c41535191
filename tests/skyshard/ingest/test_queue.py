"""Loaders take files from the queue: each file is loaded once, whoever is killed, and however many there are."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from skyshard.ingest import steps
from tests.skyshard.conftest import Lab, ask
from tests.skyshard.held import Held, home_of, worker_of
from tests.support.sky import Sky, signature, written

ALL = ("Star", "Ref", "Visit", "Pair", "Band")
LOCK = "LOCK TABLES skyshard_meta.`tables` READ"
PARTS = (Sky(0, 25), Sky(25, 20), Sky(45, 15), Sky(60, 20))


def in_parts(directory: Path, database: str, *names: str) -> Path:
    """Write a catalogue file of which every table but Band has a file for each part of the sky."""
    catalog = written(directory, database, PARTS[0], names or ALL)
    for number, sky in enumerate(PARTS):
        for name, text in sky.files().items():
            (directory / f"{name.removesuffix('.csv')}{number}.csv").write_text(text)
    text = catalog.read_text()
    for table in ("star", "ref", "visit", "pair"):
        text = text.replace(f"files: [{table}.csv]", f"files: ['{table}[0-9].csv']")
    catalog.write_text(text)
    return catalog


def step(lab: Lab, *arguments: str) -> dict[str, Any]:
    done = lab.command("ingest", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def answers(lab: Lab, database: str) -> dict[str, tuple[str | None, ...]]:
    return {sql: lab.ask(sql, database)[0] for sql in signature(*PARTS)}


def test_files_of_tables_are_loaded_by_several_processes(lab: Lab, name: str, tmp_path: Path) -> None:
    catalog = in_parts(tmp_path, name)
    opened = step(lab, "register", str(catalog), "--batch", "0", "--replicas", "2")
    number, state = str(opened["id"]), opened["state"]
    assert state == "open"
    assert len(opened["files"]) == 4 * len(PARTS) + 1
    with lab.started("ingest", "load", number) as one, lab.started("ingest", "load", number) as other:
        outputs = [process.communicate(timeout=120)[0] for process in (one, other)]
        assert [one.returncode, other.returncode] == [0, 0], outputs
    files = step(lab, "load", number)["files"]
    assert {file["state"] for file in files} == {"loaded"}
    assert [file["attempts"] for file in files] == [1] * len(files)
    assert step(lab, "check", number)["state"] == "open"
    assert step(lab, "publish", number)["state"] == "published"
    assert answers(lab, name) == signature(*PARTS)
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output


def test_a_loader_that_is_killed_harms_nothing(lab: Lab, name: str, tmp_path: Path) -> None:
    lab.publish(written(tmp_path / "first", name, Sky(100, 10), ALL))
    catalog = in_parts(tmp_path / "more", name, *ALL[:4])
    number = str(step(lab, "register", str(catalog), "--batch", "0")["id"])
    lock = f"CREATE DATABASE IF NOT EXISTS skyshard_stage_{number}"
    with closing(Held(worker_of(lab), lock, "FLUSH TABLES WITH READ LOCK")) as held:
        with lab.started("ingest", "load", number) as killed:
            held.until_waiting(killed)
            refused = lab.command("ingest", "--abort", number)
            assert (refused.exit_code, f"another process loads transaction {number}" in refused.output) == (
                1,
                True,
            )
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
        files = json.loads(lab.command("ingest", "status", name, "--json").stdout)[-1]["files"]
        assert "loading" in {file["state"] for file in files}
    loaded = step(lab, "load", number)["files"]
    assert {file["state"] for file in loaded} == {"loaded"}
    assert sorted(file["attempts"] for file in loaded)[-2:] == [1, 2]  # the one that was cut short
    assert step(lab, "check", number)["state"] == "open"
    assert step(lab, "publish", number)["state"] == "committed"
    both = signature(Sky(100, 10), *PARTS)
    assert {sql: lab.ask(sql, name)[0] for sql in both} == both
    assert lab.command("ingest", "--undo", number, "--grace", "0").exit_code == 0
    first = signature(Sky(100, 10))
    assert {sql: lab.ask(sql, name)[0] for sql in first} == first


def attempts(lab: Lab, name: str) -> dict[str, int]:
    found = json.loads(lab.command("ingest", "status", name, "--json").stdout)
    return {file["table"]: file["attempts"] for file in found[-1]["files"]}


@pytest.mark.parametrize("replace", [False, True])
def test_a_first_ingest_goes_on_where_it_was_killed(lab: Lab, tmp_path: Path, replace: bool) -> None:
    name = f"goes_on_{int(replace)}"
    old, new = Sky(200, 12), Sky(0, 30)
    if replace:
        lab.publish(written(tmp_path / "old", name, old, ALL))
    catalog = written(tmp_path / "new", name, new, ALL)
    options = ["--replace"] if replace else []
    with closing(Held(home_of(lab), LOCK)) as held:
        lab.killed(held, "ingest", catalog, *options, text="skyshard_meta`.`tables")
    if replace:
        assert {sql: lab.ask(sql, name)[0] for sql in signature(old)} == signature(old)
    before = attempts(lab, name)
    assert before == dict.fromkeys(ALL, 1)
    lab.publish(catalog, *options)
    assert attempts(lab, name) == before  # nothing was loaded again
    assert {sql: lab.ask(sql, name)[0] for sql in signature(new)} == signature(new)
    if not replace:  # the same command once more, as after a kill that came too late
        assert "is published" in lab.publish(catalog)
        assert attempts(lab, name) == before
    lab.drop(name)
    assert lab.traces(name) == []


def test_a_first_ingest_that_was_killed_and_whose_files_changed_begins_anew(
    lab: Lab, name: str, tmp_path: Path
) -> None:
    catalog = written(tmp_path, name, Sky(0, 30), ALL)
    with closing(Held(home_of(lab), LOCK)) as held:
        lab.killed(held, "ingest", catalog, text="skyshard_meta`.`tables")
    lab.publish(written(tmp_path, name, Sky(0, 31), ALL))
    assert {sql: lab.ask(sql, name)[0] for sql in signature(Sky(0, 31))} == signature(Sky(0, 31))


def test_steps_of_a_first_ingest_exclude_others(lab: Lab, name: str, tmp_path: Path) -> None:
    catalog = in_parts(tmp_path, name)
    number = str(step(lab, "register", str(catalog))["id"])
    assert step(lab, "register", str(catalog))["id"] == int(number)
    for options in ((), ("--replace",)):
        done = lab.ingest(catalog, *options)
        assert (done.exit_code, f"transaction {number} of " in done.output) == (1, True), done.output
    early = lab.command("ingest", "publish", number)
    assert (early.exit_code, "is not loaded" in early.output) == (1, True)
    star = tmp_path / "star2.csv"
    kept = star.read_text()
    star.write_text(kept.replace("note", "nota"))
    wrong = lab.command("ingest", "load", number)
    assert (wrong.exit_code, f"{star}: the file has changed since it was queued" in wrong.output) == (1, True)
    assert step(lab, "--abort", number)["state"] == "abandoned"
    assert lab.traces(name) == []
    star.write_text(kept)
    lab.publish(catalog)
    assert answers(lab, name) == signature(*PARTS)


@contextmanager
def away(lab: Lab) -> Iterator[None]:
    """Let nobody reach worker 2."""
    lab.home("UPDATE skyshard_meta.workers SET port = port + 10000 WHERE worker_id = 2")
    try:
        yield
    finally:
        lab.home("UPDATE skyshard_meta.workers SET port = port - 10000 WHERE worker_id = 2")
        lab.home("UPDATE skyshard_meta.cluster SET value = value + 1 WHERE name = 'catalogue_version'")


def test_rows_are_added_while_a_worker_is_away(lab: Lab, name: str, tmp_path: Path) -> None:
    lab.publish(written(tmp_path / "first", name, PARTS[0], ALL), "--replicas", "2")
    catalog = written(tmp_path / "more", name, PARTS[1], ALL[:4])
    last = written(tmp_path / "last", name, PARTS[2], ALL[:4])
    both, all_three = signature(*PARTS[:2]), signature(*PARTS[:3])
    with away(lab):
        output = lab.publish(catalog, "--append")
        assert "worker2 (id 2) does not answer; 'skyshard repair' will make its copies" in output
        assert {sql: lab.ask(sql, name)[0] for sql in both} == both
        number = str(step(lab, "register", str(last))["id"])
        step(lab, "load", number)
    verified = lab.command("catalog", "verify", name)
    assert (verified.exit_code, "this copy was found damaged" in verified.output) == (1, True)
    step(lab, "publish", number)  # worker 2 is back, and gets these rows where it has a copy
    assert {sql: lab.ask(sql, name)[0] for sql in all_three} == all_three
    (repaired,) = json.loads(lab.command("repair", name, "--json").stdout)
    assert repaired["copied"] > 0
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    lab.home("UPDATE skyshard_meta.chunk_replicas SET state = 'loading' WHERE worker_id = 1 AND db_id = "
             f"(SELECT db_id FROM skyshard_meta.`databases` WHERE name = '{name}')")  # fmt: skip
    lab.home("UPDATE skyshard_meta.cluster SET value = value + 1 WHERE name = 'catalogue_version'")
    assert lab.command("catalog", "verify", name, "--quick").exit_code == 1
    asked = {sql: lab.ask(sql, name)[0] for sql in all_three}
    lab.home("UPDATE skyshard_meta.chunk_replicas SET state = 'ok' WHERE worker_id = 1")
    assert asked == all_three  # from worker 2 alone
    assert lab.command("ingest", "--undo", number, "--grace", "0").exit_code == 0
    assert {sql: lab.ask(sql, name)[0] for sql in both} == both
    assert lab.command("ingest", "--consolidate", name, "--grace", "0").exit_code == 0
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output


def only_of(lab: Lab, name: str, worker: int) -> dict[str, tuple[str | None, ...]]:
    """Return the answers that a worker's copies alone give."""
    copies = f"skyshard_meta.chunk_replicas r JOIN skyshard_meta.`databases` d ON d.db_id = r.db_id AND d.name = '{name}'"
    bump = "UPDATE skyshard_meta.cluster SET value = value + 1 WHERE name = 'catalogue_version'"
    lab.home(f"UPDATE {copies} SET r.state = 'loading' WHERE r.worker_id <> {worker} AND r.state = 'ok'")
    lab.home(bump)
    assert lab.command("catalog", "verify", name, "--quick").exit_code == 1
    found = {sql: lab.ask(sql, name)[0] for sql in signature(*PARTS[:1])}
    lab.home(f"UPDATE {copies} SET r.state = 'ok' WHERE r.worker_id <> {worker} AND r.state = 'loading'")
    lab.home(bump)
    return found


def test_what_is_done_while_a_worker_is_away(lab: Lab, name: str, tmp_path: Path) -> None:
    """Abort, undo and consolidation do not wait for it; it is shown again only when it has caught up."""
    lab.publish(written(tmp_path / "first", name, PARTS[0], ALL), "--replicas", "2")
    more, last = (
        written(tmp_path / part, name, sky, ALL[:4]) for part, sky in (("more", PARTS[1]), ("last", PARTS[2]))
    )
    one, both, all_three = (signature(*PARTS[:count]) for count in (1, 2, 3))
    done = str(json.loads(lab.publish(more, "--append", "--json"))["id"])
    number = str(step(lab, "register", str(last))["id"])
    step(lab, "load", number)
    with away(lab):
        for arguments in (("--abort", number), ("--undo", done, "--grace", "0")):
            told = lab.command("ingest", *arguments)
            assert told.exit_code == 0, told.output
        assert {sql: lab.ask(sql, name)[0] for sql in one} == one
    owed = "SELECT worker_id FROM skyshard_meta.worker_debts"
    assert lab.home(owed) == [("2",), ("2",)]
    assert {sql: lab.ask(sql, name)[0] for sql in one} == one
    assert only_of(lab, name, 2) == one  # what was published first has never gone
    lab.publish(more, "--append")
    assert lab.home(owed) == []
    assert {sql: lab.ask(sql, name)[0] for sql in both} == both
    with away(lab):
        lab.publish(last, "--append")
        told = lab.command("ingest", "--consolidate", name, "--grace", "0")
        assert told.exit_code == 0, told.output
        assert {sql: lab.ask(sql, name)[0] for sql in all_three} == all_three
    assert {sql: lab.ask(sql, name)[0] for sql in all_three} == all_three  # its copies are out of use
    repaired = lab.command("repair", name)
    assert repaired.exit_code == 0, repaired.output
    assert lab.home(owed) == []
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    assert lab.workers("SHOW DATABASES LIKE 'skyshard\\_stage%'") == []
    assert only_of(lab, name, 2) == all_three


def test_what_needs_a_worker_that_is_away(lab: Lab, name: str, tmp_path: Path) -> None:
    """Chunks of which it has the only copy are not undone or consolidated, and rows of replicated tables need all chunks."""
    lab.publish(written(tmp_path / "first", name, PARTS[0], ALL), "--replicas", "1")
    done = str(
        json.loads(lab.publish(written(tmp_path / "more", name, PARTS[1], ALL[:4]), "--append", "--json"))[
            "id"
        ]
    )
    both = signature(*PARTS[:2])
    bands = written(tmp_path / "bands", name, PARTS[1], ALL[4:])
    with away(lab):
        for arguments in (("--undo", done), ("--consolidate", name), (str(bands), "--append")):
            told = lab.command("ingest", *arguments)
            assert (told.exit_code, "worker2 (id 2)" in told.output) == (1, True), told.output
        opened = str(json.loads(status(lab, name))[-1]["id"])
        assert f"skyshard ingest --abort {opened}" in told.output
    assert {sql: lab.ask(sql, name)[0] for sql in both} == both
    assert lab.command("ingest", "--undo", done, "--grace", "0").exit_code == 1  # the bands may build on it
    assert step(lab, "--abort", opened)["state"] == "aborted"
    assert lab.command("ingest", "--undo", done, "--grace", "0").exit_code == 0


def test_a_worker_that_is_away_has_the_only_copy(
    lab: Lab, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_PAUSES_S", ())  # nobody waits for it
    lab.publish(written(tmp_path / "first", name, PARTS[0], ALL), "--replicas", "1")
    with away(lab):
        done = lab.ingest(written(tmp_path / "more", name, PARTS[1], ALL[:4]), "--append")
    assert (done.exit_code, "worker2 (id 2) cannot be reached" in done.output) == (1, True), done.output
    lab.publish(tmp_path / "more" / "catalog.yaml", "--append")
    assert {sql: lab.ask(sql, name)[0] for sql in signature(*PARTS[:2])} == signature(*PARTS[:2])


def test_what_was_not_taken_back_is_not_dropped(lab: Lab, name: str, tmp_path: Path) -> None:
    """An abort that comes too late, while a worker is away, lets it keep its rows when it is back."""
    catalog = written(tmp_path / "first", name, PARTS[0], ALL)
    number = str(step(lab, "register", str(catalog), "--replicas", "2")["id"])
    step(lab, "load", number)
    second, stage = worker_of(lab, 2), f"skyshard_stage_{number}"
    (table, *_) = ask(second, f"SHOW TABLES FROM {stage} LIKE 'Star\\_%'")[0]
    with closing(Held(second, f"LOCK TABLES {stage}.{table} READ")) as held:
        lab.killed(held, "ingest", "publish", number, text="RENAME TABLE")
        with away(lab):
            late = lab.command("ingest", "--abort", number)
    assert (late.exit_code, f"transaction {number} is publishing" in late.output) == (1, True), late.output
    owed = "SELECT worker_id FROM skyshard_meta.worker_debts"
    assert lab.home(owed) == []
    step(lab, "publish", number)
    more = json.loads(lab.publish(written(tmp_path / "more", name, PARTS[1], ALL[:4]), "--append", "--json"))[
        "id"
    ]
    debt = json.dumps({"db_id": 0, "stages": [more, int(number)]})
    lab.home(
        f"INSERT INTO skyshard_meta.worker_debts (worker_id, db_name, debt) VALUES (2, '{name}', '{debt}')"
    )
    assert lab.command("ingest", "index", name).exit_code == 0
    assert lab.home(owed) == []
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    assert only_of(lab, name, 2) == signature(*PARTS[:2])


def test_what_is_only_busy_or_away_is_not_aborted(
    lab: Lab, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--append` keeps what it loaded unless something is wrong with the files, and one that came second has succeeded."""
    lab.publish(written(tmp_path / "first", name, PARTS[0], ALL), "--replicas", "1")
    more = written(tmp_path / "more", name, PARTS[1], ALL)
    checked, published = steps.Steps.check, steps.Steps.publish
    port = "UPDATE skyshard_meta.workers SET port = port {} 10000 WHERE worker_id = 2"

    async def goes_away(self: steps.Steps, number: int) -> None:
        await checked(self, number)
        await asyncio.to_thread(lab.home, port.format("+"))

    with monkeypatch.context() as patch:
        patch.setattr(steps.Steps, "check", goes_away)
        done = lab.ingest(more, "--append")
    lab.home(port.format("-"))
    (one,) = (one for one in json.loads(status(lab, name)) if one["state"] == "open")
    number = str(one["id"])
    assert (done.exit_code, f"skyshard ingest --abort {number}" in done.output) == (1, True), done.output
    assert "worker2 (id 2) does not answer" in done.output
    with closing(Held(home_of(lab), f"DO GET_LOCK('skyshard load {number}/1', 5)")):
        done = lab.ingest(more, "--append")
    assert (done.exit_code, f"another process loads transaction {number}" in done.output) == (1, True)
    assert f"transaction {number} is open" in done.output
    before = attempts(lab, name)
    assert set(before.values()) == {1}

    async def another_is_faster(self: steps.Steps, number: int) -> None:
        await checked(self, number)
        await published(self, number)
        await checked(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(steps.Steps, "check", another_is_faster)
        found = json.loads(lab.publish(more, "--append", "--json"))
    assert (found["id"], found["state"]) == (int(number), "committed")
    assert attempts(lab, name) == before  # nothing was loaded again
    assert {sql: lab.ask(sql, name)[0] for sql in signature(*PARTS[:2])} == signature(*PARTS[:2])
    assert lab.ask("SELECT COUNT(*) FROM Band", name) == [("4",)]


def status(lab: Lab, name: str) -> str:
    return lab.command("ingest", "status", name, "--json").stdout


def test_a_worker_that_was_away_while_one_table_was_loaded(lab: Lab, name: str, tmp_path: Path) -> None:
    """It has the rows of the next table, and not all of the transaction: a commit gives it both."""
    lab.publish(written(tmp_path / "first", name, PARTS[0], ALL), "--replicas", "2")
    number = str(step(lab, "register", str(written(tmp_path / "more", name, PARTS[1], ALL[:4])))["id"])
    visits = tmp_path / "more" / "visit.csv"
    kept = visits.read_text()
    visits.write_text(kept.replace("id", "no", 1))
    with away(lab):
        assert "the file has changed since it was queued" in lab.command("ingest", "load", number).output
    visits.write_text(kept)
    step(lab, "load", number)
    held = f"SELECT DISTINCT worker_id FROM skyshard_meta.ingest_replicas WHERE ingest_id = {number}"
    stars = f"SELECT DISTINCT chunk_id FROM skyshard_meta.ingest_chunks WHERE ingest_id = {number} AND name = 'Star'"
    assert lab.home(f"{held} AND chunk_id IN ({stars})") == [("1",)]
    step(lab, "check", number)
    step(lab, "publish", number)
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    assert only_of(lab, name, 2) == signature(*PARTS[:2])
