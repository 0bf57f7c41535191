"""Native SQL expressions as trees, made from templates with named holes.

A template is parsed once; holes are the columns named in `use`. Nodes that fill holes are put in
parentheses unless they are columns, literals or calls, so that precedence cannot change.
"""

from __future__ import annotations

from functools import lru_cache

from sqlglot import exp

from shard.planner.fence import parse
from shard.planner.lexer import tokenize


@lru_cache(maxsize=256)
def _parsed(template: str) -> exp.Expression:
    select = parse(tokenize("SELECT " + template))
    if not isinstance(select, exp.Select):
        raise TypeError("a template is one expression")
    expression = select.expressions[0]
    if not isinstance(expression, exp.Expression):
        raise TypeError("a template is one expression")
    return expression


def use(template: str, **holes: exp.Expression | float | int | str) -> exp.Expression:
    """Return the template's tree with its holes filled.

    Parameters
    ----------
    template : str
        An expression whose bare column names are holes.
    **holes
        Trees; numbers (written with all their digits); strings are SQL text of a literal.

    Examples
    --------
    >>> emit(use("POW(x, 2) < r", x=column, r=0.25))
    'POW(`ra`, 2) < 0.25e0'
    """
    holder = exp.Paren(this=_parsed(template).copy())
    for node in list(holder.find_all(exp.Column)):
        if node.table or node.name not in holes:
            continue
        value = holes[node.name]
        node.replace(fill(value) if not isinstance(value, exp.Expression) else wrap(value.copy()))
    result = holder.this
    result.pop()
    return exp.Paren(this=result)


def fill(value: float | int | str) -> exp.Expression:
    """Return a literal; a float gets an exponent, so that MariaDB reads a DOUBLE and no DECIMAL."""
    if isinstance(value, float):
        text = repr(value)
        text = text if "e" in text else text + "e0"
        node: exp.Expression = exp.Literal(this=text.lstrip("-"), is_string=False)
        return exp.Paren(this=exp.Neg(this=node)) if text.startswith("-") else node
    return exp.Literal(this=str(value), is_string=False)


def wrap(node: exp.Expression) -> exp.Expression:
    """Return the node, in parentheses unless it binds tighter than any operator."""
    if isinstance(node, (exp.Column, exp.Literal, exp.Anonymous, exp.Paren, exp.Placeholder)):
        return node
    return exp.Paren(this=node)
