"""What cannot be stored stops the ingest with file, line, column and value, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pyarrow as pa
import pyarrow.parquet
import pytest

from skyshard.home import provision
from tests.skyshard.conftest import Lab, Writer

STAR = """
- {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [star.csv],
   columns: {id: INT NOT NULL, ra: DOUBLE, decl: DOUBLE, x: %s}}
"""


def refused(lab: Lab, catalog: object) -> str:
    done = lab.ingest(catalog)
    assert done.exit_code == 1, done.output
    assert lab.traces("refused") == []
    return done.output


# Rows 1 and 3 are fine; what is wrong with row 2 is found here or, for a few types, by the workers.
BAD = [
    ("INT", "2147483648", "'2147483648' is no value of INT"),
    ("INT", "1.5", "'1.5' is no value of INT"),
    ("INT", "0x10", "0x10"),
    ("TINYINT UNSIGNED", "-1", "'-1' is no value of TINYINT"),
    ("MEDIUMINT", "8388608", "'8388608' is no value of MEDIUMINT"),
    ("DOUBLE", "1.5x", "'1.5x' is no value of DOUBLE"),
    ("FLOAT", "1e39", "'1e39' is no value of FLOAT (Out of range value)"),
    ("FLOAT NOT NULL", "nan", "'nan' cannot stand in a column that is NOT NULL"),
    ("INT NOT NULL", r"\N", "'NULL' cannot stand in a column that is NOT NULL"),
    ("DECIMAL(5,2)", "1234.5", "'1234.5' is no value of DECIMAL(5,2)"),
    ("DECIMAL(5,2)", "1.234", "'1.234' is no value of DECIMAL(5,2)"),
    ("VARCHAR(3)", "four", "'four' is longer than 3 characters"),
    ("VARBINARY(3)", "four", "'four' is longer than 3 bytes"),
    ("TINYTEXT", "x" * 256, "' is no value of"),
    ("DATE", "2023-02-29", "'2023-02-29' is no value of DATE (Data truncated)"),
    ("DATETIME", "yesterday", "yesterday"),
    ("TIME", "12:60:00", "12:60:00"),
    ("YEAR", "1850", "1850"),
    ("ENUM('a','b')", "c", "' is no value of"),
    ("SET('a','b')", "a,c", "' is no value of"),
    ("CHAR(3) CHARACTER SET latin1", "Ω", "'Ω' is no value of CHAR (Incorrect string value: '\\xCE\\xA9')"),
    ("BIT(3)", "9", "9"),
]


@pytest.mark.parametrize(("kind", "value", "message"), BAD, ids=[f"{k} {v[:12]}" for k, v, _ in BAD])
def test_a_bad_value_is_named(lab: Lab, write: Writer, kind: str, value: str, message: str) -> None:
    quoted = f'"{value}"' if "," in value else value
    text = f"id,ra,decl,x\n1,10,10,\\N\n\n2,100,-50,{quoted}\n3,200,50,\\N\n"
    if "NOT NULL" in kind:
        text = text.replace("10,10,\\N", "10,10,1").replace("200,50,\\N", "200,50,1")
    # YAML's own quotes around a type that has some.
    output = refused(lab, write("refused", STAR % f'"{kind}"', {"star.csv": text}))
    assert f"{write.directory}/star.csv:4: table 'Star': " in output, output
    assert message in output
    assert "'x'" in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2,100", "4 columns expected, 2 found"),
        ("2,100,-50,x,y", "4 columns expected, 5 found"),
        ("2,400x,-50,1", "column 'ra': '400x' is no value of DOUBLE"),
        ("2,100,-91,1", "(100.0, -91.0) is no position on the sky"),
        ("2,,10,1", "columns 'ra', 'decl': (nan, 10.0) is no position on the sky"),
        ("2,nan,10,1", "(nan, 10.0) is no position on the sky"),
        ("\\N,100,10,1", "column 'id': 'NULL' cannot stand in a column that is NOT NULL"),
    ],
)
def test_a_bad_row_is_named(lab: Lab, write: Writer, row: str, message: str) -> None:
    text = f"id,ra,decl,x\n1,10,10,1\n{row}\n"
    output = refused(lab, write("refused", STAR % "VARCHAR(5)", {"star.csv": text}))
    assert f"{write.directory}/star.csv:3: " in output
    assert message in output


def test_text_that_is_no_utf8_is_named(lab: Lab, write: Writer) -> None:
    output = refused(lab, write("refused", STAR % "TEXT", {"star.csv": b"id,ra,decl,x\n1,1,1,\xe9t\xe9\n"}))
    assert "star.csv:2: table 'Star': column 'x': '\ufffdt\ufffd' is no UTF-8 text" in output


def test_a_bad_row_of_a_parquet_file_is_named(lab: Lab, write: Writer) -> None:
    table = pa.table({"id": [1, 2, 3], "ra": [1.0, 2.0, 3.0], "decl": [1.0, 2.0, 3.0], "x": [1, 300, 3]})
    pyarrow.parquet.write_table(table, write.directory / "star.parquet")
    tables = (STAR % "TINYINT").replace("star.csv", "star.parquet")
    output = refused(lab, write("refused", tables))
    assert (
        f"{write.directory}/star.parquet: row 2: table 'Star': column 'x': '300' is no value of TINYINT"
        in output
    )


VISIT = """
- {name: Visit, kind: dependent, director: Star, director_key: id, files: [visit.csv], columns: {id: INT, n: INT}}
"""


@pytest.mark.parametrize(("key", "shown"), [("9", "9"), ("\\N", "NULL")])
def test_a_dependent_without_a_director_is_named(lab: Lab, write: Writer, key: str, shown: str) -> None:
    data = {"star.csv": "id,ra,decl,x\n1,10,10,1\n", "visit.csv": f"id,n\n1,1\n{key},2\n"}
    output = refused(lab, write("refused", STAR % "INT" + VISIT, data))
    assert f"visit.csv:3: table 'Visit': column 'id': '{shown}' is no key of director 'Star'" in output


@pytest.mark.parametrize(
    ("tables", "line", "message"),
    [
        ((STAR % "INT").replace("kind:", "colour: red, kind:"), 4, "tables[0].colour: unknown key"),
        (
            STAR.replace("kind: director", "kind: own") % "INT",
            4,
            "table 'Star': invalid kind 'own'; it must be one of director, dependent, match, replicated",
        ),
        ((STAR % "INT").replace("ra,", "raa,"), 4, "longitude: there is no column 'raa'"),
        (STAR % "NUMBER", 5, "columns.x: "),
        ((STAR % "INT").replace("star.csv", "none.csv"), 4, "none.csv does not exist"),
        ((STAR % "INT").replace("star.csv", "'*.none'"), 4, "*.none does not exist"),
        ((STAR % "INT").replace("id: INT", "id: DOUBLE"), 4, "a key must be a whole number, CHAR or VARCHAR"),
        (
            (STAR % "INT").replace("ra: DOUBLE", "ra: DATE"),
            4,
            "'ra' is DATE; a position is a number of degrees",
        ),
    ],
)
def test_a_wrong_catalogue_file_is_named(
    lab: Lab, write: Writer, tables: str, line: int, message: str
) -> None:
    data = {"star.csv": "id,ra,decl,x\n1,10,10,\\N\n"}
    output = refused(lab, write("refused", tables, data))
    assert f"catalog.yaml:{line}: " in output
    assert message in output


def test_a_director_without_a_key_is_named(lab: Lab, write: Writer) -> None:
    tables = (STAR % "INT").replace(" NOT NULL", "")
    output = refused(lab, write("refused", tables, {"star.csv": "id,ra,decl,x\n1,1,1,1\n\\N,10,10,1\n"}))
    assert "star.csv:3: table 'Star': column 'id': a key cannot be NULL" in output


def test_a_missing_column_is_named(lab: Lab, write: Writer) -> None:
    output = refused(lab, write("refused", STAR % "INT", {"star.csv": "id,ra,decl,y\n1,1,1,1\n"}))
    assert f"{write.directory}/star.csv: column 'x' is missing; it has id, ra, decl, y" in output
    for name, columns in (("a", {"note": ["one"]}), ("b", {})):
        table = pa.table({"id": [1], "ra": [1.0], "decl": [1.0], **columns})
        pyarrow.parquet.write_table(table, write.directory / f"{name}.parquet")
    star = (
        "{name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [a.parquet, b.parquet]}"
    )
    output = refused(lab, write("refused", f"- {star}"))
    assert f"{write.directory}/b.parquet: column 'note' is missing; it has id, ra, decl" in output


# columns of the catalogue that are called like skyshard's ------------------------------------------

OWN = """
- {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [star.csv],
   columns: {id: INT NOT NULL, ra: DOUBLE, decl: DOUBLE, chunkId: %s, subChunkId: %s}}
"""


def test_chunk_numbers_of_the_catalogue_are_checked_and_kept(lab: Lab, write: Writer) -> None:
    plain = (
        STAR % "INT"
        + "- {name: T, kind: replicated, files: [t.csv], columns: {chunkId: TEXT, subChunkId: INT}}"
    )
    data = {"star.csv": "id,ra,decl,x\n1,10,10,1\n2,100,-50,2\n", "t.csv": "chunkId,subChunkId\nany,\\N\n"}
    lab.publish(write("made", plain, data))
    assert lab.ask("SELECT * FROM made.T") == [("any", None)]
    rows = lab.ask("SELECT id, ra, decl, chunkId, subChunkId FROM made.Star ORDER BY id")
    own = "id,ra,decl,chunkId,subChunkId\n" + "".join(",".join(str(v) for v in row) + "\n" for row in rows)
    lab.publish(write("own", OWN % ("INT", "BIGINT"), {"star.csv": own}))
    assert lab.ask("SELECT * FROM own.Star ORDER BY id") == rows
    assert lab.ask(f"SELECT id FROM own.Star WHERE chunkId = {rows[1][3]}") == [("2",)]
    wrong = own.replace(f",{rows[1][4]}\n", ",7\n")
    output = refused(lab, write("refused", OWN % ("INT", "BIGINT"), {"star.csv": wrong}))
    assert (
        f"star.csv:3: table 'Star': column 'subChunkId': '7' differs from the computed {rows[1][4]}" in output
    )
    null = own.replace(f",{rows[0][3]},", ",\\N,")
    output = refused(lab, write("refused", OWN % ("INT", "BIGINT"), {"star.csv": null}))
    assert (
        f"star.csv:2: table 'Star': column 'chunkId': 'NULL' differs from the computed {rows[0][3]}" in output
    )


@pytest.mark.parametrize(
    ("kind", "message"), [("TEXT", "is TEXT; it must be INT"), ("SMALLINT", "is SMALLINT; it must be INT")]
)
def test_chunk_numbers_must_be_numbers(lab: Lab, write: Writer, kind: str, message: str) -> None:
    data = {"star.csv": "id,ra,decl,chunkId,subChunkId\n1,1,1,1,1\n"}
    assert f"column 'chunkId' {message}" in refused(lab, write("refused", OWN % (kind, "INT"), data))


def test_other_spellings_and_match_tables_have_none(lab: Lab, write: Writer) -> None:
    data = {"star.csv": "id,ra,decl,chunkid,subChunkId\n1,1,1,1,1\n"}
    tables = (OWN % ("INT", "INT")).replace("chunkId:", "chunkid:", 1)
    assert "'chunkid' must be spelled chunkId or subChunkId" in refused(lab, write("refused", tables, data))
    pair = (
        STAR % "INT" + (STAR % "INT").replace("Star", "Other")
        + "- {name: Pair, kind: match, directors: [{table: Star, foreign_key: a}, {table: Other, foreign_key: b}], "
        "files: [pair.csv], columns: {a: INT, b: INT, %s: INT}}"
    )  # fmt: skip
    data = {"star.csv": "id,ra,decl,x\n1,1,1,1\n", "pair.csv": "a,b,chunkId,skyOwner\n1,1,1,1\n"}
    for name in ("chunkId", "skyOwner"):
        output = refused(lab, write("refused", pair % name, data))
        assert f"'{name}'" in output
        assert "made by skyshard; omit or rename it" in output


def test_a_parquet_file_may_bring_other_spellings_and_is_told(lab: Lab, write: Writer) -> None:
    table = pa.table({"id": [1], "ra": [1.0], "decl": [1.0], "CHUNKID": [5]})
    pyarrow.parquet.write_table(table, write.directory / "star.parquet")
    tables = "- {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [star.parquet]}"
    output = refused(lab, write("refused", tables))
    assert "CHUNKID" in output
    assert "must be spelled chunkId; omit or rename it" in output


# progress -----------------------------------------------------------------------------------------


def test_bars_on_a_terminal_and_plain_lines_elsewhere(lab: Lab, write: Writer) -> None:
    catalog = write("bars", STAR % "INT", {"star.csv": "id,ra,decl,x\n1,1,1,1\n"})
    output = lab.publish(catalog)
    assert output == "Star: 1 rows\nDatabase 'bars' is published.\n"
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [
        sys.executable,
        "-m",
        "skyshard.cli",
        "ingest",
        str(catalog),
        "--dir",
        str(lab.directory),
        "--replace",
    ]
    environment = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=side, stderr=side, env=environment)
    os.close(side)
    seen = b""
    try:
        while data := os.read(main, 1 << 16):
            seen += data
    except OSError:  # the other side is closed
        pass
    os.close(main)
    assert process.wait(30) == 0, seen
    assert b"\x1b[" in seen
    for text in (b"Star: read", b"Star: load", b"Star: 1 rows", b"Database 'bars' is published."):
        assert text in seen


@pytest.mark.parametrize(
    "command", ["ingest validate FILE", "ingest benchmark FILE", "worker list", "worker add x"]
)
def test_a_command_is_of_the_release_of_the_metadata(
    lab: Lab, write: Writer, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    catalog = write("older", STAR % "INT", {"star.csv": "id,ra,decl,x\n1,2,3,4\n"})
    monkeypatch.setattr(provision, "MIGRATIONS", provision.MIGRATIONS[:-1])
    more = ["--host", "127.0.0.1", "--port", "1"] if "add" in command else []
    done = lab.command(*command.replace("FILE", str(catalog)).split(), *more)
    assert done.exit_code == 1
    wanted = f"works with version {len(provision.MIGRATIONS)}; use the release that the cluster runs"
    assert wanted in done.output
