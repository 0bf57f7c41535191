"""What `skyshard catalog` tells, and that dropping leaves nothing however often it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from shard.catalog.naming import copying_name
from shard.errors import ServerError
from tests.skyshard.conftest import Lab, Writer
from tests.skyshard.held import Held, home_of, worker_of
from tests.skyshard.ingest.test_publish import (
    TABLES,
    _chunk_table,
    counts,
    expected,
    files,
)


def shown(lab: Lab, *arguments: str) -> object:
    done = lab.command("catalog", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_what_there_is(lab: Lab, write: Writer) -> None:
    lab.publish(write("listed", TABLES, files(101)))
    (one,) = [found for found in shown(lab, "list") if found["name"] == "listed"]
    assert one == shown(lab, "show", "listed")
    assert (one["state"], one["replicas"], one["incomplete"], one["silent"]) == ("published", 1, 0, [])
    assert one["rows"] == 101 + 202 + 101 % 7
    chunks = lab.home(
        "SELECT COUNT(*) FROM skyshard_meta.chunk_replicas JOIN skyshard_meta.`databases` USING (db_id) WHERE name = 'listed'"
    )
    assert one["chunks"] == sum(one["workers"].values()) == int(chunks[0][0] or "0") > 20
    assert set(one["workers"]) == {"worker1", "worker2"}
    star, visit, band = one["tables"]
    assert (star["name"], star["kind"], star["rows"], star["columns"]) == ("Star", "director", 101, 4)
    assert (visit["kind"], visit["rows"], visit["overlap_rows"], visit["overlap_bytes"]) == (
        "dependent",
        202,
        0,
        0,
    )
    stored = lab.workers(
        "SELECT SUM(DATA_LENGTH) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'listed' AND TABLE_NAME REGEXP '^Star_[0-9]+$'"
    )
    assert star["data_bytes"] == sum(int(row[0] or "0") for row in stored) > 0
    assert band["rows"] == 101 % 7
    text = lab.command("catalog", "show", "listed").output
    assert "database listed: published" in text
    assert "overlap 0.5 deg" in text
    assert any(line.startswith("listed") for line in lab.command("catalog", "list").output.splitlines())


def test_a_worker_that_is_silent_is_named(lab: Lab, write: Writer) -> None:
    lab.publish(write("silent", TABLES, files(30)))
    lab.home("UPDATE skyshard_meta.workers SET port = port + 10000 WHERE worker_id = 2")
    try:
        one = shown(lab, "show", "silent")
        assert (one["silent"], one["data_bytes"], one["rows"]) == (["worker2"], None, 30 + 60 + 2)
        done = lab.command("catalog", "list")
        assert (done.exit_code, "worker2" in done.output) == (1, True)
    finally:
        lab.home("UPDATE skyshard_meta.workers SET port = port - 10000 WHERE worker_id = 2")


def test_copies(lab: Lab, write: Writer) -> None:
    catalog = write("copies", TABLES, files(60))
    done = lab.ingest(catalog, "--replicas", "3")
    assert (done.exit_code, "--replicas 3" in done.output) == (1, True)
    lab.publish(catalog, "--replicas", "2")
    assert counts(lab, "copies") == expected(60)
    one = shown(lab, "show", "copies")
    assert (one["replicas"], one["incomplete"]) == (2, 0)
    assert one["workers"] == {"worker1": one["chunks"], "worker2": one["chunks"]}
    stored = lab.workers("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'copies'")
    assert stored[0] == stored[1]
    lab.home("UPDATE skyshard_meta.workers SET state = 'draining' WHERE worker_id = 2")
    try:
        assert shown(lab, "show", "copies")["incomplete"] == one["chunks"]
        lab.publish(catalog, "--replace")  # nothing new comes to a worker that is being emptied
        again = shown(lab, "show", "copies")
        assert (again["workers"], again["replicas"]) == ({"worker1": one["chunks"]}, 1)
    finally:
        lab.home("UPDATE skyshard_meta.workers SET state = 'active' WHERE worker_id = 2")
    assert lab.traces("none") == []


def test_unknown_names(lab: Lab) -> None:
    for verb in ("show", "drop"):
        done = lab.command("catalog", verb, "nothing")
        assert (done.exit_code, done.output) == (1, "skyshard: there is no catalogue 'nothing'\n")


def test_a_database_is_dropped_and_made_again(lab: Lab, write: Writer) -> None:
    catalog = write("dropped", TABLES, files(60))
    lab.publish(catalog)
    assert counts(lab, "dropped") == expected(60)
    lab.workers(f"CREATE DATABASE {copying_name('dropped')}")  # as a repair leaves it that is killed
    done = lab.command("catalog", "drop", "dropped")
    assert done.exit_code == 0, done.output
    assert lab.traces("dropped") == []
    assert lab.workers(f"SHOW DATABASES LIKE '{copying_name('dropped')}'") == []
    with pytest.raises(ServerError, match="dropped"):
        lab.ask("SELECT COUNT(*) FROM dropped.Star")
    lab.publish(catalog)
    assert counts(lab, "dropped") == expected(60)


def test_users_tables_stay(lab: Lab, write: Writer) -> None:
    lab.publish(write("shared", TABLES, files(20)))
    lab.home("CREATE TABLE shared.mine (x INT)")
    done = lab.command("catalog", "drop", "shared")
    assert "users' own mine" in done.output
    assert lab.ask("SHOW TABLES IN shared") == [("mine",)]
    lab.home("DROP DATABASE shared")
    assert lab.traces("shared") == []


def test_users_programs_stay(lab: Lab, write: Writer) -> None:
    lab.publish(write("scripted", TABLES, files(20)))
    lab.home("CREATE PROCEDURE scripted.proc() SELECT 1")
    lab.home("CREATE EVENT scripted.ev ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 1")
    done = lab.command("catalog", "drop", "scripted")
    assert "users' own ev, proc" in done.output
    assert lab.home(
        "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'scripted'"
    ) == [("proc",)]
    lab.home("DROP DATABASE scripted")
    assert lab.traces("scripted") == []


def test_a_users_table_that_takes_a_dropped_ones_name_stays(lab: Lab, write: Writer) -> None:
    """The drop is killed after it has put the catalogue aside; then a user makes a table of the same name."""
    lab.publish(write("reused", TABLES, files(30)))
    command = [sys.executable, "-m", "skyshard.cli", "catalog", "drop", "reused", "--dir", str(lab.directory)]
    lock = f"LOCK TABLES reused.{_chunk_table(lab, 'reused')} READ"
    with closing(Held(worker_of(lab), lock)) as other:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        other.until_waiting(process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    lab.home("CREATE DATABASE IF NOT EXISTS reused")
    lab.home("CREATE TABLE reused.Star (x INT)")
    done = lab.command("catalog", "drop", "reused")
    assert (done.exit_code, "users' own Star" in done.output) == (0, True)
    assert lab.ask("SELECT COUNT(*) FROM reused.Star") == [("0",)]
    lab.home("DROP DATABASE reused")
    assert lab.traces("reused") == []


HOLDS = {
    "home": ["BEGIN", "SELECT * FROM {name}.Band"],
    "worker": ["LOCK TABLES {name}.{chunk} READ"],
    "metadata": ["LOCK TABLES skyshard_meta.chunk_rows READ"],
}


@pytest.mark.parametrize(("where", "again"), [("home", "drop"), ("worker", "drop"), ("metadata", "ingest")])
def test_a_killed_drop_is_finished(lab: Lab, write: Writer, where: str, again: str) -> None:
    name = f"undone_{where}"
    catalog = write(name, TABLES, files(45))
    lab.publish(catalog)
    chunk = _chunk_table(lab, name)
    address = worker_of(lab) if where == "worker" else home_of(lab)
    statements = [text.format(name=name, chunk=chunk) for text in HOLDS[where]]
    command = [sys.executable, "-m", "skyshard.cli", "catalog", "drop", name, "--dir", str(lab.directory)]
    with closing(Held(address, *statements)) as other:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        other.until_waiting(process)
        with pytest.raises(ServerError):  # never a part of it
            lab.ask(f"SELECT COUNT(*) FROM {name}.Star")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    if again == "drop":
        assert lab.command("catalog", "drop", name).exit_code == 0
        assert lab.traces(name) == []
    else:
        lab.publish(catalog)
        assert counts(lab, name) == expected(45)
    assert lab.traces("none") == []


def test_queries_meanwhile_are_whole_or_fail(lab: Lab, write: Writer) -> None:
    """Whatever a client asks while a database is dropped, it gets all rows or an error that says so."""
    lab.publish(write("asked_on", TABLES, files(80)))
    answers: list[object] = []
    assert counts(lab, "asked_on") == expected(80)  # the proxy knows of it
    begun, stop = threading.Event(), threading.Event()
    sql = "SELECT s.id, v.flux FROM asked_on.Star s JOIN asked_on.Visit v ON s.id = v.id"

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(len(lab.ask(sql)))
            except ServerError as error:
                answers.append(error.errno)
            begun.set()

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        assert begun.wait(60)
        done = lab.command("catalog", "drop", "asked_on")
    finally:
        stop.set()
        for thread in asking:
            thread.join()
    assert done.exit_code == 0, done.output
    assert answers[0] == 160
    assert set(answers) <= {160, 1412, 1146, 1049, 1235}, set(answers)
