"""FITS, VOTable and HATS: what astropy or pyarrow wrote is what is read, and what a query answers."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy.io import fits, votable
from astropy.table import MaskedColumn, Table

from shard.catalog.catalog_file import Format, TableSpec
from shard.catalog.model import Kind
from skyshard.ingest import hats, typed
from tests.skyshard.conftest import Lab, Writer


def spec(**form: Any) -> TableSpec:
    return TableSpec(name="T", kind=Kind.REPLICATED, files=("x",), format=Format(**form))


def read(path: Path, rows: int = 3, columns: list[str] | None = None, **form: Any) -> dict[str, list[Any]]:
    with typed.opened(spec(**form), path) as file:
        names = columns or file.schema.names
        tables = list(file.batches(rows, names))
    assert all(table.num_rows <= rows for table in tables)
    return {name: [value for table in tables for value in table[name].to_pylist()] for name in names}


EDGES = {
    "l": ("L", [True, False, True, False]),
    "b": ("B", np.array([0, 1, 254, 255], np.uint8)),
    "sb": ("B", np.array([-128, -1, 0, 127], np.int8)),
    "i": ("I", np.array([-(2**15), -1, 0, 2**15 - 1], np.int16)),
    "ui": ("I", np.array([0, 1, 2**15, 2**16 - 1], np.uint16)),
    "j": ("J", np.array([-(2**31), -1, 0, 2**31 - 1], np.int32)),
    "uj": ("J", np.array([0, 1, 2**31, 2**32 - 1], np.uint32)),
    "k": ("K", np.array([-(2**63), -1, 0, 2**63 - 1], np.int64)),
    "uk": ("K", np.array([0, 1, 2**63, 2**64 - 1], np.uint64)),
    "e": ("E", np.array([0.1, -1e-30, 3e38, 0], np.float32)),
    "d": ("D", np.array([0.1, -1e-300, 1.7e308, 0])),
    "a": ("8A", np.array(["one", "", " two", "12345678"])),
}
SHIFT = {"sb": -128, "ui": 2**15, "uj": 2**31, "uk": 2**63}


def fits_table(**more: Any) -> fits.BinTableHDU:
    columns = [
        fits.Column(name, form, array=values, bzero=SHIFT.get(name), unit="mag" if name == "e" else None)
        for name, (form, values) in EDGES.items()
    ]
    hdu = fits.BinTableHDU.from_columns(columns, **more)
    hdu.header["TUCD11"], hdu.header["TCOMM11"] = "phot.mag", "a magnitude"
    return hdu


def test_every_fits_format_comes_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "all.fits"
    fits_table().writeto(path)
    expected = {name: np.asarray(values).tolist() for name, (_, values) in EDGES.items()}
    assert read(path) == expected
    assert read(path, columns=["uk", "a"]) == {name: expected[name] for name in ("uk", "a")}
    packed = tmp_path / "all.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed) == expected
    with typed.opened(spec(), path) as file:
        kinds = [str(kind) for kind in file.schema.types]
        said = file.schema.field("d").metadata
        assert file.schema.field("e").metadata == {typed.UNIT: b"mag"}
    assert " ".join(kinds) == "bool uint8 int8 int16 uint16 int32 uint32 int64 uint64 float double string"
    assert said == {typed.UCD: b"phot.mag", typed.DESCRIPTION: b"a magnitude"}


def test_fits_nulls_and_scales(tmp_path: Path) -> None:
    columns = [
        fits.Column("n", "J", array=np.array([1, -99, 3], np.int32), null=-99),
        fits.Column("e", "E", array=np.array([1.5, np.nan, np.inf], np.float32)),
        fits.Column("s", "I", array=np.array([1, 2, -1], np.int16)),
    ]
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header["TSCAL3"], hdu.header["TZERO3"] = 0.5, 10.0
    hdu.writeto(tmp_path / "n.fits")
    found = read(tmp_path / "n.fits")
    assert found == {"n": [1, None, 3], "e": [1.5, None, float("inf")], "s": [10.5, 11.0, 9.5]}


def test_a_table_of_a_fits_file_is_chosen(tmp_path: Path) -> None:
    one = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=[1])], name="FIRST")
    two = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=[2])], name="SECOND")
    path = tmp_path / "two.fit"
    fits.HDUList([fits.PrimaryHDU(), one, two]).writeto(path)
    assert [read(path, **form)["x"] for form in ({}, {"table": 2}, {"table": "second"})] == [[1], [2], [2]]
    with pytest.raises(ValueError, match=r"no binary table 7; it has 1 \(FIRST\), 2 \(SECOND\)"):
        read(path, table=7)


def test_what_fits_cannot_give_is_said(tmp_path: Path) -> None:
    columns = [
        fits.Column("v", "3E", array=np.zeros((2, 3), np.float32)),
        fits.Column("c", "C", array=[1j, 2]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "odd.fits")
    for name in ("v", "c"):
        with pytest.raises(ValueError, match=f"column '{name}' is no single value"):
            read(tmp_path / "odd.fits", columns=[name])
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match="no binary table"):
        read(tmp_path / "image.fits")
    fits_table().writeto(tmp_path / "cut.fits")
    whole = (tmp_path / "cut.fits").read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[: len(whole) - 2880 + 100])
    with pytest.raises(ValueError, match="it ends after 1 of 4 rows"):
        read(tmp_path / "cut.fits")


def vo_table() -> Table:
    return Table(
        {
            "id": MaskedColumn([1, 2, 3], dtype=np.int64),
            "flag": MaskedColumn([True, False, True]),
            "n": MaskedColumn([7, 8, 9], dtype=np.int32, mask=[False, True, False], description="a  number"),
            "mag": MaskedColumn([1.5, np.nan, 3.5], dtype=np.float32, unit="mag"),
            "d": MaskedColumn([0.1, 2.0, 1e300], mask=[False, False, True]),
            "name": MaskedColumn(["one", "Å two", ""], dtype=str),
        }
    )


def write_votable(path: Path, form: str = "tabledata") -> None:
    file = votable.from_table(vo_table())
    file.get_first_table().get_field_by_id("n").values.null = -99
    votable.writeto(file, str(path), tabledata_format=form)


@pytest.mark.parametrize("form", ["tabledata", "binary", "binary2"])
def test_votables_come_as_they_were_written(tmp_path: Path, form: str) -> None:
    path = tmp_path / "t.vot"
    write_votable(path, form)
    found = read(path, rows=2)
    assert (found["id"], found["mag"], found["name"][:2]) == ([1, 2, 3], [1.5, None, 3.5], ["one", "Å two"])
    assert (found["flag"], found["n"], found["d"]) == ([True, False, True], [7, None, 9], [0.1, 2.0, None])
    with typed.opened(spec(), path) as file:
        assert file.schema.field("mag").metadata == {typed.UNIT: b"mag"}
        assert file.schema.field("n").metadata == {typed.DESCRIPTION: b"a number"}
    with pytest.raises(ValueError, match="no table gone"):
        read(path, table="gone")
    path.write_text("<html/>")
    with pytest.raises(ValueError, match=r"VOTable|table"):
        read(path)


def hats_catalogue(root: Path, parts: int = 4, said: int | None = None) -> Path:
    rows = np.arange(100)
    for number, part in enumerate(np.array_split(rows, parts)):
        path = root / "dataset" / "Norder=1" / "Dir=0" / f"Npix={number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table({"_healpix_29": part << 50, "id": part, "ra": part * 3.6, "decl": part * 1.7 - 85})
        pyarrow.parquet.write_table(table, path)
    pyarrow.parquet.write_metadata(table.schema, root / "dataset" / "_common_metadata")
    count = len(rows) if said is None else said
    (root / "hats.properties").write_text(f"#HATS\ndataproduct_type=object\nhats_nrows={count}\n")
    return root


def test_a_hats_catalogue_is_its_files(tmp_path: Path) -> None:
    found = hats.files(hats_catalogue(tmp_path / "good"))
    assert [path.name for path in found] == [f"Npix={number}.parquet" for number in range(4)]
    with pytest.raises(ValueError, match="its files have 100 rows, its properties say 99"):
        hats.files(hats_catalogue(tmp_path / "bad", said=99))
    with pytest.raises(ValueError, match="no HATS catalogue"):
        hats.files(tmp_path)


def test_all_of_them_are_loaded(lab: Lab, write: Writer) -> None:
    hats_catalogue(write.directory / "sky")
    fits_table().writeto(write.directory / "bands.fits")
    write_votable(write.directory / "notes.vot")
    tables = """
    - {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [sky], columns: {_healpix_29: {omit: true}}}
    - {name: Band, kind: replicated, files: [bands.fits]}
    - {name: Note, kind: replicated, files: [notes.vot], columns: {label: {source: name}}}
    """
    lab.publish(write("typed", tables))
    assert lab.ask("SELECT COUNT(*), SUM(id), MIN(ra), MAX(decl) FROM typed.Star") == [
        ("100", "4950", "0", repr(float(99 * 1.7 - 85)))
    ]
    assert [row[0] for row in lab.ask("SELECT uk FROM typed.Band ORDER BY uk")] == [
        "0", "1", str(2**63), str(2**64 - 1)
    ]  # fmt: skip
    assert lab.ask("SELECT id, flag, n, label FROM typed.Note ORDER BY id") == [
        ("1", "1", "7", "one"),
        ("2", "0", None, "Å two"),
        ("3", "1", "9", ""),
    ]
    comments = lab.ask("SHOW FULL COLUMNS FROM Band LIKE '_'", "typed")
    assert [row[8] for row in comments if row[0] in "de"] == ["unit=mag", "a magnitude; ucd=phot.mag"]


def test_mistakes_name_file_and_reason(lab: Lab, write: Writer) -> None:
    hats_catalogue(write.directory / "sky", said=99)
    (write.directory / "no.fits").write_text("no FITS file")
    for files, message in (
        ("[sky]", "its properties say 99"),
        ("[no.fits]", "no.fits"),
        ("[sky/dataset/Norder=1/Dir=0/Npix=1.parquet, no.fits]", "several types (fits, parquet)"),
        ("['sky/dataset/Norder=1']", "no HATS catalogue"),
    ):
        done = lab.ingest(write("wrong", f"- {{name: T, kind: replicated, files: {files}}}"))
        assert done.exit_code == 1
        assert message in done.output
        assert "Traceback" not in done.output
