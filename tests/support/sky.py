"""Rows of a catalogue that grows: stars in groups near chunk borders, and what belongs to them."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Sequence
from pathlib import Path

TABLES = """
- {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [star.csv],
   columns: {id: BIGINT NOT NULL, ra: DOUBLE, decl: DOUBLE, mag: FLOAT, note: VARCHAR(20)}}
- {name: Ref, kind: director, key: refId, longitude: ra, latitude: decl, files: [ref.csv],
   columns: {refId: BIGINT NOT NULL, ra: DOUBLE, decl: DOUBLE}}
- {name: Visit, kind: dependent, director: Star, director_key: id, files: [visit.csv],
   columns: {id: BIGINT NOT NULL, flux: DOUBLE}}
- {name: Pair, kind: match, files: [pair.csv], directors: [{table: Star, foreign_key: id},
   {table: Ref, foreign_key: refId}], columns: {id: BIGINT, refId: BIGINT, w: INT}}
- {name: Band, kind: replicated, files: [band.csv], columns: {band: CHAR(1)}}
"""
HEAD = "database: {}\npartitioning: {{stripes: 18, sub_stripes: 10, overlap_deg: 0.5}}\ntables:\n"
Row = tuple[object, ...]


class Sky:
    """Rows of all tables: `count` stars in groups near chunk borders, and what belongs to them."""

    def __init__(self, first: int, count: int, seed: int = 1, spots: int = 5) -> None:
        rng, places = random.Random(seed * 1000 + first), random.Random(seed)
        middles = [(places.uniform(0, 360), places.uniform(-89, 89)) for _ in range(spots)]
        self.star: list[Row] = []
        self.ref: list[Row] = []
        for n in range(first, first + count):
            lon, lat = middles[n % spots]
            here = (lon + rng.uniform(-0.4, 0.4)) % 360, max(-89.9, min(89.9, lat + rng.uniform(-0.4, 0.4)))
            self.star.append((n, *here, n % 20 + 0.5, f"{'ugrizy'[n % 6]} note {n % 9}"))
            self.ref.append((n * 10, (here[0] + rng.uniform(-0.3, 0.3)) % 360, here[1] * 0.999))
        self.visit: list[Row] = [
            (n, rng.randrange(160) / 4) for n in range(first, first + count) for _ in "ab"
        ]
        self.pair: list[Row] = [(n, n * 10, n % 5) for n in range(first, first + count) if n % 3]

    def files(self) -> dict[str, str]:
        tables = {
            "star": ("id,ra,decl,mag,note", self.star),
            "ref": ("refId,ra,decl", self.ref),
            "visit": ("id,flux", self.visit),
            "pair": ("id,refId,w", self.pair),
            "band": ("band", [("u",), ("g",)]),
        }
        return {
            f"{name}.csv": "\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n"
            for name, (head, rows) in tables.items()
        }


def spec(*names: str) -> str:
    """Return what a catalogue file says of some tables."""
    parts = [part for part in ("\n" + TABLES.strip()).split("\n- ") if part.strip()]
    return "\n".join("- " + part for part in parts if any(part.startswith(f"{{name: {n},") for n in names))


def written(directory: Path, database: str, sky: Sky, names: Sequence[str]) -> Path:
    """Write a catalogue file of some tables, and their files; return it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in sky.files().items():
        (directory / name).write_text(text)
    catalog = directory / "catalog.yaml"
    catalog.write_text(HEAD.format(database) + textwrap.indent(spec(*names), "  ") + "\n")
    return catalog


def signature(*skies: Sky) -> dict[str, tuple[str, ...]]:
    """Return the answers of queries of several strategies, each of which tells every row of some tables."""
    star = [row for sky in skies for row in sky.star]
    visit = [row for sky in skies for row in sky.visit]
    pair = [row for sky in skies for row in sky.pair]
    flux = sum(row[1] for row in visit)
    return {
        "SELECT COUNT(*) FROM Star": (str(len(star)),),
        "SELECT COUNT(*), SUM(id) FROM Star": (str(len(star)), str(sum(row[0] for row in star))),
        "SELECT COUNT(*), ROUND(SUM(v.flux * 4)) FROM Star s JOIN Visit v ON s.id = v.id": (
            str(len(visit)),
            f"{flux * 4:.0f}",
        ),
        "SELECT (SELECT COUNT(*) FROM Visit WHERE flux >= 0), (SELECT COUNT(*) FROM Star WHERE mag > 0), "
        "(SELECT COUNT(*) FROM Pair)": (str(len(visit)), str(len(star)), str(len(pair))),
        "SELECT COUNT(*) FROM Star WHERE id IN (3, 62, 71)": (
            str(sum(row[0] in (3, 62, 71) for row in star)),
        ),
    }
