"""Reads constant values out of trees, for folding and for chunk restriction only.

What is read here never replaces the user's text in a fragment's comparisons: a value that
cannot be read exactly is no constant.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from decimal import ROUND_DOWN, Decimal, localcontext
from functools import partial, reduce
from typing import Any

from sqlglot import exp

from shard.planner.branches import branches

_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\Z")
_INTEGER = re.compile(r"\d+\Z")
_SIMPLE = re.compile(r"[A-Za-z0-9 _.:+-]*")
_EXACT_DOUBLE = 1 << 53

_PRECISION_INCREMENT = 4
"""MariaDB's div_precision_increment; any from 1 to 9 gives a quotient of integers nine decimals."""
_ARITHMETIC: dict[type[exp.Expression], Callable[[Any, Any], Any]] = {
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mul: operator.mul,
}

LISTED = "listed"
"""Argument of a literal that is a long list of values: their texts, one by one."""
Value = int | float | str | None
Truths = frozenset[bool | None]
_ANY: Truths = frozenset((True, False, None))
_COMPARED: dict[type[exp.Expression], Callable[[Decimal, Decimal], bool]] = {
    exp.EQ: operator.eq, exp.NEQ: operator.ne, exp.LT: operator.lt, exp.LTE: operator.le,
    exp.GT: operator.gt, exp.GTE: operator.ge,
}  # fmt: skip
_MOST_DIGITS = 30
"""Longer numbers are cut or refused by MariaDB."""


def number(node: exp.Expression, values: Sequence[Value] = ()) -> float | None:
    """Return the value of a constant numeric expression (literals, + - * /, parameters), or None.

    It is what MariaDB makes of the expression where a DOUBLE is wanted: numbers without an exponent are
    DECIMAL, and a quotient of two such is cut after nine decimals (``5/3600`` is 0.001388888).

    Parameters
    ----------
    node : Expression
        The expression.
    values : sequence
        Values of the statement's parameters, by number; empty when they are not known yet.
    """
    found = _value(node, values)
    return None if found is None else float(found)


def _value(node: exp.Expression, values: Sequence[Value]) -> Decimal | float | None:
    """Return an exact number as Decimal, another as float."""
    chain: list[exp.Expression] = []  # the left side of a sum may be thousands of terms deep
    while isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Div)):
        chain.append(node)
        node = node.this
    found = _operand(node, values)
    for operation in reversed(chain):
        right = None if found is None else _value(operation.expression, values)
        if found is None or right is None:
            return None
        if isinstance(found, Decimal) and isinstance(right, Decimal):
            found = _exact(operation, found, right)
        else:
            found = _inexact(operation, float(found), float(right))
    return found


def _operand(node: exp.Expression, values: Sequence[Value]) -> Decimal | float | None:
    """Return the value of what is no arithmetic of two operands."""
    if isinstance(node, exp.Paren):
        return _value(node.this, values)
    if isinstance(node, exp.Neg):
        inner = _value(node.this, values)
        return None if inner is None else -inner
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if not _NUMBER.match(text):
            return None
        return float(text) if "e" in text.lower() else Decimal(text)
    if isinstance(node, exp.Placeholder):
        index = int(node.name)
        value = values[index] if index < len(values) else None
        if isinstance(value, int):
            return Decimal(value)
        return value if isinstance(value, float) else None
    return None


def _exact(node: exp.Expression, left: Decimal, right: Decimal) -> Decimal | None:
    """Return the result of DECIMAL arithmetic (MariaDB's strings/decimal.c keeps nine digits a word)."""
    with localcontext() as context:
        context.prec = 120
        if type(node) in _ARITHMETIC:
            exact: Decimal = _ARITHMETIC[type(node)](left, right)
            return exact
        if not right:
            return None
        words = [-(-_decimals(side) // 9) for side in (left, right)]
        more = _PRECISION_INCREMENT - sum(
            9 * w - _decimals(s) for w, s in zip(words, (left, right), strict=True)
        )
        digits = 9 * -(-(9 * sum(words) + max(0, more)) // 9)
        return (left / right).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_DOWN)


def _decimals(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _inexact(node: exp.Expression, left: float, right: float) -> float | None:
    if type(node) in _ARITHMETIC:
        inexact: float = _ARITHMETIC[type(node)](left, right)
        return inexact
    return left / right if right else None


def integer(node: exp.Expression, values: Sequence[Value] = ()) -> int | None:
    """Return the value of an integer literal or parameter (a minus sign allowed), or None."""
    if isinstance(node, exp.Neg):
        inner = integer(node.this, values)
        return None if inner is None else -inner
    if isinstance(node, exp.Literal) and _INTEGER.match(str(node.this)):
        return int(str(node.this))
    if isinstance(node, exp.Placeholder):
        index = int(node.name)
        value = values[index] if index < len(values) else None
        return value if isinstance(value, int) else None
    return None


def key_literal(node: exp.Expression, values: Sequence[Value] = ()) -> str | None:
    """Return a literal as SQL for a director index look-up, or None if it is no plain literal.

    Numbers and simple strings are returned verbatim; parameters as integers (a DOUBLE may be one) or simple strings.
    """
    if isinstance(node, exp.Paren):
        return key_literal(node.this, values)
    whole = integer(node, values)
    if whole is not None:
        return str(whole)
    if isinstance(node, exp.Placeholder):
        index = int(node.name)
        value = values[index] if index < len(values) else None
        if isinstance(value, float):
            return str(int(value)) if value.is_integer() and abs(value) < _EXACT_DOUBLE else None
        return f"'{value}'" if isinstance(value, str) and _SIMPLE.fullmatch(value) else None
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if _NUMBER.match(text) or (
            len(text) > 1 and text[0] == text[-1] == "'" and _SIMPLE.fullmatch(text[1:-1])
        ):
            return text
    return None


def length_of(item: exp.In) -> int:
    """Return how many values a list after IN has."""
    texts = _texts(item)
    return len(item.expressions) if texts is None else len(texts)


def values_of(item: exp.In) -> list[exp.Expression]:
    """Return the values of a list after IN."""
    texts = _texts(item)
    return list(item.expressions) if texts is None else [_signed(text) for text in texts]


def _texts(item: exp.In) -> tuple[str, ...] | None:
    only = item.expressions[0] if len(item.expressions) == 1 else None
    return only.args.get(LISTED) if isinstance(only, exp.Literal) else None


def _signed(text: str) -> exp.Expression:
    if text.startswith("-"):
        return exp.Neg(this=exp.Literal(this=text[1:], is_string=False))
    return exp.Literal(this=text, is_string=False)


def is_never(node: exp.Expression, values: Sequence[Value] = ()) -> bool:
    """Whether a condition is false or NULL for every row, whatever the values of the columns in it."""
    return True not in _truths(node, values)


def has_no_groups(select: exp.Select, values: Sequence[Value]) -> bool:
    """Whether HAVING is false or NULL, whatever the rows."""
    having = select.args.get("having")
    return having is not None and is_never(having.this, values)


def _truths(node: exp.Expression, values: Sequence[Value]) -> Truths:
    """Return what a condition can be: true, false, NULL; any of them where it is not made of constants."""
    if isinstance(node, exp.Paren):
        return _truths(node.this, values)
    if isinstance(node, exp.Null):
        return frozenset((None,))
    if isinstance(node, exp.Not):
        return frozenset(None if truth is None else not truth for truth in _truths(node.this, values))
    if isinstance(node, (exp.And, exp.Or)):
        decides = isinstance(node, exp.Or)
        parts = [_truths(part, values) for part in operands(node, type(node))]
        return reduce(partial(_joined, decides), parts)
    compare = _COMPARED.get(type(node))
    if compare is not None:
        sides = (node.this, node.expression)
        if any(isinstance(side, (exp.All, exp.Any)) for side in sides):
            return _ANY  # of no rows, ALL is true and ANY is false, whatever is compared
        if any(isinstance(side, exp.Null) for side in sides):
            return frozenset((None,))
        first, second = (_plain_number(side, values) for side in sides)
        return _ANY if first is None or second is None else frozenset((compare(first, second),))
    found = _plain_number(node, values)
    return _ANY if found is None else frozenset((bool(found),))


def _joined(decides: bool, left: Truths, right: Truths) -> Truths:
    """Return what AND (false decides) or OR (true decides) makes of two truths."""
    return frozenset(
        decides if decides in (a, b) else None if None in (a, b) else not decides for a in left for b in right
    )


def _plain_number(node: exp.Expression, values: Sequence[Value]) -> Decimal | None:
    """Return the value of a number that MariaDB compares exactly: a literal, TRUE, FALSE, an integer parameter."""
    if isinstance(node, exp.Paren):
        return _plain_number(node.this, values)
    if isinstance(node, exp.Boolean):
        return Decimal(bool(node.this))
    if isinstance(node, exp.Neg):
        inner = _plain_number(node.this, values)
        return None if inner is None else -inner
    if not isinstance(node, (exp.Literal, exp.Placeholder)):
        return None
    found = None if len(node.name) > _MOST_DIGITS else _value(node, values)
    return found if isinstance(found, Decimal) else None


def bound(node: exp.Expression, values: Sequence[Value]) -> Decimal | float | None:
    """Return a number as MariaDB compares it with others: exactly, or as DOUBLE; None if it is no plain number."""
    exact = _plain_number(node, values)
    inner = node
    while isinstance(inner, (exp.Paren, exp.Neg)):
        inner = inner.this
    if exact is not None or not isinstance(inner, (exp.Literal, exp.Placeholder)):
        return exact
    found = _value(node, values)
    return found if isinstance(found, float) and math.isfinite(found) else None


def conjuncts(node: exp.Expression | None) -> list[exp.Expression]:
    """Return the parts of a condition that are joined by AND at its top."""
    return [] if node is None else operands(node, exp.And)


def operands(node: exp.Expression, kind: type[exp.Expression]) -> list[exp.Expression]:
    """Return what an operator that may be repeated (AND, OR) joins at the top of a condition, from left to right.

    Clients write thousands of them one behind another, which is a tree as deep.
    """
    out: list[exp.Expression] = []
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, kind):
            stack += [item.expression, item.this]
        elif isinstance(item, exp.Paren):
            stack.append(item.this)
        else:
            out.append(item)
    return out


def is_constant(node: exp.Expression) -> bool:
    """Whether a sort key is a constant; a number would be read as a position."""
    while isinstance(node, (exp.Paren, exp.Neg)):
        node = node.this
    return isinstance(node, (exp.Literal, exp.Null, exp.Boolean))


def write_positions(tree: exp.Expression, values: Sequence[Value]) -> None:
    """Write positions in GROUP BY and ORDER BY as bare numbers, in place.

    For MariaDB, a number in parentheses and a parameter with an integer are positions, too.
    """
    for select in (node for node in branches(tree) if isinstance(node, exp.Query)):
        for clause in (select.args.get("group"), select.args.get("order")):
            for item in clause.expressions if clause is not None else ():
                node = item.this if isinstance(item, exp.Ordered) else item
                inner = node
                while isinstance(inner, exp.Paren):
                    inner = inner.this
                found = None if isinstance(inner, exp.Neg) else integer(inner, values)
                if found is not None and not (inner is node and isinstance(node, exp.Literal)):
                    node.replace(exp.Literal(this=str(found), is_string=False))
