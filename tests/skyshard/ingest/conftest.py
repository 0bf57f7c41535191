"""What tests of ingests share: workers that are known to be away, and names that leave nothing owed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from skyshard.catalog import cluster
from tests.skyshard.conftest import Lab

OWED = "SELECT COUNT(*) FROM skyshard_meta.worker_debts"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a worker that is away without a pause between: it is not starting again."""
    monkeypatch.setattr(cluster, "AGAIN_S", 0.1)


@pytest.fixture
def paid_name(lab: Lab, impatient: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a catalogue that leaves nothing, on any worker, and nothing to be done later."""
    made = request.node.name.removeprefix("test_")[:20].rstrip("_")
    yield made
    if made in lab.command("catalog", "list").output:
        lab.drop(made)
    assert lab.traces(made) == []
    assert lab.home(OWED) == [("0",)]
