"""Rows that come to a published database: all at once, in every answer, and gone when they are taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.skyshard.conftest import Lab, Rows, Writer, ask
from tests.skyshard.held import Held, home_of
from tests.support.sky import TABLES, Sky, spec

SEPARATION = (
    "DEGREES(2 * ASIN(SQRT(LEAST(1, POW(SIN(RADIANS(b.decl - a.decl) / 2), 2) + COS(RADIANS(a.decl)) * "
    "COS(RADIANS(b.decl)) * POW(SIN(RADIANS(b.ra - a.ra) / 2), 2)))))"
)
QUERIES = (
    "SELECT COUNT(*) FROM Star",
    "SELECT COUNT(*), SUM(flux) FROM Visit",
    "SELECT COUNT(*), SUM(w) FROM Pair",
    "SELECT * FROM Star",
    "SELECT id, COUNT(*), SUM(flux) FROM Visit GROUP BY id",
    "SELECT s.id, s.mag, v.flux FROM Star s JOIN Visit v USING (id) WHERE v.flux > 20",
    "SELECT s.id, r.refId, p.w FROM Star s JOIN Pair p USING (id) JOIN Ref r USING (refId)",
    "SELECT * FROM Star WHERE id IN (1, 7, 41, 70, 90)",
    "SELECT * FROM Visit WHERE id = 75",
    "SELECT id, flux FROM Visit ORDER BY flux DESC, id LIMIT 7",
    "SELECT (SELECT COUNT(*) FROM Visit) - (SELECT COUNT(*) FROM Star)",
    "SELECT note, COUNT(*), MAX(mag) FROM Star GROUP BY note",
    "SELECT DISTINCT a.note FROM Star a WHERE a.mag > (SELECT AVG(mag) FROM Star)",
    "SELECT COUNT(*) FROM Star s LEFT JOIN Visit v USING (id) JOIN Band b ON b.band = LEFT(s.note, 1)",
)
NEAR = "SELECT a.id, b.refId FROM Star a, Ref b WHERE {0} < 0.4"
NEAR_SELF = "SELECT a.id, b.id FROM Star a, Star b WHERE {0} < 0.4 AND a.id <> b.id"


def append_file(
    write: Writer, database: str, sky: Sky, only: Sequence[str] = ("Star", "Ref", "Visit", "Pair")
) -> Path:
    """Write the catalogue file of rows to be added to some tables."""
    return write(database, spec(*only), sky.files())


def bag(rows: Rows) -> list[tuple[str, ...]]:
    return sorted(tuple("NULL" if value is None else value for value in row) for row in rows)


@pytest.fixture
def base(lab: Lab, write: Writer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A published database of 60 stars, with the name of the test; it is dropped afterwards."""
    name = request.node.name.removeprefix("test_")[:20].rstrip("_")
    lab.publish(write(name, TABLES, Sky(0, 60).files()))
    yield name
    lab.drop(name)
    assert lab.traces(name) == []


def plain_rows(plain, database: str, *skies: Sky) -> None:
    """Put all rows into a plain server."""
    ask(plain.address, f"CREATE OR REPLACE DATABASE {database} CHARACTER SET utf8mb4")
    types = {
        "Star": "id BIGINT NOT NULL, ra DOUBLE, decl DOUBLE, mag FLOAT, note VARCHAR(20)",
        "Ref": "refId BIGINT NOT NULL, ra DOUBLE, decl DOUBLE",
        "Visit": "id BIGINT NOT NULL, flux DOUBLE",
        "Pair": "id BIGINT, refId BIGINT, w INT",
        "Band": "band CHAR(1)",
    }
    for table, columns in types.items():
        ask(plain.address, f"CREATE TABLE {database}.{table} ({columns})")
        rows = [row for sky in skies for row in getattr(sky, table.lower(), ())] or [("u",), ("g",)]
        values = ", ".join("(" + ", ".join(map(repr, row)) + ")" for row in rows)
        ask(plain.address, f"INSERT INTO {database}.{table} VALUES {values}")


def compare(lab: Lab, plain, database: str) -> None:
    """Ask everything of the cluster and of the plain server."""
    for sql in QUERIES:
        assert bag(lab.ask(sql, database)) == bag(ask(plain.address, sql, database)), sql
    for sql in (NEAR, NEAR_SELF):
        ours = lab.ask(sql.format("scisql_angSep(a.ra, a.decl, b.ra, b.decl)"), database)
        theirs = ask(plain.address, sql.format(SEPARATION), database)
        assert bag(ours) == bag(theirs), sql
        assert ours


def test_rows_are_added_and_taken_back(lab: Lab, write: Writer, plain, base: str) -> None:
    first, second, third = Sky(0, 60), Sky(60, 25), Sky(85, 20, spots=12)
    plain_rows(plain, base, first)
    compare(lab, plain, base)
    output = lab.publish(append_file(write, base, second), "--append", "--json")
    number = json.loads(output)["id"]
    plain_rows(plain, base, first, second)
    compare(lab, plain, base)
    last = json.loads(lab.publish(append_file(write, base, third), "--append", "--json"))["id"]
    plain_rows(plain, base, first, second, third)
    compare(lab, plain, base)
    refused = lab.command("ingest", "--undo", str(number))
    assert refused.exit_code == 1
    assert f"cannot be undone before transaction {last}" in refused.output
    assert lab.command("ingest", "--undo", str(last), "--grace", "0").exit_code == 0
    plain_rows(plain, base, first, second)
    compare(lab, plain, base)
    assert lab.command("ingest", "--consolidate", base, "--grace", "0").exit_code == 0
    compare(lab, plain, base)
    verified = lab.command("catalog", "verify", base)
    assert verified.exit_code == 0, verified.output  # places, overlap and director index, too
    assert [row for row in lab.traces("none") if row[0] != base] == []
    gone = lab.command("ingest", "--undo", str(number))
    assert gone.exit_code == 1
    assert "is consolidated" in gone.output
    lab.publish(append_file(write, base, third), "--append")
    plain_rows(plain, base, first, second, third)
    compare(lab, plain, base)


MORE = """
- {name: Spectrum, kind: dependent, director: Star, director_key: id, files: [spectrum.csv],
   columns: {id: BIGINT NOT NULL, z: DOUBLE}}
- {name: Faint, kind: director, key: faintId, longitude: ra, latitude: decl, files: [faint.csv],
   columns: {faintId: BIGINT NOT NULL, ra: DOUBLE, decl: DOUBLE}}
- {name: Link, kind: match, files: [link.csv], directors: [{table: Star, foreign_key: id},
   {table: Faint, foreign_key: faintId}], columns: {id: BIGINT, faintId: BIGINT}}
- {name: Site, kind: replicated, files: [site.csv], columns: {site: CHAR(3), height: INT}}
"""


def test_tables_are_added_and_taken_back(lab: Lab, write: Writer, base: str) -> None:
    first, second = Sky(0, 60), Sky(60, 20)
    lab.publish(append_file(write, base, second, ["Star", "Visit"]), "--append")
    star = first.star + second.star
    files = {
        "spectrum.csv": "id,z\n" + "".join(f"{row[0]},0.5\n" for row in star),
        "faint.csv": "faintId,ra,decl\n" + "".join(f"{row[0]},{row[1]},{row[2]}\n" for row in star),
        "link.csv": "id,faintId\n" + "".join(f"{row[0]},{row[0]}\n" for row in star),
        "site.csv": "site,height\nabc,2400\nxyz,12\n",
        "star.csv": "id,ra,decl,mag,note\n900,12,13,1.5,u late\n",
    }
    catalog = write(base, spec("Star") + "\n" + MORE.strip(), files)
    number = json.loads(lab.command("ingest", "register", str(catalog), "--json").output)["id"]
    assert lab.command("ingest", "load", str(number)).exit_code == 0
    assert users_own_table_stays(lab, base, str(number)) == number
    asked = {
        "SELECT COUNT(*) FROM Star": "81",
        "SELECT COUNT(*) FROM Spectrum": "80",
        "SELECT COUNT(*) FROM Star s JOIN Spectrum p USING (id) JOIN Site t ON t.height > 100": "80",
        "SELECT COUNT(*) FROM Faint WHERE faintId IN (4, 70, 500)": "2",
        "SELECT COUNT(*) FROM Star s JOIN Link l USING (id) JOIN Faint f USING (faintId)": "80",
        "SELECT COUNT(*) FROM Faint a, Star b WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < 0.00001": "80",
        "SELECT SUM(height) FROM Site": "2412",
        "SELECT COUNT(*) FROM Star s LEFT JOIN Spectrum p USING (id) WHERE p.id IS NULL": "1",
    }
    assert {sql: lab.ask(sql, base)[0][0] for sql in asked} == asked
    assert lab.command("repair", base).exit_code == 0
    names = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1"
    everything = ["Band", "Faint", "Link", "Pair", "Ref", "Site", "Spectrum", "Star", "Visit"]
    assert [row[0] for row in lab.ask(names, base)] == everything
    assert lab.command("ingest", "--undo", str(number), "--grace", "0").exit_code == 0
    assert [row[0] for row in lab.ask(names, base)] == ["Band", "Pair", "Ref", "Star", "Visit"]
    assert lab.ask("SELECT COUNT(*), MAX(id) FROM Star", base) == [("80", "79")]
    left = f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{base}' AND TABLE_NAME REGEXP"
    assert lab.workers(f"{left} '^(Faint|Link|Site|Spectrum)'") == []
    lab.publish(catalog, "--append")
    assert lab.command("ingest", "--consolidate", base, "--grace", "0").exit_code == 0
    assert {sql: lab.ask(sql, base)[0][0] for sql in asked} == asked


def users_own_table_stays(lab: Lab, base: str, number: str) -> int:
    """Publish a transaction that brings Site, which a user has made meanwhile; return its number once it is visible."""
    site, state = (
        f"{base}.Site",
        f"UPDATE skyshard_meta.ingests SET state = '{{}}' WHERE ingest_id = {number}",
    )
    lab.home(f"CREATE TABLE {site} (mine INT)")
    refused = lab.command("ingest", "publish", number)
    assert (refused.exit_code, f"'{site}' is a user's table or view" in refused.output) == (1, True)
    assert lab.home(f"SELECT state, commit_no FROM skyshard_meta.ingests WHERE ingest_id = {number}") == [
        ("open", None)
    ]
    lab.home(state.format("committing") + " AND commit_no IS NULL")  # it was made at the last moment
    lab.home(f"UPDATE skyshard_meta.ingests SET commit_no = 1000 WHERE ingest_id = {number}")
    again = lab.command("ingest", "publish", number)
    assert (again.exit_code, f"abort transaction {number}" in again.output) == (1, True), again.output
    stage = f"skyshard_stage_{number}"
    lab.home(f"DROP TABLE {site}")
    held = Held(home_of(lab), "LOCK TABLES skyshard_meta.chunk_rows READ")
    try:
        with lab.started("ingest", "publish", number) as process:
            held.until_waiting(process, "chunk_rows")
            assert lab.home(f"SELECT COUNT(*) FROM {site}") == [("0",)]  # it is not visible yet
    finally:
        held.close()
    assert lab.home(f"SHOW TABLES FROM {stage} LIKE 'Site%'") == [("Site$rows",)]
    return int(json.loads(lab.command("ingest", "publish", number, "--json").output)["id"])


def test_steps_that_publish_nothing(lab: Lab, write: Writer, base: str) -> None:
    sky = Sky(0, 40, spots=8)
    catalog = write("trial", TABLES, sky.files())
    found = {
        one["table"]: one
        for one in json.loads(lab.command("ingest", "validate", str(catalog), "--json").output)
    }
    assert {name: one["rows"] for name, one in found.items()} == {
        "Star": 40, "Ref": 40, "Visit": 80, "Pair": len(sky.pair), "Band": 2,
    }  # fmt: skip
    assert found["Star"]["overlap_rows"] > 0
    timing = json.loads(lab.command("ingest", "benchmark", str(catalog), "--json").output)
    assert timing["rows"] == sum(one["rows"] for one in found.values())
    assert lab.traces("trial") == []
    bad = write("trial", TABLES, sky.files() | {"visit.csv": "id,flux\n3,dim\n"})
    done = lab.command("ingest", "validate", str(bad), "--json")
    assert done.exit_code == 1
    assert (
        "visit.csv:2: table 'Visit': column 'flux': 'dim' is no value of DOUBLE"
        in json.loads(done.stdout)["error"]
    )
    lab.publish(append_file(write, base, Sky(60, 10), ["Star"]), "--append")
    lab.home(f"DELETE FROM skyshard_index.{base}__Star WHERE directorKey < 30")
    assert lab.ask("SELECT COUNT(*) FROM Star WHERE id IN (2, 3, 40, 65)", base) == [("2",)]
    keys = json.loads(lab.command("ingest", "index", base, "--json").output)["keys"]
    assert keys == {"Star": 70, "Ref": 60}
    assert lab.ask("SELECT COUNT(*) FROM Star WHERE id IN (2, 3, 40, 65)", base) == [("4",)]


def refusal(lab: Lab, catalog: Path, *options: str) -> str:
    done = lab.ingest(catalog, *(options or ("--append",)))
    assert done.exit_code == 1, done.output
    return done.output


def test_what_is_refused(lab: Lab, write: Writer, base: str) -> None:
    before = {sql: bag(lab.ask(sql, base)) for sql in QUERIES[:4]}
    again = refusal(lab, append_file(write, base, Sky(59, 3), ["Star"]))
    assert "table 'Star': key '59' of column 'id' is in the published table already" in again
    lost = refusal(lab, append_file(write, base, Sky(60, 3), ["Visit"]))
    assert "'60' is no key of director 'Star'" in lost
    assert "there is no published database 'nowhere'" in refusal(
        lab, append_file(write, "nowhere", Sky(60, 3), ["Star"])
    )
    bands = write(base, spec("Band").replace("CHAR(1)", "CHAR(2)"), {"band.csv": "band\nrr\n"})
    assert "column 'band' is char(2) " in refusal(lab, bands)
    other = write(base, spec("Star").replace("mag: FLOAT", "mag: DOUBLE"), Sky(60, 3).files())
    assert "column 'mag' is double, and float in the published table" in refusal(lab, other).lower()
    kind = write(base, spec("Star").replace("key: id", "key: mag"), Sky(60, 3).files())
    assert "key: 'mag' differs from the published 'id'" in refusal(lab, kind)
    assert {sql: bag(lab.ask(sql, base)) for sql in QUERIES[:4]} == before
    assert lab.workers("SHOW DATABASES LIKE 'skyshard\\_stage%'") == []
    for arguments, said in (
        (("--undo", "999999"), "there is no transaction 999999"),
        (("--abort", "999999"), "there is no transaction 999999"),
        (("--consolidate", "nowhere"), "there is no published database 'nowhere'"),
    ):
        done = lab.command("ingest", *arguments)
        assert (done.exit_code, said in done.output) == (1, True), done.output


def test_files_that_change_and_second_transactions(lab: Lab, write: Writer, base: str) -> None:
    catalog = append_file(write, base, Sky(60, 5), ["Star", "Visit"])
    opened = json.loads(lab.command("ingest", "register", str(catalog), "--json").output)
    number = str(opened["id"])
    assert json.loads(lab.command("ingest", "register", str(catalog), "--json").output)["id"] == opened["id"]
    copy = write.directory / "other"
    second = Writer_at(copy)(base, spec("Star"), Sky(70, 5).files())
    said = refusal(lab, second)
    assert f"another ingest of table '{base}.Star' is open: transaction {number}" in said
    refs = json.loads(
        lab.publish(
            Writer_at(write.directory / "refs")(base, spec("Ref"), Sky(80, 5).files()), "--append", "--json"
        )
    )
    assert refs["state"] == "committed"  # another table, meanwhile
    visits = write.directory / "visit.csv"
    kept = visits.read_text()
    visits.write_text(kept.replace("60,", "61,", 1))
    failed = lab.command("ingest", "load", number)
    assert failed.exit_code == 1
    assert (
        f"{visits.resolve()}: the file has changed since it was queued: its checksum is another one"
        in failed.output
    )
    (mine,) = (one for one in _status(lab, base) if one["id"] == opened["id"])
    states = {file["table"]: file for file in mine["files"]}
    assert (states["Star"]["state"], states["Visit"]["state"]) == ("loaded", "failed")
    assert "has changed" in states["Visit"]["reason"]
    visits.write_text(kept + "64,1\n")
    assert (
        f"it had {len(kept)} bytes, and has {len(kept) + 5}" in lab.command("ingest", "load", number).output
    )
    visits.write_text(kept)
    for step in ("load", "check", "publish", "publish"):
        done = lab.command("ingest", step, number)
        assert done.exit_code == 0, done.output
    assert lab.ask("SELECT COUNT(*) FROM Visit", base) == [("130",)]
    with_more = Writer_at(write.directory)(
        base, spec("Visit").replace("visit.csv", "visit*.csv"), {"visit9.csv": "id,flux\n64,2\n"}
    )
    assert f"{visits.resolve()}: table '{base}.Visit' has its rows already, by ingest {number}" in refusal(
        lab, with_more
    )
    catalog = append_file(write, base, Sky(60, 5), ["Star", "Visit"])
    repeated = json.loads(lab.publish(catalog, "--append", "--json"))  # as after a kill that came too late
    assert (repeated["id"], repeated["state"]) == (opened["id"], "committed")
    assert lab.ask("SELECT COUNT(*) FROM Visit", base) == [("130",)]
    assert "is committed" in lab.command("ingest", "--abort", number).output
    open_one = json.loads(lab.command("ingest", "register", str(second), "--json").output)["id"]
    said = refusal(lab, write(base, TABLES, Sky(0, 5).files()), "--replace")
    assert f"transaction {open_one} of " in said
    assert lab.command("ingest", "--abort", str(open_one)).exit_code == 0


def Writer_at(directory: Path) -> Writer:  # noqa: N802 - a Writer
    directory.mkdir(exist_ok=True)
    return Writer(directory)


def _status(lab: Lab, database: str) -> list[dict[str, Any]]:
    found = json.loads(lab.command("ingest", "status", database, "--json").output)
    return sorted(found, key=lambda one: one["id"])
