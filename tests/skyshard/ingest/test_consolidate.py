"""Consolidations that are killed or take long: every key is found meanwhile, and none is there twice afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

from skyshard.ingest import consolidate
from skyshard.ingest.consolidate import Consolidation
from tests.skyshard.conftest import Lab, ask
from tests.skyshard.held import Held, home_of, worker_of
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


def losing_rows(lab: Lab, name: str, command: tuple[str, ...]) -> None:
    """Consolidate while a chunk's rows are lost in the end: what they were made of must stay."""
    first = worker_of(lab)
    asked = (
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}' AND TABLE_ROWS > 0 "
    )
    spoilt = []
    exchange = Consolidation._exchange

    async def exchanged(self: Consolidation, *arguments: Any) -> None:
        await exchange(self, *arguments)
        found = await self.ledger.agents.admin(1, [asked + "AND TABLE_NAME REGEXP '^Star_[0-9]+$' LIMIT 1"])
        at = spoilt.append(f"{name}.{found[0][0]}") or spoilt[0]
        texts = [f"RENAME TABLE {at} TO {name}.kept", f"CREATE TABLE {at} LIKE {name}.kept"]
        await self.ledger.agents.admin(1, texts)

    with patch.object(Consolidation, "_exchange", exchanged), patch.object(consolidate, "GRACE_S", 0.0):
        refused = lab.command(*command)
    assert (refused.exit_code, "worker1 (id 1) has 0 of " in refused.output) == (1, True), refused.output
    assert "run this again, or, if that does not help, nobody else has a copy" in refused.output
    assert ask(first, r"SHOW DATABASES LIKE 'skyshard\_stage%'") != []
    ask(first, f"DROP TABLE {spoilt[0]}")
    ask(first, f"RENAME TABLE {name}.kept TO {spoilt[0]}")


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
    losing_rows(lab, name, command)
    done = lab.command(*command)
    assert done.exit_code == 0, done.output
    assert lab.home(f"SELECT COUNT(*) FROM skyshard_index.{name}__Star") == [("90",)]
    assert (lab.ask(KEYS, name), lab.ask(KEY, name)) == ([("5",)], [("1",)])
    assert lab.home(LOST_WITH_POWER) == []
    verified = lab.command("catalog", "verify", name)
    assert verified.exit_code == 0, verified.output
    lab.drop(name)
    assert lab.traces(name) == []
    states = (
        f"SELECT DISTINCT state FROM skyshard_meta.ingests WHERE db_name = '{name}' AND commit_no IS NOT NULL"
    )
    assert lab.home(states) == [("dropped",)]  # the same files can be added to another database of that name
