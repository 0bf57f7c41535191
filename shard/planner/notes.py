"""Reads what the planner notes on nodes of a tree.

sqlglot's `meta` gives every node that is asked for it a dict of its own, which every copy then copies.
"""

from __future__ import annotations

from typing import Any

from sqlglot import exp

CALL = "call"
"""Key of the words around and between a call's arguments, in `args`: what is there is not copied with the tree."""


def noted(node: exp.Expression, key: str) -> Any:
    """Return what `meta` says of a node; None if it says nothing."""
    return None if node._meta is None else node._meta.get(key)
