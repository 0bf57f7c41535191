"""Tells which statements would change a published catalogue, from their tokens alone.

A catalogue's tables live on the workers and, replicated or as traps, at home. A write that reached only
home would make one of its copies differ from the others, or turn a trap into a table that answers nothing,
and queries would then be answered wrongly. So such statements are refused before home sees them, in
routines' and events' bodies too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from shard.catalog.model import Database, Table
from shard.errors import CATALOGUE_READ_ONLY, READ_ONLY, SkyError, not_supported
from shard.planner.change import Cut, cut, written_names
from shard.planner.cutting import has_statements, inner
from shard.planner.lexer import LexerMode, LexError, Token, TokenKind, tokenize, unquote
from shard.planner.scope import column_names

_ENDS = {
    "INSERT": frozenset({"SELECT", "VALUES", "VALUE", "SET", "WITH", "TABLE", "("}),
    "REPLACE": frozenset({"SELECT", "VALUES", "VALUE", "SET", "WITH", "TABLE", "("}),
    "UPDATE": frozenset({"SET"}),
    "DELETE": frozenset({"WHERE", "ORDER", "LIMIT", "RETURNING"}),
}
"""Where the tables that a statement writes end; names in parentheses are only read."""
_AFTER = {
    "ALTER": frozenset({"TABLE", "EXISTS"}),
    "LOAD": frozenset({"TABLE"}),
    "CREATE": frozenset({"TABLE", "EXISTS", "SEQUENCE"}),
}
"""What stands before the table that a statement writes."""
_HEAD = 9
"""Tokens that the head of a CREATE has at most, up to the table's name."""
_WHOLE = frozenset({"TRUNCATE", "DROP", "RENAME"})
_ROWS = frozenset({*_ENDS, "LOAD"})
"""What changes a table that is named by a view of it."""
_SERVICE = frozenset({"OPTIMIZE", "REPAIR", "HANDLER", "CHECK", "CHECKSUM"})
"""Harmless on a replicated table, nothing to work on in a sharded one."""
_VERBS = frozenset({*_ENDS, *_AFTER, *_WHOLE, *_SERVICE})
_IN_BODIES = _VERBS | {"PREPARE", "EXECUTE"}
_NO_STATEMENT = frozenset({"BEFORE", "AFTER", "OR", "ON", "CONTINUE", "EXIT", "UNDO"})
"""What stands before a verb that begins no statement: of a trigger's head, a foreign key, a condition's handler."""
_LOCKING = frozenset({"", ";", ")", "NOWAIT", "WAIT", "SKIP", "UNION", "EXCEPT", "INTERSECT", "INTO"})
"""What may follow the FOR UPDATE of a SELECT."""


@dataclass(frozen=True, slots=True)
class Published:
    """What may not be changed: databases by name, and views (database, name) that replicated tables show in."""

    databases: Mapping[str, Database]
    views: frozenset[tuple[str, str]] = frozenset()


def refusal(
    tokens: Sequence[Token],
    default: str | None,
    published: Published,
    mode: LexerMode = LexerMode(),  # noqa: B008 - frozen
) -> SkyError | None:
    """Return the error of a statement that would change a catalogue; None for all others.

    Parameters
    ----------
    tokens : sequence of Token
        The statement's.
    default : str or None
        The session's database.
    published : Published
        What may not be changed.
    mode : LexerMode
        How texts that it runs are read.
    """
    tokens = inner(tokens)
    verb = tokens[0].upper if tokens else ""
    if verb in _VERBS:
        found = _of_database(tokens, published) or _of_tables(verb, tokens, default, published)
        if found is not None:
            return found
    if has_statements(tokens):
        return _in_body(tokens, mode, default, published)
    return None


def dynamic(
    tokens: Sequence[Token], mode: LexerMode, default: str | None, published: Published
) -> SkyError | None:
    """Return the error of a PREPARE or EXECUTE IMMEDIATE whose text is, or may be, a change."""
    text = _literal_text(tokens, mode)
    if text is None:
        return SkyError(READ_ONLY, verb=f"{tokens[0].upper} of a change", table="…")
    try:
        return refusal(tokenize(text, mode), default, published, mode)
    except LexError:
        return SkyError(READ_ONLY, verb=f"{tokens[0].upper} of a change", table="…")


def _literal_text(tokens: Sequence[Token], mode: LexerMode) -> str | None:
    """Return the text that a PREPARE or EXECUTE IMMEDIATE has as its one literal; None if it has another."""
    texts = [token for token in tokens if token.kind is TokenKind.STRING]
    if len(texts) != 1 or (tokens[-1] is not texts[0] and "USING" not in {token.upper for token in tokens}):
        return None
    mark = texts[0].text[0]
    text = texts[0].text[1:-1].replace(mark * 2, mark)
    return text if mode.no_backslash_escapes else text.replace("\\" + mark, mark)


def _of_database(tokens: Sequence[Token], published: Published) -> SkyError | None:
    """Return the error of DROP, ALTER and CREATE OR REPLACE DATABASE."""
    words = [token.upper for token in tokens[:4]]
    verb = words[0]
    replaced = verb == "CREATE" and words[1:3] == ["OR", "REPLACE"]
    kind = words[3:4] if replaced else words[1:2]
    if kind not in (["DATABASE"], ["SCHEMA"]) or not (replaced or verb in ("DROP", "ALTER")):
        return None
    for token in tokens[2:]:
        if token.kind in (TokenKind.WORD, TokenKind.QUOTED) and unquote(token) in published.databases:
            return SkyError(CATALOGUE_READ_ONLY, verb=verb, name=unquote(token))
    return None


def _of_tables(
    verb: str, tokens: Sequence[Token], default: str | None, published: Published
) -> SkyError | None:
    words = [token.upper for token in tokens]
    if verb in ("UPDATE", "DELETE") and (where := cut(tokens)) is not None:
        return _of_rows(verb, tokens, where, default, published)
    for index, table in catalogue_names(tokens, default, published.databases):
        if not _is_target(verb, words, index):
            continue
        if table.is_sharded:
            return SkyError(READ_ONLY, verb=verb, table=table.name)
        if verb not in _SERVICE:
            return SkyError(CATALOGUE_READ_ONLY, verb=verb, name=table.name)
    if verb in _ROWS:
        for index, name in _views(tokens, default, published.views):
            if _is_target(verb, words, index):
                return SkyError(CATALOGUE_READ_ONLY, verb=verb, name=name)
    return _of_references(words, tokens, default, published) if verb in ("CREATE", "ALTER") else None


def _of_rows(
    verb: str, tokens: Sequence[Token], where: Cut, default: str | None, published: Published
) -> SkyError | None:
    """Return the error of an UPDATE or DELETE, which may read other tables than it writes."""
    called = dict(written_names(tokens, where))
    for index, table in catalogue_names(tokens, default, published.databases):
        if index in called and where.writes(called[index], column_names(table)):
            code = READ_ONLY if table.is_sharded else CATALOGUE_READ_ONLY
            return SkyError(code, verb=verb, table=table.name, name=table.name)
    for index, name in _views(tokens, default, published.views):
        if index in called and where.writes(called[index], None):
            return SkyError(CATALOGUE_READ_ONLY, verb=verb, name=name)
    return None


def _of_references(
    words: Sequence[str], tokens: Sequence[Token], default: str | None, published: Published
) -> SkyError | None:
    """Return the error of a foreign key to a catalogue's table: it would look at a trap, and hold it fast."""
    if "REFERENCES" not in words:
        return None
    for index, _ in catalogue_names(tokens, default, published.databases):
        if _before(words, index) == "REFERENCES":
            return not_supported("a foreign key")
    return None


def _is_target(verb: str, words: Sequence[str], index: int) -> bool:
    """Whether the name at `index` is one that the statement writes."""
    if verb == "CREATE":
        head = words[:_HEAD]
        if ("INDEX" in head or "TRIGGER" in head) and "TABLE" not in head:
            return _before(words, index) == "ON"
        if "REPLACE" not in head[:3] and "TEMPORARY" not in head[:4]:
            return False  # home says that it exists
        return index < _HEAD and _before(words, index) in _AFTER[verb]
    if verb in _AFTER:
        return _before(words, index) in _AFTER[verb]
    if verb not in _ENDS:
        return True
    depth = 0
    for word in words[:index]:
        if depth == 0 and word in _ENDS[verb]:
            return False
        depth += (word == "(") - (word == ")")
    return depth == 0


def _before(words: Sequence[str], index: int) -> str:
    """Return the word before a name, its database passed over."""
    start = index - 2 if index >= 2 and words[index - 1] == "." else index
    return words[start - 1] if start else ""


def _in_body(
    tokens: Sequence[Token], mode: LexerMode, default: str | None, published: Published
) -> SkyError | None:
    """Return the error of the first statement of a body that would change a catalogue."""
    for index, token in enumerate(tokens[1:], 1):
        if token.kind is not TokenKind.WORD or token.upper not in _IN_BODIES:
            continue
        following = tokens[index + 1].upper if index + 1 < len(tokens) else ""
        before = tokens[index - 1].upper
        if following == "(" or before in _NO_STATEMENT or (before == "FOR" and following in _LOCKING):
            continue
        end = next((at for at in range(index, len(tokens)) if tokens[at].text == ";"), len(tokens))
        piece = tokens[index:end]
        if token.upper in _VERBS:
            found = _of_database(piece, published) or _of_tables(token.upper, piece, default, published)
        else:
            found = None if _literal_text(piece, mode) is None else dynamic(piece, mode, default, published)
        if found is not None:
            return found
    return None


def _names(tokens: Sequence[Token], default: str | None) -> Iterator[tuple[int, str, str]]:
    """Yield (token index, database, name) wherever a table could be named."""
    for index, token in enumerate(tokens):
        if token.kind in (TokenKind.WORD, TokenKind.QUOTED):
            qualified = index >= 2 and tokens[index - 1].text == "."
            database = unquote(tokens[index - 2]) if qualified else default
            if database is not None:
                yield index, database, unquote(token)


def _views(
    tokens: Sequence[Token], default: str | None, views: frozenset[tuple[str, str]]
) -> Iterator[tuple[int, str]]:
    return ((index, name) for index, home, name in _names(tokens, default) if (home, name) in views)


def catalogue_names(
    tokens: Sequence[Token], default: str | None, databases: Mapping[str, Database]
) -> Iterator[tuple[int, Table]]:
    """Yield (token index, table) wherever a name could mean a catalogue's table, replicated ones too."""
    for index, home, name in _names(tokens, default):
        found = databases[home].table(name) if home in databases else None
        if found is not None:
            yield index, found
