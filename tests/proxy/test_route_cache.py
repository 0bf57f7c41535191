"""What is remembered of decisions: only for the settings, the catalogue and the views that they were made by."""

import dataclasses

import pytest

from proxy.home.metadata import CatalogueSnapshot
from proxy.home.settings import SessionSettings
from proxy.home.views import HomeViews
from proxy.route_cache import MOST, RouteCache
from proxy.session.engine import Distributed, Home
from shard.planner.lexer import LexerMode
from shard.planner.statement import read
from tests.shard.planner.test_plans import CATALOGUE

SQL = "SELECT * FROM Object WHERE objectId = ?"
SETTINGS = SessionSettings(
    {"sql_mode": "''"}, "sky", LexerMode(), ("utf-8", "surrogateescape"), "utf8mb4", None, 0.0
)


@pytest.fixture
def contents():
    return CatalogueSnapshot(databases=CATALOGUE)


@pytest.fixture
def views():
    return HomeViews(None)  # type: ignore[arg-type] - it is asked nothing


@pytest.fixture
def decided(views):
    return RouteCache(views)


def route(contents, sql=SQL):
    statement = read(sql, "sky", CATALOGUE, LexerMode())
    return Distributed(statement, sql.encode(), contents=contents, settings=SETTINGS)


def keep(decided, contents, found, sql=SQL):
    decided.keep(sql, SETTINGS, decided.state(contents), found)


def test_the_same_text_has_the_same_route(decided, contents):
    assert decided.get(SQL, SETTINGS, contents) is None
    keep(decided, contents, route(contents))
    other = dataclasses.replace(SETTINGS, max_seconds=5.0)
    found = decided.get(SQL, other, contents)
    assert found == dataclasses.replace(route(contents), statement=found.statement, settings=other)
    assert decided.get(SQL + " ", SETTINGS, contents) is None


@pytest.mark.parametrize(
    "change",
    [
        {"values": {"sql_mode": "'ANSI_QUOTES'"}}, {"database": "other"}, {"mode": LexerMode(ansi_quotes=True)},
        {"encoding": ("latin-1", "strict")}, {"charset": "latin1"}, {"limit": 5}, {"timestamp": "1"},
    ],
)  # fmt: skip
def test_other_settings_have_none(decided, contents, change):
    keep(decided, contents, route(contents))
    assert decided.get(SQL, dataclasses.replace(SETTINGS, **change), contents) is None


def test_another_catalogue_has_none(decided, contents):
    keep(decided, contents, route(contents))
    later = dataclasses.replace(contents)
    assert decided.get(SQL, SETTINGS, later) is None
    keep(decided, later, route(contents))  # it was decided about before
    assert decided.get(SQL, SETTINGS, later) is None


def test_other_views_have_none(decided, views, contents):
    keep(decided, contents, route(contents))
    before = decided.state(contents)
    views.names = frozenset({("mine", "seen")})
    assert decided.get(SQL, SETTINGS, contents) is None
    decided.keep(SQL, SETTINGS, before, route(contents))  # a view was made while it was decided about
    assert decided.get(SQL, SETTINGS, contents) is None
    keep(decided, contents, route(contents))
    assert decided.get(SQL, SETTINGS, contents) is not None
    views.replicated = frozenset({("mine", "other")})
    assert decided.get(SQL, SETTINGS, contents) is None


def test_some_are_not_remembered(decided, views, contents):
    plain = "SELECT * FROM Object"
    keep(decided, contents, route(contents, plain), plain)
    keep(decided, contents, Home())
    views.names = frozenset({("mine", "Object")})
    keep(decided, contents, route(contents))
    assert decided.get(plain, SETTINGS, contents) is decided.get(SQL, SETTINGS, contents) is None
    views.names = frozenset()
    for number in range(MOST + 1):
        text = f"{SQL} AND flags = {number}"
        keep(decided, contents, route(contents, text), text)
    assert decided.get(f"{SQL} AND flags = 0", SETTINGS, contents) is None
    assert decided.get(f"{SQL} AND flags = {MOST}", SETTINGS, contents) is not None
