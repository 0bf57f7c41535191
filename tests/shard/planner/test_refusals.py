"""What is refused, with its error: the table in docs/sql.md is made from this list, and checked against it."""

import os
import re
from pathlib import Path

import pytest

from shard.errors import SkyError
from shard.planner.envelope import find
from shard.planner.lexer import LexerMode, tokenize
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE

DOCS = Path(__file__).parents[3] / "docs" / "sql.md"
MARKS = ("<!-- refusals: made by tests/shard/planner/test_refusals.py -->\n", "<!-- end of refusals -->\n")
MODE = re.compile(r"SET STATEMENT sql_mode='(\w+)' FOR ")
STATEMENTS = [
    "SELECT @n := objectId FROM Object",
    "SELECT SLEEP(1) FROM Object",
    "SELECT GET_LOCK('a', 1), objectId FROM Object",
    "SELECT UUID_SHORT() FROM Object",
    "SELECT LOAD_FILE('f') FROM Object",
    "SELECT FOUND_ROWS(), objectId FROM Object",
    "SELECT objectId FROM Object WHERE ROWNUM() < 5",
    "SELECT objectId INTO OUTFILE 'f' FROM Object",
    "SELECT scisql_median(mag), COUNT(*) FROM Object GROUP BY flags WITH ROLLUP",
    "SELECT scisql_percentile(mag, 200) FROM Object",
    "SELECT scisql_nothing(ra) FROM Object",
    "SELECT scisql_angSep(ra, decl) FROM Object",
    "SELECT * FROM Object a, Object b WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < 5",
    "SELECT * FROM Object WHERE scisql_s2PtInBox(ra, decl, ra, 0, 1, 1) = 1",
    "INSERT INTO mine.t SELECT objectId FROM Object ON DUPLICATE KEY UPDATE a = (SELECT 1)",
]


def plan(sql):
    """Plan a statement, or the query inside one that stores rows."""
    envelope, mode = find(sql, tokenize(sql)), LexerMode()
    if (given := MODE.match(sql)) is not None:
        sql, mode = sql[given.end() :], LexerMode.of(given[1])
    return read(envelope.query if envelope is not None else sql, "sky", CATALOGUE, mode).plan()


def refusal(sql):
    """Return errno and text with which a statement is refused."""
    with pytest.raises(SkyError) as caught:
        plan(sql)
    return caught.value.errno, caught.value.message


def test_the_documented_refusals():
    rows = [(sql, *refusal(sql)) for sql in STATEMENTS]
    table = "| statement | errno | error |\n|---|---|---|\n"
    table += "".join(f"| `{sql}` | {errno} | {text} |\n".replace("||", r"\|\|") for sql, errno, text in rows)
    text = DOCS.read_text()
    head, _, rest = text.partition(MARKS[0])
    shown, _, tail = rest.partition(MARKS[1])
    if os.environ.get("UPDATE_PLANS"):
        DOCS.write_text(head + MARKS[0] + table + MARKS[1] + tail)
    else:
        assert shown == table
    assert all(errno in (1210, 1235) for _, errno, _ in rows)
    assert not any(re.search(r"/|_\d+\b", text) for _, _, text in rows if "scisql" not in text)
