"""Parses SQL with sqlglot, which sees neither literals nor functions.

sqlglot knows many dialects and rewrites what it knows (functions, string escapes, casts), which
would change what the user's text means to MariaDB. So literals, parameters and function names
are replaced by numbered words before parsing and put back, verbatim, into the tree: every
function is an `exp.Anonymous` with its own name, every literal an `exp.Literal` with its own
text. `emit` writes such trees; `roundtrip` proves that nothing else changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from shard.errors import TOO_DEEP, SkyError, not_supported, too_long
from shard.planner.constants import LISTED
from shard.planner.lexer import Token, TokenKind, texts_of
from shard.planner.notes import CALL
from shard.planner.silent import without_silent

MAX_NESTING = 200
"""Parentheses deeper than this are refused: the parser recurses."""

MOST_PARSED = 60_000
"""Words and signs that are parsed, in about a third of a second; long lists of values count as one."""
FEWEST_LISTED = 50
"""A shorter list of values is parsed value by value."""

# Words before "(" that are not function names.
_SYNTAX = frozenset(
    """
    IN AND OR NOT WHERE ON USING SELECT FROM JOIN EXISTS BETWEEN WHEN THEN ELSE CASE HAVING BY AS LIKE XOR
    DIV IS ANY ALL SOME DISTINCT UNION EXCEPT INTERSECT LIMIT OFFSET OVER PARTITION INTERVAL BINARY REGEXP
    RLIKE STRAIGHT_JOIN CROSS INNER OUTER ESCAPE WITH RECURSIVE VALUES VALUE ROLLUP RETURN COLLATE EXPLAIN
    ROWS RANGE INDEX KEY WITHIN GROUP FORCE IGNORE USE
    """.split()
)
# Functions whose arguments are separated by words at depth one.
_WORD_SEPARATED = {
    "EXTRACT": ("FROM",),
    "TRIM": ("FROM",),
    "SUBSTRING": ("FROM", "FOR"),
    "SUBSTR": ("FROM", "FOR"),
    "MID": ("FROM", "FOR"),
    "POSITION": ("IN",),
    "CONVERT": ("USING",),
    "CAST": ("AS",),
    "GROUP_CONCAT": ("SEPARATOR",),
}
_VERBATIM_AFTER = {"CAST": "AS", "CONVERT": "USING", "GROUP_CONCAT": "SEPARATOR"}
# Niladic functions that are written without parentheses.
_BARE_FUNCTIONS = frozenset(
    """
    CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER CURRENT_ROLE LOCALTIME LOCALTIMESTAMP UTC_DATE
    UTC_TIME UTC_TIMESTAMP
    """.split()
)
_TYPED_LITERAL = frozenset({"DATE", "TIME", "TIMESTAMP"})


_MYSQL = sqlglot.Dialect.get_or_raise("mysql")
_OPERATOR, _WORD = TokenKind.OPERATOR, TokenKind.WORD
_PLAIN_NEXT = (TokenKind.OPERATOR, TokenKind.WORD, TokenKind.QUOTED, TokenKind.NUMBER)
"""Before these a word is only a word, unless it is a call."""
_NUMBER = frozenset({TokenKind.NUMBER})
_PLAIN = frozenset({TokenKind.NUMBER, TokenKind.STRING})
_BARE_OR_COLLATE = _BARE_FUNCTIONS | {"COLLATE"}


@dataclass(slots=True)
class _Call:
    """A function call as it was written: name, and the words that stand before its arguments."""

    name: str
    prefix: str = ""
    separators: tuple[str, ...] = ()
    suffix: str = ""


class Fence:
    """Replaces what sqlglot must not see by numbered words, and remembers it."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = without_silent(tokens)
        self.atoms: list[str] = []
        self.lists: dict[int, tuple[str, ...]] = {}
        self.calls: list[_Call] = []
        self.parameters = 0
        self.out: list[str] = []
        self.mark = "SKYX"
        words = {text[:4] for text in texts_of(tokens)}
        while self.mark in words:
            self.mark = "SK" + chr(ord(self.mark[2]) - 1) + "X"

    def text(self) -> str:
        """Return the fenced text."""
        if "(" in texts_of(self.tokens):
            self._check_nesting()
        self._range(0, len(self.tokens))
        if len(self.out) > MOST_PARSED:
            raise too_long(MOST_PARSED)
        return " ".join(self.out)

    def _check_nesting(self) -> None:
        depth = 0
        for token in self.tokens:
            if token.text == "(":
                depth += 1
                if depth > MAX_NESTING:
                    raise not_supported(f"parentheses nested deeper than {MAX_NESTING}")
            elif token.text == ")":
                depth -= 1

    def _atom(self, text: str) -> None:
        self.atoms.append(text)
        name = f"{self.mark}A_{len(self.atoms) - 1}"
        escape = bool(self.out) and self.out[-1].upper() == "ESCAPE"  # the parser wants a string there
        self.out.append(f"'{name}'" if escape else name)

    def _range(self, start: int, stop: int) -> None:
        index = start
        stop = min(stop, len(self.tokens))
        tokens, out, last = self.tokens, self.out, stop - 1
        while index < stop:
            kind, text, _ = tokens[index]
            # most of a text: commas and dots, and words that no parenthesis or literal follows
            if kind is _OPERATOR or (
                kind is _WORD and index < last and tokens[index + 1].kind in _PLAIN_NEXT
                and tokens[index + 1].text != "(" and text.upper() not in _BARE_OR_COLLATE
            ):  # fmt: skip
                out.append(text)
                index += 1
            else:
                index = self._one(index, stop)

    def _one(self, index: int, stop: int) -> int:
        token = self.tokens[index]
        kind = token.kind
        following = self.tokens[index + 1] if index + 1 < stop else None
        if kind is _OPERATOR:
            self.out.append(token.text)
        elif kind is _WORD:
            return self._word(index, stop, following)
        elif kind is TokenKind.STRING or kind is TokenKind.BITS:
            return self._strings(index, stop, "")
        if kind is TokenKind.PARAMETER:
            self._atom(f"?{self.parameters}")
            self.parameters += 1
        elif kind is TokenKind.NUMBER:
            if token.text.isdigit():
                self.out.append(token.text)
            else:
                self._atom(token.text)
        elif kind is TokenKind.VARIABLE:
            if following is not None and following.text == ":=":
                raise not_supported(f"the assignment {token.text} := …", "use SET, or SELECT … INTO")
            self._atom(token.text)
        elif kind is TokenKind.QUOTED:
            name = token.text[1:-1].replace(token.text[0] * 2, token.text[0])
            self.out.append("`" + name.replace("`", "``") + "`")
        return index + 1

    def _strings(self, index: int, stop: int, prefix: str) -> int:
        pieces = []
        while index < stop and self.tokens[index].kind in (TokenKind.STRING, TokenKind.BITS):
            pieces.append(self.tokens[index].text)
            index += 1
        self._atom(prefix + " ".join(pieces))
        return index

    def _word(self, index: int, stop: int, following: Token | None) -> int:
        token = self.tokens[index]
        upper = token.upper
        after_dot = index > 0 and self.tokens[index - 1].text == "."
        if following is not None and not after_dot:
            if following.kind in (TokenKind.STRING, TokenKind.BITS) and (
                upper in _TYPED_LITERAL or upper.startswith("_") or upper == "N"
            ):
                space = "" if upper == "N" else " "
                return self._strings(index + 1, stop, token.text + space)
            if following.text == "(" and upper not in _SYNTAX and not self._names_cte(index, stop):
                return self._call(index, stop)
        if upper == "IN" and following is not None and following.text == "(":
            return self._in(index, stop)
        if upper in _BARE_FUNCTIONS and not after_dot and (following is None or following.text != "."):
            self._atom(token.text)
        elif upper == "COLLATE" and following is not None:
            self.out.append("COLLATE")
            self._atom(following.text)
            return index + 2
        else:
            self.out.append(token.text)
        return index + 1

    def _in(self, index: int, stop: int) -> int:
        """Fence IN; a long list of plain values behind it is one word, for nobody looks at them one by one."""
        self.out.append(self.tokens[index].text)
        values: list[str] = []
        at = index + 2
        while at < stop:
            minus = self.tokens[at].text if self.tokens[at].text == "-" else ""
            at += len(minus)
            if at + 1 >= stop or self.tokens[at].kind not in (_NUMBER if minus else _PLAIN):
                return index + 1
            values.append(minus + self.tokens[at].text)
            at += 2
            if self.tokens[at - 1].text != ",":
                break
        if self.tokens[at - 1].text != ")" or len(values) < FEWEST_LISTED:
            return index + 1
        self.lists[len(self.atoms)] = tuple(values)
        self.out.append("(")
        self._atom(", ".join(values))
        self.out.append(")")
        return at

    def _names_cte(self, index: int, stop: int) -> bool:
        """Whether the word is the name of a common table expression with a list of columns."""
        if not index or self.tokens[index - 1].upper not in ("WITH", "RECURSIVE", ","):
            return False
        after = self._closing(index + 1, stop) + 1
        return after + 1 < stop and self.tokens[after].upper == "AS" and self.tokens[after + 1].text == "("

    def _call(self, index: int, stop: int) -> int:
        """Fence a call; its closing parenthesis is found by depth."""
        name = self.tokens[index].text
        opening = index + 1
        closing = self._closing(opening, stop)
        call = _Call(name)
        self.calls.append(call)
        self.out.append(f"{self.mark}F_{len(self.calls) - 1}")
        self.out.append("(")
        upper = name.upper()
        start = opening + 1
        if (
            upper == "TRIM"
            and start < closing
            and self.tokens[start].upper in ("BOTH", "LEADING", "TRAILING")
        ):
            call.prefix = self.tokens[start].text
            start += 1
        if upper in ("TIMESTAMPADD", "TIMESTAMPDIFF") and start < closing:
            call.prefix = self.tokens[start].text + ","
            start += 2
        if upper == "EXTRACT" and start + 1 < closing:
            call.prefix = self.tokens[start].text + " " + self.tokens[start + 1].text
            start += 2
        if upper == "GET_FORMAT":
            raise not_supported("GET_FORMAT")
        self._arguments(call, upper, start, closing)
        self.out.append(")")
        return closing + 1

    def _arguments(self, call: _Call, upper: str, start: int, closing: int) -> None:
        separators: list[str] = []
        words = _WORD_SEPARATED.get(upper, ())
        depth, index = 0, start
        while index < closing:
            token = self.tokens[index]
            if token.text == "(":
                depth += 1
            elif token.text == ")":
                depth -= 1
            if depth == 0 and token.text == ",":
                separators.append(",")
                if upper == "CONVERT":
                    call.suffix = ", " + _join(self.tokens[index + 1 : closing])
                    break
            elif depth == 0 and token.kind is TokenKind.WORD and token.upper in words:
                if token.upper == _VERBATIM_AFTER.get(upper):
                    call.suffix = _join(self.tokens[index:closing])
                    break
                separators.append(token.text)
                self.out.append(",")
                index += 1
                continue
            following = self.tokens[index + 1] if index + 1 < closing else None
            if (
                depth == 0 and following is not None and following.text == "("
                and token.kind is TokenKind.WORD and token.upper not in _SYNTAX
            ):  # fmt: skip
                index = self._call(index, closing)
                continue
            index = self._one(index, closing)
        call.separators = tuple(separators)

    def _closing(self, opening: int, stop: int) -> int:
        depth = 0
        for index in range(opening, stop):
            if self.tokens[index].text == "(":
                depth += 1
            elif self.tokens[index].text == ")":
                depth -= 1
                if depth == 0:
                    return index
        raise SyntaxProblem

    def restore(self, tree: exp.Expression) -> exp.Expression:
        """Put the remembered texts back into the parsed tree."""
        for node in list(tree.walk()):
            # Positions in a text that is not the user's, and lists of no comments: they make copies slow.
            node._meta = node.comments = None
            kind = type(node)
            if kind is exp.Identifier:
                if node.args["this"].startswith(self.mark):
                    self._restore_alias(node)
            elif kind is exp.Column:
                inner = node.args["this"]
                if type(inner) is not exp.Identifier or inner.args["this"].startswith(self.mark):
                    self._restore_atom(node)
            elif kind is exp.Var or kind is exp.Literal:
                self._restore_atom(node)
            elif kind is exp.Anonymous:
                name = node.name
                if name.upper().startswith(self.mark + "F_"):
                    call = self.calls[int(name[len(self.mark) + 2 :])]
                    node.set("this", call.name)
                    if call.prefix or call.suffix or any(item != "," for item in call.separators):
                        node.args[CALL] = (call.prefix, call.separators, call.suffix)
        return tree

    def _restore_alias(self, node: exp.Expr) -> None:
        """Turn a string that stands as an alias into the name it means."""
        name = node.name
        if name.startswith(self.mark + "A_") and isinstance(node.parent, (exp.Alias, exp.TableAlias)):
            text = self.atoms[int(name[len(self.mark) + 2 :])]
            if text[0] not in "'\"" or "\\" in text:
                raise SyntaxProblem
            node.set("this", text[1:-1].replace(text[0] * 2, text[0]))
            node.set("quoted", True)

    def _restore_atom(self, node: exp.Expr) -> None:
        name = node.name
        if not name.startswith(self.mark + "A_"):
            return
        number = int(name[len(self.mark) + 2 :])
        text = self.atoms[number]
        if isinstance(node, exp.Column) and node.table:
            raise SyntaxProblem
        if number in self.lists:
            _put(node, exp.Literal(this=text, is_string=False, **{LISTED: self.lists[number]}))
        elif text.startswith("?"):
            _put(node, exp.Placeholder(this=text[1:]))
        else:
            _put(node, exp.Literal(this=text, is_string=False))


def _put(node: exp.Expr, instead: exp.Expression) -> None:
    """Put a node in another's place; `Expression.replace` goes over the whole list that it stands in."""
    parent, key = node.parent, node.arg_key
    if parent is None or key is None:
        raise SyntaxProblem
    place = parent.args[key]
    if isinstance(place, list) and node.index is not None:
        place[node.index] = instead
        instead.index = node.index
    else:
        parent.args[key] = instead
    instead.parent, instead.arg_key = parent, key


class SyntaxProblem(ValueError):  # noqa: N818 - MariaDB decides whether it is an error
    """The text did not parse here; MariaDB decides whether it is an error."""


def _join(tokens: list[Token]) -> str:
    return " ".join(token.text for token in tokens)


def parse(tokens: list[Token]) -> exp.Expression:
    """Return the tree of one statement.

    Raises
    ------
    SyntaxProblem
        If sqlglot cannot parse it.
    SkyError
        If it holds a construct that is refused by name.
    """
    fence = Fence(tokens)
    text = fence.text()
    try:
        tree = sqlglot.parse_one(text, dialect=_MYSQL)
    except SkyError:
        raise
    except RecursionError as error:
        raise SkyError(TOO_DEEP) from error
    except (SqlglotError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise SyntaxProblem(str(error)) from error
    if not isinstance(tree, exp.Expression):
        raise SyntaxProblem
    holder = exp.Paren(this=tree)
    fence.restore(holder)
    restored = holder.this
    if not isinstance(restored, exp.Expression):
        raise SyntaxProblem
    restored.pop()
    return restored
