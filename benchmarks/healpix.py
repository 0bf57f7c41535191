"""HEALPix pixels of positions, for the benchmark of an indexed column of them: no dependency of skyshard has them for arrays.

Only as good as that needs: a cone's pixels are found by points, and the benchmark compares the rows with those of a scan.
"""

from __future__ import annotations

import numpy as np

NSIDE = 512
"""Resolution: pixels of 0.115°."""


def pixels(ra: np.ndarray, decl: np.ndarray) -> np.ndarray:
    """Return HEALPix pixels (ring order, Górski et al. 2005) of positions in degrees."""
    z, phi = np.sin(np.radians(decl)), (ra % 360) / 90
    up = np.floor(NSIDE * (0.5 + phi - 0.75 * z)).astype(np.int64)
    down = np.floor(NSIDE * (0.5 + phi + 0.75 * z)).astype(np.int64)
    ring = NSIDE + 1 + up - down
    at = (up + down - NSIDE + 1 - (ring % 2 - 1)) // 2 % (4 * NSIDE)
    belt = 2 * NSIDE * (NSIDE - 1) + (ring - 1) * 4 * NSIDE + at
    far = NSIDE * np.sqrt(3 * (1 - np.abs(z)))
    part = phi % 1
    west, east = np.floor(part * far).astype(np.int64), np.floor((1 - part) * far).astype(np.int64)
    ring = west + east + 1
    at = np.floor(phi * ring).astype(np.int64) % (4 * ring)
    cap = np.where(z > 0, 2 * ring * (ring - 1), 12 * NSIDE * NSIDE - 2 * ring * (ring + 1)) + at
    return np.where(np.abs(z) <= 2 / 3, belt, cap)


def cover(ra: float, decl: float, radius: float) -> list[int]:
    """Return the pixels that a cone touches, found by points a tenth of its radius apart."""
    step = np.arange(-11, 12) * radius / 10
    x, y = (one.ravel() for one in np.meshgrid(step, step))
    near = np.hypot(x, y) <= 1.1 * radius
    lat = decl + y[near]
    return sorted({int(one) for one in pixels(ra + x[near] / np.cos(np.radians(lat)), lat)})
