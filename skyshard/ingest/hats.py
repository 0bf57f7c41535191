"""Finds the data files of a HATS catalogue: a directory of Parquet files, cut by HEALPix pixels.

HATS (Hierarchical Adaptive Tiling Scheme, IVOA note 1.0) keeps rows in ``dataset/Norder=N/Dir=D/Npix=P.parquet`` (or
files in a directory ``Npix=P``) beside a text of properties that says how many they are. Rows are placed anew by their
positions, whatever the pixels.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet

_PROPERTIES = ("hats.properties", "properties")


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
    if not found:
        raise ValueError("it has no files Norder=…/Dir=…/Npix=….parquet")
    said = _properties(path)
    if said.get("dataproduct_type", "object") not in ("object", "source", "catalog"):
        raise ValueError(f"it is not a catalogue of rows but of type {said['dataproduct_type']}")
    wanted = said.get("hats_nrows", "")
    if wanted.isdigit():
        rows = sum(pyarrow.parquet.read_metadata(file).num_rows for file in found)
        if rows != int(wanted):
            raise ValueError(f"its files have {rows} rows, its properties say {wanted}")
    return found


def _properties(path: Path) -> dict[str, str]:
    file = next(path / name for name in _PROPERTIES if (path / name).is_file())
    pairs = (
        line.split("=", 1) for line in file.read_text("utf-8").splitlines() if "=" in line and line[:1] != "#"
    )
    return {key.strip(): value.strip() for key, value in pairs}
