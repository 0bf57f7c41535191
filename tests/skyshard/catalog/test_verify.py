"""`skyshard catalog verify` names what was broken: table, chunk and worker; and nothing of what is whole."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from backend.address import Address
from skyshard.cluster import state as states
from tests.skyshard.conftest import Lab, Rows, ask
from tests.skyshard.held import Held
from tests.support import handmade

Fault = tuple[str, str, int | None, str]
NAME = "checked"


def on(lab: Lab, worker: int, sql: str) -> Rows:
    """Ask one worker's server."""
    state = states.require(lab.directory)
    password = (lab.directory / "secrets" / "service").read_text().strip()
    return ask(Address("skyshard", password, socket=state.sockets[f"worker{worker}"]), sql)


def catalog_of(directory: Path, name: str, stars: int = 300) -> Path:
    """Write the handmade catalogue under another name."""
    path = handmade.write(directory, stars)
    path.write_text(path.read_text().replace("database: lab", f"database: {name}"))
    return path


@pytest.fixture(scope="module")
def checked(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., list[Fault]]]:
    """The check of a catalogue in two copies; it must be whole again in the end."""
    lab.publish(catalog_of(tmp_path_factory.mktemp("checked"), NAME, 120), "--replicas", "2")

    def faults(*options: str) -> list[Fault]:
        done = lab.command("catalog", "verify", NAME, "--json", *options)
        told = json.loads(done.output)["faults"]
        assert done.exit_code == (1 if told else 0), done.output
        return [(one["kind"], one["table"], one["chunk"], one["worker"]) for one in told]

    assert faults() == []
    yield faults
    assert faults() == []


def said(lab: Lab) -> Result:
    return lab.command("catalog", "verify", NAME)


def a_chunk(lab: Lab, pattern: str = "^Star_[0-9]+$") -> tuple[str, int]:
    """Return the largest chunk table of a pattern, and its chunk."""
    found = on(
        lab,
        1,
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{NAME}' "
        f"AND TABLE_NAME REGEXP '{pattern}' ORDER BY TABLE_ROWS DESC, TABLE_NAME LIMIT 1",
    )
    name = found[0][0] or ""
    return f"{NAME}.{name}", int(name.rsplit("_", 1)[1])


def test_a_whole_catalogue_has_no_fault(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    done = said(lab)
    assert done.exit_code == 0, done.output
    assert f"Database '{NAME}': no fault; " in done.output
    told = json.loads(lab.command("catalog", "verify", NAME, "--json", "--quick").output)
    chunks = int(lab.home("SELECT COUNT(DISTINCT chunk_id) FROM skyshard_meta.chunk_replicas JOIN "
                          f"skyshard_meta.`databases` USING (db_id) WHERE name = '{NAME}'")[0][0] or "0")  # fmt: skip
    # Of every chunk six tables (two directors with overlap), six templates, two replicated tables.
    assert (told["chunks"], told["tables"], told["workers"]) == (chunks, 2 * (6 * chunks + 6 + 2), 2)


def test_a_row_that_is_gone(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    table, chunk = a_chunk(lab)
    on(lab, 2, f"DELETE FROM {table} LIMIT 1")
    assert checked("--quick") == [("rows", "Star", chunk, "worker2")]
    assert checked() == [("rows", "Star", chunk, "worker2")]
    assert f"rows: table Star, chunk {chunk}, worker2: table Star_{chunk} has " in said(lab).output
    assert lab.command("repair", NAME).exit_code == 0


def test_a_row_that_is_gone_everywhere(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    """Then the index and the neighbours' overlap tables know better."""
    table, chunk = a_chunk(lab, "^Ref_[0-9]+$")
    row = "refId, lon, lat, mag, chunkId, subChunkId"
    overlap = on(lab, 1, f"SELECT refId FROM {table}")
    keys = [key for (key,) in overlap]
    lab.workers(f"CREATE TABLE {NAME}.aside LIKE {table}")
    lab.workers(f"INSERT INTO {NAME}.aside ({row}) SELECT {row} FROM {table} WHERE refId = '{keys[0]}'")
    lab.workers(f"DELETE FROM {table} WHERE refId = '{keys[0]}'")
    found = checked()
    text = said(lab).output
    lab.workers(f"INSERT INTO {table} ({row}) SELECT {row} FROM {NAME}.aside")
    lab.workers(f"DROP TABLE {NAME}.aside")
    assert {("rows", "Ref", chunk, "worker1"), ("rows", "Ref", chunk, "worker2")} <= set(found)
    assert ("index", "Ref", chunk, "home") in found
    assert [fault for fault in found if fault[0] == "extra"] == [
        ("extra", "aside", None, "worker1"),
        ("extra", "aside", None, "worker2"),
    ]
    assert f"keys that only the index has: {keys[0]} (sub-chunk" in text


def test_tables_that_are_gone_or_too_many(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    table, chunk = a_chunk(lab, "^StarFullOverlap_[0-9]+$")
    on(lab, 1, f"DROP TABLE {table}")
    on(lab, 2, f"CREATE TABLE {NAME}.Star_999999 LIKE {NAME}.Star_1234567890")
    on(lab, 2, f"DROP TABLE {NAME}.Lut")
    found = checked()
    on(lab, 2, f"DROP TABLE {NAME}.Star_999999")
    on(lab, 2, f"CREATE TABLE {NAME}.Lut (n INT, v DECIMAL(10,3)) ENGINE=MyISAM")
    on(lab, 2, f"INSERT INTO {NAME}.Lut VALUES {', '.join(f'({n}, {n / 8:.3f})' for n in range(6))}")
    assert found == [
        ("missing", "Lut", None, "worker2"),
        ("missing", "Star", chunk, "worker1"),
        ("extra", "Star", 999999, "worker2"),
    ]
    assert lab.command("repair", NAME).exit_code == 0


def test_copies_that_differ(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    table, chunk = a_chunk(lab, "^Visit_[0-9]+$")
    on(lab, 2, f"UPDATE {table} SET n = n ^ 1")
    on(lab, 2, f"UPDATE {NAME}.Band SET label = 'violet' WHERE band = 'u'")
    assert checked("--quick") == []  # which does not read them
    found = checked()
    on(lab, 2, f"UPDATE {table} SET n = n ^ 1")
    on(lab, 2, f"UPDATE {NAME}.Band SET label = 'ultra' WHERE band = 'u'")
    assert found == [
        ("checksum", "Band", None, "worker1, worker2"),
        ("checksum", "Visit", chunk, "worker1, worker2"),
    ]


def test_a_replicated_table_at_home(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    lab.home(f"UPDATE {NAME}.Band SET label = 'violet' WHERE band = 'u'")
    found = checked()
    lab.home(f"DELETE FROM {NAME}.Lut WHERE n = 5")
    more = checked("--quick")
    lab.home(f"UPDATE {NAME}.Band SET label = 'ultra' WHERE band = 'u'")
    lab.home(f"INSERT INTO {NAME}.Lut VALUES (5, 0.625)")
    assert found == [("checksum", "Band", None, "home")]
    assert more == [("rows", "Lut", None, "home")]


def test_overlap_that_is_not_the_neighbours(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    """The same in all copies, so that only the neighbours tell."""
    table, chunk = a_chunk(lab, "^RefFullOverlap_[0-9]+$")
    lab.workers(f"UPDATE {table} SET mag = COALESCE(mag, 0) + 8 ORDER BY refId LIMIT 1")
    found = checked()
    lab.workers(f"UPDATE {table} SET mag = NULLIF(mag - 8, 0) ORDER BY refId LIMIT 1")
    assert found == [("overlap", "Ref", chunk, found[0][3])]
    assert found[0][3] in ("worker1", "worker2")


def test_rows_in_the_wrong_chunk(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    star, star_chunk = a_chunk(lab)
    visit, visit_chunk = a_chunk(lab, "^Visit_[0-9]+$")
    lab.workers(f"UPDATE {star} SET subChunkId = subChunkId + 1000 ORDER BY starId LIMIT 1")
    lab.workers(f"UPDATE {visit} SET chunkId = chunkId + 1 ORDER BY visitId LIMIT 1")
    found = checked()
    lab.workers(f"UPDATE {star} SET subChunkId = subChunkId - 1000 ORDER BY starId LIMIT 1")
    lab.workers(f"UPDATE {visit} SET chunkId = chunkId - 1 ORDER BY visitId LIMIT 1")
    places = {(kind, table, chunk) for kind, table, chunk, _ in found if kind == "place"}
    assert places == {("place", "Star", star_chunk), ("place", "Visit", visit_chunk)}
    assert ("index", "Star", star_chunk, "home") in found


def test_a_director_index_that_lies(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    _, chunk = a_chunk(lab)
    index = f"skyshard_index.{NAME}__Star"
    (key, sub), (gone, gone_sub) = lab.home(
        f"SELECT directorKey, subChunkId FROM {index} WHERE chunkId = {chunk} ORDER BY 1 LIMIT 2"
    )
    lab.home(f"UPDATE {index} SET subChunkId = subChunkId + 1 WHERE directorKey = {key}")
    assert checked("--quick") == []
    moved, text = checked(), said(lab).output
    lab.home(f"UPDATE {index} SET subChunkId = {sub} WHERE directorKey = {key}")
    lab.home(f"DELETE FROM {index} WHERE directorKey = {gone}")
    lost = checked()
    lab.home(f"INSERT INTO {index} VALUES ({gone}, {chunk}, {gone_sub})")
    assert moved == [("index", "Star", chunk, "home")]
    assert f"keys that the index lacks: {key} (sub-chunk {sub})" in text
    assert lost == [("index", "Star", None, "home"), ("index", "Star", chunk, "home")]


def test_metadata_and_traps(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    _, chunk = a_chunk(lab)
    rows = (
        "skyshard_meta.chunk_rows JOIN skyshard_meta.`tables` t USING (table_id) "
        f"JOIN skyshard_meta.`databases` d USING (db_id) SET {{}} WHERE d.name = '{NAME}' AND t.name = 'Star' "
        f"AND chunk_id = {chunk}"
    )
    lab.home("UPDATE " + rows.format("chunk_rows.row_count = chunk_rows.row_count + 1"))
    try:
        found = checked("--quick")
    finally:
        lab.home("UPDATE " + rows.format("chunk_rows.row_count = chunk_rows.row_count - 1"))
    assert found == [
        ("metadata", "Star", None, ""),
        ("rows", "Star", chunk, "worker1"),
        ("rows", "Star", chunk, "worker2"),
    ]
    made = lab.home(f"SHOW CREATE TABLE {NAME}.Visit")[0][1] or ""
    lab.home(f"DROP TABLE {NAME}.Visit")
    assert checked("--quick") == [("home", "Visit", None, "home")]
    lab.home(made.replace("CREATE TABLE ", f"CREATE TABLE {NAME}.", 1))
    assert checked("--quick") == [("home", "Visit", None, "home")]  # a table that answers is no trap
    lab.home(f"ALTER TABLE {NAME}.Visit DISCARD TABLESPACE")


def test_a_silent_worker_is_a_fault(lab: Lab, checked: Callable[..., list[Fault]]) -> None:
    lab.home("UPDATE skyshard_meta.workers SET port = port + 10000 WHERE worker_id = 2")
    try:
        assert checked("--quick") == [("worker", "", None, "worker2")]
        assert checked() == [("worker", "", None, "worker2")]
    finally:
        lab.home("UPDATE skyshard_meta.workers SET port = port - 10000 WHERE worker_id = 2")


def test_a_catalogue_that_changes_meanwhile_is_not_judged(
    lab: Lab, checked: Callable[..., list[Fault]]
) -> None:
    """A table that is locked keeps the check waiting until the catalogue has another version."""
    state = states.require(lab.directory)
    password = (lab.directory / "secrets" / "service").read_text().strip()
    worker = Address("skyshard", password, socket=state.sockets["worker1"])
    table, _ = a_chunk(lab)
    ends: list[Result] = []
    with closing(Held(worker, f"LOCK TABLES {table} WRITE")) as other:
        running = threading.Thread(target=lambda: ends.append(said(lab)))
        running.start()
        deadline = time.monotonic() + 60
        while not other.fetch(
            "SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for%lock%'"
        ):
            assert time.monotonic() < deadline
        lab.home(f"UPDATE skyshard_meta.`databases` SET version = version + 1 WHERE name = '{NAME}'")
        other.fetch("UNLOCK TABLES")
        running.join()
    lab.home(f"UPDATE skyshard_meta.`databases` SET version = version - 1 WHERE name = '{NAME}'")
    assert (ends[0].exit_code, ends[0].output) == (
        1,
        f"skyshard: database '{NAME}' has changed while it was being checked; run it again\n",
    )


def test_an_unknown_name(lab: Lab) -> None:
    done = lab.command("catalog", "verify", "nothing")
    assert (done.exit_code, done.output) == (1, "skyshard: there is no published catalogue 'nothing'\n")
