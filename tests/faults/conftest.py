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


@pytest.fixture(autouse=True)
async def well(field):
    """Begin with a cluster of which all is well: the test before may have killed something at its end."""
    await field.until_well()
