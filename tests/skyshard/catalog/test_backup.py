"""A backup is whole or none, and what is restored from it, or copied, answers as the original does."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shard.errors import ServerError
from tests.skyshard.catalog.test_verify import catalog_of, on
from tests.skyshard.conftest import Lab, Writer
from tests.skyshard.held import Held, home_of, worker_of
from tests.skyshard.ingest.test_publish import (
    TABLES,
    counts,
    expected,
    files,
)

NAME = "saved"
QUERIES = (
    "SELECT * FROM Star",
    "SELECT starId, chunkId, subChunkId, f+0e0, bits+0, HEX(b), kind+0, flags+0 FROM Star",
    "SELECT *, chunkId, subChunkId FROM Visit",
    "SELECT *, mag+0e0 FROM Ref",
    "SELECT * FROM StarRef",
    "SELECT b.label, l.v FROM Band b, Lut l",
    "SELECT * FROM Star WHERE starId IN (1, 7, 77, 201)",
    "SELECT * FROM Ref WHERE refId = 'R7'",
    "SELECT COUNT(*), SUM(n), MIN(flux), ROUND(STD(flux), 6) FROM Visit",
    "SELECT s.starId, r.refId FROM Star s, Ref r WHERE scisql_angSep(s.ra, s.decl, r.lon, r.lat) < 0.9",
    "SELECT s.starId, m.dist, r.lon FROM Star s JOIN StarRef m ON s.starId = m.starId JOIN Ref r ON r.refId = m.refId",
    "SELECT COUNT(*) FROM Star WHERE qserv_areaspec_circle(10, 0, 40)",
)


def answers(lab: Lab, database: str) -> list[list[tuple[str | None, ...]]]:
    """Return the rows of some queries, whatever their order, and the definitions of all tables."""
    found = [sorted(lab.ask(sql, database), key=repr) for sql in QUERIES]
    for table in ("Star", "Visit", "Ref", "StarRef", "Band", "Lut"):
        found.append(lab.ask(f"SHOW FULL COLUMNS FROM {table}", database))
    found.append(lab.home(
        "SELECT t.name, t.definition, t.row_count FROM skyshard_meta.`tables` t JOIN skyshard_meta.`databases` USING "
        f"(db_id) WHERE `databases`.name = '{database}' ORDER BY table_id"
    ))  # fmt: skip
    found.append(lab.home(
        "SELECT t.name, chunk_id, c.row_count, overlap_rows FROM skyshard_meta.chunk_rows c JOIN skyshard_meta.`tables` t "
        f"USING (table_id) JOIN skyshard_meta.`databases` d USING (db_id) WHERE d.name = '{database}' ORDER BY 1, 2"
    ))  # fmt: skip
    return found


def verified(lab: Lab, database: str) -> None:
    done = lab.command("catalog", "verify", database)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def saved(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handmade catalogue, with units and UCDs, and its backup, made while it was queried."""
    directory = tmp_path_factory.mktemp("saved")
    catalog = catalog_of(directory, NAME, 150)
    text = catalog.read_text().replace(
        "mag: FLOAT}", "mag: {type: FLOAT, unit: mag, ucd: phot.mag;em.opt, description: brightness}}"
    )
    catalog.write_text(text)
    lab.publish(catalog)
    rows, stop = lab.ask(QUERIES[8], NAME), threading.Event()
    seen = []

    def ask() -> None:
        while not stop.is_set():
            seen.append(lab.ask(QUERIES[8], NAME))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        done = lab.command("catalog", "backup", NAME, "--to", str(directory / "backup"), "--json")
    finally:
        stop.set()
        asking.join()
    assert done.exit_code == 0, done.output
    assert seen
    assert all(one == rows for one in seen)
    told = json.loads(done.output)
    assert told["bytes"] == sum(path.stat().st_size for path in (directory / "backup").rglob("*.gz"))
    assert told["files"] == len(list((directory / "backup").rglob("*.gz")))
    return directory / "backup"


@pytest.fixture(scope="module")
def small(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backup of a catalogue of few chunks."""
    directory = tmp_path_factory.mktemp("small")
    lab.publish(Writer(directory)("small", TABLES, files(12)))
    done = lab.command("catalog", "backup", "small", "--to", str(directory / "backup"))
    assert done.exit_code == 0, done.output
    return directory / "backup"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Another cluster, of three workers."""
    made = Lab(tmp_path_factory.mktemp("other") / "c", workers=3)
    try:
        yield made
    finally:
        made.cluster.stop()


def a_file(saved: Path, table: str = "Star") -> Path:
    return max((saved / table).iterdir(), key=lambda path: (path.stat().st_size, path.name))


def test_another_cluster_gives_the_same_rows(lab: Lab, other: Lab, saved: Path) -> None:
    done = other.command("catalog", "restore", str(saved), "--replicas", "2")
    assert (done.exit_code, done.output) == (0, f"Database '{NAME}' is published.\n")
    before = answers(lab, NAME)
    assert answers(other, NAME) == before
    assert len(before[9]) > 20  # near neighbours, some of them by overlap
    assert any("phot.mag;em.opt" in (value or "") for row in before[len(QUERIES) + 2] for value in row)
    verified(other, NAME)
    shown = json.loads(other.command("catalog", "show", NAME, "--json").output)
    assert (shown["replicas"], shown["incomplete"], len(shown["workers"])) == (2, 0, 3)
    done = other.command("catalog", "restore", str(saved))
    assert (done.exit_code, f"there is a database '{NAME}' already" in done.output) == (1, True)
    # A backup of what was restored is the same again, but for the order of rows.
    again = saved.parent / "again"
    assert other.command("catalog", "backup", NAME, "--to", str(again)).exit_code == 0
    ours, theirs = (json.loads((path / "manifest.json").read_text()) for path in (saved, again))
    for key in ("format", "database", "partitioning", "chunks", "tables"):
        assert ours[key] == theirs[key]
    names = ("table", "chunk", "overlap", "rows", "checksum")
    assert [[part[name] for name in names] for part in ours["parts"]] == [
        [part[name] for name in names] for part in theirs["parts"]
    ]
    one = next(part for part in ours["parts"] if part["table"] == "Visit")
    path = f"Visit/Visit_{one['chunk']}.tsv.gz"
    assert sorted(gzip.decompress((saved / path).read_bytes()).splitlines()) == sorted(
        gzip.decompress((again / path).read_bytes()).splitlines()
    )


def test_a_copy_under_another_name(lab: Lab, saved: Path) -> None:
    done = lab.command("catalog", "copy", NAME, "copied", "--replicas", "2")
    assert (done.exit_code, done.output) == (0, "Database 'copied' is published.\n")
    assert answers(lab, "copied")[: len(QUERIES)] == answers(lab, NAME)[: len(QUERIES)]
    verified(lab, "copied")
    for name in ("copied", NAME, "mysql"):
        done = lab.command("catalog", "copy", NAME, name)
        assert done.exit_code == 1
        assert done.output in (
            f"skyshard: there is a database '{name}' already; drop it, choose another name, or say --replace\n",
            f"skyshard: '{name}' cannot be the name of this catalogue\n",
        )
    lab.drop("copied")
    assert lab.traces("copied") == []
    verified(lab, NAME)


def test_names_and_numbers_that_cannot_be(lab: Lab, saved: Path) -> None:
    for name in ("a__b", "skyshard_x", "x_", "a/b", "n" * 61):
        for command in (("copy", NAME, name), ("restore", str(saved), "--as", name)):
            done = lab.command("catalog", *command)
            assert (done.exit_code, done.output) == (
                1,
                f"skyshard: '{name}' cannot be the name of this catalogue\n",
            )
    done = lab.command("catalog", "copy", NAME, "more", "--replicas", "3")
    assert (done.exit_code, "--replicas 3" in done.output) == (1, True)
    for command in (("backup", "nothing", "--to", str(saved / "x")), ("copy", "nothing", "more")):
        done = lab.command("catalog", *command)
        assert (done.exit_code, done.output) == (1, "skyshard: there is no published catalogue 'nothing'\n")
    lab.home("CREATE DATABASE users_own")
    done = lab.command("catalog", "restore", str(saved), "--as", "users_own")
    lab.home("DROP DATABASE users_own")
    assert (done.exit_code, "there is a database 'users_own' already" in done.output) == (1, True)


# backups that are not whole -----------------------------------------------------------------------


def _last_chunk_table(lab: Lab, name: str) -> str:
    """Return the name of worker1's last chunk table: one that a backup reads late."""
    found = on(
        lab,
        1,
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}' AND TABLE_ROWS > 0 "
        "AND TABLE_NAME LIKE 'Visit%' ORDER BY LENGTH(TABLE_NAME) DESC, TABLE_NAME DESC LIMIT 1",
    )
    return found[0][0] or ""


def test_a_killed_backup_goes_on(lab: Lab, write: Writer, tmp_path: Path) -> None:
    lab.publish(write("long", TABLES, files(70)))
    target = tmp_path / "backup"
    arguments = ("backup", "long", "--to", str(target))
    lock = f"LOCK TABLES `long`.{_last_chunk_table(lab, 'long')} WRITE"
    with closing(Held(worker_of(lab), lock)) as other, lab.started("catalog", *arguments) as process:
        other.until_waiting(process)
        done = lab.command("catalog", *arguments)
        assert (done.exit_code, "another backup is being written there" in done.output) == (1, True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = lab.command("catalog", "restore", str(target), "--as", "short")
    assert (done.exit_code, "there is no whole backup" in done.output) == (1, True)
    journal = (target / "unfinished.jsonl").read_text()
    assert journal.count("\n") > 5
    with (target / "unfinished.jsonl").open("a") as file:
        file.write('{"table": "Vis')  # as if it had been killed here
    whole = {path: path.stat().st_mtime_ns for path in target.rglob("*.gz")}
    assert len(whole) >= journal.count("\n") - 1
    assert lab.command("catalog", *arguments).exit_code == 0
    kept = {path for path in whole if path.stat().st_mtime_ns == whole[path]}
    assert len(kept) >= journal.count("\n") - 1  # the first line is no file
    assert not list(target.rglob("*.part"))
    assert not (target / "unfinished.jsonl").exists()
    fresh = tmp_path / "fresh"
    assert lab.command("catalog", "backup", "long", "--to", str(fresh)).exit_code == 0
    ours, theirs = (json.loads((path / "manifest.json").read_text()) for path in (target, fresh))
    assert ours["parts"] == theirs["parts"]
    assert lab.command("catalog", *arguments).exit_code == 0  # there is nothing left to do
    done = lab.command("catalog", "restore", str(target), "--as", "short")
    assert done.exit_code == 0, done.output
    assert counts(lab, "short") == expected(70)


def test_a_catalogue_that_is_replaced_meanwhile(lab: Lab, write: Writer, tmp_path: Path) -> None:
    lab.publish(write("moving", TABLES, files(50)))
    target = tmp_path / "backup"
    arguments = ("backup", "moving", "--to", str(target))
    lock = f"LOCK TABLES moving.{_last_chunk_table(lab, 'moving')} WRITE"
    with closing(Held(worker_of(lab), lock)) as other, lab.started("catalog", *arguments) as process:
        other.until_waiting(process)
        lab.home("UPDATE skyshard_meta.`databases` SET version = version + 1 WHERE name = 'moving'")
        other.fetch("UNLOCK TABLES")
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "database 'moving' has changed while it was being backed up" in output
    lab.home("UPDATE skyshard_meta.`databases` SET version = version - 1 WHERE name = 'moving'")
    assert not (target / "manifest.json").exists()
    lab.publish(write("moving", TABLES, files(60)), "--replace")
    done = lab.command("catalog", *arguments)
    assert done.exit_code == 1
    assert "has an unfinished backup of something else, or of database 'moving' as it was" in done.output
    shutil.rmtree(target)
    assert lab.command("catalog", *arguments).exit_code == 0
    lab.publish(write("moving", TABLES, files(50)), "--replace")
    done = lab.command("catalog", *arguments)
    assert (done.exit_code, "has a whole backup of something else" in done.output) == (1, True)
    done = lab.command("catalog", "backup", NAME, "--to", str(target.parent))
    assert (done.exit_code, "is not empty" in done.output) == (1, True)


def test_a_copy_that_is_damaged_is_not_backed_up(lab: Lab, write: Writer, tmp_path: Path) -> None:
    lab.publish(write("spoilt", TABLES, files(50)), "--replicas", "2")
    table = _last_chunk_table(lab, "spoilt")
    on(lab, 1, f"DELETE FROM spoilt.{table} LIMIT 1")
    done = lab.command("catalog", "backup", "spoilt", "--to", str(tmp_path / "one"))
    assert done.exit_code == 0, done.output  # the other copy is good
    on(lab, 2, f"DELETE FROM spoilt.{table} LIMIT 1")
    done = lab.command("catalog", "backup", "spoilt", "--to", str(tmp_path / "two"))
    assert done.exit_code == 1
    assert f"table {table}: " in done.output
    assert "'skyshard catalog verify spoilt' tells what is wrong" in done.output
    assert not (tmp_path / "two" / "manifest.json").exists()
    done = lab.command("catalog", "copy", "spoilt", "spoilt2")
    assert (done.exit_code, f"table {table} of database 'spoilt'" in done.output) == (1, True)
    assert lab.traces("spoilt2") == []
    lab.drop("spoilt")  # no repair can mend it


def test_a_worker_that_is_away(lab: Lab, write: Writer, tmp_path: Path) -> None:
    """Its chunks come from the other copies; without those nothing is written that looks whole."""
    lab.publish(write("away_two", TABLES, files(20)), "--replicas", "2")
    lab.publish(write("away_one", TABLES, files(20)))
    lab.home("UPDATE skyshard_meta.workers SET port = port + 10000 WHERE worker_id = 2")
    try:
        two = lab.command("catalog", "backup", "away_two", "--to", str(tmp_path / "two"))
        one = lab.command("catalog", "backup", "away_one", "--to", str(tmp_path / "one"))
        restored = lab.command(
            "catalog", "restore", str(tmp_path / "two"), "--as", "away_new", "--replicas", "2"
        )
        instead = lab.command("catalog", "restore", str(tmp_path / "two"), "--as", "away_new", "--replace")
        seen = counts(lab, "away_new")
    finally:
        lab.home("UPDATE skyshard_meta.workers SET port = port - 10000 WHERE worker_id = 2")
    assert two.exit_code == 0, two.output
    assert restored.exit_code == 0, restored.output  # on the workers that answer
    assert seen[:4] == expected(20)[:4]
    assert instead.exit_code == 0, instead.output
    assert lab.command("repair", "away_new").exit_code == 0
    verified(lab, "away_new")
    assert json.loads(lab.command("catalog", "show", "away_new", "--json").output)["incomplete"] == 0
    assert (one.exit_code, "nobody who answers has chunk" in one.output) == (1, True)
    assert not (tmp_path / "one" / "manifest.json").exists()
    assert lab.command("catalog", "backup", "away_one", "--to", str(tmp_path / "one")).exit_code == 0


def test_a_backup_that_cannot_be_written_goes_on(lab: Lab, saved: Path, tmp_path: Path) -> None:
    """Files may not grow beyond some bytes, as on a full disk."""
    target = tmp_path / "backup"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        done = lab.command("catalog", "backup", NAME, "--to", str(target))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (done.exit_code, done.output.endswith(": File too large\n")) == (1, True), done.output
    assert done.output.startswith(f"skyshard: {target}")
    assert not (target / "manifest.json").exists()
    assert not list(target.rglob("*.gz.part"))
    done = lab.command("catalog", "backup", NAME, "--to", str(target))
    assert done.exit_code == 0, done.output
    made, before = (json.loads((path / "manifest.json").read_text()) for path in (target, saved))
    assert made["parts"] == before["parts"]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _edit(backup: Path, change: Callable[[dict], None]) -> None:
    made = json.loads((backup / "manifest.json").read_text())
    change(made)
    (backup / "manifest.json").write_text(json.dumps(made))


def _other_checksum(made: dict) -> None:
    made["parts"][0]["checksum"] = "1"


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (lambda backup: _flip(a_file(backup)), "the file is damaged"),
    "cut": (lambda backup: os.truncate(a_file(backup), 30), "the file is damaged"),
    "gone": (lambda backup: a_file(backup).unlink(), "No such file"),
    "swapped": (lambda backup: shutil.copy(a_file(backup, "Visit"), a_file(backup)), "SHA-256 is not the manifest's"),
    "checksum": (lambda backup: _edit(backup, _other_checksum), "its rows have another checksum"),
    "format": (lambda backup: _edit(backup, lambda made: made.update(format=2)), "this version restores format 1"),
    "rows": (lambda backup: _edit(backup, lambda made: made["parts"].pop()), "rows are counted"),
    "escape": (lambda backup: _edit(backup, lambda made: made["tables"][0].update(name="../x")), "definition"),
    "unknown": (lambda backup: (backup / "manifest.json").write_text("{}"), "no manifest of a backup"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused(lab: Lab, small: Path, tmp_path: Path, damage: str) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(small, backup)
    spoil, text = DAMAGES[damage]
    spoil(backup)
    done = lab.command("catalog", "restore", str(backup), "--as", "bad")
    assert (done.exit_code, text in done.output) == (1, True), done.output
    assert lab.traces("bad") == []
    with pytest.raises(ServerError, match="bad"):
        lab.ask("SELECT COUNT(*) FROM bad.Star")


# restores that are killed -------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["begin", "load", "metadata", "publish"])
def test_a_killed_restore_is_repeated(lab: Lab, small: Path, where: str) -> None:
    name = f"again_{where}"
    hold = {
        "begin": "LOCK TABLES skyshard_meta.ingests READ",
        "load": "FLUSH TABLES WITH READ LOCK",
        "metadata": "LOCK TABLES skyshard_meta.`tables` READ",
        "publish": f"LOCK TABLES {name}.aside READ",
    }[where]
    if where == "publish":  # the swap on this worker waits for a table that stands where the new ones will
        on(lab, 1, f"CREATE DATABASE {name}")
        on(lab, 1, f"CREATE TABLE {name}.aside (x INT) ENGINE=MyISAM")
    address = worker_of(lab) if where in ("load", "publish") else home_of(lab)
    with closing(Held(address, hold)) as holder:
        lab.killed(holder, "catalog", "restore", small, "--as", name)
    with pytest.raises(ServerError, match=name):
        lab.ask(f"SELECT COUNT(*) FROM {name}.Star")
    done = lab.command("catalog", "restore", str(small), "--as", name)
    assert (done.exit_code, done.output) == (0, f"Database '{name}' is published.\n")
    assert counts(lab, name)[:4] == expected(12)[:4]
    verified(lab, name)
    lab.drop(name)
    assert lab.traces(name) == []


def test_a_worker_that_is_drained_as_a_restore_begins(lab: Lab, small: Path) -> None:
    with (
        closing(Held(home_of(lab), "LOCK TABLES skyshard_meta.ingests READ")) as held,
        lab.started("catalog", "restore", small, "--as", "drained") as process,
    ):
        held.until_waiting(process)
        lab.home("UPDATE skyshard_meta.workers SET state = 'draining' WHERE worker_id = 2")
        try:
            held.fetch("UNLOCK TABLES")
            output, _ = process.communicate(timeout=60)
        finally:
            lab.home("UPDATE skyshard_meta.workers SET state = 'active'")
    assert (process.returncode, "worker 'worker2' is active no more; run this again" in output) == (
        1,
        True,
    ), output
    assert lab.traces("drained") == []


def test_two_backups_do_not_begin_together(lab: Lab, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with (tmp_path / "empty" / "unfinished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = lab.command("catalog", "backup", NAME, "--to", str(tmp_path / "empty"))
    assert (done.exit_code, "another backup is being written there" in done.output) == (1, True), done.output
    done = lab.command("catalog", "backup", NAME, "--to", str(tmp_path))  # what is no backup's stays as it is
    assert (done.exit_code, "it is not empty (empty)" in done.output) == (1, True), done.output
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_copy_of_what_is_replaced_meanwhile(lab: Lab, write: Writer) -> None:
    lab.publish(write("fluid", TABLES, files(50)))
    lock = f"LOCK TABLES fluid.{_last_chunk_table(lab, 'fluid')} WRITE"
    with (
        closing(Held(worker_of(lab), lock)) as other,
        lab.started("catalog", "copy", "fluid", "fluid2") as process,
    ):
        other.until_waiting(process)
        lab.home("UPDATE skyshard_meta.`databases` SET version = version + 1 WHERE name = 'fluid'")
        other.fetch("UNLOCK TABLES")
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "database 'fluid' has changed while it was being copied" in output
    assert lab.traces("fluid2") == []
