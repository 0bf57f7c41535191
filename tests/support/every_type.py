"""A catalogue of one director that has a column of every SQL type, with values that are hard on the wire."""

import random
from pathlib import Path

TYPES = {
    "ts": ("TIMESTAMP NULL", ("2024-10-27 00:30:00", "2024-10-27 01:30:00", "1970-01-02 00:00:00", "0000-00-00 00:00:00")),
    "ts6": ("TIMESTAMP(6) NULL", ("2024-10-27 00:30:00.000001", "2024-10-27 01:30:00.000001", "2038-01-01 00:00:00")),
    "dt": ("DATETIME(6)", ("2024-10-27 00:30:00.000005", "0000-00-00 00:00:00", "9999-12-31 23:59:59.999999")),
    "tm": ("TIME(6)", ("-838:59:59.000000", "838:59:59.000000", "12:00:00.500000", "-00:00:00.500000")),
    "da": ("DATE", ("0000-00-00", "2024-00-15", "9999-12-31", "1000-01-01")),
    "dz": ("DATE NOT NULL", ("0000-00-00", "2024-01-15", "9999-12-31")),
    "tz": ("DATETIME(3) NOT NULL", ("0000-00-00 00:00:00", "2024-01-15 00:00:00.125")),
    "yr": ("YEAR", ("1901", "2155", "0000", "2024")),
    "js": ("JSON", ('{"a": 1}', "[1, 2]", '"x"', '{"a": 2, "b": null}')),
    "bb": ("BLOB", ("ab", "AB", "é", "x\x01y", "a ")),
    "bn": ("BINARY(4)", ("ab", "abcd", "a")),
    "lt": ("LONGTEXT", ("Å", "b", "c ", "")),
    "mt": ("MEDIUMTEXT CHARACTER SET utf8mb3 COLLATE utf8mb3_bin", ("Å", "a", "A", "b ")),
    "l1": ("VARCHAR(10) CHARACTER SET latin1 COLLATE latin1_german2_ci", ("ä", "b", "C", "d ")),
    "vb": ("VARCHAR(10) COLLATE utf8mb4_bin", ("\U0001f600", "a", "A", "b ")),
    "uu": ("UUID", ("6ccd780c-baba-1026-9564-5b8c656024db", "00000000-0000-0000-0000-000000000001")),
    "i6": ("INET6", ("::1", "2001:db8::ff00:42:8329", "::192.0.2.128")),
    "i4": ("INET4", ("10.0.0.1", "192.168.1.2", "9.255.255.255")),
    "d65": ("DECIMAL(65,30)", ("12345678901234567890123456789012345.123456789012345678901234567890", "-1e-30", "7")),
    "d0": ("DECIMAL(20,0) UNSIGNED", ("18446744073709551615", "99999999999999999999", "0")),
    "zf": ("INT(6) UNSIGNED ZEROFILL", ("1", "42", "1234567")),
    "mi": ("MEDIUMINT", ("-8388608", "8388607", "0")),
    "ti": ("TINYINT(1)", ("-128", "127", "0", "1")),
    "bo": ("BOOLEAN", ("0", "1")),
    "b64": ("BIT(64)", ("0", "1", "18446744073709551615", "9223372036854775808")),
    "b1": ("BIT(1)", ("0", "1")),
    "bu": ("BIGINT UNSIGNED", ("0", "18446744073709551615", "9223372036854775808")),
    "fl": ("FLOAT(7,3)", ("1.5", "-3.125", "123.25")),
    "db": ("DOUBLE(10,2)", ("1.5", "-3.25", "12345.75")),
    "du": ("DOUBLE UNSIGNED", ("1.5", "0.25", "1048576")),
    "en": ("ENUM('b','a','','Ä') CHARACTER SET latin1 COLLATE latin1_bin", ("b", "a", "Ä")),
    "st": ("SET('z','y','x')", ("z", "y,x", "x", "z,x")),
}  # fmt: skip
"""Column → (its type, values; those of one column are not equal, as MariaDB compares them)."""
CATALOG = """\
database: odd
partitioning: {stripes: 3, sub_stripes: 4, overlap_deg: 1.0}
tables:
  - {name: Odd, kind: director, key: id, longitude: ra, latitude: decl, schema: odd.sql, files: [odd.csv],
     format: {type: csv, delimiter: "|", quote: null, escape: null, "null": "\\\\N", header: false}}
"""


def write(directory: Path, stars: int = 120, seed: int = 5) -> Path:
    """Write the catalogue and its file; return the catalogue file."""
    directory.mkdir(parents=True, exist_ok=True)
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in TYPES.items())
    head = "id BIGINT NOT NULL, ra DOUBLE NOT NULL, decl DOUBLE NOT NULL, g INT, wide FLOAT(7,3) DEFAULT 0"
    (directory / "odd.sql").write_text(f"CREATE TABLE Odd ({head}, {columns})\n")
    rng, sure = random.Random(seed), random.Random(seed + 1)
    lines = []
    for number in range(1, stars + 1):
        values = [
            sure.choice(values) if "NOT NULL" in kind else rng.choice([*values, "\\N"])
            for kind, values in TYPES.values()
        ]
        row = [number, rng.uniform(0, 360), rng.uniform(-80, 80), rng.randint(0, 3), "1234.25", *values]
        lines.append("|".join(map(str, row)) + "\n")
    (directory / "odd.csv").write_text("".join(lines))
    (directory / "catalog.yaml").write_text(CATALOG)
    return directory / "catalog.yaml"
