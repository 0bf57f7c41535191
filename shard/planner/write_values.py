"""Writes the nodes of expressions: names, literals, calls, predicates, CASE."""

from __future__ import annotations

from sqlglot import exp

from shard.catalog.naming import quote
from shard.errors import not_supported
from shard.planner.notes import CALL
from shard.planner.writer import Write, Writer, bracketed


def _identifier(w: Writer, node: exp.Expression) -> None:
    w.parts.append(quote(node.name))


def _column(w: Writer, node: exp.Expression) -> None:
    args = node.args
    for key in ("catalog", "db", "table"):
        part = args.get(key)
        if part is not None:
            w.parts.append(quote(part.name) + ".")
    w.parts.append("*" if isinstance(args["this"], exp.Star) else quote(node.name))


def _alias(w: Writer, node: exp.Expression) -> None:
    w.write(node.this)
    alias = node.args["alias"]
    name = alias.name if isinstance(alias, exp.Identifier) else str(alias)
    w.parts.append(" AS " + quote(name))


def _anonymous(w: Writer, node: exp.Expression) -> None:
    prefix, separators, suffix = node.args.get(CALL) or ("", (), "")
    w.parts.append(node.name + "(")
    if prefix:
        w.parts.append(prefix + " ")
    for index, item in enumerate(node.expressions):
        if index:
            word = separators[index - 1] if index - 1 < len(separators) else ","
            w.parts.append(", " if word == "," else f" {word} ")
        w.write(item)
    if suffix:
        w.parts.append(suffix if suffix.startswith(",") else " " + suffix)
    w.parts.append(")")


def _distinct(w: Writer, node: exp.Expression) -> None:
    w.parts.append("DISTINCT ")
    w.many(node.expressions)


def _literal(w: Writer, node: exp.Expression) -> None:
    if node.is_string:
        raise not_supported("a string the parser made")
    w.parts.append(str(node.this))


def _placeholder(w: Writer, node: exp.Expression) -> None:
    w.parameters.append(int(node.name))
    w.parts.append("?")


def _not(w: Writer, node: exp.Expression) -> None:
    inner = node.this
    if isinstance(inner, exp.Is):
        w.write(inner.this)
        w.parts.append(" IS NOT ")
        w.write(inner.expression)
    elif isinstance(inner, (exp.In, exp.Between, exp.Like, exp.Escape, exp.RegexpLike)):
        _predicate(w, inner, "NOT ")
    else:
        w.parts.append("NOT ")
        w.write(inner)


def _predicate(w: Writer, node: exp.Expression, negation: str = "") -> None:
    """Write IN, BETWEEN, LIKE and REGEXP with NOT in its usual place (`x NOT IN …`)."""
    if isinstance(node, exp.Escape):
        _predicate(w, node.this, negation)
        w.parts.append(" ESCAPE ")
        w.write(node.expression)
        return
    if isinstance(node, exp.Not):  # the parser puts NOT inside of ESCAPE
        _predicate(w, node.this, "" if negation else "NOT ")
        return
    if isinstance(node, exp.In) and (
        node.args.get("unnest") is not None or node.args.get("field") is not None
    ):
        raise not_supported("this form of IN")
    if node.args.get("negate"):
        negation = "NOT "
    w.write(node.this)
    if isinstance(node, exp.In) and node.args.get("query") is not None:
        w.parts.append(f" {negation}IN ")
        bracketed(w, node.args["query"])
    elif isinstance(node, exp.In):
        w.parts.append(f" {negation}IN (")
        w.many(node.expressions)
        w.parts.append(")")
    elif isinstance(node, exp.Between):
        w.parts.append(f" {negation}BETWEEN ")
        w.write(node.args["low"])
        w.parts.append(" AND ")
        w.write(node.args["high"])
    else:
        w.parts.append(f" {negation}{'LIKE' if isinstance(node, exp.Like) else 'REGEXP'} ")
        w.write(node.expression)


def _case(w: Writer, node: exp.Expression) -> None:
    w.parts.append("CASE")
    if node.this is not None:
        w.parts.append(" ")
        w.write(node.this)
    for branch in node.args["ifs"]:
        w.parts.append(" WHEN ")
        w.write(branch.this)
        w.parts.append(" THEN ")
        w.write(branch.args["true"])
    if node.args.get("default") is not None:
        w.parts.append(" ELSE ")
        w.write(node.args["default"])
    w.parts.append(" END")


def _interval(w: Writer, node: exp.Expression) -> None:
    if node.args.get("unit") is None and isinstance(node.this, exp.Tuple):  # the function of that name
        w.parts.append("INTERVAL")
        w.write(node.this)
        return
    w.parts.append("INTERVAL ")
    amount = node.this
    if isinstance(amount, exp.Literal) and amount.is_string:
        w.parts.append(amount.name)  # the parser makes a string of a bare number
    else:
        w.write(amount)
    w.parts.append(" " + node.args["unit"].name)


def _prefix(symbol: str) -> Write:
    def write(w: Writer, node: exp.Expression) -> None:
        w.parts.append(symbol)
        w.write(node.this)

    return write


def _paren(w: Writer, node: exp.Expression) -> None:
    w.parts.append("(")
    w.write(node.this)
    w.parts.append(")")


def _tuple(w: Writer, node: exp.Expression) -> None:
    w.parts.append("(")
    w.many(node.expressions)
    w.parts.append(")")


def _binary_operator(w: Writer, node: exp.Expression) -> None:
    """Write BINARY x, the only cast that reaches the parser (others are fenced calls)."""
    to = node.args["to"]
    if str(to.this).upper().rsplit(".", 1)[-1] != "BINARY" or to.expressions:
        raise not_supported("this cast")
    w.parts.append("BINARY ")
    w.write(node.this)


VALUES: dict[type[exp.Expression], Write] = {
    exp.Identifier: _identifier,
    exp.Column: _column,
    exp.Alias: _alias,
    exp.Anonymous: _anonymous,
    exp.Distinct: _distinct,
    exp.Literal: _literal,
    exp.Placeholder: _placeholder,
    exp.Not: _not,
    exp.In: _predicate,
    exp.Between: _predicate,
    exp.Like: _predicate,
    exp.Escape: _predicate,
    exp.RegexpLike: _predicate,
    exp.Case: _case,
    exp.Interval: _interval,
    exp.Neg: _prefix("-"),
    exp.BitwiseNot: _prefix("~"),
    exp.Paren: _paren,
    exp.Tuple: _tuple,
    exp.Cast: _binary_operator,
    exp.Star: lambda w, _: w.parts.append("*"),
    exp.Null: lambda w, _: w.parts.append("NULL"),
    exp.Boolean: lambda w, node: w.parts.append("TRUE" if node.this else "FALSE"),
    exp.Var: lambda w, node: w.parts.append(node.name),
}
"""What writes nodes of expressions."""
