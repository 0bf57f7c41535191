"""Writes down the names that MariaDB gives to select items without an alias, where the statement uses them.

``SELECT ra + 1 FROM Star ORDER BY `ra + 1` `` names its first item by that item's own text. With the alias written down,
the tree knows the name as it knows any other; in inner queries too, whose names the queries around them use.
"""

from __future__ import annotations

import re
from collections.abc import Container

from sqlglot import exp

from shard.errors import SkyError
from shard.planner.fence import SyntaxProblem, parse
from shard.planner.headers import select_items
from shard.planner.lexer import Token, TokenKind, texts_of

_LONGEST = 255
"""Characters of a name that MariaDB makes."""
_MARKS = frozenset("`\"'")
_NAMES = (TokenKind.WORD, TokenKind.QUOTED)


def with_names(text: str, tokens: list[Token]) -> list[Token]:
    """Return the tokens of a text with an alias behind every select item whose automatic name it uses elsewhere.

    Examples
    --------
    >>> from shard.planner.lexer import tokenize
    >>> query = "SELECT ra+1, decl FROM Star ORDER BY `RA+1`"
    >>> [token.text for token in with_names(query, tokenize(query))][:7]
    ['SELECT', 'ra', '+', '1', 'AS', '`ra+1`', ',']
    """
    texts = texts_of(tokens)
    if not any(text[-1] in _MARKS for text in texts):  # such a name is quoted, or an item's string
        return tokens
    selects = [
        index for index, (_, word, _) in enumerate(tokens) if len(word) == 6 and word.upper() == "SELECT"
    ]
    aliases: dict[int, str] = {}
    for index in selects:
        if tokens[index - 1].text == ".":
            continue
        for first, last in select_items(tokens, index):
            name = _automatic_name(text, tokens, first, last)
            if name is None or not _is_used(name, tokens[last].kind, texts):
                continue
            if _has_no_other(tokens[first : last + 1]):
                aliases[last] = name
    if not aliases:
        return tokens
    out: list[Token] = []
    for index, token in enumerate(tokens):
        out.append(token)
        if index in aliases:
            name = aliases[index].replace("`", "``")
            out.append(Token(TokenKind.WORD, "AS", token.start))
            out.append(Token(TokenKind.QUOTED, f"`{name}`", token.start))
    return out


def _is_used(name: str, kind: TokenKind, texts: Container[str]) -> bool:
    """Whether a statement with these words names an item that ends with a token of this kind."""
    upper = name.upper()
    if kind is TokenKind.STRING:  # which may stand between the same marks
        return upper in texts or f"`{upper}`" in texts
    return any(mark + upper.replace(mark, mark * 2) + mark in texts for mark in '`"')


def _automatic_name(text: str, tokens: list[Token], first: int, last: int) -> str | None:
    """Return the name of an item without an alias: the text it is written as, or what a string says.

    None for what has a name of its own (a column), or one that is not known here.
    """
    if first >= last and tokens[first].kind in _NAMES:
        return None
    if tokens[last].kind is TokenKind.STRING and last - first < 2:
        return _of_string(tokens[first : last + 1])
    end = tokens[last].start + len(tokens[last].text)
    name = text[tokens[first].start : end]
    return name if len(name) <= _LONGEST else None


def _of_string(tokens: list[Token]) -> str | None:
    """Return the name of a string, perhaps behind the name of its character set."""
    if len(tokens) == 2 and not re.fullmatch(r"_\w+", tokens[0].text):
        return None
    text = tokens[-1].text
    name = text[1:-1].replace(text[0] * 2, text[0]).lstrip()
    return name if name and "\\" not in name and len(name) <= _LONGEST else None


def _has_no_other(tokens: list[Token]) -> bool:
    """Whether an item has neither an alias nor the name of a column."""
    try:
        tree = parse([Token(TokenKind.WORD, "SELECT", 0), *tokens])
    except (SyntaxProblem, SkyError):
        return False
    item = tree.expressions[0] if isinstance(tree, exp.Select) and len(tree.expressions) == 1 else None
    inner = item.unnest() if isinstance(item, exp.Paren) else item
    return inner is not None and not isinstance(inner, (exp.Alias, exp.Column, exp.Star))
