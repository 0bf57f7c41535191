"""Real Tycho-2 stars for `skyshard sample --full`, from the Debian package that carries their positions.

The package is an index of astrometry.net: 1,871,011 of Tycho-2's 2.5 million stars, thinned where they stand
densest, as unit vectors in 32-bit steps (0.1 mas) and magnitudes. It has no TYC numbers. Nothing is installed:
the package is downloaded and unpacked into a temporary directory.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skyshard.errors import UserError

PACKAGE = "astrometry-data-tycho2-07-littleendian"
INDEX = Path("usr/share/astrometry/index-tycho2-07.littleendian.fits")
COPYRIGHT = Path("usr/share/doc") / PACKAGE / "copyright"
_RECORD = 2880
_CARD = 80

Floats = npt.NDArray[np.float64]


class NotAnIndex(ValueError):  # noqa: N818 - it is what was found
    """The file is not an astrometry.net index with stars and magnitudes."""


@dataclass(frozen=True, slots=True)
class _Table:
    """One extension of a FITS file: bytes per row, rows, and the offset of its first byte in the file."""

    width: int
    rows: int
    offset: int


def fetch(directory: Path) -> tuple[pa.Table, str]:
    """Download the package; return (its stars, its licence).

    Parameters
    ----------
    directory : Path
        Where it may be unpacked; what was put there is gone afterwards.

    Raises
    ------
    UserError
        If this machine has no apt, or the package cannot be had.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UserError(
                f"--full needs {tool}: Tycho-2 is read from the package {PACKAGE} of Debian and Ubuntu; "
                "without --full the sample needs nothing"
            )
    with tempfile.TemporaryDirectory(prefix="tycho2-", dir=directory) as name:
        work = Path(name)
        _run(
            ["apt-get", "-q", "download", PACKAGE],
            work,
            "is 'apt-get update' needed, or is there no network?",
        )
        found = list(work.glob("*.deb"))
        if len(found) != 1:
            raise UserError(f"apt-get download {PACKAGE} left {len(found)} packages")
        _run(["dpkg-deb", "-x", str(found[0]), "x"], work, "is the disk full?")
        try:
            return read(work / "x" / INDEX), (work / "x" / COPYRIGHT).read_text()
        except (OSError, NotAnIndex) as error:
            raise UserError(f"package {PACKAGE}: its files are not the expected ones: {error}") from error


def _run(command: list[str], directory: Path, advice: str) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb: error"))]
        reason = lines[0] if lines else f"exit code {done.returncode}"
        raise UserError(f"{' '.join(command[:-1])} failed: {reason}; {advice}")


def read(path: Path) -> pa.Table:
    """Return the stars of an astrometry.net index.

    Returns
    -------
    Table
        tycho2Id (row number in the file, from 1), ra and decl in degrees, vt in magnitudes.

    Raises
    ------
    NotAnIndex
        If the file has no stars with magnitudes.
    """
    with path.open("rb") as file:
        tables = _tables(file)
        try:
            stars, span, magnitudes = (
                tables[name] for name in ("kdtree_data_stars", "kdtree_range_stars", "MAG_VT")
            )
        except KeyError as error:
            raise NotAnIndex(f"{path.name} has no table {error}") from error
        if (stars.width, span.width * span.rows, magnitudes.width) != (
            12,
            56,
            4,
        ) or stars.rows != magnitudes.rows:
            raise NotAnIndex(f"{path.name}: stars or magnitudes have another form")
        steps = np.frombuffer(_data(file, stars), dtype="<u4").reshape(-1, 3)
        # Lowest corner, highest corner, steps per unit: the astrometry.net library's kdtree.
        low, _, scale = np.split(np.frombuffer(_data(file, span), dtype="<f8"), [3, 6])
        vt = np.frombuffer(_data(file, magnitudes), dtype=">f4").astype(np.float32)
    ra, decl = positions(low + steps / scale[0])
    return pa.table({"tycho2Id": np.arange(1, len(ra) + 1, dtype=np.int64), "ra": ra, "decl": decl, "vt": vt})


def _tables(file: BinaryIO) -> dict[str, _Table]:
    """Return the extensions of a FITS file by their first column's name."""
    found: dict[str, _Table] = {}
    while (cards := _header(file)) is not None:
        axes = [int(cards[f"NAXIS{number + 1}"]) for number in range(int(cards["NAXIS"]))]
        size = abs(int(cards["BITPIX"])) // 8 * int(np.prod(axes)) if axes else 0
        if "TTYPE1" in cards and len(axes) == 2:
            found[cards["TTYPE1"]] = _Table(axes[0], axes[1], file.tell())
        file.seek(-(-size // _RECORD) * _RECORD, 1)
    return found


def _header(file: BinaryIO) -> dict[str, str] | None:
    cards: dict[str, str] = {}
    while len(record := file.read(_RECORD)) == _RECORD:
        for start in range(0, _RECORD, _CARD):
            card = record[start : start + _CARD].decode("latin-1")
            if card.rstrip() == "END":
                return cards
            if card[8:10] == "= ":
                cards[card[:8].strip()] = card[10:].split(" /")[0].strip().strip("'").strip()
    if record or cards:
        raise NotAnIndex("the file is cut short, or no FITS file")
    return None


def _data(file: BinaryIO, table: _Table) -> bytes:
    file.seek(table.offset)
    data = file.read(table.width * table.rows)
    if len(data) != table.width * table.rows:
        raise NotAnIndex("the file is cut short")
    return data


def positions(vectors: Floats) -> tuple[Floats, Floats]:
    """Return (longitude in [0, 360), latitude) in degrees of vectors, shape (n, 3)."""
    x, y, z = vectors.T
    lon = np.degrees(np.arctan2(y, x)) % 360.0
    lon[lon >= 360.0] = 0.0
    return lon, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _vectors(lon: Floats, lat: Floats) -> Floats:
    a, b = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=1)


def pairs(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats], radius_deg: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Return all pairs of two catalogues closer than a radius: (rows, rows, separations in degrees).

    Cells of a cubic grid around the unit sphere, each as wide as the radius or 3 arcmin: exact at the poles.

    Parameters
    ----------
    first, second : (longitudes, latitudes)
        Degrees.
    radius_deg : float
        Degrees, small.
    """
    a, b = _vectors(*first), _vectors(*second)
    reach = 2.0 * np.sin(np.radians(radius_deg) / 2.0)
    size = max(reach, 1e-3)
    side = int(2.0 / size) + 4

    def cells(vectors: Floats) -> npt.NDArray[np.int64]:
        return np.asarray(np.floor((vectors + 1.0) / size).astype(np.int64) + 1)

    def number(cell: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.asarray((cell[:, 0] * side + cell[:, 1]) * side + cell[:, 2])

    numbers = number(cells(b))
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    mine = cells(a)
    found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    for step in np.ndindex(3, 3, 3):
        wanted = number(mine + np.array(step) - 1)
        low, high = np.searchsorted(numbers, wanted, "left"), np.searchsorted(numbers, wanted, "right")
        counts = high - low
        left = np.repeat(np.arange(len(a)), counts)
        right = np.repeat(low - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(
            counts.sum()
        )
        found.append((left, order[right]))
    left = np.concatenate([item[0] for item in found])
    right = np.concatenate([item[1] for item in found])
    chord = np.sqrt(((a[left] - b[right]) ** 2).sum(axis=1))
    near = chord <= reach
    left, right, chord = left[near], right[near], chord[near]
    by = np.lexsort((right, left))
    return left[by], right[by], np.degrees(2.0 * np.arcsin(chord[by] / 2.0))
