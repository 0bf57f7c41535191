"""Finds the data files of a HATS catalogue: a directory of Parquet files, cut by HEALPix pixels, here or elsewhere.

HATS (Hierarchical Adaptive Tiling Scheme, IVOA note 1.0) keeps rows in ``dataset/Norder=N/Dir=D/Npix=P.parquet`` (or
files in a directory ``Npix=P``) beside a text of properties that says how many they are. Web servers list no
directories: there, ``dataset/_metadata`` or ``partition_info.csv`` tell the files. Rows are placed anew by their
positions, whatever the pixels.
"""

from __future__ import annotations

import csv
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet

from backend.scratch import scratch
from skyshard.ingest import sources
from skyshard.ingest.spill import SCRATCH

_PROPERTIES = ("hats.properties", "properties")
_DATA_FILE = re.compile(r"Norder=\d+/Dir=\d+/Npix=\d+(\.parquet|/[\w.=-]+\.parquet)", re.ASCII)
_DIRECTORY_PIXELS = 10_000
"""Pixels of a directory ``Dir=D`` at most; D is the first that it may have."""
_AT_ONCE = 8
"""Files that are asked at once for their rows."""
_FOOTER_BYTES = 1 << 16
"""Bytes at the end of a Parquet file that hold the footer of most."""


def is_one(path: Path) -> bool:
    """Whether a directory is a HATS catalogue."""
    return path.is_dir() and any((path / name).is_file() for name in _PROPERTIES)


def files(path: Path) -> list[Path]:
    """Return the data files of a HATS catalogue, whose rows are counted.

    Raises
    ------
    ValueError
        If the directory is none, or has not the rows that its properties say.
    """
    if not is_one(path):
        raise ValueError("it is a directory, but no HATS catalogue (it has no hats.properties)")
    root = path / "dataset" if (path / "dataset").is_dir() else path
    found = sorted(
        file
        for pattern in ("Norder=*/Dir=*/Npix=*.parquet", "Norder=*/Dir=*/Npix=*/*.parquet")
        for file in root.glob(pattern)
        if file.is_file()
    )
    said = _properties(next(path / name for name in _PROPERTIES if (path / name).is_file()))
    wanted = _wanted(said, len(found))
    if wanted is not None:
        _compare(sum(pyarrow.parquet.read_metadata(file).num_rows for file in found), wanted)
    return found


def remote_files(url: str) -> list[str]:
    """Return the URLs of the data files of a HATS catalogue whose URL ends in a slash; their rows are counted.

    Raises
    ------
    ValueError
        If it is none, does not tell its files, or has not the rows that its properties say.
    UserError
        If a server does not answer.
    """
    with scratch(SCRATCH) as directory:
        copy = directory / "properties"
        if not any(_fetched(url, name, copy) for name in _PROPERTIES):
            raise ValueError("it is no HATS catalogue (it has no hats.properties)")
        said = _properties(copy)
        if _fetched(url, "dataset/_metadata", directory / "metadata"):
            names, rows = _listed(directory / "metadata")
        elif said.get("hats_npix_suffix", ".parquet") != ".parquet":
            raise ValueError(
                "it has no dataset/_metadata, and its pixels are directories, which nobody lists"
            )
        elif _fetched(url, "partition_info.csv", directory / "partitions"):
            names, rows = _pixels(directory / "partitions"), None
        else:
            raise ValueError("it has neither dataset/_metadata nor partition_info.csv, which tell its files")
    wanted = _wanted(said, len(names))
    found = [_within(url, f"dataset/{name}") for name in names]
    if wanted is not None:
        _compare(_counted(found) if rows is None else rows, wanted)
    return found


def _within(url: str, name: str) -> str:
    """Return the URL of a file of a catalogue, with the catalogue's options."""
    path, mark, options = url.partition("?")
    return f"{path}{name}{mark}{options}"


def _fetched(url: str, name: str, into: Path) -> bool:
    """Copy a file of a catalogue; tell whether there is one."""
    try:
        sources.fetch(_within(url, name), None, into)
    except sources.NotThere:
        return False
    return True


def _listed(path: Path) -> tuple[list[str], int]:
    """Return the data files that a ``_metadata`` tells, and how many rows they have."""
    found = pyarrow.parquet.read_metadata(path)
    names = {found.row_group(index).column(0).file_path for index in range(found.num_row_groups)}
    if wrong := next((name for name in sorted(names) if not _DATA_FILE.fullmatch(name)), None):
        raise ValueError(f"its dataset/_metadata names a file '{wrong}', not Norder=…/Dir=…/Npix=….parquet")
    return sorted(names), found.num_rows


def _pixels(path: Path) -> list[str]:
    """Return the data files of the pixels that a ``partition_info.csv`` tells."""
    try:
        pixels = {
            (int(row["Norder"]), int(row["Npix"]))
            for row in csv.DictReader(io.StringIO(path.read_text("utf-8-sig")))
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("its partition_info.csv has no numbers in columns Norder and Npix") from error
    return [
        f"Norder={order}/Dir={pixel - pixel % _DIRECTORY_PIXELS}/Npix={pixel}.parquet"
        for order, pixel in sorted(pixels)
    ]


def _counted(urls: list[str]) -> int:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="footer") as pool:
        return sum(pool.map(_rows, urls))


def _rows(url: str) -> int:
    """Return the rows of a Parquet file, of which only the end is read."""
    end = sources.tail(url, _FOOTER_BYTES)
    needed = int.from_bytes(end[-8:-4], "little") + 8
    if needed > len(end) == _FOOTER_BYTES:
        end = sources.tail(url, needed)
    try:
        return int(pyarrow.parquet.read_metadata(io.BytesIO(end)).num_rows)
    except (ValueError, OSError) as error:
        raise ValueError(f"{sources.shown(url)}: {error}") from error


def _wanted(said: dict[str, str], count: int) -> int | None:
    """Return the rows that a catalogue of some files says to have."""
    if not count:
        raise ValueError("it has no files Norder=…/Dir=…/Npix=….parquet")
    if said.get("dataproduct_type", "object") not in ("object", "source", "catalog"):
        raise ValueError(f"it is not a catalogue of rows but of type {said['dataproduct_type']}")
    wanted = said.get("hats_nrows", "")
    return int(wanted) if wanted.isdigit() else None


def _compare(rows: int, wanted: int) -> None:
    if rows != wanted:
        raise ValueError(f"its files have {rows} rows, its properties say {wanted}")


def _properties(file: Path) -> dict[str, str]:
    pairs = (
        line.split("=", 1) for line in file.read_text("utf-8").splitlines() if "=" in line and line[:1] != "#"
    )
    return {key.strip(): value.strip() for key, value in pairs}
