"""Reads OFFSET … FETCH FIRST … ROWS ONLY, which standard SQL says for LIMIT, as LIMIT."""

from __future__ import annotations

from shard.planner.lexer import Token, TokenKind, texts_of

_ROWS = frozenset({"ROW", "ROWS"})


def as_limit(tokens: list[Token]) -> list[Token]:
    """Return tokens with LIMIT in place of FETCH FIRST; WITH TIES stays, which LIMIT cannot say.

    Values and parameters keep their order: that is what ``LIMIT skipped, count`` is for.

    Examples
    --------
    >>> from shard.planner.lexer import tokenize
    >>> query = "SELECT ra FROM Star OFFSET 5 ROWS FETCH NEXT 3 ROWS ONLY"
    >>> " ".join(token.text for token in as_limit(tokenize(query)))
    'SELECT ra FROM Star LIMIT 5 , 3'
    """
    if "FETCH" not in texts_of(tokens):
        return tokens
    out: list[Token] = []
    index = 0
    while index < len(tokens):
        found = _count(tokens, index)
        if found is None:
            out.append(tokens[index])
            index += 1
            continue
        count, index = found
        start = count.start
        limit = [Token(TokenKind.WORD, "LIMIT", start)]
        if len(out) > 3 and out[-3].upper == "OFFSET" and out[-1].upper in _ROWS:
            limit += [out[-2], Token(TokenKind.OPERATOR, ",", start)]
            del out[-3:]
        out += [*limit, count]
    return out


def _count(tokens: list[Token], index: int) -> tuple[Token, int] | None:
    """Return the number of rows of a FETCH that begins here, and where the text goes on; None: there is none."""
    fetch = tokens[index]
    words = [token.upper for token in tokens[index : index + 5]]
    if fetch.kind is not TokenKind.WORD or words[0] != "FETCH" or words[1:2] not in (["FIRST"], ["NEXT"]):
        return None
    if words[2:4] in (["ROW", "ONLY"], ["ROWS", "ONLY"]):
        return Token(TokenKind.NUMBER, "1", fetch.start), index + 4
    if len(words) == 5 and words[3] in _ROWS and words[4] == "ONLY":
        return tokens[index + 2], index + 5
    return None
