"""Which gathered deviations keep all their digits, and how an answer in text shortens them again.

MariaDB keeps all digits of STD and VARIANCE of exact numbers where it stores them for a query around, and writes
them with a fixed number of decimals. A table's column can only do one or the other. It keeps all digits where each
use of it is followed to the answer through nothing but arithmetic, so that the answer's own items can be rounded as
they are written; wherever it is compared, grouped, read as text or stored once more, it is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlglot import exp

from shard.planner.branches import is_star
from shard.planner.fragment import logical, with_decimals
from shard.planner.plan import Gather, Sql
from shard.wire.protocol import NOT_FIXED

_KEEPS = frozenset({"sum", "avg", "min", "max"})
_ARITHMETIC = (exp.Paren, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Alias)
_STORED = ("group", "having", "distinct")


def gathered(gather: Gather, decimals: Sequence[int], binary: bool) -> Sql | None:
    """Return the statement to run if deviations are gathered with all their digits; None if they must be gathered rounded.

    Parameters
    ----------
    gather : Gather
        The gather.
    decimals : sequence of int
        With how many decimals the answer's DOUBLE columns are written, 31 for all.
    binary : bool
        Its rows are binary, and have all digits. Those of a set operation are rounded before, if they have decimals.
    """
    tree = gather.draft
    while isinstance(tree, exp.Subquery) and not any(
        value for key, value in tree.args.items() if key != "this"
    ):
        tree = tree.this
    names = {name.lower() for part in gather.parts for name in part.spread}
    if not names or not isinstance(tree, exp.Expression):
        return None
    outputs = list(_outputs(tree))
    shown = _followed(tree, outputs, names)
    if shown is None:
        return None
    if all(scale >= NOT_FIXED for scale in decimals):
        return gather.statement
    starred = any(is_star(item) for select in outputs for item in select.expressions)
    if not isinstance(tree, exp.Select):
        fixed = [decimals[at] for places in shown.values() for at in places if at < len(decimals)]
        return None if starred or any(scale < NOT_FIXED for scale in fixed) else gather.statement
    if binary:
        return gather.statement
    if starred or len(tree.expressions) != len(decimals):
        return None
    written = tree.copy()
    for at in shown.get(id(tree), ()):
        if decimals[at] < NOT_FIXED:
            value = _value(written.expressions[at])
            value.replace(with_decimals(value.copy(), decimals[at]))
    return logical(written)


def _value(item: exp.Expression) -> exp.Expression:
    """Return an item without its alias."""
    return item.this if isinstance(item, exp.Alias) else item


def _outputs(tree: exp.Expression) -> Iterator[exp.Select]:
    """Yield the SELECTs whose rows are the statement's: itself, or the arms of its set operation."""
    if isinstance(tree, exp.Select):
        yield tree
    elif isinstance(tree, (exp.SetOperation, exp.Subquery)) and not tree.args.get("joins"):
        for arm in (tree.this, tree.args.get("expression")):
            if isinstance(arm, exp.Expression):
                yield from _outputs(arm)


def _followed(tree: exp.Expression, outputs: list[exp.Select], names: set[str]) -> dict[int, set[int]] | None:
    """Return where columns of these names are shown, by output: positions; None if one is used otherwise.

    Names of inner columns that are nothing else are followed, too, and are added to `names`.
    """
    for select in tree.find_all(exp.Select):
        if any(map(is_star, select.expressions)) and not _shows_all(select, outputs):
            return None
    for join in tree.find_all(exp.Join):
        if str(join.args.get("method") or "").upper() == "NATURAL" or join.args.get("using"):
            return None
    shown: dict[int, set[int]] = {}
    known = 0
    while known < len(names):
        known = len(names)
        for column in list(tree.find_all(exp.Column)):
            if column.name.lower() in names and not _follow(column, outputs, names, shown):
                return None
    return shown


def _shows_all(select: exp.Select, outputs: list[exp.Select]) -> bool:
    """Whether a star's columns are the answer's, or those of a derived table under their own names, or nobody's."""
    holder = select.parent
    if isinstance(holder, exp.Exists):
        return True
    if any(select.args.get(key) for key in _STORED):
        return False
    return any(select is output for output in outputs) or (
        isinstance(holder, exp.Subquery)
        and isinstance(holder.parent, (exp.From, exp.Join))
        and not holder.alias_column_names
    )


def _follow(
    column: exp.Column, outputs: list[exp.Select], names: set[str], shown: dict[int, set[int]]
) -> bool:
    """Follow one use of a deviation; return whether it ends in the answer, or in a column of a derived table."""
    node: exp.Expression = column
    while True:
        parent = node.parent
        if isinstance(parent, exp.Select) and node.arg_key == "expressions":
            if not _passes(parent, node, names):
                return False
            if any(parent is output for output in outputs):
                places = shown.setdefault(id(parent), set())
                places.add(next(at for at, item in enumerate(parent.expressions) if item is node))
                return True
            holder = parent.parent
            if not isinstance(holder, exp.Subquery) or holder.alias_column_names:
                return False
            if isinstance(holder.parent, (exp.From, exp.Join)):  # a derived table rounds what it computes
                names.add(node.alias_or_name.lower())
                return _value(node) is column
            node = holder
        elif isinstance(parent, _ARITHMETIC) or (
            isinstance(parent, exp.Anonymous) and parent.name.lower() in _KEEPS
        ):
            node = parent
        else:
            return False


def _passes(select: exp.Select, item: exp.Expression, names: set[str]) -> bool:
    """Whether a SELECT neither stores nor sorts by an item of its list."""
    if any(select.args.get(key) for key in _STORED):
        return False
    order = select.args.get("order")
    taboo = names | {item.alias_or_name.lower()}
    keys = [key.this for key in order.expressions] if order is not None else []
    return all(isinstance(key, exp.Column) and key.name.lower() not in taboo for key in keys)


__all__ = ["gathered"]
