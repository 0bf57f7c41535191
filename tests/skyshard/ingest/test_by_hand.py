"""A catalogue written by hand: two directors, dependents, a match and two replicated tables answer as their rows say."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from tests.skyshard.conftest import Lab, Writer

TABLES = """
# Two surveys of one sky, written by hand.
- name: Optical
  kind: director
  key: objectId
  longitude: ra
  latitude: decl
  schema: optical.sql
  format: {type: csv, delimiter: ";", quote: null, escape: null, header: false}
  files: [optical_*.txt]
- name: Radio
  kind: director
  key: name
  longitude: lon
  latitude: lat
  columns: {name: VARCHAR(12) NOT NULL, lon: DOUBLE NOT NULL, lat: DOUBLE NOT NULL, flux: DOUBLE}
  files: [radio.csv]
- name: Epoch
  kind: dependent
  director: Optical
  key: epochId
  director_key: objectId
  columns: {epochId: BIGINT NOT NULL, objectId: BIGINT NOT NULL, band: CHAR(1), mag: DOUBLE, site: INT}
  files: [epoch.csv]
- name: Counterpart
  kind: match
  directors: [{table: Optical, foreign_key: objectId}, {table: Radio, foreign_key: name}]
  columns: {objectId: BIGINT NOT NULL, name: VARCHAR(12) NOT NULL, quality: INT}
  files: [counterpart.csv]
- {name: Band, kind: replicated, columns: {band: CHAR(1), wavelength: DOUBLE}, files: [band.csv]}
- {name: Site, kind: replicated, columns: {site: INT, town: VARCHAR(20)}, files: [site.csv]}
"""
SCHEMA = "CREATE TABLE Optical (objectId BIGINT NOT NULL, ra DOUBLE, decl DOUBLE, class INT);"
BANDS = {"u": 365.0, "g": 464.0, "r": 658.0}
SITES = {1: "Paranal", 2: "Mauna Kea"}


class Sky:
    """The rows, and what queries on them must answer."""

    def __init__(self) -> None:
        rng = random.Random(21)
        self.optical = {
            n: (rng.uniform(0, 360), math.degrees(math.asin(rng.uniform(-1, 1))), rng.randrange(4))
            for n in range(1, 401)
        }
        for n, lon, lat in ((401, 0.0, 0.0), (402, 359.9999, 0.0), (403, 12.0, 90.0), (404, 200.0, -90.0)):
            self.optical[n] = (lon, lat, 0)
        self.radio = {
            f"R{n}": (lon, max(-90.0, min(90.0, lat + rng.uniform(-0.2, 0.2))), rng.uniform(0, 9))
            for n, (lon, lat, _) in self.optical.items()
            if n % 3 == 0 or n > 400
        }
        self.pairs = [(int(name[1:]), name, rng.randrange(3)) for name in self.radio]
        self.epochs = [
            (n * 100 + k, n, rng.choice("ugr"), rng.randrange(15, 22) + 0.5, rng.randrange(1, 3))
            for n in self.optical
            for k in range(rng.randrange(4))
        ]

    def files(self) -> dict[str, str]:
        rows = [f"{n};{lon!r};{lat!r};{kind}\n" for n, (lon, lat, kind) in self.optical.items()]
        return {
            "optical.sql": SCHEMA,
            "optical_a.txt": "".join(rows[:150]),
            "optical_b.txt": "".join(rows[150:]),
            "radio.csv": "name,lon,lat,flux\n" + "".join(f"{n},{a!r},{b!r},{f!r}\n" for n, (a, b, f) in self.radio.items()),
            "epoch.csv": "epochId,objectId,band,mag,site\n" + "".join(",".join(map(str, row)) + "\n" for row in self.epochs),
            "counterpart.csv": "name,quality,objectId\n" + "".join(f"{name},{q},{n}\n" for n, name, q in self.pairs),
            "band.csv": "band,wavelength\n" + "".join(f"{b},{w}\n" for b, w in BANDS.items()),
            "site.csv": "site,town\n" + "".join(f"{s},{t}\n" for s, t in SITES.items()),
        }  # fmt: skip


@pytest.fixture(scope="module")
def sky(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Sky:
    made = Sky()
    lab.publish(Writer(tmp_path_factory.mktemp("hand"))("hand", TABLES, made.files()))
    return made


def separation(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    a, b, c, d = (math.radians(value) for value in (*one[:2], *two[:2]))
    half = math.sin((d - b) / 2) ** 2 + math.cos(b) * math.cos(d) * math.sin((c - a) / 2) ** 2
    return math.degrees(2 * math.asin(math.sqrt(half)))


def test_rows_are_all_there(lab: Lab, sky: Sky) -> None:
    counts = {"Optical": sky.optical, "Radio": sky.radio, "Epoch": sky.epochs, "Counterpart": sky.pairs,
              "Band": BANDS, "Site": SITES}  # fmt: skip
    for table, rows in counts.items():
        assert lab.ask(f"SELECT COUNT(*) FROM {table}", "hand") == [(str(len(rows)),)], table


def test_a_row_is_found_by_its_key(lab: Lab, sky: Sky) -> None:
    for number in (1, 77, 401, 402, 403, 404):
        lon, lat, kind = sky.optical[number]
        found = lab.ask(f"SELECT ra, decl, class FROM Optical WHERE objectId = {number}", "hand")
        assert [(float(a or ""), float(b or ""), c) for a, b, c in found] == [(lon, lat, str(kind))]
    assert lab.ask("SELECT COUNT(*) FROM Radio WHERE name IN ('R3', 'R6', 'R7')", "hand") == [("2",)]


def test_a_light_curve_and_groups_over_the_sky(lab: Lab, sky: Sky) -> None:
    number = next(row[1] for row in sky.epochs)
    curve = lab.ask(
        f"SELECT e.epochId, b.wavelength, s.town FROM Optical o JOIN Epoch e ON e.objectId = o.objectId "
        f"JOIN Band b ON b.band = e.band JOIN Site s ON s.site = e.site WHERE o.objectId = {number} ORDER BY e.epochId",
        "hand",
    )
    assert [(int(a or 0), float(b or 0), c) for a, b, c in curve] == [
        (row[0], BANDS[row[2]], SITES[row[4]]) for row in sky.epochs if row[1] == number
    ]
    groups = Counter((sky.optical[row[1]][2], row[2]) for row in sky.epochs)
    found = lab.ask(
        "SELECT o.class, e.band, COUNT(*) FROM Optical o JOIN Epoch e ON e.objectId = o.objectId GROUP BY 1, 2",
        "hand",
    )
    assert {(int(kind or 0), band): int(count or 0) for kind, band, count in found} == groups


def test_pairs_count_once(lab: Lab, sky: Sky) -> None:
    found = lab.ask(
        "SELECT o.objectId, r.name, c.quality FROM Optical o JOIN Counterpart c ON c.objectId = o.objectId "
        "JOIN Radio r ON r.name = c.name",
        "hand",
    )
    assert sorted(found) == sorted((str(n), name, str(quality)) for n, name, quality in sky.pairs)
    by_quality = lab.ask("SELECT quality, COUNT(*) FROM Counterpart GROUP BY quality", "hand")
    assert {int(q or 0): int(n or 0) for q, n in by_quality} == Counter(quality for *_, quality in sky.pairs)


def test_cones_and_neighbours(lab: Lab, sky: Sky) -> None:
    for lon, lat, radius in ((0.0, 0.0, 15.0), (100.0, 89.0, 20.0), (250.0, -60.0, 30.5)):
        inside = sum(separation(place, (lon, lat)) < radius for place in sky.optical.values())
        sql = f"SELECT COUNT(*) FROM Optical WHERE scisql_s2PtInCircle(ra, decl, {lon}, {lat}, {radius}) = 1"
        assert lab.ask(sql, "hand") == [(str(inside),)]
    expected = sorted(
        (str(n), name)
        for n, place in sky.optical.items()
        for name, other in sky.radio.items()
        if separation(place, other) < 0.15
    )
    found = lab.ask(
        "SELECT o.objectId, r.name FROM Optical o, Radio r "
        "WHERE scisql_angSep(o.ra, o.decl, r.lon, r.lat) < 0.15",
        "hand",
    )
    assert len(expected) > 20
    assert sorted(found) == expected


def test_a_plan_is_shown(lab: Lab, sky: Sky) -> None:
    rows = lab.ask("EXPLAIN SELECT * FROM Optical WHERE objectId = 7", "hand")
    assert rows[0][2] == "routed"
    assert rows[0][3] == "1"
