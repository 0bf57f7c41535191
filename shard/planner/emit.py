"""Writes trees as MariaDB SQL, and knows only what it was taught.

sqlglot's own generator normalises (REGEXP becomes a function MariaDB lacks, units become
strings). This one writes a node as the user wrote it, and refuses a node it does not know: an
unknown construct is error 1235, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp

from shard.catalog.naming import quote
from shard.errors import not_supported

CHUNK_MARK = "\ue000"
"""Stands for the chunk number inside names; user text with this character is refused."""

_BINARY: dict[type[exp.Expression], str] = {
    exp.And: "AND", exp.Or: "OR", exp.Xor: "XOR", exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=",
    exp.LT: "<", exp.LTE: "<=", exp.NullSafeEQ: "<=>", exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/",
    exp.IntDiv: "DIV", exp.Mod: "%", exp.BitwiseAnd: "&", exp.BitwiseOr: "|", exp.BitwiseXor: "^",
    exp.BitwiseLeftShift: "<<", exp.BitwiseRightShift: ">>", exp.Is: "IS",
    exp.Collate: "COLLATE",
}  # fmt: skip


BARE = "bare"
"""Key of the meta of a query whose parentheses are the parser's, not the text's."""


@dataclass(slots=True)
class Writer:
    """Collects the text of one statement and the order of its ``?`` marks."""

    parts: list[str] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)

    def text(self) -> str:
        """Return the SQL."""
        return "".join(self.parts)

    def write(self, node: exp.Expression) -> Writer:
        """Write a node.

        Raises
        ------
        SkyError
            1235, naming the construct, for a node this module was not taught.
        """
        kind = type(node)
        symbol = _BINARY.get(kind)
        if symbol is not None:
            self.write(node.this)
            self.parts.append(f" {symbol} ")
            self.write(node.expression)
            return self
        writer = _WRITERS.get(kind)
        if writer is None:
            raise not_supported(construct_name(node))
        writer(self, node)
        return self

    def many(self, nodes: list[exp.Expression], separator: str = ", ") -> None:
        """Write nodes with a separator between them."""
        for index, node in enumerate(nodes):
            if index:
                self.parts.append(separator)
            self.write(node)


def emit(node: exp.Expression) -> str:
    """Return the SQL of a tree (its ``?`` marks in order of appearance)."""
    return Writer().write(node).text()


def construct_name(node: exp.Expression) -> str:
    """Return a user's name for a construct."""
    names: dict[type[exp.Expression], str] = {
        exp.Union: "UNION", exp.Intersect: "INTERSECT", exp.Except: "EXCEPT", exp.Window: "a window function",
        exp.Subquery: "a subquery", exp.Exists: "EXISTS (subquery)", exp.With: "WITH", exp.Lateral: "LATERAL",
    }  # fmt: skip
    return names.get(type(node), type(node).__name__.upper())


def _identifier(w: Writer, node: exp.Expression) -> None:
    w.parts.append(quote(node.name))


def _column(w: Writer, node: exp.Expression) -> None:
    args = node.args
    for key in ("catalog", "db", "table"):
        part = args.get(key)
        if part is not None:
            w.parts.append(quote(part.name) + ".")
    w.parts.append("*" if isinstance(args["this"], exp.Star) else quote(node.name))


def _table(w: Writer, node: exp.Expression) -> None:
    for key in node.args:
        if key not in ("this", "db", "alias", "joins", "hints") and node.args[key]:
            raise not_supported(f"{key.upper()} in FROM")
    if node.args.get("db") is not None:
        w.parts.append(quote(node.args["db"].name) + ".")
    w.parts.append(quote(node.name))
    _alias_of(w, node)
    for hint in node.args.get("hints") or ():
        target = f" FOR {hint.args['target']}" if hint.args.get("target") else ""
        w.parts.append(f" {hint.this} INDEX{target} (")
        w.many(hint.expressions)
        w.parts.append(")")
    for join in node.args.get("joins") or ():
        w.write(join)


def _alias_of(w: Writer, node: exp.Expression) -> None:
    alias = node.args.get("alias")
    if alias is not None:
        if alias.args.get("columns"):
            raise not_supported("a list of column names after a table alias")
        w.parts.append(" AS " + quote(alias.name))


def _alias(w: Writer, node: exp.Expression) -> None:
    w.write(node.this)
    alias = node.args["alias"]
    name = alias.name if isinstance(alias, exp.Identifier) else str(alias)
    w.parts.append(" AS " + quote(name))


def _anonymous(w: Writer, node: exp.Expression) -> None:
    prefix, separators, suffix = node.meta.get("call", ("", (), ""))
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
        _bracketed(w, node.args["query"])
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


def _prefix(symbol: str) -> Callable[[Writer, exp.Expression], None]:
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


def _ordered(w: Writer, node: exp.Expression) -> None:
    w.write(node.this)
    if node.args.get("desc"):
        w.parts.append(" DESC")


def _join(w: Writer, node: exp.Expression) -> None:
    words = [str(node.args[key]) for key in ("method", "side", "kind") if node.args.get(key)]
    if (
        not words
        and node.args.get("on") is None
        and not node.args.get("using")
        and not node.meta.get("plain")
    ):
        w.parts.append(", ")
    elif words == ["STRAIGHT"] or words == ["STRAIGHT_JOIN"]:
        w.parts.append(" STRAIGHT_JOIN ")
    else:
        w.parts.append(" " + " ".join([*words, "JOIN "]))
    w.write(node.this)
    if node.args.get("on") is not None:
        w.parts.append(" ON ")
        w.write(node.args["on"])
    if node.args.get("using"):
        w.parts.append(" USING (" + ", ".join(quote(item.name) for item in node.args["using"]) + ")")


def _bracketed(w: Writer, node: exp.Expression) -> None:
    """Write a query in one pair of parentheses, whether its node has them or not."""
    if isinstance(node, exp.Subquery):
        w.write(node)
        return
    w.parts.append("(")
    w.write(node)
    w.parts.append(")")


def _subquery(w: Writer, node: exp.Expression) -> None:
    for key, value in node.args.items():
        if key not in ("this", "alias", "joins", "order", "limit", "offset") and value:
            raise not_supported(key.strip("_").upper())
    bare = BARE in node.meta and isinstance(node.this, exp.Intersect)
    w.parts.append("" if bare else "(")
    w.write(node.this)
    w.parts.append("" if bare else ")")
    _alias_of(w, node)
    for join in node.args.get("joins") or ():
        w.write(join)
    _tail(w, node)


_SET_WORDS: dict[type[exp.Expression], str] = {
    exp.Union: "UNION",
    exp.Except: "EXCEPT",
    exp.Intersect: "INTERSECT",
}


def _set_operation(w: Writer, node: exp.Expression) -> None:
    for key, value in node.args.items():
        if (
            key not in ("this", "expression", "distinct", "order", "limit", "offset", "with_", "with")
            and value
        ):
            raise not_supported(f"{key.strip('_').upper()} of {_SET_WORDS[type(node)]}")
    _with(w, node)
    w.write(node.this)
    w.parts.append(f" {_SET_WORDS[type(node)]} " + ("" if node.args.get("distinct") else "ALL "))
    w.write(node.expression)
    _tail(w, node)


def _with(w: Writer, node: exp.Expression) -> None:
    clause = node.args.get("with_") or node.args.get("with")
    if clause is None:
        return
    w.parts.append("WITH RECURSIVE " if clause.args.get("recursive") else "WITH ")
    for index, item in enumerate(clause.expressions):
        alias = item.args["alias"]
        columns = alias.args.get("columns") or []
        w.parts.append((", " if index else "") + quote(alias.name))
        if columns:
            w.parts.append(" (" + ", ".join(quote(column.name) for column in columns) + ")")
        w.parts.append(" AS ")
        _bracketed(w, item.this)
    w.parts.append(" ")


def _exists(w: Writer, node: exp.Expression) -> None:
    w.parts.append("EXISTS ")
    _bracketed(w, node.this)


def _quantified(word: str) -> Callable[[Writer, exp.Expression], None]:
    def write(w: Writer, node: exp.Expression) -> None:
        w.parts.append(word + " ")
        _bracketed(w, node.this)

    return write


def _window(w: Writer, node: exp.Expression) -> None:
    for key, value in node.args.items():
        if key not in ("this", "partition_by", "order", "spec", "over", "alias") and value:
            raise not_supported(f"{key.upper()} of a window")
    if not isinstance(node.this, exp.Identifier):
        w.write(node.this)
        w.parts.append(" OVER ")
    else:  # a definition in the WINDOW clause
        w.parts.append(quote(node.this.name) + " AS ")
    alias = node.args.get("alias")
    bare = not (node.args.get("partition_by") or node.args.get("order") or node.args.get("spec"))
    if alias is not None and bare and not isinstance(node.this, exp.Identifier):
        w.parts.append(quote(alias.name))
        return
    w.parts.append("(")
    pieces = 0
    if alias is not None:
        w.parts.append(quote(alias.name))
        pieces = 1
    if node.args.get("partition_by"):
        w.parts.append((" " if pieces else "") + "PARTITION BY ")
        w.many(node.args["partition_by"])
        pieces = 1
    if node.args.get("order") is not None:
        w.parts.append((" " if pieces else "") + "ORDER BY ")
        w.many(node.args["order"].expressions)
        pieces = 1
    if node.args.get("spec") is not None:
        w.parts.append(" " if pieces else "")
        _window_spec(w, node.args["spec"])
    w.parts.append(")")


def _window_spec(w: Writer, spec: exp.Expression) -> None:
    if spec.args.get("exclude"):
        raise not_supported("EXCLUDE in a window frame")
    w.parts.append(str(spec.args["kind"]) + " ")
    both = spec.args.get("end") is not None
    if both:
        w.parts.append("BETWEEN ")
    for index, edge in enumerate(("start", "end") if both else ("start",)):
        if index:
            w.parts.append(" AND ")
        value, side = spec.args.get(edge), spec.args.get(f"{edge}_side")
        if isinstance(value, exp.Expression):
            w.write(value)
        else:
            w.parts.append(str(value))
        if side:
            w.parts.append(f" {side}")


def _binary_operator(w: Writer, node: exp.Expression) -> None:
    """Write BINARY x, the only cast that reaches the parser (others are fenced calls)."""
    to = node.args["to"]
    if str(to.this).upper().rsplit(".", 1)[-1] != "BINARY" or to.expressions:
        raise not_supported("this cast")
    w.parts.append("BINARY ")
    w.write(node.this)


def _order_in_call(w: Writer, node: exp.Expression) -> None:
    """Write ORDER BY inside an aggregate's parentheses."""
    w.write(node.this)
    w.parts.append(" ORDER BY ")
    w.many(node.expressions)


def _limit_in_call(w: Writer, node: exp.Expression) -> None:
    if node.this is None or node.args.get("expression") is None:
        raise not_supported("LIMIT here")
    w.write(node.this)
    w.parts.append(" LIMIT ")
    w.write(node.expression)


_SELECT_KEYS = frozenset(
    [
        "expressions",
        "from_",
        "from",
        "joins",
        "where",
        "group",
        "having",
        "order",
        "limit",
        "offset",
        "distinct",
        "kind",
        "hint",
        "with_",
        "with",
        "windows",
        "locks",
        "operation_modifiers",
    ]
)


def _select(w: Writer, node: exp.Expression) -> None:
    for key, value in node.args.items():
        if key not in _SELECT_KEYS and value:
            raise not_supported(key.strip("_").upper().replace("_", " "))
    _with(w, node)
    w.parts.append("SELECT ")
    if node.args.get("distinct") is not None:
        w.parts.append("DISTINCT ")
    for modifier in node.args.get("operation_modifiers") or ():
        w.parts.append(modifier.name + " ")
    w.many(node.expressions)
    source = node.args.get("from_") or node.args.get("from")
    if source is not None:
        w.parts.append(" FROM ")
        w.write(source.this)
    for join in node.args.get("joins") or ():
        w.write(join)
    for key, word in (("where", " WHERE "), ("having", " HAVING ")):
        if key == "having":
            _group(w, node.args.get("group"))
        if node.args.get(key) is not None:
            w.parts.append(word)
            w.write(node.args[key].this)
    if node.args.get("windows"):
        w.parts.append(" WINDOW ")
        w.many(node.args["windows"])
    _tail(w, node)
    for lock in node.args.get("locks") or ():
        w.parts.append(" FOR UPDATE" if lock.args.get("update") else " LOCK IN SHARE MODE")


def _tail(w: Writer, node: exp.Expression) -> None:
    """Write ORDER BY, LIMIT and OFFSET of a query."""
    if node.args.get("order") is not None:
        w.parts.append(" ORDER BY ")
        w.many(node.args["order"].expressions)
    if node.args.get("limit") is not None:
        if not isinstance(node.args["limit"], exp.Limit):
            raise not_supported("FETCH", "write LIMIT")
        w.parts.append(" LIMIT ")
        w.write(node.args["limit"].expression)
    if node.args.get("offset") is not None:
        w.parts.append(" OFFSET ")
        w.write(node.args["offset"].expression)


def _group(w: Writer, group: exp.Expression | None) -> None:
    if group is None:
        return
    rollup = group.args.get("rollup")
    for key, value in group.args.items():
        if key not in ("expressions", "rollup") and value:
            raise not_supported(f"GROUP BY {key.upper()}")
    if group.expressions:
        w.parts.append(" GROUP BY ")
        w.many(group.expressions)
    if rollup:
        w.parts.append(" WITH ROLLUP")


_WRITERS: dict[type[exp.Expression], Callable[[Writer, exp.Expression], None]] = {
    exp.Identifier: _identifier, exp.Column: _column, exp.Table: _table, exp.Alias: _alias,
    exp.Anonymous: _anonymous, exp.Distinct: _distinct, exp.Literal: _literal, exp.Placeholder: _placeholder,
    exp.Not: _not, exp.In: _predicate, exp.Between: _predicate, exp.Like: _predicate, exp.Escape: _predicate,
    exp.RegexpLike: _predicate, exp.Case: _case,
    exp.Interval: _interval, exp.Neg: _prefix("-"), exp.BitwiseNot: _prefix("~"), exp.Paren: _paren,
    exp.Tuple: _tuple, exp.Ordered: _ordered, exp.Join: _join, exp.Select: _select, exp.Subquery: _subquery,
    exp.Union: _set_operation, exp.Except: _set_operation, exp.Intersect: _set_operation, exp.Exists: _exists,
    exp.All: _quantified("ALL"), exp.Any: _quantified("ANY"), exp.Window: _window, exp.Cast: _binary_operator,
    exp.Order: _order_in_call, exp.Limit: _limit_in_call, exp.Star: lambda w, _: w.parts.append("*"),
    exp.Null: lambda w, _: w.parts.append("NULL"),
    exp.Boolean: lambda w, node: w.parts.append("TRUE" if node.this else "FALSE"),
    exp.Var: lambda w, node: w.parts.append(node.name),
}  # fmt: skip
