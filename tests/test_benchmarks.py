"""The benchmark tells wrong answers from right ones, and aims that are met from those that are not."""

import math
import random

import numpy as np
import pytest

from benchmarks import aims
from benchmarks.answers import Answer, Judge, pairs
from shard.wire.packets import ColumnDefinition, lenenc_bytes, packet

COLUMNS = tuple(
    ColumnDefinition(
        b"def", b"", b"", b"", name, name, charset=63, length=20, type=kind, flags=0, decimals=31
    ).encode()
    for name, kind in ((b"n", 8), (b"x", 5))
)
ROWS = [(b"%d" % n, b"%r" % (n / 7)) for n in range(1, 40)]


def answer(rows, sizes=(7, 100)):
    """Return rows in blocks of so many, with sequence numbers of their own."""
    blocks, rows = [], list(rows)
    for size in sizes:
        part, rows = rows[:size], rows[size:]
        blocks.append(b"".join(packet(b"".join(map(lenenc_bytes, row)), len(part)) for row in part))
    return Answer(COLUMNS, tuple(blocks))


@pytest.mark.parametrize("ordered", [False, True])
def test_answers_are_compared_by_rows(ordered):
    judge, want = Judge(ordered), answer(ROWS)
    assert judge.equal(answer(ROWS, (1, 2, 50)), want)
    turned = random.Random(1).sample(ROWS, len(ROWS))
    assert judge.equal(answer(turned), want) is not ordered
    last = b"%r" % (1 / 7 * (1 + 1e-13))  # a sum in another order
    assert last != ROWS[0][1]
    assert judge.equal(answer([(b"1", last), *ROWS[1:]]), want)
    for wrong in (
        ROWS[1:],
        [*ROWS, ROWS[0]],
        [(b"1", b"0.1428"), *ROWS[1:]],
        [(b"2", ROWS[0][1]), *ROWS[1:]],
    ):
        assert not judge.equal(answer(wrong), want)


def test_pairs_are_counted_over_the_border_of_longitudes():
    chance = np.random.default_rng(2)
    places = np.column_stack([chance.uniform(-1, 1, 300) % 360, chance.uniform(58, 62, 300)])
    lon, lat = np.radians(places).T
    vectors = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    near = np.linalg.norm(vectors[:, None] - vectors[None], axis=2) < 2 * math.sin(math.radians(0.2) / 2)
    assert near.sum() > 400
    assert pairs(places, places, 0.2) == near.sum()


def test_an_aim_is_met_at_its_size_only():
    aim = aims.Aim("rows", "figure", 2, provided="size", enough=100)
    assert aim.line({})[3] == "not measured"
    assert aim.line({"figure": 2.0, "size": 100})[2:] == ("2x", "yes")
    assert aim.line({"figure": 2.1, "size": 100})[3] == "**no**"
    assert aim.line({"figure": 1.0, "size": 99})[3].startswith("only at 99")
    assert aims.Aim("rate", "figure", 0.5, least=True).line({"figure": 0.4})[3] == "**no**"
