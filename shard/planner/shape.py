"""Statements that differ only in the key they look up: what is proved of one holds for the others.

A look-up by director key is planned anew for every key, and every time with the same outcome. Here a
planned statement is planned once more with another key of as many digits; if nothing but that key differs
anywhere, the statement is a `Shape`, and the next key is put where the first one stood.

Only a plain integer that is the whole restriction and stands in the text once can be such a key: it is
compared with the director's key and nothing else, so no decision of the planner hangs on its value. It may be a
parameter of a prepared statement; the plan must then be that of values that the planner does not know for all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shard.errors import SkyError
from shard.planner import planner
from shard.planner.constants import Value
from shard.planner.fence import SyntaxProblem
from shard.planner.fragment import template
from shard.planner.lexer import Token, TokenKind
from shard.planner.plan import ByKey, Fragment, Plan, Strategy
from shard.planner.statement import Statement

KEY = re.compile(rb"(?<![\w.$@])[1-9][0-9]{0,17}(?![\w.$])")
"""A whole number that every integer type of MariaDB's reads alike, by its digits."""
_CLOCK = frozenset(
    [
        "NOW", "CURDATE", "CURRENT_DATE", "CURTIME", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME",
        "LOCALTIMESTAMP", "SYSDATE", "UNIX_TIMESTAMP", "UTC_DATE", "UTC_TIME", "UTC_TIMESTAMP",
    ]
)  # fmt: skip
"""Words that ask for the time of the statement, which the proxy gives; such statements have no shape."""

Pieces = tuple[str, ...]
"""A text cut where the key stands."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What all statements of a shape have in common.

    Attributes
    ----------
    director : str
        The table whose key it is.
    main : tuple of Pieces
        The fragment between the chunk's numbers.
    prepared : Pieces
        The statement to PREPARE at home.
    answers_empty : bool
        Whether it has no rows where no chunk has any.
    """

    director: str
    main: tuple[Pieces, ...]
    prepared: Pieces
    answers_empty: bool


def shape_of(
    statement: Statement,
    plan: Plan,
    place: tuple[int, str],
    again: Callable[[str], tuple[Statement, Plan] | None],
) -> Shape | None:
    """Return a planned statement's shape, if it has one.

    Parameters
    ----------
    place : tuple of int and str
        From `place_of`.
    again : callable
        Reads and plans another text as the statement was.
    """
    start, key = place
    fragment = _fragment(plan)
    texts = (statement.text, fragment.main.text, statement.prepared(), plan.native.text)
    other = _another(key, texts)
    if other is None or fragment.setup or fragment.teardown or fragment.main.parameters:
        return None
    try:
        second = again(statement.text[:start] + other + statement.text[start + len(key) :])
    except (SkyError, SyntaxProblem):
        return None
    if second is None:
        return None
    twin, twin_plan = second
    director = plan.restriction.director if isinstance(plan.restriction, ByKey) else ""
    if replace(twin_plan, native=plan.native, restriction=plan.restriction, merge=plan.merge) != plan:
        return None
    if twin_plan.restriction != ByKey(director, (other,)):
        return None
    twin_fragment = _fragment(twin_plan)
    if replace(twin_fragment, main=fragment.main) != fragment:
        return None
    firsts, seconds = template(fragment.main)[0], template(twin_fragment.main)[0]
    if len(firsts) != len(seconds) or other not in twin_fragment.main.text:
        return None
    main = [_cut(text, second, key, other) for text, second in zip(firsts, seconds, strict=True)]
    prepared = _cut(statement.prepared(), twin.prepared(), key, other)
    native = _cut(plan.native.text, twin_plan.native.text, key, other)
    if prepared is None or native is None or None in main:
        return None
    return Shape(
        director, tuple(pieces for pieces in main if pieces is not None), prepared, plan.merge is None
    )


def marked_shape_of(
    statement: Statement,
    plan: Plan,
    values: Sequence[Value],
    mark: int,
    again: Callable[[Sequence[Value]], Plan],
) -> Shape | None:
    """Return a planned statement's shape, if it has one whatever the values of its other parameters are.

    Parameters
    ----------
    values : sequence
        What the planner knew of the parameters' values.
    mark : int
        The parameter that is the key, from `mark_of`.
    again : callable
        Plans the statement with other values.
    """
    key, fragment = str(values[mark]), _fragment(plan)
    if fragment.setup or fragment.teardown or not isinstance(plan.restriction, ByKey):
        return None
    for other in (key, *(digit * len(key) for digit in "12" if digit * len(key) != key)):
        unknown: list[Value] = [None] * len(values)
        unknown[mark] = int(other)
        try:
            twin = again(unknown)
        except SkyError:
            return None
        if twin.restriction != ByKey(plan.restriction.director, (other,)):
            return None
        if replace(twin, restriction=plan.restriction) != plan or _fragment(twin) != fragment:
            return None
    main = tuple((segment,) for segment in template(fragment.main)[0])
    return Shape(plan.restriction.director, main, (statement.prepared(),), plan.merge is None)


def place_of(statement: Statement, plan: Plan) -> tuple[int, str] | None:
    """Return where the key stands in a planned statement (characters), and the key, if it may have a shape."""
    key = None if statement.parameters else _key_of(statement, plan)
    if key is None:
        return None
    places = [token.start for token in statement.tokens if _is_key(token, key)]
    return (places[0], key) if len(places) == 1 else None


def mark_of(statement: Statement, plan: Plan, values: Sequence[Value]) -> int | None:
    """Return which parameter of a planned statement is its key, if it may have a shape."""
    key = _key_of(statement, plan) if statement.parameters else None
    marks = [at for at, value in enumerate(values) if isinstance(value, int) and str(value) == key]
    return marks[0] if len(marks) == 1 else None


def _key_of(statement: Statement, plan: Plan) -> str | None:
    """Return the only key that a planned statement looks up, if all else of it allows a shape."""
    where = plan.restriction
    if (
        plan.strategy not in (Strategy.ROUTED, Strategy.SCATTER_MERGE)
        or not isinstance(where, ByKey)
        or len(where.keys) != 1
    ):
        return None
    if plan.skip or plan.window is not None or (plan.merge is not None and planner.whole(plan) is None):
        return None
    if plan.never or plan.ships or plan.notes:
        return None
    if statement.tree is None or statement.needs or statement.own:
        return None
    (key,) = where.keys
    if KEY.fullmatch(key.encode()) is None or any(token.upper in _CLOCK for token in statement.tokens):
        return None
    return key


def _fragment(plan: Plan) -> Fragment:
    """Return what the one chunk of a look-up is asked."""
    found = None if plan.merge is None else planner.whole(plan)
    return planner.fragment(plan) if found is None else found


def _is_key(token: Token, key: str) -> bool:
    return token.kind is TokenKind.NUMBER and token.text == key


def _another(key: str, texts: tuple[str, ...]) -> str | None:
    """Return another number of as many digits, which is nowhere in the texts."""
    for digit in "987654321":
        other = digit * len(key)
        if not any(other in text for text in texts):
            return other
    return None


def _cut(first: str, second: str, key: str, other: str) -> Pieces | None:
    """Return a text in pieces between its keys, if it is the second one but for the keys."""
    pieces = tuple(second.split(other))
    return pieces if key.join(pieces) == first else None
