"""Row → (chunk, sub-chunk) for whole arrays, and the overlap, exactly as Qserv's partitioner.

Formulas: Qserv's Chunker (stripes of equal height, segments that are at least as wide); names and
numbering are those of lsst-sphgeom's Chunker, with which the tests compare. Angles are degrees.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from shard.catalog.model import Partitioning

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
_POLE = 90.0 - 1.0 / 3600.0


class PositionError(ValueError):
    """A row has no position on the sky.

    Attributes
    ----------
    row : int
        Its index in the arrays.
    """

    def __init__(self, row: int, lon: float, lat: float) -> None:
        self.row, self.lon, self.lat = row, lon, lat
        super().__init__(f"row {row}: longitude {lon}, latitude {lat} is no position")


def segments(lat_min: float, lat_max: float, width: float) -> int:
    """Return how many segments of at least `width` degrees fit around a latitude band."""
    lat = max(abs(lat_min), abs(lat_max))
    if lat > _POLE or width >= 180.0:
        return 1
    cos_width = math.cos(math.radians(width))
    sin_lat, cos_lat = math.sin(math.radians(lat)), math.cos(math.radians(lat))
    x = cos_width - sin_lat * sin_lat
    u = cos_lat * cos_lat
    y = math.sqrt(abs(u * u - x * x))
    return math.floor(360.0 / abs(math.degrees(math.atan2(y, x))))


def max_alpha(radius: float, lat: float) -> float:
    """Return the half width in longitude of a circle of `radius` centred at latitude `lat`."""
    if radius == 0.0:
        return 0.0
    lat = abs(lat)
    if lat + radius > _POLE:
        return 180.0
    x = math.sin(math.radians(radius))
    y = math.sqrt(abs(math.cos(math.radians(lat - radius)) * math.cos(math.radians(lat + radius))))
    return abs(math.degrees(math.atan(x / y)))


def _along(lat: float, width: float) -> float:
    """Return how far apart two points of a latitude are whose longitudes differ by `width`."""
    half = math.sin(math.radians(min(width, 180.0) / 2))
    return math.degrees(2 * math.asin(math.cos(math.radians(lat)) * half))


class ChunkGrid:
    """The chunk grid of one partitioning.

    Parameters
    ----------
    stripes, sub_stripes : int
        Number of stripes, and of sub-stripes in each.
    overlap_deg : float
        Overlap in degrees, at most a sub-stripe's height.

    Raises
    ------
    ValueError
        If the numbers make no grid.
    """

    def __init__(self, stripes: int, sub_stripes: int, overlap_deg: float = 0.0) -> None:
        if stripes < 1 or sub_stripes < 1:
            raise ValueError("stripes and sub_stripes must be 1 or more")
        self.stripes, self.sub_stripes, self.overlap = stripes, sub_stripes, overlap_deg
        self.count = stripes * sub_stripes
        self.height = 180.0 / self.count
        if not 0.0 <= overlap_deg <= min(10.0, self.height):
            raise ValueError(
                f"overlap_deg {overlap_deg} must be between 0 and a sub-stripe's height ({self.height:.6g} deg)"
            )
        stripe_height = 180.0 / stripes
        self.chunks = np.array(
            [
                segments(i * stripe_height - 90.0, (i + 1) * stripe_height - 90.0, stripe_height)
                for i in range(stripes)
            ],
            dtype=np.int64,
        )
        edges = np.arange(self.count + 1) * self.height - 90.0
        self.sub_chunks = np.array(
            [
                segments(edges[k], edges[k + 1], self.height) // int(self.chunks[k // sub_stripes])
                for k in range(self.count)
            ],
            dtype=np.int64,
        )
        self.around = self.sub_chunks * self.chunks[np.arange(self.count) // sub_stripes]
        self.width = 360.0 / self.around
        self.max_sub_chunks = int(self.sub_chunks.max())
        self.alpha = np.array(
            [max_alpha(overlap_deg, max(abs(edges[k]), abs(edges[k + 1]))) for k in range(self.count)]
        )

    @staticmethod
    def of(partitioning: Partitioning) -> ChunkGrid:
        """Return the grid of a catalogue's partitioning; the same one each time, since making it takes milliseconds."""
        return _grid(partitioning.stripes, partitioning.sub_stripes, partitioning.overlap_deg)

    def all_chunks(self) -> Ints:
        """Return all chunk numbers."""
        numbers = [2 * self.stripes * i + np.arange(n) for i, n in enumerate(self.chunks)]
        return np.concatenate(numbers).astype(np.int32)

    @functools.cached_property
    def reach(self) -> float:
        """How far (degrees) a row in a chunk's overlap may be from the chunk.

        More than the overlap: in longitude, `overlap_rows` takes what is within the half width of a circle at the sub-stripe's
        edge nearest to a pole, which is wider on the other edge, and beyond an edge towards north or south both together.
        """
        found = [0.0]
        for k in range(self.count):
            edges = abs(k * self.height - 90.0), abs((k + 1) * self.height - 90.0)
            crossing = k * self.height < 90.0 < (k + 1) * self.height
            if self.around[k] > 1:
                found.append(_along(0.0 if crossing else min(edges), self.alpha[k]))
            for near, edge in ((k - 1, edges[0]), (k + 1, edges[1])):
                if 0 <= near < self.count and self.around[near] > 1:
                    found.append(self.overlap + _along(edge, self.alpha[near]))
                elif 0 <= near < self.count:
                    found.append(self.overlap)
        return max(found)

    def _reduce(self, lon: Floats, lat: Floats) -> Floats:
        bad = ~(np.isfinite(lon) & (np.abs(lat) <= 90.0))
        if bad.any():
            row = int(np.argmax(bad))
            raise PositionError(row, float(lon[row]), float(lat[row]))
        if not lon.size or (lon.min() >= 0.0 and lon.max() < 360.0):
            return lon
        reduced = np.mod(lon, 360.0)
        reduced[reduced >= 360.0] = 0.0
        return reduced

    def _place(self, lon: Floats, lat: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (sub-stripe, sub-chunk around it) of reduced positions."""
        k = np.minimum(np.floor((lat + 90.0) / self.height).astype(np.int64), self.count - 1)
        s = np.minimum(np.floor(lon / self.width[k]).astype(np.int64), self.around[k] - 1)
        return k, s

    def _chunk(self, k: npt.NDArray[np.int64], s: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return 2 * self.stripes * (k // self.sub_stripes) + s // self.sub_chunks[k]

    def locate(self, lon: Floats, lat: Floats) -> tuple[Ints, Ints]:
        """Return (chunk numbers, sub-chunk numbers) of positions.

        Parameters
        ----------
        lon, lat : array of float64, same shape
            Degrees; any longitude, reduced modulo 360.

        Raises
        ------
        PositionError
            For the first row whose position is not finite or whose latitude is outside [-90, 90].
        """
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        k, s = self._place(self._reduce(lon, lat), lat)
        per = self.sub_chunks[k]
        sub = (k - (k // self.sub_stripes) * self.sub_stripes) * self.max_sub_chunks + s % per
        return self._chunk(k, s).astype(np.int32), sub.astype(np.int32)

    def overlap_rows(self, lon: Floats, lat: Floats) -> tuple[npt.NDArray[np.int64], Ints]:
        """Return the other chunks in whose overlap rows lie.

        Returns
        -------
        rows, chunks : arrays of the same shape
            Unique pairs (row index, chunk number), the row's own chunk left out, sorted.
        """
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        lon = self._reduce(lon, lat)
        if not self.overlap:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        k, s = self._place(lon, lat)
        home = self._chunk(k, s)
        rows: list[npt.NDArray[np.int64]] = []
        found: list[npt.NDArray[np.int64]] = []
        index = np.arange(len(lon), dtype=np.int64)
        low = k * self.height - 90.0
        below = index[(k > 0) & (lat < low + self.overlap)]
        above = index[(k < self.count - 1) & (lat >= (k + 1) * self.height - 90.0 - self.overlap)]
        for near, step in ((below, -1), (above, 1)):
            self._across(lon[near], k[near] + step, near, rows, found)
        left = s * self.width[k]
        for near, step in (
            (index[(self.around[k] > 1) & (lon < left + self.alpha[k])], -1),
            (index[(self.around[k] > 1) & (lon > (s + 1) * self.width[k] - self.alpha[k])], 1),
        ):
            rows.append(near)
            found.append(self._chunk(k[near], (s[near] + step) % self.around[k[near]]))
        row, chunk = np.concatenate(rows), np.concatenate(found)
        other = chunk != home[row]
        pairs = np.unique(np.stack([row[other], chunk[other]], axis=1), axis=0)
        return pairs[:, 0], pairs[:, 1].astype(np.int32)

    def _across(
        self,
        lon: Floats,
        k: npt.NDArray[np.int64],
        index: npt.NDArray[np.int64],
        rows: list[npt.NDArray[np.int64]],
        found: list[npt.NDArray[np.int64]],
    ) -> None:
        """Add the segments of neighbouring sub-stripes `k` that positions reach."""
        if not len(lon):
            return
        width, alpha, around = self.width[k], self.alpha[k], self.around[k]
        first = np.floor((lon - alpha) / width).astype(np.int64)
        last = np.floor((lon + alpha) / width).astype(np.int64)
        last = np.minimum(last, first + around - 1)  # a cap over the pole reaches every segment once
        for step in range(int((last - first).max()) + 1):
            reached = first + step <= last
            rows.append(index[reached])
            found.append(self._chunk(k[reached], (first[reached] + step) % around[reached]))


@functools.lru_cache(64)
def _grid(stripes: int, sub_stripes: int, overlap_deg: float) -> ChunkGrid:
    return ChunkGrid(stripes, sub_stripes, overlap_deg)
