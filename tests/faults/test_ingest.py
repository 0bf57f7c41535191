"""Something is killed at random moments of an ingest, and the same command finishes it (long: `make chaos`)."""

import asyncio
import json

import pytest

from tests.conftest import shared
from tests.faults.field import Field
from tests.faults.ingest import Rounds
from tests.support.servers import skyshard
from tests.support.sky import Sky, signature, written

ROUNDS = 3


@pytest.fixture(scope="module")
def rounds(field: Field, tmp_path_factory):
    """The catalogue that grows, for all tests here; nothing is left of it at the end."""
    with shared():
        made = Rounds(field, tmp_path_factory.mktemp("rounds"), seed=4)
        made.publish()
    yield made
    asyncio.run(made.nothing_left())


@pytest.mark.timeout(300)
async def test_killed_ingests_are_finished(rounds: Rounds):
    for number in range(ROUNDS):
        await rounds.round(number)
    assert rounds.landed


@pytest.mark.timeout(300)
async def test_a_killed_first_ingest_is_finished(rounds: Rounds):
    await rounds.first(ROUNDS)


async def test_new_copies_have_transactions_rows(field: Field, rounds: Rounds, tmp_path):
    sky, later = Sky(40, 20), Sky(60, 9)
    first, both = signature(*rounds.skies), signature(*rounds.skies, sky)
    numbers = []
    for part in (sky, later):
        catalog = written(tmp_path / str(len(numbers)), "grows", part, ("Star", "Ref", "Visit", "Pair"))
        done = skyshard("ingest", catalog, "--append", "--json", "--dir", field.cluster.directory)
        numbers.append(json.loads(done.stdout)["id"])
    await field.worker(1, f"DROP DATABASE skyshard_stage_{numbers[0]}")
    assert await rounds.state() == signature(*rounds.skies, sky, later)  # the other copies answer
    done = skyshard("repair", "grows", "--json", "--dir", field.cluster.directory)
    (outcome,) = json.loads(done.stdout)
    assert outcome["damaged"] == outcome["copied"] > 0
    again = skyshard("repair", "grows", "--json", "--dir", field.cluster.directory)
    assert json.loads(again.stdout)[0]["damaged"] == 0
    for number, wanted in ((numbers[1], both), (numbers[0], first)):
        skyshard("ingest", "--undo", number, "--grace", "0", "--dir", field.cluster.directory)
        assert await rounds.state() == wanted
