"""What a session remembers of its last distributed statement, for the questions that ask about it.

SHOW WARNINGS, SHOW COUNT(*) WARNINGS, @@warning_count, FOUND_ROWS() and ROW_COUNT() are about the statement
before; the home server has not run it, so the proxy answers from what it kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.session import filling
from proxy.session.owned import ShowConditions
from proxy.words import parts
from shard.planner.cutting import has_statements, inner
from shard.planner.lexer import LexerMode, LexError, Token, TokenKind, tokenize
from shard.wire.frames import Note

MOST_NOTES = 64
"""Conditions kept of a statement: MariaDB's default max_error_count."""

QUESTIONS = parts(b"found_rows", b"row_count", b"warning_count", b"error_count")
"""What a statement says that may ask about the one before."""


@dataclass(slots=True)
class Diagnostics:
    """The last distributed statement's conditions and counts.

    Attributes
    ----------
    found_rows : int
        Rows it returned.
    warnings : int
        Conditions in all; `notes` are the first of them.
    """

    found_rows: int = 0
    warnings: int = 0
    notes: list[Note] = field(default_factory=list)

    @staticmethod
    def of_error(errno: int, message: str) -> Diagnostics:
        """Return what is known after an error."""
        return Diagnostics(0, 1, [Note("Error", errno, message)])

    def errors(self) -> int:
        """Return the number of errors."""
        return sum(note.level == "Error" for note in self.notes)

    def show(self, asked: ShowConditions) -> list[list[bytes | None]]:
        """Return the rows of SHOW WARNINGS and its kin."""
        if asked.counted:
            return [[str(self.errors() if asked.errors_only else self.warnings).encode()]]
        notes = [note for note in self.notes if note.level == "Error" or not asked.errors_only]
        last = None if asked.most is None else asked.skip + asked.most
        return [
            [note.level.encode(), str(note.code).encode(), note.message.encode()]
            for note in notes[asked.skip : last]
        ]

    def fill_in(self, sql: bytes, mode: LexerMode) -> bytes | None:
        """Return a statement with its questions about the last one answered; None if it asks nothing."""
        if not QUESTIONS.search(sql):
            return None
        text = sql.decode("latin-1")
        try:
            tokens = tokenize(text, mode)
        except LexError:
            return None
        if _asks_later(tokens):
            return None
        values = []
        for start, end, value in self._questions(tokens):
            whole = text[tokens[start].start : tokens[end].start + len(tokens[end].text)]
            values.append((start, end, _typed(whole, value)))
        return filling.put(text, tokens, values).encode("latin-1") if values else None

    def _questions(self, tokens: list[Token]) -> list[tuple[int, int, int]]:
        """Return (first token, last token, answer) of each question."""
        found = []
        values = {"FOUND_ROWS": self.found_rows, "ROW_COUNT": -1}
        variables = {"WARNING_COUNT": self.warnings, "ERROR_COUNT": self.errors()}
        for index, token in enumerate(tokens):
            called = [item.text for item in tokens[index + 1 : index + 3]] == ["(", ")"]
            if token.kind is TokenKind.WORD and token.upper in values and called:
                found.append((index, index + 2, values[token.upper]))
            elif token.kind is TokenKind.VARIABLE and token.text.startswith("@@"):
                name = token.upper.removeprefix("@@").removeprefix("SESSION.").removeprefix("LOCAL.")
                if name in variables:
                    found.append((index, index, variables[name]))
        return found


def _asks_later(tokens: list[Token]) -> bool:
    """Whether what a statement asks is asked when something else runs: it makes a view or routine, or has statements."""
    makes = bool(tokens) and tokens[0].upper in ("CREATE", "ALTER")
    return has_statements(inner(tokens)) or (makes and all(token.upper != "TABLE" for token in tokens[:5]))


def _typed(question: str, value: int) -> str:
    """Return an expression of the question's type that is the value."""
    return f"IF(0,{question}," + (f"CAST({value} AS UNSIGNED))" if question[0] == "@" else f"{value})")
