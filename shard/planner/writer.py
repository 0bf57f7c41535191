"""Writes trees as MariaDB SQL: what every writer of a kind of node shares.

The tables of writers are put together in `emit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp

from shard.errors import not_supported

CHUNK_MARK = "\ue000"
"""Stands for the chunk number inside names; user text with this character is refused."""
KEYS_MARK = "\ue001"
"""Stands for those keys of a list that a chunk can hold; refused in user text, too."""

_BINARY: dict[type[exp.Expression], str] = {
    exp.And: "AND", exp.Or: "OR", exp.Xor: "XOR", exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=",
    exp.LT: "<", exp.LTE: "<=", exp.NullSafeEQ: "<=>", exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/",
    exp.IntDiv: "DIV", exp.Mod: "%", exp.BitwiseAnd: "&", exp.BitwiseOr: "|", exp.BitwiseXor: "^",
    exp.BitwiseLeftShift: "<<", exp.BitwiseRightShift: ">>", exp.Is: "IS",
    exp.Collate: "COLLATE",
}  # fmt: skip


BARE = "bare"
"""Key of the meta of a query whose parentheses are the parser's, not the text's."""


Write = Callable[["Writer", exp.Expression], None]
WRITERS: dict[type[exp.Expression], Write] = {}
"""What writes a node of a kind; filled by `emit`."""


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
        # The right sides of a chain of operators, whose left sides may be thousands deep.
        right: list[tuple[str, exp.Expression]] = []
        while (symbol := _BINARY.get(type(node))) is not None:
            right.append((f" {symbol} ", node.expression))
            node = node.this
        writer = WRITERS.get(type(node))
        if writer is None:
            raise not_supported(construct_name(node))
        writer(self, node)
        for symbol, side in reversed(right):
            self.parts.append(symbol)
            self.write(side)
        return self

    def many(self, nodes: list[exp.Expression], separator: str = ", ") -> None:
        """Write nodes with a separator between them."""
        for index, node in enumerate(nodes):
            if index:
                self.parts.append(separator)
            self.write(node)


def construct_name(node: exp.Expression) -> str:
    """Return a user's name for a construct."""
    names: dict[type[exp.Expression], str] = {
        exp.Union: "UNION", exp.Intersect: "INTERSECT", exp.Except: "EXCEPT", exp.Window: "a window function",
        exp.Subquery: "a subquery", exp.Exists: "EXISTS (subquery)", exp.With: "WITH", exp.Lateral: "LATERAL",
    }  # fmt: skip
    return names.get(type(node), type(node).__name__.upper())


def bracketed(w: Writer, node: exp.Expression) -> None:
    """Write a query in one pair of parentheses, whether its node has them or not."""
    if isinstance(node, exp.Subquery):
        w.write(node)
        return
    w.parts.append("(")
    w.write(node)
    w.parts.append(")")
