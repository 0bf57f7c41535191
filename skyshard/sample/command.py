"""`skyshard sample`: writes a catalogue that can be ingested at once.

Real: Hipparcos stars and, with --full, Tycho-2 stars and the pairs of both. Synthetic, and labelled so: detections (light curves), and a second catalogue of
bright stars with a match table.
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from skyshard.errors import UserError
from skyshard.sample import tycho2

_CATALOG = """\
database: hip
partitioning: {stripes: 18, sub_stripes: 10, overlap_deg: 0.1}
tables:
  - name: Object
    kind: director
    description: Hipparcos stars (XHIP, by way of d3-celestial; see CREDITS.md)
    key: objectId
    longitude: ra
    latitude: decl
    columns:
      objectId: {description: Hipparcos number, ucd: meta.id;meta.main}
      ra: {unit: deg, ucd: pos.eq.ra;meta.main, description: right ascension}
      decl: {unit: deg, ucd: pos.eq.dec;meta.main, description: declination}
      vmag: {unit: mag, ucd: phot.mag;em.opt.V, description: V magnitude}
      bv: {unit: mag, ucd: phot.color, description: colour B-V}
    files: [data/hipparcos.parquet]
  - name: Detection
    kind: dependent
    description: SYNTHETIC light curves, seeded; about 20 rows a star
    director: Object
    key: detectionId
    director_key: objectId
    longitude: raObject
    latitude: declObject
    columns:
      mjd: {unit: d, ucd: time.epoch, description: SYNTHETIC}
      band: {type: CHAR(1), ucd: instr.bandpass, description: SYNTHETIC}
      flux: {unit: nJy, ucd: phot.flux, description: SYNTHETIC}
      fluxErr: {unit: nJy, ucd: stat.error;phot.flux, description: SYNTHETIC}
    files: [data/detection.parquet]
  - name: Bright
    kind: director
    description: SYNTHETIC second catalogue, Hipparcos stars brighter than 7 moved by less than 1 arcsec
    key: brightId
    longitude: ra
    latitude: decl
    files: [data/bright.parquet]
  - name: ObjectBright
    kind: match
    description: SYNTHETIC pairs of Object and Bright
    directors:
      - {table: Object, foreign_key: objectId}
      - {table: Bright, foreign_key: brightId}
    files: [data/object_bright.parquet]
  - name: Filter
    kind: replicated
    columns: {band: CHAR(1), name: VARCHAR(16), wavelength_nm: DOUBLE, zeropoint: DOUBLE}
    format: {type: csv, header: true}
    files: [data/filter.csv]
"""
_FULL = """\
  - name: Tycho2
    kind: director
    description: Tycho-2 stars, thinned where they stand densest; see data/CREDITS-Tycho2.txt
    key: tycho2Id
    longitude: ra
    latitude: decl
    columns:
      tycho2Id: {description: "row number in the source file (no TYC number), from 1", ucd: meta.id;meta.main}
      ra: {unit: deg, ucd: pos.eq.ra;meta.main, description: right ascension}
      decl: {unit: deg, ucd: pos.eq.dec;meta.main, description: declination}
      vt: {unit: mag, ucd: phot.mag;em.opt.V, description: Tycho VT magnitude}
    files: [data/tycho2.parquet]
  - name: ObjectTycho2
    kind: match
    description: all pairs of Object and Tycho2 within 2 arcsec
    directors:
      - {table: Object, foreign_key: objectId}
      - {table: Tycho2, foreign_key: tycho2Id}
    columns:
      sep_arcsec: {unit: arcsec, ucd: pos.angDistance, description: separation}
    files: [data/object_tycho2.parquet]
"""
_TYCHO2_CREDITS = """\
`tycho2.parquet`: positions and VT magnitudes of Tycho-2 stars, taken from the package {package}
(astrometry.net's index 4107: thinned to a like number of stars per 22.5 arcmin cell, one of stars closer than
1 arcsec, without TYC numbers). Source: The Tycho-2 Catalogue of the 2.5 Million Brightest Stars, Hog E. et al.
(2000), VizieR catalogue I/259. The package's own statement follows.

"""
_MATCH_DEG = 2.0 / 3600.0
_SYNTHETIC = """\
database: synth
partitioning: {stripes: 18, sub_stripes: 10, overlap_deg: 0.1}
tables:
  - {name: Object, kind: director, key: objectId, longitude: ra, latitude: decl, files: ["data/object-*.parquet"]}
  - name: Detection
    kind: dependent
    director: Object
    key: detectionId
    director_key: objectId
    longitude: raObject
    latitude: declObject
    columns: {band: {type: CHAR(1)}}
    files: ["data/detection-*.parquet"]
"""
_BANDS = np.array(["u", "g", "r", "i", "z", "y"])
_PART = 200_000


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True, help="Where to write.")
@click.option("--stars", type=click.IntRange(min=1), help="Write this many synthetic stars instead.")
@click.option("--detections", default=5, show_default=True, help="Detections a synthetic star.")
@click.option("--seed", default=1, show_default=True, help="Seed of everything synthetic.")
@click.option(
    "--full",
    is_flag=True,
    help="Add 1.87 million Tycho-2 stars: an 88 MB download by apt, of Debian or Ubuntu.",
)
def sample_command(directory: Path, stars: int | None, detections: int, seed: int, full: bool) -> None:
    """Write CATALOG.yaml and its data files."""
    if full and stars is not None:
        raise UserError("--full and --stars exclude each other")
    data = directory / "data"
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror}") from error
    rng = np.random.default_rng(seed)
    if stars is not None:
        _synthetic(data, stars, detections, rng)
        (directory / "CATALOG.yaml").write_text(_SYNTHETIC)
    else:
        fetched = _fetch(data) if full else None
        _hipparcos(data, rng)
        if fetched is not None:
            _tycho2(data, *fetched)
        (directory / "CATALOG.yaml").write_text(_CATALOG + (_FULL if full else ""))
    click.echo(f"Wrote {directory / 'CATALOG.yaml'}")


def _hipparcos(data: Path, rng: np.random.Generator) -> None:
    bundled = resources.files("skyshard.sample") / "data"
    for name in ("hipparcos.parquet", "CREDITS.md", "LICENSE.d3-celestial"):
        with resources.as_file(bundled / name) as path:
            shutil.copyfile(path, data / name)
    stars = pyarrow.parquet.read_table(data / "hipparcos.parquet")
    keys, ra, decl = (stars.column(name).to_numpy() for name in ("objectId", "ra", "decl"))
    pyarrow.parquet.write_table(_light_curves(keys, ra, decl, rng, 20, 1), data / "detection.parquet")
    vmag = stars.column("vmag").to_numpy()
    bright = np.flatnonzero(vmag < 7.0)
    step = rng.uniform(-0.5, 0.5, (2, len(bright))) / 3600.0
    lat = np.clip(decl[bright] + step[0], -90, 90)
    lon = (ra[bright] + step[1] / np.maximum(np.cos(np.radians(lat)), 1e-3)) % 360.0
    ids = np.arange(1, len(bright) + 1, dtype=np.int64) * 10
    pyarrow.parquet.write_table(
        pa.table({"brightId": ids, "ra": lon, "decl": lat, "mag": vmag[bright].astype(np.float64)}),
        data / "bright.parquet",
    )
    separation = np.hypot(step[0], step[1]) * 3600.0
    pyarrow.parquet.write_table(
        pa.table({"objectId": keys[bright], "brightId": ids, "sep_arcsec": separation}),
        data / "object_bright.parquet",
    )
    pyarrow.csv.write_csv(
        pa.table(
            {
                "band": _BANDS, "name": [f"LSST {band}" for band in _BANDS],
                "wavelength_nm": [367.0, 482.5, 622.2, 754.5, 869.1, 971.0], "zeropoint": [31.4] * 6,
            }
        ),
        data / "filter.csv",
    )  # fmt: skip


def _fetch(data: Path) -> tuple[pa.Table, str]:
    click.echo(f"Downloading {tycho2.PACKAGE} ...", err=True)
    return tycho2.fetch(data)


def _tycho2(data: Path, stars: pa.Table, licence: str) -> None:
    pyarrow.parquet.write_table(stars, data / "tycho2.parquet")
    hipparcos = pyarrow.parquet.read_table(data / "hipparcos.parquet")
    places = [(t.column("ra").to_numpy(), t.column("decl").to_numpy()) for t in (hipparcos, stars)]
    first, second, separation = tycho2.pairs(places[0], places[1], _MATCH_DEG)
    pyarrow.parquet.write_table(
        pa.table(
            {
                "objectId": hipparcos.column("objectId").to_numpy()[first],
                "tycho2Id": stars.column("tycho2Id").to_numpy()[second],
                "sep_arcsec": separation * 3600.0,
            }
        ),
        data / "object_tycho2.parquet",
    )
    (data / "CREDITS-Tycho2.txt").write_text(_TYCHO2_CREDITS.format(package=tycho2.PACKAGE) + licence)


def _light_curves(
    keys: np.ndarray, ra: np.ndarray, decl: np.ndarray, rng: np.random.Generator, mean: int, first: int
) -> pa.Table:
    """Return seeded detections, about `mean` a star."""
    counts = rng.poisson(mean, len(keys))
    index = np.repeat(np.arange(len(keys)), counts)
    n = len(index)
    flux = rng.lognormal(8, 1, len(keys))[index] * (1 + 0.1 * rng.standard_normal(n))
    flux[rng.random(n) < 0.001] = np.nan
    return pa.table(
        {
            "detectionId": np.arange(first, first + n, dtype=np.int64),
            "objectId": keys[index],
            "raObject": ra[index],
            "declObject": decl[index],
            "mjd": 60000 + rng.uniform(0, 365, n),
            "band": pa.DictionaryArray.from_arrays(
                pa.array(rng.integers(0, 6, n, dtype=np.int8)), pa.array(_BANDS)
            ),
            "flux": flux,
            "fluxErr": np.abs(flux * 0.05).astype(np.float32),
            "flags": rng.integers(0, 16, n, dtype=np.int32),
        }
    )


def _synthetic(data: Path, stars: int, detections: int, rng: np.random.Generator) -> None:
    """Write stars and detections in parts, so that memory stays bounded."""
    number = 1
    for part, start in enumerate(range(0, stars, _PART)):
        n = min(_PART, stars - start)
        keys = np.arange(start + 1, start + n + 1, dtype=np.int64)
        ra = rng.uniform(0, 360, n)
        decl = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
        columns = {"objectId": keys, "ra": ra, "decl": decl}
        columns |= {f"{band}Mag": rng.normal(22, 2, n).astype(np.float64) for band in _BANDS}
        columns["class"] = rng.integers(0, 10, n, dtype=np.int32)
        pyarrow.parquet.write_table(pa.table(columns), data / f"object-{part:04}.parquet")
        curves = _light_curves(keys, ra, decl, rng, detections, number)
        number += len(curves)
        pyarrow.parquet.write_table(curves, data / f"detection-{part:04}.parquet")
