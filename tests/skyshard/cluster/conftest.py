"""Clusters of this suite: private directories, ended whatever happens."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skyshard.cluster import local
from skyshard.errors import UserError

Maker = Callable[[Path, local.Wish], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """Start clusters that are stopped at the module's end."""
    made: list[Path] = []

    def start(directory: Path, wish: local.Wish) -> Path:
        made.append(directory)
        local.up(directory, wish)
        return directory

    yield start
    for directory in dict.fromkeys(made):
        with contextlib.suppress(UserError):
            local.down(directory)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def running(make: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a cluster with one worker and two proxies."""
    directory = tmp_path_factory.mktemp("local") / "c"
    return make(directory, local.Wish(workers=1, proxies=2, port=local.free_port()))
