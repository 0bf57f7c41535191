"""Stars are read from an astrometry.net index as the index's own library reads them, and paired by angle."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skyshard.cli import cli
from skyshard.sample import tycho2

STEPS = 2.0**31
CORNER = -1.0


def fits(*tables: tuple[str, bytes, int]) -> bytes:
    """Return a FITS file of binary tables: (name of the one column, data, bytes per row)."""
    out = _header(("SIMPLE", "T"), ("BITPIX", "8"), ("NAXIS", "0"))
    for name, data, width in tables:
        out += _header(
            ("XTENSION", "'BINTABLE'"), ("BITPIX", "8"), ("NAXIS", "2"), ("NAXIS1", str(width)),
            ("NAXIS2", str(len(data) // width)), ("TTYPE1", f"'{name}'"),
        )  # fmt: skip
        out += data + b"\0" * (-len(data) % 2880)
    return out


def _header(*cards: tuple[str, str]) -> bytes:
    text = "".join(f"{key:8}= {value:>20} / said".ljust(80) for key, value in cards) + "END".ljust(80)
    return text.ljust(-(-len(text) // 2880) * 2880).encode()


def stars_index(vectors: np.ndarray, magnitudes: list[float]) -> bytes:
    steps = np.round((vectors - CORNER) * STEPS).clip(0, 2**32 - 1).astype("<u4")
    span = np.array([CORNER] * 3 + [1.0] * 3 + [STEPS], "<f8")
    return fits(
        ("kdtree_lr_stars", b"\1\2\3\4", 4),
        ("kdtree_range_stars", span.tobytes(), 56),
        ("kdtree_data_stars", steps.tobytes(), 12),
        ("MAG_VT", np.array(magnitudes, ">f4").tobytes(), 4),
    )


def vectors(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    a, b = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=1)


def test_positions_and_magnitudes_are_read(tmp_path: Path) -> None:
    lon, lat = np.array([0.0, 90.0, 200.25, 359.999]), np.array([0.0, -45.0, 89.5, 12.25])
    (tmp_path / "i.fits").write_bytes(stars_index(vectors(lon, lat), [1.5, -2.25, 11.0, 12.5]))
    stars = tycho2.read(tmp_path / "i.fits")
    assert stars.column("tycho2Id").to_pylist() == [1, 2, 3, 4]
    apart = np.abs(stars.column("ra").to_numpy() - lon)
    np.testing.assert_allclose(np.minimum(apart, 360 - apart), 0.0, atol=1e-5)
    np.testing.assert_allclose(stars.column("decl").to_numpy(), lat, atol=1e-6)
    assert stars.column("vt").to_pylist() == [1.5, -2.25, 11.0, 12.5]
    assert (stars.column("ra").to_numpy() < 360.0).all()


@pytest.mark.parametrize("content", [b"", b"no index", fits(("MAG_VT", b"\0" * 8, 4))])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "i.fits").write_bytes(content)
    with pytest.raises(tycho2.NotAnIndex):
        tycho2.read(tmp_path / "i.fits")


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = stars_index(vectors(np.arange(900.0) % 360, np.zeros(900)), [1.0] * 900)
    (tmp_path / "i.fits").write_bytes(whole[:-2880])
    with pytest.raises(tycho2.NotAnIndex, match="cut short"):
        tycho2.read(tmp_path / "i.fits")


def test_pairs_are_those_of_every_comparison() -> None:
    rng = np.random.default_rng(5)
    lon = np.concatenate(
        [rng.uniform(0, 360, 300), rng.uniform(-0.02, 0.02, 100) % 360, rng.uniform(0, 360, 100)]
    )
    lat = np.concatenate([rng.uniform(-90, 90, 300), rng.uniform(-0.02, 0.02, 100), np.full(100, 89.99)])
    other = (lon + rng.normal(0, 0.003, 500)) % 360, np.clip(lat + rng.normal(0, 0.003, 500), -90, 90)
    radius = 0.005
    first, second, separation = tycho2.pairs((lon, lat), other, radius)
    a, b = vectors(lon, lat), vectors(*other)
    chord = np.sqrt(((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))
    angles = np.degrees(2 * np.arcsin(chord / 2))
    expected = np.argwhere(angles <= radius)
    assert len(expected) > 100
    assert np.stack([first, second], axis=1).tolist() == expected.tolist()
    np.testing.assert_allclose(separation, angles[first, second])


def test_without_apt_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(cli, ["sample", "--full", "--dir", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "--full needs apt-get" in done.output
    assert tycho2.PACKAGE in done.output
    assert not (tmp_path / "out" / "CATALOG.yaml").exists()


def test_a_download_that_fails_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, lines in (
        ("apt-get", "echo 'E: Unable to locate package x' >&2; exit 100"),
        ("dpkg-deb", "exit 0"),
    ):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\n{lines}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{Path(shutil.which('sh') or '/bin/sh').parent}")
    done = CliRunner().invoke(cli, ["sample", "--full", "--dir", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "E: Unable to locate package x" in done.output
    assert "apt-get update" in done.output
    assert not list((tmp_path / "out" / "data").glob("tycho2*"))


def test_full_and_a_number_of_stars_exclude_each_other(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["sample", "--full", "--stars", "5", "--dir", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "exclude each other" in done.output
