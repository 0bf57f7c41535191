"""Writes the nodes of queries: FROM and joins, SELECT and its clauses, set operations, windows."""

from __future__ import annotations

from sqlglot import exp

from shard.catalog.naming import quote
from shard.errors import not_supported
from shard.planner.notes import noted
from shard.planner.writer import BARE, Write, Writer, bracketed


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


def _ordered(w: Writer, node: exp.Expression) -> None:
    w.write(node.this)
    if node.args.get("desc"):
        w.parts.append(" DESC")


def _join(w: Writer, node: exp.Expression) -> None:
    words = [str(node.args[key]) for key in ("method", "side", "kind") if node.args.get(key)]
    if not words and node.args.get("on") is None and not node.args.get("using") and not noted(node, "plain"):
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


def _subquery(w: Writer, node: exp.Expression) -> None:
    for key, value in node.args.items():
        if key not in ("this", "alias", "joins", "order", "limit", "offset") and value:
            raise not_supported(key.strip("_").upper())
    bare = bool(noted(node, BARE)) and isinstance(node.this, exp.Intersect)
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
_SET_KEYS = frozenset(["this", "expression", "distinct", "order", "limit", "offset", "with_", "with"])


def _set_operation(w: Writer, node: exp.Expression) -> None:
    chain: list[exp.Expression] = []  # of hundreds of queries the first is that deep
    while isinstance(node, exp.SetOperation):
        for key, value in node.args.items():
            if key not in _SET_KEYS and value:
                raise not_supported(f"{key.strip('_').upper()} of {_SET_WORDS[type(node)]}")
        _with(w, node)
        chain.append(node)
        node = node.this
    w.write(node)
    for operation in reversed(chain):
        word = _SET_WORDS[type(operation)]
        w.parts.append(f" {word} " + ("" if operation.args.get("distinct") else "ALL "))
        w.write(operation.expression)
        _tail(w, operation)


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
        bracketed(w, item.this)
    w.parts.append(" ")


def _exists(w: Writer, node: exp.Expression) -> None:
    w.parts.append("EXISTS ")
    bracketed(w, node.this)


def _quantified(word: str) -> Write:
    def write(w: Writer, node: exp.Expression) -> None:
        w.parts.append(word + " ")
        bracketed(w, node.this)

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
    """
    expressions from_ from joins where group having order limit offset distinct kind hint with_ with
    windows locks operation_modifiers
    """.split()
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


QUERIES: dict[type[exp.Expression], Write] = {
    exp.Table: _table,
    exp.Ordered: _ordered,
    exp.Join: _join,
    exp.Select: _select,
    exp.Subquery: _subquery,
    exp.Union: _set_operation,
    exp.Except: _set_operation,
    exp.Intersect: _set_operation,
    exp.Exists: _exists,
    exp.All: _quantified("ALL"),
    exp.Any: _quantified("ANY"),
    exp.Window: _window,
    exp.Order: _order_in_call,
    exp.Limit: _limit_in_call,
}
"""What writes nodes of queries."""
