"""What EXPLAIN says of chunks whose workers have been removed."""

import pytest

from proxy.explaining import Explainer
from proxy.home.metadata import CatalogueSnapshot
from shard.planner.lexer import LexerMode
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE


class Catalogue:
    def __init__(self, workers):
        self.workers = workers


@pytest.mark.parametrize(("workers", "found"), [({1, 2}, 2), ({2}, 1), (set(), 0)])
async def test_chunks_without_a_usable_copy_have_no_worker(workers, found):
    replicas = {"sky": {5: (1,), 6: (2,), 7: (1, 2)}}
    contents = CatalogueSnapshot(databases=CATALOGUE, replicas=replicas)
    plan = read("SELECT COUNT(objectId) FROM Object", "sky", CATALOGUE, LexerMode()).plan()
    explainer = Explainer(None, Catalogue(workers))  # type: ignore[arg-type] - nothing is looked up
    extent = await explainer._extent(contents, plan)
    assert (extent.chunks, extent.workers) == (3, found)
