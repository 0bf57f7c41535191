"""What a process puts aside is removed: at its end, or by the next one if it was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from backend.scratch import scratch

PREFIX = "skyshard-test-"
_HOLDS = """
import sys
from backend.scratch import scratch
with scratch("skyshard-test-") as path:
    (path / "text").write_text("rows")
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """Return a directory for temporary files that is this test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _holder():
    return subprocess.Popen(
        [sys.executable, "-c", _HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_directory_goes_at_the_end(directory):
    with scratch(PREFIX) as path:
        (path / "text").write_text("rows")
        assert path.parent == directory
    assert not list(directory.iterdir())


def test_one_that_is_in_use_stays_and_a_killed_ones_goes(directory):
    with _holder() as holder:
        path = Path(holder.stdout.readline().strip())
        with scratch(PREFIX):
            assert (path / "text").exists()
        holder.kill()
        holder.wait()
        assert path.exists()
        with scratch(PREFIX) as own:
            assert list(directory.iterdir()) == [own]


def test_a_directory_that_only_has_such_a_name_stays(directory):
    own = directory / f"{PREFIX}catalogue"
    own.mkdir()
    (own / "stars.csv").write_text("1,2\n")
    with scratch(PREFIX):
        pass
    assert (own / "stars.csv").exists()


def test_only_directories_of_that_name_are_looked_at(directory):
    (directory / "elsewhere").mkdir()
    (directory / f"{PREFIX}link").symlink_to(directory / "elsewhere")
    (directory / f"{PREFIX}file").write_text("")
    with scratch(PREFIX):
        pass
    assert len(list(directory.iterdir())) == 3
