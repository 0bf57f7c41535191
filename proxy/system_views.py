"""information_schema with the truth about sharded tables and distributed queries.

The home server knows neither the rows of sharded tables nor what its idle-looking sessions wait for. A
reference to TABLES or PROCESSLIST becomes a derived table over it, with the columns that are wrong replaced
for the rows concerned. Which rows an account sees stays with the home server: only of those are values given,
so that nothing of others stands in the text, or in an error about it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from backend.pool import Pool
from proxy.classify import first_word
from proxy.home.link import HomeLink
from proxy.home.metadata import Catalogue
from proxy.home.settings import SessionSettings
from proxy.registry import Registry
from proxy.running_board import Shown
from shard.catalog.naming import literal, quote
from shard.planner.lexer import LexError, Token, TokenKind, tokenize, unquote

_LONGEST = 1 << 20
"""Bytes of a statement that is looked at."""
_TEXT_BYTES, _ALL_BYTES = 64 << 10, 2 << 20
"""Bytes of one query's text in PROCESSLIST, and of all of them together: longer ones are cut."""
_START = re.compile(rb"\s*[(SWsw/#-]")
_PROCESSES = re.compile(rb"(?i)\bprocesslist\b")
_TABLES = re.compile(rb"(?i)\btables\b")
_COUNTED = re.compile(rb"(?i)\*|\b(?:table_rows|engine|avg_row_length)\b")

SCHEMA = "INFORMATION_SCHEMA"
VIEWS = ("TABLES", "PROCESSLIST")
COLUMNS_SQL = (
    "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema' "
    "AND TABLE_NAME IN ('TABLES', 'PROCESSLIST') ORDER BY ORDINAL_POSITION"
)
_NO_ALIAS = frozenset(
    {
        "WHERE", "ORDER", "GROUP", "LIMIT", "JOIN", "ON", "USING", "INNER", "LEFT", "RIGHT", "CROSS",
        "NATURAL", "STRAIGHT_JOIN", "UNION", "HAVING", "FOR", "PROCEDURE", "INTO", "WINDOW", "EXCEPT",
        "INTERSECT", "MINUS", "USE", "FORCE", "IGNORE", "LOCK", "OFFSET", "FETCH",
    }
)  # fmt: skip
_BEFORE = frozenset(["FROM", "JOIN", "STRAIGHT_JOIN", ","])


@dataclass(frozen=True, slots=True)
class Reference:
    """A view that a statement reads: its name, where it stands in the text, and whether it has an alias."""

    view: str
    start: int
    end: int
    aliased: bool


def may_read(sql: bytes) -> bool:
    """Whether a statement may read the views; cheap, and linear in the statement's length."""
    if len(sql) > _LONGEST or not _START.match(sql):
        return False
    if _PROCESSES.search(sql):
        return True
    return _TABLES.search(sql) is not None and _COUNTED.search(sql) is not None


def references(tokens: Sequence[Token], database: str | None) -> list[Reference]:
    """Return where a statement reads the views.

    Parameters
    ----------
    tokens : sequence of Token
        The statement.
    database : str or None
        The session's default database.
    """
    at_home = (database or "").upper() == SCHEMA
    found = []
    for index, token in enumerate(tokens):
        name = _name(token)
        if name not in VIEWS or index == 0:
            continue
        first = index
        if index > 1 and tokens[index - 1].text == ".":
            first = index - 2
            if _name(tokens[first]) != SCHEMA:
                continue
        elif not at_home:
            continue
        after = tokens[index + 1] if index + 1 < len(tokens) else None
        if first == 0 or tokens[first - 1].upper not in _BEFORE or (after is not None and after.text == "."):
            continue
        start, end = tokens[first].start, token.start + len(token.text)
        found.append(Reference(name, start, end, _is_alias(after)))
    return found


def qualified(tokens: Sequence[Token], found: Sequence[Reference], text: str) -> dict[tuple[int, int], str]:
    """Return where columns are named with database and view, and the derived table's name, which has no database."""
    aliases = {one.view: alias_of(one, text) for one in reversed(found) if not one.aliased}
    return {
        (tokens[index].start, tokens[index + 3].start): quote(aliases[_name(tokens[index + 2])])
        for index in range(len(tokens) - 3)
        if _name(tokens[index]) == SCHEMA
        and tokens[index + 1].text == tokens[index + 3].text == "."
        and _name(tokens[index + 2]) in aliases
    }


def alias_of(one: Reference, text: str) -> str:
    """Return the name of the derived table of a reference without alias: as it is written there."""
    return text[one.start : one.end].rpartition(".")[2].strip().strip('`"')


def _name(token: Token) -> str:
    if token.kind is TokenKind.QUOTED:
        return token.text[1:-1].upper()
    return token.upper if token.kind is TokenKind.WORD else ""


def _is_alias(token: Token | None) -> bool:
    if token is None:
        return False
    return token.kind is TokenKind.QUOTED or (token.kind is TokenKind.WORD and token.upper not in _NO_ALIAS)


def rewritten(
    text: str,
    found: Sequence[Reference],
    columns: Mapping[str, Sequence[str]],
    values: Mapping[str, Mapping[str, str]],
    spelling: Mapping[str, str],
    others: Mapping[tuple[int, int], str] = MappingProxyType({}),
) -> str:
    """Return the text with every reference replaced by a derived table.

    Parameters
    ----------
    columns : mapping
        View → the names of its columns, in order.
    values : mapping
        View → column → the SQL expression that takes its place.
    spelling : mapping
        Column → how the statement writes it: a derived table's column gives a header its case.
    others : mapping
        Parts of the text → what takes their place (see `qualified`).
    """
    made = {}
    for one in found:
        given = values[one.view]
        listed = ", ".join(
            f"{given.get(name, quote(name))} AS {quote(spelling.get(name, name))}"
            for name in columns[one.view]
        )
        alias = "" if one.aliased else f" AS {quote(alias_of(one, text))}"
        made[one.start, one.end] = f"(SELECT {listed} FROM information_schema.{one.view}){alias}"
    out, done = "", 0
    for (start, end), instead in sorted((made | dict(others)).items()):
        out += text[done:start] + instead
        done = end
    return out + text[done:]


def spelt(tokens: Sequence[Token]) -> dict[str, str]:
    """Return the names in a statement, in upper case → as they are written; none if it selects ``*``."""
    for index, token in enumerate(tokens):
        if token.text == "*" and tokens[index - 1].upper in ("SELECT", "DISTINCT", "ALL", ",", "."):
            return {}
    return {name: unquote(token) for token in reversed(tokens) if (name := _name(token))}


def table_values(rows: Mapping[tuple[str, str], int]) -> dict[str, str]:
    """Return what replaces columns of TABLES, for (database, table) → rows; empty if there are none."""
    if not rows:
        return {}
    tests = {key: f"TABLE_SCHEMA = {_hex(key[0])} AND TABLE_NAME = {_hex(key[1])}" for key in rows}
    ours = " OR ".join(tests.values())
    counts = " ".join(f"WHEN {test} THEN CAST({rows[key]} AS UNSIGNED)" for key, test in tests.items())
    return {
        "TABLE_ROWS": f"CASE {counts} ELSE TABLE_ROWS END",
        "ENGINE": f"IF({ours}, 'skyshard', ENGINE)",
        "AVG_ROW_LENGTH": f"IF({ours}, NULL, AVG_ROW_LENGTH)",
    }


def process_values(queries: Iterable[Shown]) -> dict[str, str]:
    """Return what replaces columns of PROCESSLIST for running distributed queries; empty if there are none."""
    listed = list(queries)
    if not listed:
        return {}

    def case(column: str, values: Iterable[str]) -> str:
        cases = " ".join(
            f"WHEN {query.session_id} THEN {value}" for query, value in zip(listed, values, strict=True)
        )
        return f"CASE ID {cases} ELSE {column} END"

    now, room = time.monotonic(), min(_TEXT_BYTES, _ALL_BYTES // len(listed))
    texts = [query.sql.encode()[:room].decode(errors="ignore") for query in listed]
    return {
        "COMMAND": case("COMMAND", ["'Query'"] * len(listed)),
        "TIME": case("`TIME`", [str(int(now - query.started)) for query in listed]),
        "TIME_MS": case("TIME_MS", [f"{1000 * (now - query.started):.3f}" for query in listed]),
        "STATE": case("STATE", [_text(query.state) for query in listed]),
        "INFO": case("INFO", map(_text, texts)),
        "INFO_BINARY": case("INFO_BINARY", map(_hex, texts)),
        "STAGE": case("STAGE", [str(query.stage) for query in listed]),
        "MAX_STAGE": case("MAX_STAGE", [str(query.stages) for query in listed]),
        "PROGRESS": case("PROGRESS", [f"{query.percent:.3f}" for query in listed]),
    }


def _hex(text: str) -> str:
    """Return a literal that no sql_mode or character set changes; it compares by its bytes."""
    return f"0x{text.encode().hex()}" if text else "''"


def _text(text: str) -> str:
    return f"CONVERT({_hex(text)} USING utf8mb4)"


class SystemViews:
    """Puts the rows and columns that only the proxy knows into statements on information_schema."""

    def __init__(self, pool: Pool, catalogue: Catalogue, registry: Registry) -> None:
        self._pool, self._catalogue, self._registry = pool, catalogue, registry
        self._columns: dict[str, list[str]] = {}

    async def fill(
        self, home: HomeLink, sql: bytes, settings: SessionSettings, lasting: bool = False
    ) -> bytes | None:
        """Return a statement with our values in it, or None if it needs none.

        Parameters
        ----------
        home : HomeLink
            The session's own link, which sees what the account may see.
        lasting : bool
            The statement is prepared, and may run much later: what queries do now is left out.
        """
        try:
            text = sql.decode(*settings.encoding)
            tokens = tokenize(text, settings.mode)
        except (LexError, UnicodeDecodeError):
            return None
        if first_word(tokens) not in ("SELECT", "WITH"):
            return None
        found = [one for one in references(tokens, settings.database) if not lasting or one.view == "TABLES"]
        values = {view: await self._values(home, view) for view in {one.view for one in found}}
        found = [one for one in found if values[one.view]]
        if not found:
            return None
        names = spelt(tokens)
        if names and "NATURAL" not in names:  # which names the columns that it needs itself
            values = {v: {c: e for c, e in given.items() if c in names} for v, given in values.items()}
            found = [one for one in found if values[one.view]]
            if not found:  # nothing is asked that the home server does not know
                return None
        filled = rewritten(
            text, found, await self._known_columns(), values, names, qualified(tokens, found, text)
        )
        return filled.encode(*settings.encoding)

    async def _values(self, home: HomeLink, view: str) -> dict[str, str]:
        if view == "PROCESSLIST":
            running = self._registry.shown()
            if not running:
                return {}
            seen = {
                int(row[0] or b"0")
                for row in (await home.table(b"SELECT ID FROM information_schema.PROCESSLIST")).rows
            }
            return process_values(one for one in running.values() if one.session_id in seen)
        names = ", ".join(map(literal, self._catalogue.databases))
        if not names:
            return {}
        asked = (
            f"SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({names})"
        )
        rows = {}
        for schema, name in (await home.table(asked.encode())).rows:
            database = self._catalogue.databases.get((schema or b"").decode())
            table = None if database is None else database.table((name or b"").decode())
            if database is not None and table is not None and table.is_sharded:
                rows[database.name, table.name] = self._catalogue.contents.table_rows(
                    database.name, table.name
                )
        return table_values(rows)

    async def _known_columns(self) -> dict[str, list[str]]:
        if not self._columns:
            columns: dict[str, list[str]] = {}
            async with self._pool.lease() as connection:
                for view, name in await connection.fetch_texts(COLUMNS_SQL):
                    columns.setdefault(view.upper(), []).append(name)
            self._columns = columns
        return self._columns
