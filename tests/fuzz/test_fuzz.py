"""A fixed run of generated queries: what `make fuzz` does at length."""

import asyncio

from tests.fuzz.compare import Answer, difference
from tests.fuzz.generate import generate
from tests.fuzz.run import Outcome, Runner, summary
from tests.fuzz.tree import Node, Query, listed, text

SEED = 7
COUNT = 300


def test_generated_queries_agree(cluster, plain):
    outcome = Outcome()

    async def run():
        runner = Runner(cluster.address, plain.address)
        try:
            await runner.run(SEED, range(COUNT), outcome)
        finally:
            await runner.close()

    asyncio.run(run())
    told = summary(outcome, SEED, 0)
    assert not outcome.failures, "\n".join(map(str, outcome.failures))
    assert outcome.asked == COUNT
    assert sum(outcome.refused.values()) <= COUNT // 50, told
    assert outcome.errors[0] >= COUNT * 9 // 10, told
    assert outcome.slow <= COUNT // 100, told


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
