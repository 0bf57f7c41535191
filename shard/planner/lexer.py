"""Splits MariaDB SQL into tokens without changing a byte of it.

The planner must know where literals, names and comments begin and end, under the session's
sql_mode, before any parser sees the text: literals travel verbatim (their bytes mean what the
client meant), and executable comments count as code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

MOST_TOKENS = 500_000
"""Tokens of a statement on sharded tables."""
SERVER_VERSION = 101100
"""Executable comments up to this version are code (the reference server, 10.11)."""


class TokenKind(Enum):
    """What a token is."""

    WORD = "word"
    QUOTED = "quoted identifier"
    STRING = "string"
    NUMBER = "number"
    BITS = "hexadecimal or bit literal"
    PARAMETER = "parameter"
    VARIABLE = "variable"
    OPERATOR = "operator"


class Token(NamedTuple):
    """One token: its kind, its verbatim text, and where it starts (characters)."""

    kind: TokenKind
    text: str
    start: int

    @property
    def upper(self) -> str:
        """The text in upper case, for words."""
        return self.text.upper()


class Tokens(list[Token]):
    """The tokens of a text; what it consists of is found once, for most questions are about what it has not."""

    __slots__ = ("_texts", "cut")
    _texts: frozenset[str]
    cut: bool
    """Whether the text goes on behind them."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        super().__init__(tokens)
        self.cut = False

    @property
    def texts(self) -> frozenset[str]:
        """Return the texts of all tokens, in upper case."""
        try:
            return self._texts
        except AttributeError:
            self._texts = frozenset([text.upper() for _, text, _ in self])
            return self._texts


def texts_of(tokens: list[Token]) -> frozenset[str]:
    """Return the texts of tokens, in upper case."""
    if isinstance(tokens, Tokens):
        return tokens.texts
    return frozenset([text.upper() for _, text, _ in tokens])


@dataclass(frozen=True, slots=True)
class LexerMode:
    """The parts of sql_mode that change how text is cut into tokens, and what they mean."""

    ansi_quotes: bool = False
    no_backslash_escapes: bool = False
    pipes_as_concat: bool = False
    high_not_precedence: bool = False

    @staticmethod
    def of(sql_mode: str) -> LexerMode:
        """Return the mode of a session whose @@sql_mode is `sql_mode`."""
        modes = set(sql_mode.upper().split(","))
        names = ("ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT", "HIGH_NOT_PRECEDENCE")
        return LexerMode(*(name in modes for name in names))


class LexError(ValueError):
    """The text ends inside a literal, a quoted name or a comment.

    Attributes
    ----------
    before : Tokens
        What stands in front of that.
    """

    def __init__(self, message: str, before: Tokens) -> None:
        super().__init__(message)
        self.before = before


_WORD = r"[A-Za-z_$\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*"
_PIECES = (
    ("plain", r"(?![xXbB]')" + _WORD),
    ("mark", r"[(),]"),
    ("space", r"\s+"),
    ("comment", r"(?:#|--(?=\s|\Z))[^\n]*"),
    ("execute", r"/\*M?!(?P<version>\d{5,6})?"),
    ("block", r"/\*(?!M?!)(?:(?!\*/).)*\*/"),
    ("close", r"\*/"),
    ("bits", r"[xX]'[0-9A-Fa-f]*'|[bB]'[01]*'|0x[0-9A-Fa-f]+(?![A-Za-z0-9_$])|0b[01]+(?![A-Za-z0-9_$])"),
    ("number", r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![A-Za-z0-9_$\u0080-\U0010ffff])"),
    ("word", r"(?:" + _WORD + r"|\d+[A-Za-z_$\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*)"),
    ("quoted", r"`(?:[^`]|``)*`"),
    ("variable", r"@@?(?:`(?:[^`]|``)*`|[A-Za-z0-9_.$]+|'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\")"),
    ("parameter", r"\?"),
    ("operator", r"<=>|:=|->>|->|<<|>>|<>|!=|<=|>=|\|\||&&|[-+*/%=<>!~^&|(),.;{}\[\]:@\\]"),
)
_STRINGS = {False: r"'(?:[^'\\]|\\.|'')*'", True: r"'(?:[^']|'')*'"}
_DOUBLES = {False: r'"(?:[^"\\]|\\.|"")*"', True: r'"(?:[^"]|"")*"'}


def _pieces(ansi_quotes: bool, no_escape: bool) -> list[tuple[str, str]]:
    """Return the name of each group, which tells what a match is, and its pattern."""
    double = ("quoted", r'"(?:[^"]|"")*"') if ansi_quotes else ("string", _DOUBLES[no_escape])
    pieces = [*_PIECES[:7], ("string", _STRINGS[no_escape]), double, *_PIECES[7:]]
    return [(f"{name}_{index}", pattern) for index, (name, pattern) in enumerate(pieces)]


class _Patterns(dict[tuple[bool, bool], re.Pattern[str]]):
    """By ANSI_QUOTES and NO_BACKSLASH_ESCAPES; compiled when first asked for: most processes need one alone."""

    def __missing__(self, mode: tuple[bool, bool]) -> re.Pattern[str]:
        named = "|".join(f"(?P<{name}>{pattern})" for name, pattern in _pieces(*mode))
        self[mode] = re.compile(rf"(?:{named})\s*", re.DOTALL)
        return self[mode]


_patterns = _Patterns()
_KINDS = {
    "plain": TokenKind.WORD,
    "mark": TokenKind.OPERATOR,
    "bits": TokenKind.BITS,
    "number": TokenKind.NUMBER,
    "word": TokenKind.WORD,
    "quoted": TokenKind.QUOTED,
    "string": TokenKind.STRING,
    "variable": TokenKind.VARIABLE,
    "parameter": TokenKind.PARAMETER,
    "operator": TokenKind.OPERATOR,
}


_KINDS_OF_GROUPS = {
    group: kind
    for ansi_quotes in (False, True)
    for group, _ in _pieces(ansi_quotes, no_escape=False)
    if (kind := _KINDS.get(group.rpartition("_")[0])) is not None
}
"""By the name of the group that matched; a name means the same in all patterns."""
_token = tuple.__new__
"""Makes a token of a tuple, in half of the time."""


def tokenize(text: str, mode: LexerMode = LexerMode(), most: int | None = None) -> Tokens:
    """Return the tokens of `text`, at `most` so many; comments are left out, executable comments are entered.

    Raises
    ------
    LexError
        If a literal, quoted name or comment does not end.

    Examples
    --------
    >>> [token.text for token in tokenize("select /* x */ 'it''s' from t -- end")]
    ['select', "'it''s'", 'from', 't']
    """
    match_at = _patterns[mode.ansi_quotes, mode.no_backslash_escapes].match
    tokens = Tokens()
    position, size, depth = 0, len(text), 0
    while position < size:
        if len(tokens) == most:
            tokens.cut = True
            return tokens
        match = match_at(text, position)
        group = None if match is None else match.lastgroup
        if match is None or group is None:
            raise LexError(f"unexpected text at character {position}", tokens)
        kind = _KINDS_OF_GROUPS.get(group)
        if kind is not None:
            tokens.append(_token(Token, (kind, match[group], position)))
            position = match.end()
            continue
        name = group.rpartition("_")[0] or group
        if name == "execute" or name == "version":
            if _is_code(match["version"]):
                depth += 1
            else:
                end = text.find("*/", match.end())
                if end < 0:
                    raise LexError("comment does not end", tokens)
                position = end + 2
                continue
        elif name == "close":
            if not depth:
                tokens.append(Token(TokenKind.OPERATOR, "*", position))
                tokens.append(Token(TokenKind.OPERATOR, "/", position + 1))
            else:
                depth -= 1
        position = match.end()
    if depth:
        raise LexError("comment does not end", tokens)
    return tokens


def _is_code(version: str | bytes | None) -> bool:
    """Whether a ``/*!NNNNN`` comment is executed by the reference server (MySQL 5.7+ ones are not)."""
    if version is None:
        return True
    number = int(version)
    return number <= SERVER_VERSION and not 50700 <= number <= 99999


def without_end(text: str, tokens: Tokens, mode: LexerMode = LexerMode()) -> tuple[str, Tokens]:
    """Return a statement without the semicolon it ends with; other texts as they are.

    Outside of packets of several statements MariaDB takes semicolons and blanks off the end of a text first,
    and allows one semicolon more with only comments behind it.
    """
    if not tokens or tokens[-1].text != ";":
        return text, tokens
    shorter = text.rstrip("; \t\n\r\v\f")
    last = len(tokens) - 1
    while last >= 0 and tokens[last].start >= len(shorter):
        last -= 1
    if last >= 0 and tokens[last].text == ";" and _is_blank(shorter[tokens[last].start + 1 :], mode):
        shorter = text[: tokens[last].start]
        last -= 1
    return shorter, Tokens(tokens[: last + 1])


_LEAD = re.compile(
    rb"\s++|(?:#|--(?=\s|\Z))[^\n]*+|\*/|(?P<open>/\*)(?:(?P<code>M?!)(?P<version>\d{5,6})?+)?+|(?P<word>[A-Za-z_]++)"
)


def opening_word(sql: bytes) -> str:
    """Return the word that a statement begins with, behind comments or in an executable one, in upper case.

    It is "" for a text that begins with anything else. The rest of the text is not looked at.

    Examples
    --------
    >>> opening_word(b"/* a */ -- b\\n /*!40101 Set */ names utf8")
    'SET'
    """
    position = 0
    while (match := _LEAD.match(sql, position)) is not None:
        if match["word"] is not None:
            return match["word"].upper().decode("ascii")
        position = match.end()
        if match["open"] and not (match["code"] and _is_code(match["version"])):
            position = sql.find(b"*/", position) + 2
            if position < 2:
                return ""
    return ""


def is_blank(sql: bytes, mode: LexerMode = LexerMode()) -> bool:
    """Whether a text consists of blanks and comments."""
    return _is_blank(sql.decode("latin-1"), mode)


def _is_blank(text: str, mode: LexerMode) -> bool:
    try:
        return not tokenize(text, mode)
    except LexError:
        return False


def text_of(tokens: Iterable[Token]) -> str:
    """Return the text of tokens without the comments between them.

    Examples
    --------
    >>> text_of(tokenize("1+/* one */ @a -- two"))
    '1+ @a'
    """
    out, end = "", 0
    for token in tokens:
        out += " " + token.text if out and token.start > end else token.text
        end = token.start + len(token.text)
    return out


def unquote(token: Token) -> str:
    """Return the name that a WORD or QUOTED token means."""
    if token.kind is TokenKind.QUOTED:
        mark = token.text[0]
        return token.text[1:-1].replace(mark * 2, mark)
    return token.text
