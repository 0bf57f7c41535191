"""What stands in a file is what a query answers: every dialect, every Arrow type, and every column that was asked for."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
import random
import re
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from shard.catalog import types
from shard.errors import ServerError
from skyshard.ingest import delimited, files
from tests.skyshard.conftest import Lab, Writer

DOCS = Path(__file__).parents[3] / "docs" / "ingest.md"

# delimited text -----------------------------------------------------------------------------------

VALUES: list[tuple[str | None, ...]] = [
    ("1", "plain", "0.5"),
    ("2", None, None),
    ("3", "", "-1e-300"),
    ("4", "a,b;c|d\te", "1.7976931348623157e308"),
    ("5", "line\nend", "0"),
    ("6", "quo\"te's", "12"),
    ("7", "back\\slash", "12"),
    ("8", "Ångström \U0001f52d", "12"),
    ("9", "NULL", "3"),
    ("10", "\\N", "3"),
    ("11", "cr\rlf\r\nend", "3"),
]


def _escaped(value: str | None, delimiter: str) -> str:
    if value is None:
        return "\\N"
    for char, escape in (("\\", "\\\\"), (delimiter, "\\" + delimiter), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(char, escape)
    return value


def _quoted(value: str | None, quote: str, null: str) -> str:
    return null if value is None else quote + value.replace(quote, quote * 2) + quote


def _lines(delimiter: str, rows: list[list[str]], header: bool, end: str) -> str:
    rows = [["id", "text", "number"], *rows] if header else rows
    return "".join(delimiter.join(row) + end for row in rows)


DIALECTS = {
    "mysql": (
        r'{delimiter: "\t", quote: null, escape: "\\", "null": "\\N", header: false}',
        lambda: _lines("\t", [[_escaped(v, "\t") for v in row] for row in VALUES], False, "\n"),
    ),
    "pipes": (
        r'{delimiter: "|", quote: null, escape: "\\", "null": "\\N", header: true}',
        lambda: _lines("|", [[_escaped(v, "|") for v in row] for row in VALUES], True, "\r\n"),
    ),
    "quotes": (
        '{"null": ""}',
        lambda: _lines(",", [[_quoted(v, '"', "") for v in row] for row in VALUES], True, "\n"),
    ),
    "apostrophes": (
        """{delimiter: ";", quote: "'", "null": "NULL", header: false}""",
        lambda: _lines(";", [[_quoted(v, "'", "NULL") for v in row] for row in VALUES], False, "\n"),
    ),
    "quotes_and_escapes": (
        r'{escape: "\\", header: false}',
        lambda: _lines(
            ",", [[_quoted(v and v.replace("\\", "\\\\"), '"', "\\N") for v in row] for row in VALUES], False, "\n"
        ).removesuffix("\n"),
    ),
}  # fmt: skip


def _table(name: str, form: str, file: str) -> str:
    return (
        f"- {{name: {name}, kind: replicated, files: [{file}], format: {form},\n"
        "   columns: {id: INT NOT NULL, text: VARCHAR(20), number: DOUBLE}}\n"
    )


def test_every_dialect_says_the_same(lab: Lab, write: Writer) -> None:
    tables, data = "", {}
    for name, (form, text) in DIALECTS.items():
        tables += _table(name, form, f"{name}.csv") + _table(f"{name}_gz", form, f"{name}.csv.gz")
        data |= {f"{name}.csv": text(), f"{name}.csv.gz": gzip.compress(text().encode())}
    lab.publish(write("dialects", tables, data))
    texts = [(number, text) for number, text, _ in VALUES]
    for name in (*DIALECTS, *(f"{name}_gz" for name in DIALECTS)):
        assert lab.ask(f"SELECT id, text FROM {name} ORDER BY id", "dialects") == texts, name
        numbers = lab.ask(f"SELECT number FROM {name} ORDER BY id", "dialects")
        assert [float(n) if n else None for (n,) in numbers] == [float(v) if v else None for *_, v in VALUES]


def test_an_archive_that_is_cut_short_is_refused(lab: Lab, write: Writer) -> None:
    whole = gzip.compress(random.Random(1).randbytes(9000).hex().encode())
    for data in (whole[:-20], whole[:2000] + b"\0" * 500 + whole[2500:], b"no archive"):
        done = lab.ingest(write("cut", _table("T", "{}", "t.csv.gz"), {"t.csv.gz": data}))
        assert (done.exit_code, "t.csv.gz" in done.output) == (1, True), done.output
    assert lab.traces("cut") == []


# Parquet ------------------------------------------------------------------------------------------

NOON = dt.datetime(2024, 2, 29, 12, 34, 56, 789012)
ARROW: dict[str, tuple[pa.Array, str, list[str | None]]] = {
    "b": (pa.array([True, False, None]), "tinyint(1)", ["1", "0", None]),
    "i1": (pa.array([-128, 127, None], pa.int8()), "tinyint(4)", ["-128", "127", None]),
    "i2": (pa.array([-32768, 32767, None], pa.int16()), "smallint(6)", ["-32768", "32767", None]),
    "i4": (pa.array([-(2**31), 2**31 - 1, None], pa.int32()), "int(11)", ["-2147483648", "2147483647", None]),
    "i8": (pa.array([-(2**63), 2**63 - 1, None]), "bigint(20)", [str(-(2**63)), str(2**63 - 1), None]),
    "u1": (pa.array([0, 255, None], pa.uint8()), "tinyint(3) unsigned", ["0", "255", None]),
    "u2": (pa.array([0, 65535, None], pa.uint16()), "smallint(5) unsigned", ["0", "65535", None]),
    "u4": (pa.array([0, 2**32 - 1, None], pa.uint32()), "int(10) unsigned", ["0", str(2**32 - 1), None]),
    "u8": (pa.array([0, 2**64 - 1, None], pa.uint64()), "bigint(20) unsigned", ["0", str(2**64 - 1), None]),
    "f2": (pa.array([0.5, float("nan"), None], pa.float16()), "float", ["0.5", None, None]),
    "f4": (pa.array([0.1, float("inf"), None], pa.float32()), "float", ["0.1", None, None]),
    "f8": (pa.array([0.1, float("-inf"), None]), "double", ["0.1", None, None]),
    "s": (pa.array(["Ångström", "", None]), "varchar(8)", ["Ångström", "", None]),
    "ls": (pa.array(["\t\\N\n", "x" * 5000, None], pa.large_string()), "longtext", ["\t\\N\n", "x" * 5000, None]),
    "sv": (pa.array(["x" * 300, "y", None], pa.string_view()), "varchar(512)", ["x" * 300, "y", None]),
    "y": (pa.array([b"\x00\x01\\\t", b"", None]), "longblob", ["\x00\x01\\\t", "", None]),
    "ly": (pa.array([b"a", b"", None], pa.large_binary()), "longblob", ["a", "", None]),
    "yv": (pa.array([b"a", b"", None], pa.binary_view()), "longblob", ["a", "", None]),
    "y4": (pa.array([b"abcd", b"\0\0\0\0", None], pa.binary(4)), "binary(4)", ["abcd", "\0\0\0\0", None]),
    "y300": (pa.array([b"a" * 300, None, None], pa.binary(300)), "longblob", ["a" * 300, None, None]),
    "d4": (pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31), None]), "date", ["0001-01-01", "9999-12-31", None]),
    "d8": (pa.array([dt.date(2024, 2, 29), None, None], pa.date64()), "date", ["2024-02-29", None, None]),
    "ts": (pa.array([dt.time(23, 59, 59), None, None], pa.time32("s")), "time(3)", ["23:59:59.000", None, None]),
    "tm": (pa.array([dt.time(0, 0, 0, 1000), None, None], pa.time32("ms")), "time(3)", ["00:00:00.001", None, None]),
    "tu": (pa.array([NOON.time(), None, None], pa.time64("us")), "time(6)", ["12:34:56.789012", None, None]),
    "tn": (pa.array([NOON.time(), None, None], pa.time64("ns")), "time(6)", ["12:34:56.789012", None, None]),
    "dm": (pa.array([dt.datetime(2000, 1, 1), None, None], pa.timestamp("ms")), "datetime(3)", ["2000-01-01 00:00:00.000", None, None]),
    "du": (pa.array([NOON, None, None], pa.timestamp("us")), "datetime(6)", ["2024-02-29 12:34:56.789012", None, None]),
    "dn": (pa.array([NOON, None, None], pa.timestamp("ns")), "datetime(6)", ["2024-02-29 12:34:56.789012", None, None]),
    "dz": (pa.array([NOON, None, None], pa.timestamp("us", "Europe/Paris")), "datetime(6)", ["2024-02-29 12:34:56.789012", None, None]),
    "n": (pa.array([decimal.Decimal("-1234567.891"), None, None], pa.decimal128(10, 3)), "decimal(10,3)", ["-1234567.891", None, None]),
    "nn": (pa.array([decimal.Decimal("1" * 40 + "." + "2" * 25), None, None], pa.decimal256(65, 25)), "decimal(65,25)", ["1" * 40 + "." + "2" * 25, None, None]),
    "k": (pa.array(["u", "long name", None]).dictionary_encode(), "varchar(16)", ["u", "long name", None]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["director", "replicated"])
def test_every_arrow_type_is_stored_exactly(lab: Lab, write: Writer, kind: str) -> None:
    columns = {
        "id": pa.array([1, 2, 3]),
        "ra": pa.array([1.0, 120.0, 300.0]),
        "decl": pa.array([0.0, 60.0, -60.0]),
    }
    columns |= {name: values for name, (values, _, _) in ARROW.items()}
    pyarrow.parquet.write_table(pa.table(columns), write.directory / "all.parquet")
    needs = ", key: id, longitude: ra, latitude: decl" if kind == "director" else ""
    output = lab.publish(write(f"arrow_{kind}", f"- {{name: T, kind: {kind}, files: [all.parquet]{needs}}}"))
    for name in ("f2", "f4", "f8"):
        assert f"note: 1 NaN or infinite values of column '{name}' were stored as NULL" in output
    database = f"arrow_{kind}"
    found = {row[0]: row[1] for row in lab.ask("SHOW COLUMNS FROM T", database)}
    assert {name: found[name] for name in ARROW} == {name: kind for name, (_, kind, _) in ARROW.items()}
    for name, (_, _, expected) in ARROW.items():
        assert [v for (v,) in lab.ask(f"SELECT {name} FROM T ORDER BY id", database)] == expected, name
    single = lab.ask("SELECT f4 = CAST(0.1 AS FLOAT), f2 = 0.5 FROM T WHERE id = 1", database)
    assert single == [("1", "1")]


REFUSED = [
    pa.null(), pa.duration("s"), pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_(pa.int8(), 2),
    pa.list_view(pa.int8()), pa.large_list_view(pa.int8()), pa.struct([("a", pa.int8())]),
    pa.map_(pa.string(), pa.int8()), pa.decimal256(70, 3), pa.decimal256(60, 40), pa.uuid(),
]  # fmt: skip


def test_every_other_type_is_refused_by_name(lab: Lab, write: Writer) -> None:
    columns = {"id": pa.array([1])}
    for number, kind in enumerate(REFUSED):
        value = uuid.UUID(int=1).bytes if kind == pa.uuid() else None
        columns[f"odd{number}"] = pa.array([value], kind)
    pyarrow.parquet.write_table(pa.table(columns), write.directory / "odd.parquet")
    stored = pyarrow.parquet.read_schema(write.directory / "odd.parquet")
    omitted: list[str] = []
    for number in range(len(REFUSED)):
        described = ", ".join(f"{name}: {{omit: true}}" for name in omitted)
        table = f"- {{name: T, kind: replicated, files: [odd.parquet], columns: {{{described}}}}}"
        done = lab.ingest(write("odd", table))
        assert done.exit_code == 1
        named = f"column 'odd{number}' of type {stored.field(f'odd{number}').type} has no SQL type"
        assert f"catalog.yaml:4: table 'T': {write.directory}/odd.parquet: {named}" in done.output
        omitted.append(f"odd{number}")
    described = ", ".join(f"{name}: {{omit: true}}" for name in omitted)
    table = f"- {{name: T, kind: replicated, files: [odd.parquet], columns: {{{described}}}}}"
    lab.publish(write("odd", table))
    assert lab.ask("SELECT * FROM odd.T") == [("1",)]


def _documented() -> dict[str, str]:
    text = DOCS.read_text().partition("\n## Parquet\n")[2]
    rows = re.findall(r"^\| `([^|]*)` \| ([^|]*) \|$", text, re.M)
    return {kind.strip(): sql.strip() for names, sql in rows for kind in names.split("`, `")}


EXAMPLES = {
    **{str(kind): kind for kind in (
        pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
        pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(),
        pa.binary_view(), pa.date32(), pa.date64(), pa.null(), pa.month_day_nano_interval(),
    )},
    "halffloat": pa.float16(), "fixed_size_binary(n)": pa.binary(7), "decimal32(p, s)": pa.decimal32(7, 2),
    "decimal64(p, s)": pa.decimal64(7, 2), "decimal128(p, s)": pa.decimal128(7, 2),
    "decimal256(p, s)": pa.decimal256(7, 2), "dictionary": pa.dictionary(pa.int8(), pa.int16()),
    **{f"time32[{unit}]": pa.time32(unit) for unit in ("s", "ms")},
    **{f"time64[{unit}]": pa.time64(unit) for unit in ("us", "ns")},
    **{f"timestamp[{unit}]": pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")},
    "duration": pa.duration("s"), "list": pa.list_(pa.int8()), "large_list": pa.large_list(pa.int8()),
    "fixed_size_list": pa.list_(pa.int8(), 2), "list_view": pa.list_view(pa.int8()),
    "large_list_view": pa.large_list_view(pa.int8()), "struct": pa.struct([("a", pa.int8())]),
    "map": pa.map_(pa.int8(), pa.int8()), "union": pa.sparse_union([pa.field("a", pa.int8())]),
    "run_end_encoded": pa.run_end_encoded(pa.int32(), pa.int8()), "extension": pa.uuid(),
}  # fmt: skip


def test_the_documented_table_is_what_is_done() -> None:
    said = _documented()
    assert set(said) == set(EXAMPLES)
    for name, kind in EXAMPLES.items():
        longest = {"VARCHAR(n)": 9}.get(said[name], 0)
        found = types.inferred(kind, longest)
        pattern = (
            said[name]
            .replace("(p,s)", "(7,2)")
            .replace("BINARY(n)", "BINARY(7)")
            .replace("VARCHAR(n)", "VARCHAR(16)")
        )
        if said[name] == "that of its values":
            pattern = "SMALLINT"
        assert (found or "refused") == pattern, name


def test_no_arrow_type_is_forgotten() -> None:
    ids = {getattr(pa.lib, name) for name in dir(pa.lib) if name.startswith("Type_")}
    unmade = {pa.lib.Type_INTERVAL_MONTHS, pa.lib.Type_INTERVAL_DAY_TIME, pa.lib.Type_DENSE_UNION}
    covered = {kind.id for kind in EXAMPLES.values()} | unmade
    assert ids - covered == set()


# columns ------------------------------------------------------------------------------------------

SCHEMA = """-- a comment with CREATE TABLE in it
CREATE TABLE IF NOT EXISTS `any`.`Star` (
  id BIGINT NOT NULL COMMENT 'a; b', ra_deg DOUBLE, decl DOUBLE, junk INT, mag FLOAT, note TEXT,
  PRIMARY KEY (id), KEY bright (mag, junk), KEY faint (mag)
) ENGINE=InnoDB COMMENT='stars (all)';
DROP TABLE other;
"""


def test_columns_are_chosen_renamed_and_described(lab: Lab, write: Writer) -> None:
    tables = """
    - name: Star
      kind: director
      description: the stars
      key: id
      longitude: ra
      latitude: decl
      schema: star.sql
      columns:
        ra: {source: ra_deg, unit: deg, ucd: pos.eq.ra;meta.main, description: it's the right ascension}
        junk: {omit: true}
        mag: {type: DOUBLE NOT NULL, unit: mag}
      files: [star.csv]
    - name: Band
      kind: replicated
      columns: {label: {type: VARCHAR(10), source: name}, band: CHAR(1)}
      files: [band.csv]
    """
    data = {
        "star.sql": SCHEMA,
        "star.csv": "note,mag,extra,decl,ra_deg,id\nn,1.5,9,10,20,1\n,2.5,9,-10,21,2\n",
        "band.csv": "band,skipped,name\nu,x,ultra\n",
    }
    lab.publish(write("chosen", tables, data))
    assert lab.ask("SELECT * FROM chosen.Star ORDER BY id") == [
        ("1", "20", "10", "1.5", "n"),
        ("2", "21", "-10", "2.5", ""),
    ]
    assert lab.ask("SELECT * FROM chosen.Band") == [("ultra", "u")]
    found = lab.ask(
        "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_COMMENT FROM information_schema.COLUMNS WHERE "
        "TABLE_SCHEMA = 'chosen' AND TABLE_NAME = 'Star' AND EXTRA NOT LIKE '%INVISIBLE%' ORDER BY ORDINAL_POSITION"
    )
    assert found == [
        ("id", "bigint(20)", "NO", ""),
        ("ra", "double", "YES", "it's the right ascension; unit=deg; ucd=pos.eq.ra;meta.main"),
        ("decl", "double", "YES", ""),
        ("mag", "double", "NO", "unit=mag"),
        ("note", "text", "YES", ""),
    ]
    assert lab.ask(
        "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'chosen' AND TABLE_NAME = 'Star'"
    ) == [("the stars",)]
    keys = lab.ask("SHOW KEYS FROM chosen.Star")
    assert sorted((row[2], row[4]) for row in keys) == [("id", "id"), ("mag", "mag")]


def test_a_table_of_1300_columns(lab: Lab, write: Writer) -> None:
    names = [f"c{number}" for number in range(1297)]
    listed = ", ".join(f"{name}: {('INT', 'DOUBLE', 'VARCHAR(8)')[n % 3]}" for n, name in enumerate(names))
    lines = [",".join(["id", "ra", "decl", *names])]
    for row in range(30):
        values = [str(row * 1000 + n) if n % 7 else "\\N" for n in range(1297)]
        lines.append(",".join([str(row), str(row * 12), str(row * 5 - 70), *values]))
    wide = (
        "- {name: %s, kind: %s, files: [wide.csv], columns: {id: BIGINT, ra: DOUBLE, decl: DOUBLE, "
        + listed
        + "}%s}\n"
    )
    tables = wide % ("Wide", "director", ", key: id, longitude: ra, latitude: decl") + wide % (
        "Copy",
        "replicated",
        "",
    )
    lab.publish(write("wide", tables, {"wide.csv": "\n".join(lines) + "\n"}))
    with pytest.raises(ServerError, match="dynamic SQL"):
        lab.ask("EXECUTE IMMEDIATE CONCAT('SELECT * FROM wide.', 'Wide')")
    for table in ("Wide", "Copy"):
        row = lab.ask(f"SELECT * FROM wide.{table} WHERE id = 7")[0]
        assert row == ("7", "84", "-35", *(str(7000 + n) if n % 7 else None for n in range(1297)))
        found = lab.ask(
            f"SELECT COUNT(*), SUM(c1294), MAX(c1295), MIN(c1296) FROM wide.{table} WHERE c1 < 10000"
        )
        numbers = range(10)
        assert found == [
            (
                "10",
                str(sum(r * 1000 + 1294 for r in numbers)),
                max(str(r * 1000 + 1295) for r in numbers) if 1295 % 7 else None,
                str(1296),
            )
        ], table


# pieces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", ["1", "4"])
def test_many_pieces_by_several_at_once(
    lab: Lab, write: Writer, monkeypatch: pytest.MonkeyPatch, processes: str
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(files, "BATCH_VALUES", 3000)
    rng = random.Random(processes)
    stars = [(n, rng.uniform(0, 360), rng.uniform(-89, 89)) for n in range(1200)]
    rows = [(n % 1200, float(n)) for n in range(3000)]
    pyarrow.parquet.write_table(
        pa.table({"id": [a for a, _ in rows], "flux": [b for _, b in rows]}),
        write.directory / "visit.parquet",
    )
    tables = """
    - {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: ["star*.csv"],
       columns: {id: INT NOT NULL, ra: DOUBLE, decl: DOUBLE}}
    - {name: Visit, kind: dependent, director: Star, director_key: id, files: [visit.parquet]}
    """
    texts = [
        "id,ra,decl\n" + "".join(f"{a},{b!r},{c!r}\n" for a, b, c in part)
        for part in (stars[:700], stars[700:])
    ]
    name = f"pieces{processes}"
    lab.publish(write(name, tables, {"star1.csv": texts[0], "star2.csv": texts[1]}), "--processes", processes)
    assert lab.ask("SELECT COUNT(*), SUM(id), COUNT(DISTINCT id) FROM Star", name) == [
        ("1200", str(sum(range(1200))), "1200")
    ]
    assert lab.ask("SELECT COUNT(*), SUM(flux) FROM Star JOIN Visit USING (id)", name) == [
        ("3000", str(sum(range(3000))))
    ]
    for key, ra, decl in stars[:3]:
        assert lab.ask(f"SELECT ra, decl FROM Star WHERE id = {key}", name) == [(repr(ra), repr(decl))]
