"""One cluster for all faults."""

import pytest

from tests.conftest import shared
from tests.faults.field import Field


@pytest.fixture(scope="session")
def field(tmp_path_factory):
    with shared():
        made = Field(tmp_path_factory.mktemp("faults"))
    try:
        yield made
    finally:
        with shared():
            made.close()
