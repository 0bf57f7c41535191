"""A fixed run of generated queries: what `make fuzz` does at length."""

import pytest

from shard.wire.packets import ColumnDefinition, lenenc_bytes, packet
from tests.fuzz.compare import Answer, decode, difference, unequal, unlike
from tests.fuzz.generate import generate
from tests.fuzz.partitions import Partition, partition
from tests.fuzz.refusals import REFUSED, known
from tests.fuzz.runner import EVERY, INTERNAL, Lane, Outcome, Runner, _failed
from tests.fuzz.tree import Node, Query, listed, text

SEED = 7
COUNT = 2000
DIVERGED = 12
"""Known divergences among them: may only become fewer."""


@pytest.mark.timeout(600)
async def test_generated_queries_agree(cluster, plain):
    outcome = Outcome()
    async with Runner(cluster.address, plain.address) as runner:
        await runner.run(SEED, range(COUNT), outcome)
    told = outcome.summary(SEED, 0)
    assert not outcome.failures, "\n".join(map(str, outcome.failures))
    assert (outcome.asked, outcome.partitions) == (COUNT, COUNT // EVERY)
    assert not outcome.errors[INTERNAL], told
    assert sum(outcome.diverged.values()) <= DIVERGED, told
    assert set(outcome.refused) <= known(), told
    assert outcome.errors[0] >= COUNT * 9 // 10, told
    assert outcome.slow <= COUNT // 500, told


async def test_refusals_and_internal_errors_fail(monkeypatch, cluster, plain):
    lane = Lane(cluster.address, plain.address)
    refused = Query(text("SELECT starId, UUID_SHORT() FROM Star"))
    try:
        assert (await lane.compare(refused, False)).reason is None
        monkeypatch.setattr("tests.fuzz.runner.known", frozenset)
        assert (await lane.compare(refused, False)).reason.startswith("refused: ")
    finally:
        await lane.close()
    both = Answer(errno=INTERNAL, message="internal error")
    assert _failed(both, both).startswith("internal error")
    assert _failed(Answer(errno=REFUSED, message="x"), Answer(errno=REFUSED)) is None
    assert _failed(Answer(errno=1054, message="x")) is None


def test_the_listed_refusals_are_read():
    assert any(
        item.startswith("skyshard doesn't yet support ") and "uuid_short" in item.lower() for item in known()
    )
    assert len(known()) >= 10
    assert not any("scisql_nothing" in item for item in known())  # which is another error


def test_a_seed_and_index_make_one_query():
    assert [generate(5, 9).root.render() for _ in range(2)] == [generate(5, 9).root.render()] * 2
    assert len({generate(5, index).root.render() for index in range(50)}) >= 48


def test_smaller_trees_lose_one_thing():
    query = Node("query", ("SELECT ", listed(", ", ["a", "b"]), " FROM t", Node("opt", (" WHERE x",))))
    assert [tree.render() for tree in query.smaller()] == [
        "SELECT b FROM t WHERE x", "SELECT a FROM t WHERE x", "SELECT a, b FROM t",
    ]  # fmt: skip


def test_differences_are_seen():
    ordered = Query(Node("query", ("SELECT", Node("tail", (" ORDER BY k", Node("limit")), total=True))))
    loose = Query(text("SELECT"), loose=True)
    one, other = Answer(rows=((b"a",), (b"b",))), Answer(rows=((b"b",), (b"a",)))
    assert difference(Query(text("SELECT")), one, other) is None
    assert "order" in difference(ordered, one, other)
    assert "rows" in difference(loose, one, Answer(rows=((b"a",), (b"c",))))
    assert difference(loose, one, Answer(rows=((b"A ",), (b"b",)))) is None
    assert difference(loose, Answer(errno=1), Answer(errno=2, message="x")).startswith("error 1")
    limited = Answer(rows=((b"b",),))
    assert difference(loose, limited, Answer(rows=((b"a",),)), one) is None
    assert "not in the full answer" in difference(
        loose, Answer(rows=((b"z",),)), Answer(rows=((b"a",),)), one
    )


def test_only_sums_of_double_have_free_digits():
    exact, sums = Query(text("SELECT")), Query(text("SELECT"), approx=True)
    for value, near, far in ((1e6, 1e6 + 1e-7, 1e6 + 1e-5), (0.0, 1e-13, 1e-11)):
        one = Answer(rows=((value,),))
        assert difference(exact, one, one) is None
        assert difference(exact, one, Answer(rows=((near,),))) is not None
        assert difference(sums, one, Answer(rows=((near,),))) is None
        assert difference(sums, one, Answer(rows=((far,),))) is not None


def test_a_shown_sum_may_be_rounded_the_other_way_in_its_last_digit_only():
    shown = Query(text("SELECT"), approx=True, shown=True)
    for decimals, value, near, far in (
        (4, b"1.2345", b"1.2346", b"1.2347"), (2, b"1.23", b"1.24", b"1.25"), (31, b"1.23", b"1.230", b"1.2301"),
    ):  # fmt: skip
        columns = (_column(type=5, decimals=decimals),)
        one, two, three = (
            Answer(columns=columns, rows=decode(packet(lenenc_bytes(item), 0), columns, False))
            for item in (value, near, far)
        )
        assert difference(shown, one, two) is None
        assert difference(shown, one, three) is not None


def _column(**changed):
    fixed = {"catalog": b"def", "schema": b"s", "table": b"t", "org_table": b"o", "name": b"n"}
    rest = {"org_name": b"on", "charset": 63, "length": 20, "type": 8, "flags": 1, "decimals": 0}
    return ColumnDefinition(**(fixed | rest | changed))


def test_definitions_must_be_those_of_one_plan():
    ours = Answer(columns=(_column(),))
    assert unlike(ours, [ours]) is None
    assert unlike(ours, [Answer(columns=(_column(flags=1 | 2 | 16384),))]) is None  # part of a key: free
    for name, value in (("length", 21), ("flags", 0), ("org_name", b"x"), ("decimals", 2), ("charset", 45)):
        other = Answer(columns=(_column(**{name: value}),))
        assert unequal(*unlike(ours, [other])) == (name,)
        assert unlike(ours, [other, ours]) is None


def test_a_partition_is_the_sum_of_its_parts():
    rows, one, two = Answer(rows=((1,), (2,), (2,))), Answer(rows=((2,),)), Answer(rows=((1,), (2,)))
    whole = Query(text("SELECT"))
    assert Partition(whole, (), (), "rows").difference(rows, [one, two]) is None
    assert "in no part" in Partition(whole, (), (), "rows").difference(rows, [two])
    assert "only in parts" in Partition(whole, (), (), "rows").difference(rows, [one, two, one])
    distinct = Partition(whole, (), (), "distinct")
    assert distinct.difference(Answer(rows=((1,), (2,))), [one, two]) is None
    assert distinct.difference(Answer(rows=((1,), (3,))), [one, two]) is not None
    counts = Partition(whole, (), (), "counts", ("sum", "min", "max"))
    parts = [Answer(rows=((3, -1, None),)), Answer(rows=((4, 5, 9),)), Answer(rows=((0, None, None),))]
    assert counts.difference(Answer(rows=((7, -1, 9),)), parts) is None
    assert counts.difference(Answer(rows=((8, -1, 9),)), parts) is not None


def test_partitions_are_of_conditions_and_of_regions():
    made = [partition(3, index) for index in range(60)]
    assert {item.kind for item in made} == {"rows", "distinct", "counts"}
    assert {len(item.parts) for item in made} == {2, 3, 4}
    texts = [part for item in made for part in item.parts]
    assert any("scisql_" in part for part in texts)
    assert any("IS NULL" in part for part in texts)
    assert not any("scisql_" in part for item in made for part in item.plain_parts)
