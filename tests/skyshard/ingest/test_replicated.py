"""Rows that come to replicated tables: at home and on every worker at once, and gone when they are taken back."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backend.connection import RawConnection
from proxy.home.replicated import MOST_AT_HOME
from shard.errors import ServerError
from tests.skyshard.conftest import Lab, Rows, Writer, ask
from tests.skyshard.held import Held, home_of, worker_of
from tests.support.sky import TABLES, Sky, spec

QUERIES = (
    "SELECT COUNT(*) FROM Band",
    "SELECT * FROM Band",
    "SELECT b.band, COUNT(*) FROM Star s JOIN Band b ON b.band = LEFT(s.note, 1) GROUP BY b.band",
    "SELECT s.id, b.band FROM Star s, Band b WHERE b.band = LEFT(s.note, 1)",
    "SELECT COUNT(*) FROM Star WHERE LEFT(note, 1) IN (SELECT band FROM Band)",
    "SELECT note, COUNT(*) FROM Star GROUP BY note HAVING COUNT(*) > (SELECT COUNT(*) FROM Band)",
    "SELECT b.band, COUNT(s.id) FROM Band b LEFT JOIN Star s ON LEFT(s.note, 1) = b.band GROUP BY b.band",
    "SELECT (SELECT COUNT(*) FROM Band) * 1000 + (SELECT COUNT(*) FROM Star)",
    "SELECT COUNT(*) FROM Star s JOIN (SELECT DISTINCT band FROM Band) b ON b.band = LEFT(s.note, 1)",
    "SELECT s.id FROM Star s WHERE s.mag > (SELECT COUNT(*) FROM Band) UNION SELECT band FROM Band",
)
AT_HOME = QUERIES[7]
"""One whose answer is put together at home, from rows of the workers and of the replicated table there."""
CHANGED = 1412


def bag(rows: Rows) -> list[tuple[str, ...]]:
    return sorted(tuple("NULL" if value is None else value for value in row) for row in rows)


def plain_rows(plain, name: str, bands: str, *skies: Sky) -> None:
    ask(plain.address, f"CREATE OR REPLACE DATABASE {name} CHARACTER SET utf8mb4")
    ask(plain.address, f"CREATE TABLE {name}.Band (band CHAR(1))")
    ask(plain.address, f"INSERT INTO {name}.Band VALUES " + ", ".join(f"('{band}')" for band in bands))
    ask(
        plain.address,
        f"CREATE TABLE {name}.Star (id BIGINT, ra DOUBLE, decl DOUBLE, mag FLOAT, note VARCHAR(20))",
    )
    rows = ", ".join("(" + ", ".join(map(repr, row)) + ")" for sky in skies for row in sky.star)
    ask(plain.address, f"INSERT INTO {name}.Star VALUES {rows}")


def compare(lab: Lab, plain, name: str) -> None:
    for sql in QUERIES:
        assert bag(lab.ask(sql, name)) == bag(ask(plain.address, sql, name)), sql


def more(write: Writer, name: str, bands: str, sky: Sky | None = None) -> Path:
    files = {"band.csv": "band\n" + "".join(f"{band}\n" for band in bands)}
    if sky is None:
        return write(name, spec("Band"), files)
    return write(name, spec("Star", "Band"), sky.files() | files)


@pytest.fixture
def base(lab: Lab, write: Writer, request: pytest.FixtureRequest) -> Iterator[str]:
    name = "rep_" + request.node.name.removeprefix("test_")[:16].rstrip("_")
    lab.publish(write(name, TABLES, Sky(0, 60).files()))
    yield name
    lab.drop(name)
    assert lab.traces(name) == []


def number_of(output: str) -> str:
    return str(json.loads(output)["id"])


def tables(lab: Lab, name: str) -> list[str]:
    """Return the tables of Band on all workers."""
    found = lab.workers(
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}' AND TABLE_NAME LIKE 'Band%'"
    )
    return sorted(row[0] or "" for row in found)


def test_rows_come_and_go(lab: Lab, write: Writer, plain, base: str) -> None:
    first, second = Sky(0, 60), Sky(60, 20)
    opened = number_of(
        lab.command("ingest", "register", str(more(write, base, "ru", second)), "--json").output
    )
    for step in ("load", "check"):
        assert lab.command("ingest", step, opened).exit_code == 0
    plain_rows(plain, base, "ug", first)
    compare(lab, plain, base)  # what is loaded is not seen
    assert lab.command("ingest", "publish", opened).exit_code == 0
    plain_rows(plain, base, "ugru", first, second)
    compare(lab, plain, base)
    last = number_of(lab.publish(more(write, base, "zi"), "--append", "--json"))
    plain_rows(plain, base, "ugruzi", first, second)
    compare(lab, plain, base)
    assert lab.command("catalog", "verify", base).exit_code == 0
    refused = lab.command("ingest", "--undo", opened)
    assert f"cannot be undone before transaction {last}" in refused.output
    assert lab.command("ingest", "--undo", last, "--grace", "0").exit_code == 0
    plain_rows(plain, base, "ugru", first, second)
    compare(lab, plain, base)
    assert lab.command("catalog", "verify", base).exit_code == 0
    assert lab.command("ingest", "--undo", opened, "--grace", "0").exit_code == 0
    plain_rows(plain, base, "ug", first)
    compare(lab, plain, base)
    assert tables(lab, base) == ["Band", "Band"]


def test_consolidated_and_copied(lab: Lab, write: Writer, plain, base: str, tmp_path: Path) -> None:
    lab.publish(more(write, base, "r"), "--append")
    lab.publish(more(write, base, "zz", Sky(60, 5)), "--append")
    plain_rows(plain, base, "ugrzz", Sky(0, 60), Sky(60, 5))
    copied = lab.command("catalog", "copy", base, f"{base}_2")
    assert copied.exit_code == 0, copied.output
    compare(lab, plain, base)
    assert bag(lab.ask(QUERIES[2], f"{base}_2")) == bag(lab.ask(QUERIES[2], base))
    assert lab.command("catalog", "verify", f"{base}_2").exit_code == 0
    lab.drop(f"{base}_2")
    done = lab.command("ingest", "--consolidate", base, "--grace", "0")
    assert done.exit_code == 0, done.output
    compare(lab, plain, base)
    assert tables(lab, base) == ["Band", "Band"]
    verified = lab.command("catalog", "verify", base)
    assert verified.exit_code == 0, verified.output
    lab.publish(more(write, base, "y"), "--append")
    plain_rows(plain, base, "ugrzzy", Sky(0, 60), Sky(60, 5))
    compare(lab, plain, base)


def test_aborted_and_repeated(lab: Lab, write: Writer, plain, base: str) -> None:
    catalog = more(write, base, "rr")
    opened = number_of(lab.command("ingest", "register", str(catalog), "--json").output)
    assert lab.command("ingest", "load", opened).exit_code == 0
    assert lab.command("ingest", "--abort", opened).exit_code == 0
    assert tables(lab, base) == ["Band", "Band"]
    plain_rows(plain, base, "ug", Sky(0, 60))
    compare(lab, plain, base)
    done = number_of(lab.publish(catalog, "--append", "--json"))
    assert number_of(lab.publish(catalog, "--append", "--json")) == done
    plain_rows(plain, base, "ugrr", Sky(0, 60))
    compare(lab, plain, base)


@pytest.mark.parametrize("lock", ["WRITE", "READ"])
def test_a_killed_commit_is_finished(lab: Lab, write: Writer, plain, base: str, lock: str) -> None:
    """Killed before the one transaction on the metadata, and in it."""
    catalog = more(write, base, "rz", Sky(60, 5))
    held = Held(home_of(lab), f"LOCK TABLES {base}.Band {lock}")
    try:
        text = f"INSERT INTO `{base}`.`Band`" if lock == "READ" else "CREATE TABLE"
        lab.killed(held, "ingest", catalog, "--append", text=text)
    finally:
        held.close()
    plain_rows(plain, base, "ug", Sky(0, 60))
    compare(lab, plain, base)
    lab.publish(catalog, "--append")
    plain_rows(plain, base, "ugrz", Sky(0, 60), Sky(60, 5))
    compare(lab, plain, base)
    assert lab.command("catalog", "verify", base).exit_code == 0


class Asking(threading.Thread):
    """Asks a query whose parts are read in several places, again and again."""

    def __init__(self, lab: Lab, name: str, queries: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._lab, self._name, self._queries = lab, name, queries
        self._stop_asked = threading.Event()
        self.answers: dict[str, list[tuple[tuple[str, ...], ...]]] = {sql: [] for sql in queries}
        self.changed = 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._loop())
        except BaseException as error:
            self.failed = error

    async def _loop(self) -> None:
        connection = await RawConnection.open(self._lab.cluster.address, self._name)
        while not self._stop_asked.is_set():
            for sql in self._queries:
                try:
                    rows = await connection.fetch(sql)
                except ServerError as error:
                    if error.errno != CHANGED:
                        raise
                    self.changed += 1
                    continue
                found = tuple(sorted(tuple((value or b"").decode() for value in row) for row in rows))
                if not self.answers[sql] or self.answers[sql][-1] != found:
                    self.answers[sql].append(found)
        await connection.close()

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(60)


def test_no_query_sees_half_of_a_commit(lab: Lab, write: Writer, base: str) -> None:
    """Each commit brings as many stars as bands: an answer that mixes two states has no such number."""
    asking = Asking(lab, base, (AT_HOME, QUERIES[4], QUERIES[5]))
    asking.start()
    numbers = []
    try:
        for index, bands in enumerate(("r", "z", "i")):
            catalog = more(write, base, bands, Sky(60 + index, 1))
            numbers.append(number_of(lab.publish(catalog, "--append", "--json")))
        for number in reversed(numbers):
            assert lab.command("ingest", "--undo", number, "--grace", "0").exit_code == 0
    finally:
        asking.stop()
    assert asking.failed is None, asking.failed
    seen = [answer[0][0] for answer in asking.answers[AT_HOME]]
    assert seen == ["2060", "3061", "4062", "5063", "4062", "3061", "2060"]
    assert len(asking.answers[QUERIES[4]]) >= 5


def test_an_open_transaction_keeps_what_it_saw(lab: Lab, write: Writer, base: str) -> None:
    """A session's snapshot at home is older than a commit: its answer would mix the two, so there is none."""
    lab.ask(f"CREATE DATABASE {base}_own")
    try:
        asyncio.run(_older_snapshot(lab, write, base))
    finally:
        lab.ask(f"DROP DATABASE {base}_own")


async def _older_snapshot(lab: Lab, write: Writer, base: str) -> None:
    joined = (
        f"SELECT COUNT(*) FROM {base}_own.mine m JOIN Band b ON b.band = m.band "
        "LEFT JOIN Star s ON LEFT(s.note, 1) = b.band"
    )
    viewed = f"SELECT COUNT(*) FROM {base}_own.seen m LEFT JOIN Star s ON LEFT(s.note, 1) = m.band"
    connection = await RawConnection.open(lab.cluster.address, base)
    try:
        await connection.run(f"CREATE VIEW {base}_own.seen AS SELECT band FROM {base}.Band")
        await connection.run(f"CREATE TABLE {base}_own.mine (band CHAR(1)) ENGINE=InnoDB")
        await connection.run(f"INSERT INTO {base}_own.mine VALUES ('u'), ('z')")
        await connection.run("START TRANSACTION")
        before = await connection.fetch(joined)
        assert await connection.fetch("SELECT COUNT(*) FROM Band") == [[b"2"]]
        await asyncio.to_thread(lab.publish, more(write, base, "z", Sky(60, 5)), "--append")
        assert await connection.fetch("SELECT COUNT(*) FROM Band") == [[b"2"]]
        for sql in (joined, viewed):
            with pytest.raises(ServerError) as refused:
                await connection.fetch(sql)
            assert refused.value.errno == CHANGED
        # What other connections have put together is what is there now, wholly.
        new = {sql: await asyncio.to_thread(lab.ask, sql, base) for sql in (QUERIES[6], QUERIES[5], AT_HOME)}
        assert new[AT_HOME] == [("3065",)]
        for sql, rows in new.items():
            mine = await connection.fetch(sql)
            assert bag(rows) == bag([tuple((value or b"").decode() for value in row) for row in mine]), sql
        await connection.run("COMMIT")
        assert await connection.fetch("SELECT COUNT(*) FROM Band") == [[b"3"]]
        after = await connection.fetch(joined)
        assert int(after[0][0] or b"0") > int(before[0][0] or b"0")
        updated = f"UPDATE {base}_own.mine m JOIN Band b ON b.band = m.band JOIN Star s ON LEFT(s.note, 1) = b.band SET m.band = 'q'"
        await connection.run(updated)
        assert await connection.fetch(f"SELECT COUNT(*) FROM {base}_own.mine WHERE band = 'q'") == [[b"2"]]
    finally:
        await connection.close()


def test_a_worker_that_lost_everything_gets_the_rows(lab: Lab, write: Writer, plain) -> None:
    name = "rep_lost"
    lab.publish(write(name, TABLES, Sky(0, 60).files()), "--replicas", "2")
    first = number_of(lab.publish(more(write, name, "rz"), "--append", "--json"))
    second = number_of(lab.publish(more(write, name, "i", Sky(60, 5)), "--append", "--json"))
    there = tables(lab, name)
    for lost in (name, f"skyshard_stage_{first}", f"skyshard_stage_{second}"):
        ask(worker_of(lab), f"DROP DATABASE {lost}")
    repaired = lab.command("repair", name)
    assert repaired.exit_code == 0, repaired.output
    assert set(tables(lab, name)) == set(there)
    assert tables(lab, name)[-2:] == there[-2:]
    plain_rows(plain, name, "ugrzi", Sky(0, 60), Sky(60, 5))
    compare(lab, plain, name)
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    assert lab.command("ingest", "--undo", second, "--grace", "0").exit_code == 0
    plain_rows(plain, name, "ugrz", Sky(0, 60))
    compare(lab, plain, name)
    lab.drop(name)
    assert lab.traces(name) == []


def test_others_do_not_matter_and_nobody_who_looks_waits(lab: Lab, write: Writer, base: str) -> None:
    """Own tables have nothing to do with replicated ones of other databases; a change that waits stops no query."""
    lab.ask(f"CREATE DATABASE {base}_own")
    other = "rep_elsewhere"
    lab.publish(write(other, TABLES, Sky(0, 5).files()))
    try:
        lab.ask(f"CREATE TABLE {base}_own.mine (band CHAR(1)) ENGINE=InnoDB")
        lab.ask(f"INSERT INTO {base}_own.mine VALUES ('u'), ('g')")
        lab.ask(f"CREATE VIEW {base}_own.seen AS SELECT band FROM {base}.Band")
        joined = f"SELECT COUNT(*) > 0 FROM {base}_own.{{}} m LEFT JOIN Star s ON LEFT(s.note, 1) = m.band"
        assert lab.ask(joined.format("seen"), base) == [("1",)]
        refused: list[int] = []
        deadline = time.monotonic() + 10  # the proxy may just be reading what was published, or views
        for changed in itertools.count(99):
            # As it is in the moment after a commit, of which this proxy has not heard.
            lab.home(
                f"UPDATE skyshard_meta.`tables` SET definition = JSON_SET(definition, '$.changed', {changed}) "
                f"WHERE name = 'Band' AND db_id = (SELECT db_id FROM skyshard_meta.`databases` WHERE name = '{other}')"
            )
            assert lab.ask(joined.format("mine"), base) == [("1",)]
            try:
                lab.ask(joined.format("seen"), base)
            except ServerError as error:
                refused.append(error.errno)
                break
            assert time.monotonic() < deadline
        assert refused == [CHANGED]
        asyncio.run(_many_wait(lab, base))
    finally:
        lab.ask(f"DROP DATABASE {base}_own")
        lab.drop(other)


async def _many_wait(lab: Lab, base: str) -> None:
    changed = (
        f"UPDATE {base}_own.mine m JOIN Band b ON b.band = m.band JOIN Star s ON LEFT(s.note, 1) = b.band "
        "SET m.band = UPPER(m.band)"
    )
    holder = await RawConnection.open(home_of(lab))
    clients = [await RawConnection.open(lab.cluster.address, base) for _ in range(MOST_AT_HOME)]
    try:
        await holder.run("START TRANSACTION")
        await holder.fetch(f"SELECT * FROM {base}_own.mine FOR UPDATE")
        changes = [asyncio.create_task(client.run(changed)) for client in clients]
        waiting = f"SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%UPPER%' AND INFO LIKE '%{base}_own%'"
        while (await holder.fetch(waiting))[0][0] != str(MOST_AT_HOME + 1).encode():  # and this one
            assert not any(change.done() for change in changes)
            await asyncio.sleep(0.1)
        assert await asyncio.wait_for(asyncio.to_thread(lab.ask, AT_HOME, base), 20) == [("2060",)]
        await holder.run("ROLLBACK")
        await asyncio.gather(*changes)
    finally:
        await holder.close()
        for client in clients:
            await client.close()


def test_a_client_that_locks_rows_at_home(lab: Lab, write: Writer, base: str) -> None:
    """Commits and undos of a replicated table say who is in the way, and change nothing until it is gone."""
    catalog = more(write, base, "z", Sky(60, 5))
    number = number_of(lab.command("ingest", "register", str(catalog), "--json").output)
    for begun, count in (((str(catalog), "--append"), "2"), (("--undo", number, "--grace", "0"), "3")):
        held = Held(lab.cluster.address, "START TRANSACTION", f"SELECT * FROM {base}.Band LOCK IN SHARE MODE")
        try:
            told = lab.command("ingest", *begun)
            assert told.exit_code == 1
            assert "an open transaction of a client holds rows of a replicated table" in told.output
            assert lab.ask("SELECT COUNT(*) FROM Band", base) == [(count,)]
        finally:
            held.close()
        done = lab.command("ingest", *begun)
        assert done.exit_code == 0, done.output
    assert lab.ask("SELECT COUNT(*) FROM Band", base) == [("2",)]
    assert lab.command("catalog", "verify", base).exit_code == 0
