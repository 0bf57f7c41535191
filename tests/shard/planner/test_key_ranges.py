"""Ranges of director keys: one for all conditions that hold together, and no key that satisfies them is outside."""

import random
from fractions import Fraction

import pytest

from shard.planner.lexer import LexerMode
from shard.planner.plan import AllOf, AnyOf, ByKey, ByRange, Everywhere
from shard.planner.restrict import NOWHERE
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE

HUGE = [1 << 53, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
KEYS = [*range(-12, 13), 999, 1000, 1001, *HUGE, *(-key for key in HUGE[:3])]


def restriction(where, values=(), source="Object"):
    statement = read(f"SELECT objectId FROM {source} WHERE {where}", "sky", CATALOGUE, LexerMode())
    return statement.plan(values).restriction


def allows(found, key):
    """Whether a chunk with one row, of this key, is asked."""
    if isinstance(found, ByKey):
        return str(key) in found.keys
    if isinstance(found, ByRange):
        return any((a is None or a <= key) and (b is None or key <= b) for a, b in found.ranges)
    if isinstance(found, AllOf):
        return all(allows(part, key) for part in found.parts)
    if isinstance(found, AnyOf):
        return any(allows(part, key) for part in found.parts)
    assert found in (Everywhere(), NOWHERE)
    return found == Everywhere()


@pytest.mark.parametrize(
    ("where", "ranges"),
    [
        ("objectId < 5", [(None, 4)]),
        ("5 < objectId", [(6, None)]),
        ("objectId > 3 AND f > 1 AND (objectId <= 5000 AND objectId >= 7)", [(7, 5000)]),
        ("objectId BETWEEN 3 AND 5000 AND objectId < 4000", [(3, 3999)]),
        ("objectId > 4.5 AND objectId < 1e4", [(5, 9999)]),
        ("objectId < 5 OR objectId BETWEEN 5 AND 9000 OR objectId >= 10000", [(None, 9000), (10000, None)]),
        ("objectId > -5 AND objectId < +7000", [(-4, 6999)]),
    ],
)
def test_conditions_are_one_range(where, ranges):
    assert restriction(where) == ByRange("Object", tuple(ranges))


@pytest.mark.parametrize(
    "where",
    [
        "NOT objectId < 5", "objectId NOT BETWEEN 4 AND 5000", "objectId < 5 OR objectId >= 5", "objectId < 5 OR f > 1",
        "objectId > '5'", "objectId > 1e300", "objectId > f", "objectId + 1 > 5", "objectId BETWEEN 5 AND f", "5 BETWEEN objectId AND 9",
        "objectId BETWEEN 5 AND 1e300", "objectId >= -9223372036854775808", "(objectId < 5) IS NOT TRUE", "f BETWEEN 5 AND 7",
    ],
)  # fmt: skip
def test_what_names_no_range(where):
    assert restriction(where) == Everywhere()


def test_short_ranges_are_lists_and_empty_ones_nowhere():
    assert restriction("objectId > 4 AND objectId <= 6") == ByKey("Object", ("5", "6"))
    assert restriction("objectId > 6 AND objectId < 6") == NOWHERE
    assert restriction("objectId BETWEEN 4.2 AND 4.8") == NOWHERE


def test_parameters():
    assert restriction("objectId > ? AND objectId <= ?", (3, 1 << 40)) == ByRange("Object", ((4, 1 << 40),))
    assert restriction("objectId > ? AND objectId <= ?", (2.5, None)) == ByRange("Object", ((3, None),))
    assert restriction("objectId > ?", ("3",)) == Everywhere()


def test_rows_of_the_side_that_may_be_missing():
    joined = "Object o LEFT JOIN Source s ON o.objectId = s.objectId AND s.objectId < 9"
    assert restriction("o.f > 1", source=joined) == Everywhere()
    assert restriction("s.objectId > 9", source=joined) == ByRange("Object", ((10, None),))


def test_many_ranges_are_not_looked_up():
    terms = " OR ".join(f"objectId BETWEEN {n} AND {n + 5000}" for n in range(0, 10_000_000, 9000))
    assert restriction(terms) == Everywhere()


def condition(rng, depth=2):
    """Return a condition and what tells whether a key satisfies it."""
    if depth and rng.random() < 0.6:
        sides = [condition(rng, depth - 1) for _ in range(rng.randint(2, 3))]
        word, joined = rng.choice([("AND", all), ("OR", any)])
        return (
            f"({f' {word} '.join(text for text, _ in sides)})",
            lambda key: joined(test(key) for _, test in sides),
        )
    texts = [str(key) for key in KEYS] + ["4.5", "-4.5", "5.0", "1e1", "-2.5e0", "0.99999"]
    first, second = rng.choice(texts), rng.choice(texts)
    a, b = Fraction(first), Fraction(second)
    return rng.choice(
        [
            (f"objectId < {first}", lambda key: key < a),
            (f"{first} <= objectId", lambda key: a <= key),
            (f"objectId > {first}", lambda key: key > a),
            (f"objectId >= {first}", lambda key: key >= a),
            (f"objectId BETWEEN {first} AND {second}", lambda key: a <= key <= b),
            (f"objectId = {KEYS[3]}", lambda key: key == KEYS[3]),
        ]
    )


def test_no_key_is_lost():
    rng = random.Random(11)
    ranged = 0
    for _ in range(400):
        text, holds = condition(rng)
        found = restriction(text)
        ranged += found != Everywhere()
        lost = [key for key in KEYS if holds(key) and not allows(found, key)]
        assert not lost, text
    assert ranged > 200
