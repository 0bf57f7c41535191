"""Catalogues whose transactions can still be undone are checked, backed up, copied and replaced like others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.skyshard.catalog.test_verify import on
from tests.skyshard.conftest import Lab
from tests.support.sky import Sky, signature, written

ALL = ("Star", "Ref", "Visit", "Pair", "Band")
GROWING = ALL[:4]
FIRST, SECOND, THIRD = Sky(0, 40), Sky(40, 20), Sky(60, 12, spots=11)


@pytest.fixture(scope="module")
def grown(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """The catalogue 'grown' in two copies, with two transactions; their numbers."""
    directory, numbers = tmp_path_factory.mktemp("grown"), []
    lab.publish(written(directory / "0", "grown", FIRST, ALL), "--replicas", "2")
    for sky in (SECOND, THIRD):
        catalog = written(directory / str(len(numbers) + 1), "grown", sky, GROWING)
        numbers.append(json.loads(lab.publish(catalog, "--append", "--json"))["id"])
    yield numbers
    lab.drop("grown")
    assert lab.traces("grown") == []


def answers(lab: Lab, database: str, *skies: Sky) -> dict[str, tuple[str | None, ...]]:
    return {sql: lab.ask(sql, database)[0] for sql in signature(*skies)}


def faults(lab: Lab, database: str) -> list[str]:
    done = lab.command("catalog", "verify", database)
    return [] if done.exit_code == 0 else done.output.splitlines()


def test_rows_that_can_be_undone_are_verified(lab: Lab, grown: list[int]) -> None:
    assert faults(lab, "grown") == []
    stage = f"skyshard_stage_{grown[1]}"
    table = on(
        lab,
        1,
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{stage}' AND TABLE_ROWS > 0 "
        "AND TABLE_NAME REGEXP '^Star_[0-9]+$' LIMIT 1",
    )[0][0]
    on(lab, 1, f"CREATE TABLE {stage}.kept SELECT *, chunkId, subChunkId FROM {stage}.{table} LIMIT 1")
    on(lab, 1, f"DELETE FROM {stage}.{table} LIMIT 1")
    wrong = "\n".join(faults(lab, "grown"))
    assert "Star" in wrong
    assert "rows" in wrong
    on(
        lab,
        1,
        f"INSERT INTO {stage}.{table} (id, ra, decl, mag, note, chunkId, subChunkId) "
        f"SELECT id, ra, decl, mag, note, chunkId, subChunkId FROM {stage}.kept",
    )
    on(lab, 1, f"DROP TABLE {stage}.kept")
    assert faults(lab, "grown") == []
    lab.home(f"UPDATE skyshard_index.`{stage}__Star` SET chunkId = chunkId + 1 LIMIT 1")
    assert any("keys that the index lacks" in line for line in faults(lab, "grown"))
    assert lab.command("ingest", "index", "grown").exit_code == 0


def test_backup_and_copy_have_all_rows_that_are_seen(lab: Lab, grown: list[int], tmp_path: Path) -> None:
    wanted = signature(FIRST, SECOND, THIRD)
    assert answers(lab, "grown", FIRST) == wanted
    target = tmp_path / "backup"
    done = lab.command("catalog", "backup", "grown", "--to", str(target))
    assert done.exit_code == 0, done.output
    for command in (
        ("restore", str(target), "--as", "regrown"),
        ("copy", "grown", "grown2"),
    ):
        done = lab.command("catalog", *command)
        assert done.exit_code == 0, done.output
        name = done.output.split("'")[1]
        assert answers(lab, name, FIRST) == wanted
        assert faults(lab, name) == []
    # In the place of what is published: the old rows until then, all of the new ones after it.
    lab.publish(written(tmp_path / "old", "grown2", Sky(5, 9), ALL), "--replace")
    assert answers(lab, "grown2", FIRST) == signature(Sky(5, 9))
    for command in (("restore", str(target), "--as", "grown2"), ("copy", "grown", "grown2")):
        refused = lab.command("catalog", *command)
        assert (refused.exit_code, "or say --replace" in refused.output) == (1, True)
        done = lab.command("catalog", *command, "--replace")
        assert done.exit_code == 0, done.output
        assert answers(lab, "grown2", FIRST) == wanted
    done = lab.command("catalog", "copy", "grown", "grown", "--replace")
    assert (done.exit_code, "cannot take its own place" in done.output) == (1, True)
    for name in ("grown2", "regrown"):
        assert faults(lab, name) == []
        lab.drop(name)
        assert lab.traces(name) == [row for row in lab.traces("none") if row[0] != name]


def test_a_replacement_that_is_damaged_leaves_the_old_one(lab: Lab, grown: list[int], tmp_path: Path) -> None:
    target, old = tmp_path / "backup", Sky(7, 8)
    assert lab.command("catalog", "backup", "grown", "--to", str(target)).exit_code == 0
    lab.publish(written(tmp_path / "old", "grown3", old, ALL))
    spoilt = max((target / "Visit").iterdir(), key=lambda path: path.stat().st_size)
    spoilt.write_bytes(spoilt.read_bytes()[:-20])
    done = lab.command("catalog", "restore", str(target), "--as", "grown3", "--replace")
    assert done.exit_code == 1
    assert answers(lab, "grown3", FIRST) == signature(old)
    assert faults(lab, "grown3") == []
    lab.drop("grown3")


def test_after_an_undo_all_agrees(lab: Lab, grown: list[int]) -> None:
    done = lab.command("ingest", "--undo", str(grown[1]), "--grace", "0")
    assert done.exit_code == 0, done.output
    assert answers(lab, "grown", FIRST) == signature(FIRST, SECOND)
    assert faults(lab, "grown") == []
