"""Files that Qserv's partitioner has cut are taken as they are: chunk by chunk, pairs once, nothing out of place."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

from shard.catalog.model import Partitioning
from shard.geometry.chunker import ChunkGrid
from tests.skyshard.conftest import Lab, Writer

GRID = ChunkGrid.of(Partitioning(stripes=18, sub_stripes=10, overlap_deg=0.5))
FORM = r'format: {type: csv, delimiter: "\t", quote: null, escape: "\\", "null": "\\N", header: false}'
TABLES = f"""
- {{name: Object, kind: director, key: objectId, longitude: ra, latitude: decl, chunk_files: [Object/chunk_*.txt],
   schema: Object.sql, {FORM}}}
- {{name: Source, kind: dependent, director: Object, director_key: objectId, chunk_files: [Source/chunk_*.txt],
   columns: {{sourceId: BIGINT NOT NULL, objectId: BIGINT, flux: DOUBLE}}, {FORM}}}
- {{name: Ref, kind: director, key: refId, longitude: ra, latitude: decl, chunk_files: [Ref/chunk_*.txt],
   columns: {{refId: BIGINT NOT NULL, ra: DOUBLE, decl: DOUBLE}}, {FORM}}}
- {{name: ObjectRef, kind: match, chunk_files: [ObjectRef/chunk_*.txt],
   directors: [{{table: Object, foreign_key: objectId}}, {{table: Ref, foreign_key: refId}}],
   columns: {{objectId: BIGINT, refId: BIGINT, chunkId: {{type: INT, omit: true}}}}, {FORM}}}
"""
SCHEMA = """CREATE TABLE Object (objectId BIGINT NOT NULL, ra DOUBLE, decl DOUBLE, name VARCHAR(20),
chunkId INT NOT NULL, subChunkId INT NOT NULL, PRIMARY KEY (objectId)) ENGINE=MyISAM;
"""
Place = tuple[float, float]


@dataclass
class Sky:
    """A catalogue, and its files as Qserv's partitioner writes them."""

    objects: dict[int, Place]
    refs: dict[int, Place]
    sources: list[tuple[int, int, float]]
    pairs: list[tuple[int, int]]

    @staticmethod
    def seeded(stars: int = 300) -> Sky:
        rng = random.Random(8)
        objects = {
            n: (round(rng.uniform(0, 360), 6), round(math.degrees(math.asin(rng.uniform(-1, 1))), 6))
            for n in range(1, stars)
        } | {stars: (0.0, 90.0), stars + 1: (359.999999, 0.0), stars + 2: (0.0, 0.0)}
        refs = {n + 1000: (lon, max(-90.0, lat - 0.3)) for n, (lon, lat) in objects.items() if n % 2}
        sources = [(n * 10 + k, n, n + k / 4) for n in objects for k in range(n % 3)]
        return Sky(objects, refs, sources, [(n - 1000, n) for n in refs])

    def files(self) -> dict[str, str]:
        out: dict[str, str] = defaultdict(str)
        home = {}
        for table, places in (("Object", self.objects), ("Ref", self.refs)):
            keys = list(places)
            lon, lat = np.array(list(places.values())).T
            chunks, subs = GRID.locate(lon, lat)
            home |= dict(zip(keys, chunks.tolist(), strict=True))
            lines = [
                [str(key), repr(places[key][0]), repr(places[key][1])]
                + ([f"n\\t{key}" if key % 5 else "\\N", str(chunk), str(sub)] if table == "Object" else [])
                for key, chunk, sub in zip(keys, chunks.tolist(), subs.tolist(), strict=True)
            ]
            for line, chunk in zip(lines, chunks.tolist(), strict=True):
                out[f"{table}/chunk_{chunk}.txt"] += "\t".join(line) + "\n"
            for row, chunk in zip(*(part.tolist() for part in GRID.overlap_rows(lon, lat)), strict=True):
                out[f"{table}/chunk_{chunk}_overlap.txt"] += "\t".join(lines[row]) + "\n"
        for source, key, flux in self.sources:
            out[f"Source/chunk_{home[key]}.txt"] += f"{source}\t{key}\t{flux}\n"
        for one, two in self.pairs:
            for chunk in {home[one], home[two]}:
                out[f"ObjectRef/chunk_{chunk}.txt"] += f"{one}\t{two}\t{chunk}\n"
        return dict(out)


def test_the_whole_catalogue_is_taken_as_it_is(lab: Lab, write: Writer) -> None:
    sky = Sky.seeded()
    files = sky.files()
    assert any("overlap" in name for name in files)
    files["Ref/chunk_0.txt"] = files.get("Ref/chunk_0.txt", "")  # Qserv writes empty files too
    output = lab.publish(write("qserv", TABLES, files | {"Object.sql": SCHEMA}))
    assert "note: the overlap files" not in output
    assert f"ObjectRef: {len(sky.pairs)} rows" in output
    expected = sorted((str(n), None if n % 5 == 0 else f"n\t{n}") for n in sky.objects)
    assert sorted(lab.ask("SELECT objectId, name FROM qserv.Object")) == expected
    lon, lat = np.array(list(sky.objects.values())).T
    located = zip(sky.objects, *(part.tolist() for part in GRID.locate(lon, lat)), strict=True)
    assert sorted(lab.ask("SELECT objectId, chunkId, subChunkId FROM qserv.Object")) == sorted(
        (str(key), str(chunk), str(sub)) for key, chunk, sub in located
    )
    assert lab.ask("SELECT COUNT(*), SUM(flux) FROM qserv.Object JOIN qserv.Source USING (objectId)") == [
        (str(len(sky.sources)), f"{sum(flux for *_, flux in sky.sources)!r}")
    ]
    found = lab.ask(
        "SELECT o.objectId, r.refId FROM qserv.Object o JOIN qserv.ObjectRef m ON o.objectId = m.objectId "
        "JOIN qserv.Ref r ON r.refId = m.refId"
    )
    assert sorted(found) == sorted((str(a), str(b)) for a, b in sky.pairs)
    assert lab.ask("SELECT COUNT(*) FROM qserv.ObjectRef") == [(str(len(sky.pairs)),)]


def near(lab: Lab, database: str) -> list[tuple[str | None, ...]]:
    return lab.ask(
        "SELECT COUNT(*) FROM Ref a, Ref b WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < 0.45", database
    )


CLOSE = """
- {name: Ref, kind: director, key: refId, longitude: ra, latitude: decl, chunk_files: ["chunk_*.txt"],
   columns: {refId: BIGINT NOT NULL, ra: DOUBLE, decl: DOUBLE}, format: {header: false}}
"""


def test_files_that_are_queued_by_hand_say_chunk_and_role(lab: Lab, write: Writer) -> None:
    """Rows of overlap files are no rows of the table, whoever names them; a file comes once, however it is spelt."""
    own = {name: text for name, text in Sky.seeded(60).files().items() if name.startswith("Ref/")}
    files = {name.removeprefix("Ref/"): text.replace("\t", ",") for name, text in own.items()}
    catalog = write("by_hand", CLOSE, files)
    first = sorted(name for name in files if "overlap" not in name)[0]
    catalog.write_text(catalog.read_text().replace("chunk_*.txt", first))
    number = str(json.loads(lab.command("ingest", "register", str(catalog), "--json").stdout)["id"])
    here = write.directory
    (here / "linked").mkdir()
    (here / "linked" / first).symlink_to(here / first)
    (here / "other.txt").write_text("1,2,3\n")
    queue = ("ingest", "queue", number, "Ref")
    done = lab.command(*queue, str(here / "linked" / first))
    assert (done.exit_code, f"same contents as {here.resolve() / first}" in done.output) == (1, True), (
        done.output
    )
    done = lab.command(*queue, str(here / "other.txt"))
    assert (done.exit_code, "other.txt: the name is not of the form chunk_<number>" in done.output) == (
        1,
        True,
    )
    done = lab.command(*queue, *(str(here / "linked" / ".." / name) for name in files), "--json")
    assert (done.exit_code, len(json.loads(done.stdout)["files"])) == (0, len(files)), done.output
    for step in ("load", "check", "publish"):
        done = lab.command("ingest", step, number)
        assert done.exit_code == 0, done.output
    rows = sum(text.count("\n") for name, text in files.items() if "overlap" not in name)
    assert lab.ask("SELECT COUNT(*) FROM by_hand.Ref") == [(str(rows),)]


def test_overlap_is_computed_from_the_chunks(lab: Lab, write: Writer) -> None:
    """Whatever overlap the files have, near neighbours are those of the table's rows, no more and no less."""
    places = {1: (0.1, 5.0), 2: (359.9, 5.0), 3: (180.0, 5.0)}
    lon, lat = np.array(list(places.values())).T
    files = defaultdict(str)
    for key, chunk in zip(places, GRID.locate(lon, lat)[0].tolist(), strict=True):
        files[f"chunk_{chunk}.txt"] += f"{key},{places[key][0]},{places[key][1]}\n"
    assert len(files) == 3
    lab.publish(write("close", CLOSE, files))
    assert near(lab, "close") == [("5",)]
    # Qserv would also find neighbours that no chunk file has: they are not rows of the table.
    alone = {f"chunk_{GRID.locate(lon[:1], lat[:1])[0][0]}_overlap.txt": "7,359.8,5.0\n8,0.2,5.0\n"}
    output = lab.publish(write("close", CLOSE, files | alone), "--replace")
    assert "note: the overlap files have 1 rows of chunks without a file" not in output
    assert near(lab, "close") == [("5",)]
    far = {f"chunk_{GRID.locate(lon[2:], lat[2:])[0][0]}_full_overlap.txt": "9,180.0,-80.0\n"}
    output = lab.publish(write("close", CLOSE, files | alone | far), "--replace")
    assert "note: the overlap files have 1 rows of chunks without a file" in output
    assert lab.ask("SELECT COUNT(*) FROM close.Ref") == [("3",)]


def wrong(lab: Lab, write: Writer, tables: str, files: dict[str, str]) -> str:
    done = lab.ingest(write("wrongly", tables, files))
    assert done.exit_code == 1
    assert lab.traces("wrongly") == []
    return done.output


def test_a_row_in_another_chunks_file_is_named(lab: Lab, write: Writer) -> None:
    lon, lat = np.array([10.0]), np.array([5.0])
    chunk = int(GRID.locate(lon, lat)[0][0])
    output = wrong(lab, write, CLOSE, {f"chunk_{chunk}.txt": "1,10,5\n\n2,10,-70\n"})
    other = int(GRID.locate(lon, np.array([-70.0]))[0][0])
    assert (
        f"chunk_{chunk}.txt:3: table 'Ref': the row lies in chunk {other}, but its file is of chunk {chunk}"
        in output
    )


def test_a_bad_row_in_an_overlap_file_is_named(lab: Lab, write: Writer) -> None:
    chunk = int(GRID.locate(np.array([10.0]), np.array([5.0]))[0][0])
    files = {f"chunk_{chunk}.txt": "1,10,5\n", f"chunk_{chunk}_overlap.txt": "2,10,x\n"}
    output = wrong(lab, write, CLOSE, files)
    assert f"chunk_{chunk}_overlap.txt:1: table 'Ref': column 'decl': 'x' is no value of DOUBLE" in output


@pytest.mark.parametrize("name", ["chunk_x.txt", "chunk_1_other.txt", "chunk_99999999999.txt", "chunk_.txt"])
def test_other_names_are_refused(lab: Lab, write: Writer, name: str) -> None:
    output = wrong(lab, write, CLOSE, {name: "1,10,5\n"})
    assert "catalog.yaml:4: table 'Ref': chunk_files: " + name in output
    assert "not of the form chunk_<number>.txt" in output


def test_a_pair_whose_partners_lie_elsewhere_is_named(lab: Lab, write: Writer) -> None:
    sky = Sky.seeded(20)
    files = sky.files() | {"Object.sql": SCHEMA}
    strange = next(name for name in files if name.startswith("ObjectRef/"))
    chunk = next(c for c in (1, 2) if f"ObjectRef/chunk_{c}.txt" not in files)
    files[f"ObjectRef/chunk_{chunk}.txt"] = files[strange].splitlines()[0] + "\n"
    output = wrong(lab, write, TABLES, files)
    assert (
        f"ObjectRef/chunk_{chunk}.txt:1: table 'ObjectRef': neither partner of the pair lies in chunk {chunk}"
        in output
    )


def test_a_source_without_an_object_stays_in_its_file_s_chunk(lab: Lab, write: Writer) -> None:
    sky = Sky.seeded(20)
    files = sky.files() | {"Object.sql": SCHEMA}
    name = next(name for name in files if name.startswith("Source/"))
    files[name] += "777777\t\\N\t1.5\n888888\t123456\t2.5\n"
    lab.publish(write("orphans", TABLES, files))
    assert lab.ask("SELECT objectId, flux FROM orphans.Source WHERE sourceId > 700000 ORDER BY flux") == [
        (None, "1.5"),
        ("123456", "2.5"),
    ]
