"""What belongs to the user's session, not to a worker: variables, and functions about the session itself."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

PER_SESSION = frozenset(
    """
    user current_user session_user system_user current_role database schema connection_id last_insert_id
    version
    """.split()
)
"""Functions whose value belongs to the session or the query, not to a worker."""
_SESSION_WORDS = frozenset(name.upper() for name in PER_SESSION)


def may_need(words: frozenset[str]) -> bool:
    """Whether a text may name variables or functions of its session."""
    return not words.isdisjoint(_SESSION_WORDS) or any(text.startswith("@") for text in words)


def session_values(tree: exp.Expression) -> tuple[str, ...]:
    """Return the texts of variables and session functions in a tree, each once."""
    return tuple(dict.fromkeys(text for _, text in _session_nodes(tree)))


def _session_nodes(tree: exp.Expression) -> list[tuple[exp.Expression, str]]:
    out: list[tuple[exp.Expression, str]] = []
    for node in tree.walk():
        if isinstance(node, exp.Literal):
            text = str(node.this)
            if text.startswith("@") or text.upper() in ("CURRENT_USER", "CURRENT_ROLE"):
                out.append((node, text))
        elif isinstance(node, exp.Anonymous) and node.name.lower() in PER_SESSION and not node.expressions:
            out.append((node, f"{node.name}()"))
    return out


def put_session(tree: exp.Expression, session: Mapping[str, str]) -> exp.Expression:
    """Put the session's values into a tree."""
    holder = exp.Paren(this=tree)
    for node, text in _session_nodes(holder):
        if text in session:
            node.replace(exp.Paren(this=exp.Literal(this=session[text], is_string=False)))
    result: exp.Expression = holder.this
    result.pop()
    return result
