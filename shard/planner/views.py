"""Replaces views over sharded tables by what they select, as derived tables.

The home server has checked the statement with the views in it, so that its rules about who may read
what have been kept; their definitions are the server's own text, every name qualified.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from shard.catalog.model import Database
from shard.errors import not_supported
from shard.planner.fence import SyntaxProblem, parse
from shard.planner.fetch_first import as_limit
from shard.planner.lexer import LexerMode, LexError, tokenize
from shard.planner.roundtrip import prove
from shard.planner.scope import reads_sharded

Views = Mapping[tuple[str, str], str]
"""(database, view) → its definition."""
_DEEPEST = 16


def sharded(views: Views, catalogue: Mapping[str, Database]) -> frozenset[tuple[str, str]]:
    """Return the views that read sharded tables, by themselves or through others."""
    trees = {key: tree for key, text in views.items() if (tree := _tree(text)) is not None}
    found: set[tuple[str, str]] = {key for key, tree in trees.items() if reads_sharded(tree, None, catalogue)}
    grown = True
    while grown:
        more = {key for key, tree in trees.items() if key not in found and _names(tree) & found}
        found |= more
        grown = bool(more)
    return frozenset(found)


def _tree(text: str) -> exp.Expression | None:
    try:
        return parse(tokenize(text, LexerMode()))
    except (SyntaxProblem, LexError):
        return None


def _names(tree: exp.Expression) -> set[tuple[str, str]]:
    return {
        (node.args["db"].name, node.name)
        for node in tree.find_all(exp.Table)
        if node.args.get("db") is not None
    }


def expand(
    tree: exp.Expression,
    database: str | None,
    views: Views,
    catalogue: Mapping[str, Database],
    depth: int = 0,
) -> bool:
    """Replace views over sharded tables in a tree, in place; return whether there were any.

    Raises
    ------
    SkyError
        1235 for a view whose definition cannot be distributed.
    """
    common = {item.alias.lower() for clause in tree.find_all(exp.With) for item in clause.expressions}
    changed = False
    for node in list(tree.find_all(exp.Table)):
        home = node.args["db"].name if node.args.get("db") is not None else None
        if home is None and node.name.lower() in common:
            continue
        key = (home or database or "", node.name)
        text = views.get(key)
        if text is None:
            continue
        if depth > _DEEPEST or node.args.get("joins"):
            raise not_supported(f"view '{node.name}' here")
        query = _definition(node.name, text)
        expand(query, None, views, catalogue, depth + 1)
        if not reads_sharded(query, None, catalogue):
            continue
        alias = exp.TableAlias(this=exp.to_identifier(node.alias or node.name, quoted=True))
        node.replace(exp.Subquery(this=query, alias=alias))
        changed = True
    return changed


def _definition(name: str, text: str) -> exp.Expression:
    try:
        tokens = as_limit(tokenize(text, LexerMode()))
        query = parse(tokens)
        prove(tokens, query)
    except (SyntaxProblem, LexError) as error:
        raise not_supported(f"view '{name}', whose definition is not understood") from error
    return query


__all__ = ["Views", "expand", "sharded"]
