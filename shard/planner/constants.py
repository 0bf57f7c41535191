"""Reads constant values out of trees, for folding and for chunk restriction only.

What is read here never replaces the user's text in a fragment's comparisons: a value that
cannot be read exactly is no constant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp

_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\Z")
_INTEGER = re.compile(r"\d+\Z")

Value = int | float | str | None


def number(node: exp.Expression, values: Sequence[Value] = ()) -> float | None:
    """Return the value of a constant numeric expression (literals, + - * /, parameters), or None.

    Parameters
    ----------
    node : Expression
        The expression.
    values : sequence
        Values of the statement's parameters, by number; empty when they are not known yet.
    """
    if isinstance(node, exp.Paren):
        return number(node.this, values)
    if isinstance(node, exp.Neg):
        inner = number(node.this, values)
        return None if inner is None else -inner
    if isinstance(node, exp.Literal):
        text = str(node.this)
        return float(text) if _NUMBER.match(text) else None
    if isinstance(node, exp.Placeholder):
        index = int(node.name)
        value = values[index] if index < len(values) else None
        return float(value) if isinstance(value, (int, float)) else None
    if isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Div)):
        left, right = number(node.this, values), number(node.expression, values)
        if left is None or right is None:
            return None
        if isinstance(node, exp.Add):
            return left + right
        if isinstance(node, exp.Sub):
            return left - right
        if isinstance(node, exp.Mul):
            return left * right
        return left / right if right else None
    return None


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

    Numbers and simple strings are returned verbatim; parameters as integers or not at all.
    """
    if isinstance(node, exp.Paren):
        return key_literal(node.this, values)
    whole = integer(node, values)
    if whole is not None:
        return str(whole)
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if _NUMBER.match(text):
            return text
        if re.fullmatch(r"'[A-Za-z0-9 _.:+-]*'", text):
            return text
    return None


def conjuncts(node: exp.Expression | None) -> list[exp.Expression]:
    """Return the parts of a condition that are joined by AND at its top."""
    if node is None:
        return []
    out: list[exp.Expression] = []
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, exp.And):
            stack += [item.expression, item.this]
        elif isinstance(item, exp.Paren):
            stack.append(item.this)
        else:
            out.append(item)
    return out
