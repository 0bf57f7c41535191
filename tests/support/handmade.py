"""A catalogue written by hand: two directors, a dependent without positions, a match, two replicated
tables; every common column type, NULLs, ties, duplicates and awkward text."""

import random
from pathlib import Path

CATALOG = """\
database: lab
partitioning: {stripes: 10, sub_stripes: 6, overlap_deg: 1.0}
tables:
  - name: Star
    kind: director
    key: starId
    longitude: ra
    latitude: decl
    schema: star.sql
    format: {type: csv, delimiter: "|", quote: null, escape: null, "null": "\\\\N", header: false}
    files: [star.csv]
  - {name: Visit, kind: dependent, director: Star, key: visitId, director_key: starId, files: [visit.csv],
     columns: {visitId: BIGINT NOT NULL, starId: BIGINT NOT NULL, flux: DOUBLE, band: CHAR(1), n: INT UNSIGNED},
     format: {type: csv, header: true}}
  - {name: Ref, kind: director, key: refId, longitude: lon, latitude: lat, files: [ref.csv],
     columns: {refId: VARCHAR(12) NOT NULL, lon: DOUBLE NOT NULL, lat: DOUBLE NOT NULL, mag: FLOAT}}
  - name: StarRef
    kind: match
    directors: [{table: Star, foreign_key: starId}, {table: Ref, foreign_key: refId}]
    columns: {starId: BIGINT NOT NULL, refId: VARCHAR(12) NOT NULL, dist: DOUBLE}
    files: [starref.csv]
  - {name: Band, kind: replicated, columns: {band: CHAR(1), label: VARCHAR(10)}, files: [band.csv]}
  - {name: Lut, kind: replicated, columns: {n: INT, v: "DECIMAL(10,3)"}, files: [lut.csv]}
"""
STAR = """\
CREATE TABLE Star (
  starId BIGINT NOT NULL, ra DOUBLE NOT NULL, decl DOUBLE NOT NULL,
  name VARCHAR(20), code CHAR(4) CHARACTER SET latin1, kind ENUM('star','galaxy','qso'),
  flags SET('a','b','c'), f FLOAT, d DECIMAL(12,4), big BIGINT UNSIGNED, small SMALLINT,
  day DATE, t TIME, dt DATETIME(3), y YEAR, txt TEXT, b VARBINARY(8), g INT, bits BIT(8)
)
"""


def write(directory: Path, stars: int = 400, seed: int = 3) -> Path:
    """Write the catalogue and its files; return the catalogue file."""
    rng = random.Random(seed)
    names = ["Ångström", "angstrom", "ANGSTROM", "a b ", "a b", "x%y_z", "tab\\\\t", "quote'", "", None]
    rows, visits, refs, pairs = (
        [],
        ["visitId,starId,flux,band,n"],
        ["refId,lon,lat,mag"],
        ["starId,refId,dist"],
    )

    def text(value):
        return "\\N" if value is None else str(value)

    def maybe(value, chance=0.2):
        return None if rng.random() < chance else value

    visit = 0
    for number in range(1, stars + 1):
        ra = rng.choice([0.0, 359.99999, rng.uniform(0, 360), rng.uniform(0, 360), rng.uniform(0, 3)])
        decl = rng.choice([90.0, -90.0, rng.uniform(-90, 90), rng.uniform(-90, 90), rng.uniform(-2, 2), 18.0])
        name = rng.choice(names)
        rows.append(
            "|".join(
                text(v)
                for v in (
                    number, repr(ra), repr(decl), name, maybe(rng.choice(["ab", "AB", "zz"])),
                    maybe(rng.choice(["star", "galaxy", "qso"])), maybe(rng.choice(["a", "a,b", "c"])),
                    maybe(rng.choice(["0.1", "5592405.5", "0.123457", "0.1234567", "-3e-5"])),
                    maybe(f"{rng.uniform(-999, 999):.4f}"), maybe(rng.choice([0, 18446744073709551615, 7])),
                    maybe(rng.randint(-5, 5)), maybe(f"20{rng.randint(10, 30)}-0{rng.randint(1, 9)}-15"),
                    maybe(rng.choice(["-10:00:00", "99:59:59", "100:00:01", "00:00:00"])),
                    maybe(f"2024-02-29 12:34:{rng.randint(10, 59)}.{rng.randint(0, 999):03}"),
                    maybe(rng.randint(1999, 2030)), maybe("t" * rng.randint(0, 40)), maybe(rng.choice(["x", "yy"])),
                    maybe(rng.randint(0, 5)), number % 10 if number % 7 else None,
                )
            )
        )  # fmt: skip
        for _ in range(rng.randint(0, 4)):
            visit += 1
            visits.append(
                f"{visit},{number},{rng.choice(['', repr(rng.gauss(0, 1e6))])},{rng.choice('ugrXy')},{rng.randint(0, 4294967295)}"
            )
        if rng.random() < 0.6:
            lat = max(-90.0, min(90.0, decl + rng.uniform(-0.4, 0.4)))
            refs.append(f"R{number},{ra!r},{lat!r},{rng.choice(['1.5', '2.25', ''])}")
            pairs.append(f"{number},R{number},{rng.uniform(0, 1)!r}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "catalog.yaml").write_text(CATALOG)
    (directory / "star.sql").write_text(STAR)
    (directory / "star.csv").write_text("\n".join(rows) + "\n")
    (directory / "visit.csv").write_text("\n".join(visits) + "\n")
    (directory / "ref.csv").write_text("\n".join(refs) + "\n")
    (directory / "starref.csv").write_text("\n".join(pairs) + "\n")
    (directory / "band.csv").write_text("band,label\nu,ultra\ng,green\nr,red\ny,yellow\n")
    (directory / "lut.csv").write_text("n,v\n" + "".join(f"{n},{n / 8:.3f}\n" for n in range(6)))
    return directory / "catalog.yaml"


def write_grown(directory: Path, stars: int = 400) -> list[Path]:
    """Write the same rows as three catalogue files: one to be published, the others to be added to it."""
    whole = write(directory / "whole", stars).parent
    bounds = ((0, stars // 2), (stars // 2, stars * 7 // 8), (stars * 7 // 8, stars))
    out = []
    for part, (after, last) in enumerate(bounds):
        place = directory / f"part{part}"
        place.mkdir()
        text = CATALOG if part == 0 else "".join(CATALOG.partition("  - {name: Band")[:1])
        (place / "catalog.yaml").write_text(text)
        for path in whole.iterdir():
            lines = path.read_text().split("\n")[:-1]
            if (numbered := _NUMBERED.get(path.name)) is not None:
                has_header, column, mark = numbered
                kept = lines[:has_header]
                kept += [
                    line for line in lines[has_header:]
                    if after < int(line.split(mark)[column].removeprefix("R")) <= last
                ]  # fmt: skip
                lines = kept
            if path.name != "catalog.yaml":
                (place / path.name).write_text("\n".join(lines) + "\n")
        out.append(place / "catalog.yaml")
    return out


_NUMBERED = {
    "star.csv": (0, 0, "|"),
    "visit.csv": (1, 1, ","),
    "ref.csv": (1, 0, ","),
    "starref.csv": (1, 0, ","),
}
"""File → (lines of its header, column of the star's number, delimiter)."""
