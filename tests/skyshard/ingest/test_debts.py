"""What a worker that is away or removed has still to drop is kept, and done when it is back, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest

from skyshard.catalog.cluster import opened
from skyshard.cluster.connect import from_dir
from skyshard.replicas import repair
from skyshard.replicas.repair import Repairer
from tests.skyshard.conftest import Lab, ask
from tests.skyshard.held import Held, worker_of
from tests.skyshard.ingest.conftest import OWED
from tests.skyshard.ingest.test_away import BANDS, FIRST, MORE, bands, joined, repaired, right
from tests.skyshard.ingest.test_queue import ALL, away, only_of, step
from tests.support.agents import until
from tests.support.sky import Sky, signature, written


@pytest.fixture
def name(paid_name: str) -> str:
    """The name of a catalogue that leaves nothing, and nothing to be done later."""
    return paid_name


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
