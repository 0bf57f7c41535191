"""Which expressions are DOUBLE to the server: there the average of exact numbers has more digits than its own type."""

from __future__ import annotations

from sqlglot import exp

from shard.planner.aggregates import SPREAD
from shard.planner.scope import Scope, sql_type_of

_FUNCTIONS = frozenset(
    {
        "acos", "asin", "atan", "atan2", "cos", "cot", "degrees", "exp", "ln", "log", "log10", "log2", "pi", "pow",
        "power", "radians", "rand", "sin", "sqrt", "tan", *SPREAD,
    }
)  # fmt: skip
_SAME_TYPE = frozenset({"sum", "avg", "min", "max", "abs"})
_ONE_TYPE = frozenset({"greatest", "least", "coalesce", "ifnull", "nvl"})
"""Functions that are a DOUBLE if one of their arguments is."""
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div)


def is_double(node: exp.Expression, scope: Scope) -> bool:
    """Whether an expression is surely a DOUBLE."""
    if isinstance(node, (exp.Paren, exp.Neg)):
        return is_double(node.this, scope)
    if isinstance(node, exp.Literal):
        return not node.is_string and "e" in str(node.this).lower()
    if isinstance(node, exp.Column):
        ref = scope.owner(node)
        if ref is None or ref.derived is not None:
            return False
        return sql_type_of(ref.table, node.name).upper().startswith(("DOUBLE", "FLOAT", "REAL"))
    if isinstance(node, exp.Anonymous):
        name = node.name.lower()
        return name in _FUNCTIONS or (
            name in _SAME_TYPE and len(node.expressions) == 1 and is_double(node.expressions[0], scope)
        )
    if isinstance(node, _ARITHMETIC):
        return is_double(node.this, scope) or is_double(node.expression, scope)
    return False


def read_as_double(node: exp.Expression, scope: Scope) -> bool:
    """Whether what stands around an expression reads it as a DOUBLE: a function's argument, an operand."""
    parent = node.parent
    while isinstance(parent, (exp.Paren, exp.Neg)):
        node, parent = parent, parent.parent
    if isinstance(parent, _ARITHMETIC):
        return is_double(parent.expression if parent.this is node else parent.this, scope)
    if not isinstance(parent, exp.Anonymous):
        return False
    name = parent.name.lower()
    if name in _ONE_TYPE:
        return any(is_double(other, scope) for other in parent.expressions if other is not node)
    return name in _FUNCTIONS - SPREAD.keys()
