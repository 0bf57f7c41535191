"""Makes data/hipparcos.parquet from d3-celestial's stars.14.json (npm package d3-celestial 0.7.35, BSD-3).

Run: ``python -m skyshard.sample.make_hipparcos package/data/stars.14.json skyshard/sample/data/hipparcos.parquet``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet


def main(source: str, target: str) -> None:
    """Write the stars: HIP number, longitude in [0, 360), declination, V and B-V."""
    features = json.loads(Path(source).read_text())["features"]
    stars: dict[int, tuple[float, float, float, float | None]] = {}
    for item in features:
        lon, lat = item["geometry"]["coordinates"]
        colour = item["properties"].get("bv")
        value = float(colour) if colour not in (None, "") else None
        stars[int(item["id"])] = (round(lon % 360.0, 4) % 360.0, lat, float(item["properties"]["mag"]), value)
    keys = sorted(stars)
    table = pa.table(
        {
            "objectId": pa.array(keys, pa.int64()),
            "ra": pa.array([stars[key][0] for key in keys], pa.float64()),
            "decl": pa.array([stars[key][1] for key in keys], pa.float64()),
            "vmag": pa.array([stars[key][2] for key in keys], pa.float32()),
            "bv": pa.array([stars[key][3] for key in keys], pa.float32()),
        }
    )
    pyarrow.parquet.write_table(table, target, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
