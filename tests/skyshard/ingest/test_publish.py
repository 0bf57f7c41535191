"""Nothing is visible before all is there; what failed or was killed anywhere is simply run again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from unittest.mock import patch

import pytest

from backend.agent_link import AgentPool
from shard.catalog.traps import INGEST_LOCK
from shard.errors import ServerError
from tests.skyshard.conftest import Lab, Writer
from tests.skyshard.held import Held, home_of, worker_of

TABLES = """
- {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [star.csv],
   columns: {id: BIGINT NOT NULL, ra: DOUBLE, decl: DOUBLE, mag: FLOAT}}
- {name: Visit, kind: dependent, director: Star, director_key: id, files: [visit.csv],
   columns: {id: BIGINT NOT NULL, flux: DOUBLE}}
- {name: Band, kind: replicated, files: [band.csv], columns: {band: CHAR(1)}}
"""


EXTRA = "- {name: Extra, kind: replicated, files: [band.csv], columns: {band: CHAR(1)}}\n"


def files(stars: int) -> dict[str, str]:
    """Return the files of a catalogue of `stars` stars, with two visits each and `stars` % 7 bands."""
    star = (f"{n},{n * 7.7 % 360},{(n * 3.3 % 180) - 90:.4f},{n % 20}.5" for n in range(stars))
    visit = (f"{n % stars},{n}.25" for n in range(2 * stars))
    return {
        "star.csv": "\n".join(["id,ra,decl,mag", *star]) + "\n",
        "visit.csv": "\n".join(["id,flux", *visit]) + "\n",
        "band.csv": "\n".join(["band", *"ugrizy"[: stars % 7]]) + "\n",
    }


def counts(lab: Lab, database: str) -> tuple[int, ...]:
    """Return rows of Star, Visit and Band, of their join, and of Star by the director index."""
    found = []
    for sql in (
        "SELECT COUNT(*) FROM Star",
        "SELECT COUNT(*) FROM Visit",
        "SELECT COUNT(*) FROM Band",
        "SELECT COUNT(*) FROM Star JOIN Visit USING (id)",
        "SELECT COUNT(*) FROM Star WHERE id IN (1, 2, 3, 40)",
    ):
        found.append(int(lab.ask(sql, database)[0][0] or "0"))
    return tuple(found)


def expected(stars: int) -> tuple[int, ...]:
    return stars, 2 * stars, stars % 7, 2 * stars, 4


def test_a_fresh_catalogue_is_published(lab: Lab, write: Writer) -> None:
    output = lab.publish(write("fresh", TABLES, files(101)))
    assert "Star: 101 rows" in output
    assert counts(lab, "fresh") == expected(101)
    assert lab.traces("none") == []


def test_it_is_not_replaced_unasked(lab: Lab, write: Writer) -> None:
    lab.publish(write("asked", TABLES, files(50)))
    done = lab.ingest(write("asked", TABLES, files(60)))
    assert done.exit_code == 1
    assert "use --replace" in done.output
    assert counts(lab, "asked") == expected(50)
    lab.publish(write("asked", TABLES, files(60)), "--replace")
    assert counts(lab, "asked") == expected(60)
    assert lab.traces("none") == []


def test_replace_may_change_the_tables(lab: Lab, write: Writer) -> None:
    lab.publish(write("tables", TABLES, files(50)))
    fewer = TABLES.replace("name: Band", "name: Pass").replace("mag: FLOAT", "mag: FLOAT, extra: INT")
    more = files(44) | {
        "star.csv": "id,ra,decl,mag,extra\n" + "".join(f"{n},{n},{n},1,{n}\n" for n in range(44))
    }
    lab.publish(write("tables", fewer, more), "--replace")
    assert lab.ask("SELECT SUM(extra), COUNT(*) FROM tables.Star") == [("946", "44")]
    assert lab.ask("SHOW TABLES IN tables") == [("Pass",), ("Star",), ("Visit",)]
    with pytest.raises(ServerError, match="Band"):
        lab.ask("SELECT * FROM tables.Band")
    assert lab.traces("none") == []


def test_a_failed_ingest_leaves_nothing_and_is_repeated(lab: Lab, write: Writer) -> None:
    bad = files(50)
    bad["visit.csv"] += "7,dim\n"
    done = lab.ingest(write("failed", TABLES, bad))
    assert done.exit_code == 1
    assert (
        f"{write.directory}/visit.csv:102: table 'Visit': column 'flux': 'dim' is no value of DOUBLE"
        in done.output
    )
    assert lab.traces("failed") == []
    with pytest.raises(ServerError, match="failed"):
        lab.ask("SELECT COUNT(*) FROM failed.Star")
    lab.publish(write("failed", TABLES, files(50)))
    assert counts(lab, "failed") == expected(50)


def test_a_failed_replacement_leaves_what_was_published(lab: Lab, write: Writer) -> None:
    lab.publish(write("kept", TABLES, files(50)))
    bad = files(60)
    bad["star.csv"] += "61,12,93,1\n"
    done = lab.ingest(write("kept", TABLES, bad), "--replace")
    assert done.exit_code == 1
    assert "(12.0, 93.0) is no position on the sky" in done.output
    assert counts(lab, "kept") == expected(50)
    assert lab.traces("none") == []


def test_a_users_table_is_not_replaced(lab: Lab, write: Writer) -> None:
    lab.publish(write("users", TABLES.replace("name: Band", "name: Pass"), files(50)))
    lab.home("CREATE VIEW users.Band AS SELECT 1 AS one")
    done = lab.ingest(write("users", TABLES, files(50)), "--replace")
    assert (done.exit_code, "'users.Band' is a user's table or view" in done.output) == (1, True)
    assert lab.ask("SELECT one FROM users.Band") == [("1",)]


def test_another_database_is_not_touched(lab: Lab, write: Writer) -> None:
    lab.home("CREATE DATABASE mine")
    lab.home("CREATE TABLE mine.Star (x INT)")
    done = lab.ingest(write("mine", TABLES, files(50)), "--replace")
    assert (done.exit_code, "no catalogue" in done.output) == (1, True)
    assert lab.home("SELECT COUNT(*) FROM mine.Star") == [("0",)]


@contextmanager
def failing_disk(good: int) -> Iterator[None]:
    """Let workers' disks fail after so many calls."""
    calls = count(1)

    async def settle(agents: AgentPool, worker: int) -> None:
        if next(calls) > good:
            raise ServerError(
                1026, "HY000", f"{agents.name(worker)}: rows are not on disk: Input/output error"
            )

    with patch.object(AgentPool, "_settle", settle):
        yield


def test_rows_that_are_not_on_disk_are_not_published(lab: Lab, write: Writer, name: str) -> None:
    """The command says which worker has a disk that fails, and goes on where it was when it is run again."""
    catalog = write(name, TABLES, files(50))
    for good in (0, 2 * 3):  # calls: on two workers for each of three tables, then before they are seen
        with failing_disk(good):
            done = lab.ingest(catalog)
        assert (done.exit_code, "rows are not on disk" in done.output) == (1, True), done.output
        with pytest.raises(ServerError, match=name):
            lab.ask(f"SELECT COUNT(*) FROM {name}.Star")
    lab.publish(catalog)
    assert counts(lab, name) == expected(50)


# runs that are killed -----------------------------------------------------------------------------


HOLD = {
    "begin": "LOCK TABLES skyshard_meta.ingests READ",
    "databases": "LOCK TABLES skyshard_meta.`databases` READ, skyshard_meta.ingests READ",
    "load": "FLUSH TABLES WITH READ LOCK",
    "metadata": "LOCK TABLES skyshard_meta.`tables` READ",
}


@pytest.mark.parametrize(
    ("where", "replace"),
    [
        ("begin", False),
        ("databases", False),
        ("load", False),
        ("metadata", False),
        ("load", True),
        ("metadata", True),
    ],
)
def test_a_killed_ingest_is_repeated(lab: Lab, write: Writer, where: str, replace: bool) -> None:
    """Killed before it publishes: nothing of it is seen, and what was published stays."""
    name = f"killed_{where}_{replace}".lower()
    if replace:
        lab.publish(write(name, TABLES, files(50)))
    catalog = write(name, TABLES, files(75))
    options = ["--replace"] if replace else []
    address = worker_of(lab) if where == "load" else home_of(lab)
    with closing(Held(address, HOLD[where])) as other:
        lab.killed(other, "ingest", catalog, *options)
    if replace:
        assert counts(lab, name) == expected(50)
    else:
        with pytest.raises(ServerError, match=name):
            lab.ask(f"SELECT COUNT(*) FROM {name}.Star")
    lab.publish(catalog, *options)
    assert counts(lab, name) == expected(75)
    assert lab.traces("none") == []


def _chunk_table(lab: Lab, name: str) -> str:
    address = worker_of(lab)
    with closing(Held(address)) as look:
        found = look.fetch(
            f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}' "
            "AND TABLE_NAME REGEXP '^Star_[0-9]+$' AND TABLE_ROWS > 0 ORDER BY 1 DESC LIMIT 1"
        )
    return (found[0][0] or b"").decode()


def _ask_while(lab: Lab, sql: str, answer: object) -> None:
    """Ask until something else than this answer comes."""
    deadline = time.monotonic() + 30
    while lab.ask(sql) == answer:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(("where", "again"), [("worker", "same"), ("home", "other")])
def test_an_ingest_killed_while_it_publishes_is_finished(
    lab: Lab, write: Writer, where: str, again: str
) -> None:
    name = f"half_{where}_{again}"
    lab.publish(write(name, TABLES, files(50)))
    if where == "worker":
        address, statements = worker_of(lab), [f"LOCK TABLES {name}.{_chunk_table(lab, name)} READ"]
    else:
        address, statements = home_of(lab), ["BEGIN", f"SELECT * FROM {name}.Band"]
    catalog = write(name, TABLES + EXTRA, files(75))
    before = lab.ask(f"SELECT COUNT(*) FROM {name}.Star")
    with closing(Held(address, *statements)) as other, lab.started("ingest", catalog, "--replace") as process:
        other.until_waiting(process)
        # Half swapped: an error, never a count of both or of neither. Until the proxy has read of it, the old count.
        with pytest.raises(ServerError):
            _ask_while(lab, f"SELECT COUNT(*) FROM {name}.Star", before)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with pytest.raises(ServerError):
        lab.ask(f"SELECT COUNT(*) FROM {name}.Star")
    if where == "worker":  # home comes later
        lab.home(f"CREATE TABLE {name}.Extra (mine INT)")
        done = lab.ingest(catalog)
        assert (done.exit_code, f"'{name}.Extra' is a user's table or view" in done.output) == (1, True)
        assert lab.home(f"SHOW COLUMNS FROM {name}.Extra LIKE 'mine'") != []
        lab.home(f"DROP TABLE {name}.Extra")
    if again == "other":
        catalog = write(name, TABLES, files(83))
    lab.publish(catalog)
    assert counts(lab, name) == expected(83 if again == "other" else 75)
    assert lab.traces("none") == []


def test_an_ingest_ends_with_its_locks(lab: Lab, write: Writer) -> None:
    """Its connection to the home server is lost while a worker is busy: the next command must be alone."""
    name = "lost_locks"
    catalog = write(name, TABLES, files(50))
    with closing(Held(worker_of(lab), HOLD["load"])) as other, lab.started("ingest", catalog) as process:
        other.until_waiting(process)
        lock = INGEST_LOCK.format(database=name)
        holder = lab.home(f"SELECT IS_USED_LOCK('{lock}')")[0][0]
        lab.home(f"KILL {holder}")
        output, _ = process.communicate(timeout=20)
        assert (process.returncode, "the home server cannot be reached" in output) == (1, True), output
    lab.publish(catalog)
    assert counts(lab, name) == expected(50)
    assert lab.traces("none") == []


def test_two_ingests_of_one_database_exclude_each_other(lab: Lab, write: Writer) -> None:
    catalog = write("twice", TABLES, files(50))
    with (
        closing(Held(home_of(lab), "LOCK TABLES skyshard_meta.`tables` READ")) as other,
        lab.started("ingest", catalog) as process,
    ):
        other.until_waiting(process)
        done = lab.ingest(catalog)
        said = "another ingest, drop or repair of database 'twice' is running"
        assert (done.exit_code, said in done.output) == (1, True)
        other.fetch("UNLOCK TABLES")
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    assert counts(lab, "twice") == expected(50)
    assert lab.traces("none") == []
