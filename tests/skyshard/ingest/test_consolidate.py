"""Consolidations that are killed or take long: every key is found meanwhile, and none is there twice afterwards."""

from __future__ import annotations

from pathlib import Path

from tests.skyshard.conftest import Lab
from tests.skyshard.held import Held, home_of
from tests.support.sky import Sky, written

KEYS = "SELECT COUNT(*) FROM Star WHERE id IN (5, 41, 61, 70, 83)"
KEY = "SELECT mag > 0 OR mag <= 0 FROM Star WHERE id = 61"
LOST_WITH_POWER = (
    "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'skyshard_index' "
    "AND CREATE_OPTIONS NOT LIKE '%transactional=1%'"
)
"""Indexes that are Aria tables without a log."""
NEW = "skyshard_index.skyshard_new_{}__Star"


def reread(lab: Lab, directory: Path, name: str) -> None:
    """Return when the proxy has read the metadata anew: it knows a database that was published just now."""
    lab.publish(written(directory / name, name, Sky(0, 5), ("Star", "Band")))
    assert lab.ask("SELECT COUNT(*) FROM Star", name) == [("5",)]
    lab.drop(name)


def test_keys_are_found_while_a_consolidation_is_half_done(lab: Lab, tmp_path: Path) -> None:
    name = "half_consolidated"
    lab.publish(written(tmp_path / "first", name, Sky(0, 60), ("Star", "Band")))
    for number, sky in enumerate((Sky(60, 20), Sky(80, 10))):
        lab.publish(written(tmp_path / str(number), name, sky, ("Star",)), "--append")
    assert (lab.ask(KEYS, name), lab.ask(KEY, name)) == ([("5",)], [("1",)])
    assert lab.home(LOST_WITH_POWER) == []
    lab.home(f"ALTER TABLE skyshard_index.{name}__Star TRANSACTIONAL = 0")  # as earlier releases made them
    command = ("ingest", "--consolidate", name, "--grace", "0")
    # Rows are copied, and the indexes are not merged.
    db_id = lab.home(f"SELECT db_id FROM skyshard_meta.`databases` WHERE name = '{name}'")[0][0]
    new = NEW.format(db_id)
    held = Held(home_of(lab), f"CREATE TABLE {new} (n INT)", f"LOCK TABLES {new} WRITE")
    try:
        with lab.started(*command) as process:
            held.until_waiting(process, "skyshard_new")
            reread(lab, tmp_path, "half_other")
            assert (lab.ask(KEYS, name), lab.ask(KEY, name)) == ([("5",)], [("1",)])
    finally:
        held.close()
    reread(lab, tmp_path, "half_another")
    assert (lab.ask(KEYS, name), lab.ask(KEY, name)) == ([("5",)], [("1",)])
    # They are merged, and the metadata do not say so yet.
    held = Held(home_of(lab), "LOCK TABLES skyshard_meta.chunk_states READ")
    try:
        lab.killed(held, *command, text="skyshard_meta`.chunk_states")
    finally:
        held.close()
    assert lab.home(f"SELECT COUNT(*) FROM skyshard_index.{name}__Star") == [("90",)]
    assert lab.ask(KEYS, name) == [("5",)]
    done = lab.command(*command)
    assert done.exit_code == 0, done.output
    assert lab.home(f"SELECT COUNT(*) FROM skyshard_index.{name}__Star") == [("90",)]
    assert (lab.ask(KEYS, name), lab.ask(KEY, name)) == ([("5",)], [("1",)])
    assert lab.home(LOST_WITH_POWER) == []
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    lab.drop(name)
    assert lab.traces(name) == []
