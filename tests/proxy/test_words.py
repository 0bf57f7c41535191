"""Words in short and long texts: found as the expression alone finds them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import classify, deciding, dynamic
from proxy.aside import LONG
from proxy.jobs import statements as jobs
from proxy.session import diagnostics, own_settings, statements
from proxy.words import Words, parts, words

ALL = {
    "questions": diagnostics.QUESTIONS,
    "own": statements.OWN,
    "settings": own_settings.PATTERN,
    "dynamic": dynamic.PATTERN,
    "jobs": jobs._NAMES,
    "last": deciding._LAST,
    "temporary": deciding._TEMPORARY,
    "locks": deciding._LOCKS,
    "view": deciding._VIEW,
    "functions": classify.Mentions.of({}, 0, [("d", "seen"), ("d", "a.b")]).pattern,
}
SAID = (
    b"SELECT FOUND_ROWS()", b"select @@Warning_Count", b"KILL 5", b"show Errors", b"SET skyshard_Gather_Limit = 5", b"EXECUTE x",
    b"qserv_RESULT(5)", b"Information_Schema . `queries`", b"CREATE TEMPORARY TABLE", b"UNLOCK  TABLES", b"get_lock('a', 1)",
    b"flush tables with  READ lock", b"create VIEW v", b"SCISQL_angSep(1)", b"Qserv_Areaspec_box", b"SELECT * FROM seen", b"a.b",
    b"SEEN", b"aXb", b"skilled", b"viewer", b"executed", b"information_schemas", b"blocks",
)  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_long_texts_are_found_what_the_expression_finds(name):
    some: Words = ALL[name]
    for said in SAID:
        for long in (
            said + b" " + b"y" * LONG,
            b"y" * LONG + b" " + said,
            b"'" + b"\xff" * LONG + b"'" + said,
        ):
            found, plain = some.search(long), some._pattern.search(long)
            assert (found and found.span()) == (plain and plain.span()), said
    assert any(some.search(said) for said in SAID)


@given(st.text(alphabet="kilKILvew_ \n`", max_size=40), st.integers(0, 1))
def test_any_text(text, long):
    said = text.encode() + b"." * (LONG * long)
    for some in (words(b"kill", b"view"), parts(b"kil", b"l_v")):
        found, plain = some.search(said), re.search(some._pattern, said)
        assert (found and found.span()) == (plain and plain.span())


def test_names_of_a_catalogue_mind_their_case():
    found = classify.Mentions.of({}, 0, [("d", "Seen")]).pattern
    assert found.search(b"SELECT * FROM Seen" + b" " * LONG)
    assert not found.search(b"SELECT * FROM seen" + b" " * LONG)
