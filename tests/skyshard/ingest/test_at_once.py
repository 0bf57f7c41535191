"""Two commands at once, of which each must see what the other has begun."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from skyshard.ingest import steps
from tests.skyshard.conftest import Lab
from tests.skyshard.held import Held, home_of, worker_of
from tests.skyshard.ingest.test_queue import ALL, step
from tests.support.sky import HEAD, Sky, signature, written


def test_what_is_loaded_while_another_is_undone(
    lab: Lab, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that belong to others which are just going are not loaded on these."""
    monkeypatch.setattr(steps, "LOAD_LOCK_S", 1)
    first, more = Sky(0, 30), Sky(30, 20)
    lab.publish(written(tmp_path / "first", name, first, ALL))
    done = str(step(lab, "register", str(written(tmp_path / "more", name, more, ("Star", "Ref"))))["id"])
    for what in ("load", "publish"):
        step(lab, what, done)
    visits = str(
        step(lab, "register", str(written(tmp_path / "visits", name, more, ("Visit", "Pair"))))["id"]
    )
    with (
        closing(Held(home_of(lab), "LOCK TABLES skyshard_meta.chunk_states READ")) as held,
        lab.started("ingest", "--undo", done, "--grace", "0") as process,
    ):
        held.until_waiting(process, "skyshard_meta`.chunk_states")  # it has looked who builds on it
        early = lab.command("ingest", "load", visits)
        held.fetch("UNLOCK TABLES")
        assert process.wait(60) == 0
    assert (early.exit_code, f"drop or repair of database '{name}' is running" in early.output) == (1, True)
    late = lab.command("ingest", "load", visits)
    assert (late.exit_code, "is not in" in late.output or "no" in late.output) == (1, True), late.output
    assert lab.command("ingest", "publish", visits).exit_code == 1
    assert {sql: lab.ask(sql, name)[0] for sql in signature(first)} == signature(first)
    # The other way round, what is being loaded keeps that which it builds on.
    done = str(step(lab, "register", str(tmp_path / "more" / "catalog.yaml"))["id"])
    for what in ("load", "publish"):
        step(lab, what, done)
    step(lab, "load", visits)
    refused = lab.command("ingest", "--undo", done)
    assert (refused.exit_code, f"transaction {visits} is open and may build on" in refused.output) == (
        1,
        True,
    )
    step(lab, "publish", visits)
    both = signature(first, more)
    assert {sql: lab.ask(sql, name)[0] for sql in both} == both


def test_a_table_without_files_is_not_taken_away_under_its_loader(
    lab: Lab, name: str, tmp_path: Path
) -> None:
    lab.publish(written(tmp_path, name, Sky(0, 10), ALL))
    catalog = tmp_path / "late.yaml"
    catalog.write_text(
        HEAD.format(name)
        + "  - {name: Late, kind: dependent, director: Star, director_key: id, files: ['late*.csv'],"
        " columns: {id: BIGINT NOT NULL, flux: DOUBLE}}\n"
    )
    (tmp_path / "late1.csv").write_text("id,flux\n")
    number = str(step(lab, "register", str(catalog))["id"])
    lab.home(f"DELETE FROM skyshard_meta.ingest_files WHERE ingest_id = {number}")
    lock = f"CREATE DATABASE IF NOT EXISTS skyshard_stage_{number}"
    with (
        closing(Held(worker_of(lab), lock, "FLUSH TABLES WITH READ LOCK")) as held,
        lab.started("ingest", "load", number) as process,
    ):
        held.until_waiting(process)
        for arguments in (
            ("ingest", "--abort", number),
            ("ingest", "check", number),
            ("catalog", "drop", name),
        ):
            refused = lab.command(*arguments)
            told = f"another process loads transaction {number}" in refused.output
            assert (refused.exit_code, told) == (1, True), refused.output
        held.fetch("UNLOCK TABLES")
        assert process.wait(60) == 0
    step(lab, "publish", number)
    assert lab.ask("SELECT COUNT(*) FROM Late", name) == [("0",)]
    assert lab.ask("SELECT COUNT(*) FROM Star s LEFT JOIN Late l ON s.id = l.id", name) == [("10",)]


def test_what_is_registered_is_registered_with_all_its_files(lab: Lab, name: str, tmp_path: Path) -> None:
    lab.publish(written(tmp_path / "first", name, Sky(0, 10), ALL))
    more = written(tmp_path / "more", name, Sky(10, 10), ALL[:4])
    count = "SELECT COUNT(*) FROM skyshard_meta.ingests"
    before = lab.home(count)
    with closing(Held(home_of(lab), "LOCK TABLES skyshard_meta.ingest_files READ")) as held:
        for catalog in (more, written(tmp_path / "new", "never", Sky(0, 5), ALL)):
            with lab.started("ingest", "register", catalog) as process:
                held.until_waiting(process, "INSERT INTO")
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
    assert lab.home(count) == before
    lab.publish(more, "--append")
    both = signature(Sky(0, 10), Sky(10, 10))
    assert {sql: lab.ask(sql, name)[0] for sql in both} == both


def test_two_consolidations(lab: Lab, name: str, tmp_path: Path) -> None:
    """Director indexes of two databases, whose directors have the same name, are made at the same time."""
    other = f"{name}_2"
    for number, database in enumerate((name, other)):
        lab.publish(written(tmp_path / database, database, Sky(0, 20 + number), ("Star", "Band")))
        more = written(tmp_path / f"{database} more", database, Sky(50, 10 + number), ("Star",))
        lab.publish(more, "--append")
    try:
        with (
            closing(Held(home_of(lab), f"LOCK TABLES skyshard_index.{name}__Star WRITE")) as held,
            lab.started("ingest", "--consolidate", name, "--grace", "0") as process,
        ):
            held.until_waiting(process, f"{name}__Star")
            done = lab.command("ingest", "--consolidate", other, "--grace", "0")
            assert done.exit_code == 0, done.output
            held.fetch("UNLOCK TABLES")
            assert process.wait(60) == 0
        for database, rows in ((name, "30"), (other, "32")):
            assert lab.home(f"SELECT COUNT(*) FROM skyshard_index.{database}__Star") == [(rows,)]
            assert lab.command("catalog", "verify", database).exit_code == 0
            assert lab.ask("SELECT COUNT(*) FROM Star WHERE id IN (3, 55)", database) == [("2",)]
    finally:
        lab.drop(other)
