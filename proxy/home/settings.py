"""The session settings that change results, read from the session's own home connection."""

from __future__ import annotations

from dataclasses import dataclass, replace

from proxy.home.link import HomeLink, Table
from shard.catalog.naming import literal
from shard.errors import not_supported
from shard.planner.lexer import LexerMode

_NAMES = (
    "sql_mode", "time_zone", "character_set_client", "character_set_results", "collation_connection",
    "div_precision_increment", "group_concat_max_len", "default_week_format", "lc_time_names",
)  # fmt: skip
_NUMERIC = frozenset(
    {"div_precision_increment", "group_concat_max_len", "default_week_format", "max_sort_length"}
)
_RARE = {"old_mode": "UTF8_IS_UTF8MB3", "default_regex_flags": "", "max_sort_length": "1024"}
"""Settings that are sent along only if they are not these, MariaDB's defaults."""
_CLOCK = "@@SESSION.timestamp, ABS(UNIX_TIMESTAMP(SYSDATE(6)) - @@SESSION.timestamp) > 0.002"
"""The time of NOW(), and whether it may be one that was set."""
_ASKED = tuple(
    f"@@SESSION.{name}" if name in _NUMERIC else f"IFNULL(HEX(@@SESSION.{name}), '-')"
    for name in (*_NAMES, *_RARE)
)
# In one column, which is read faster than many, and as bytes: what comes as text comes in character_set_results, which
# may be any.
_QUESTION = (
    "SELECT CONVERT(CONVERT(CONCAT_WS(',', IFNULL(HEX(DATABASE()), '-'), @@SESSION.sql_select_limit, "
    f"@@SESSION.max_statement_time, {', '.join(_ASKED)}) USING utf8mb4) USING binary), {_CLOCK} LIMIT 1"
)
_CODECS = dict.fromkeys(("utf8mb4", "utf8mb3", "utf8"), ("utf-8", "surrogateescape"))
_GRAMMAR = frozenset(
    "ANSI ANSI_QUOTES DB2 HIGH_NOT_PRECEDENCE IGNORE_SPACE MAXDB MSSQL MYSQL323 MYSQL40 NO_BACKSLASH_ESCAPES ORACLE "
    "PIPES_AS_CONCAT POSTGRESQL REAL_AS_FLOAT".split()
)
"""What of sql_mode is done with once a statement has been read, and the modes that contain it."""
_WIDE = frozenset({"ucs2", "utf16", "utf16le", "utf32"})
_BYTEWISE = frozenset(
    """
    latin1 latin2 latin5 latin7 ascii binary cp1250 cp1251 cp1256 cp1257 greek hebrew koi8r koi8u cp850
    cp852 cp866 dec8 hp8 swe7 macce macroman keybcs2 geostd8 armscii8 tis620
    """.split()
)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What of a session matters to its queries.

    Attributes
    ----------
    values : dict
        Setting → SQL literal.
    encoding : tuple
        Codec and error handler that keep every byte of the client's text.
    charset : str
        MariaDB's name of its character set.
    same_results : bool
        Names come to the client as it writes them: its results have the same character set.
    limit : int or None
        sql_select_limit, if it is set.
    max_seconds : float
        max_statement_time; 0 is none.
    timestamp : str or None
        The time that was set for NOW(), in seconds since 1970.
    """

    values: dict[str, str]
    database: str | None
    mode: LexerMode
    encoding: tuple[str, str]
    charset: str
    limit: int | None
    max_seconds: float
    timestamp: str | None = None
    same_results: bool = False

    @property
    def meaning(self) -> tuple[object, ...]:
        """What of it matters to what a statement means, and to its answer."""
        values = tuple(self.values.items())
        return values, self.database, self.mode, self.encoding, self.charset, self.limit, self.timestamp

    @property
    def grammar(self) -> frozenset[str]:
        """What of sql_mode a text is read by."""
        return self._modes & _GRAMMAR

    @property
    def literals(self) -> tuple[str, str]:
        """The character set and the collation of literals."""
        return self.charset, self.values.get("collation_connection", "NULL")

    @property
    def _modes(self) -> frozenset[str]:
        return frozenset(self.values["sql_mode"].strip("'").split(",")) - {""}

    def read_as(self, other: SessionSettings) -> SessionSettings:
        """Return these settings for a text that was read under another's."""
        values = {**self.values, "sql_mode": self.mode_to_read_as(other)}
        return replace(self, values=values, mode=other.mode)

    def mode_to_read_as(self, other: SessionSettings) -> str:
        """Return its sql_mode as a literal, but with what texts are read by from another session's settings."""
        return literal(",".join(sorted((self._modes - _GRAMMAR) | other.grammar)))


async def read(home: HomeLink, prefix: bytes = b"") -> SessionSettings:
    """Ask the session's home connection, perhaps under a ``SET STATEMENT … FOR``, whose statement is read without it."""
    return await _settings(home, await _row(home, _QUESTION, prefix), prefix)


async def read_and_check(
    home: HomeLink, statement: bytes
) -> tuple[SessionSettings, tuple[bytes, ...] | None]:
    """Do what `read` does, and let the home server check a statement in the same exchange.

    Returns
    -------
    tuple of bytes or None
        The statement's columns; None if the home server refused it.
    """
    found, columns = await home.table_and_check(_QUESTION.encode(), statement)
    return await _settings(home, _texts(found), b""), columns


async def _settings(home: HomeLink, texts: list[str | None], prefix: bytes) -> SessionSettings:
    """Return the settings that the home server told: the answer to `_QUESTION`."""
    told, clock, off = texts
    coded, most_rows, most_seconds, *rest = (told or "").split(",")
    database = _decoded(coded)
    found: dict[str, str | None] = {
        name: text if name in _NUMERIC else _decoded(text)
        for name, text in zip((*_NAMES, *_RARE), rest, strict=True)
    }
    results = found["character_set_results"]
    values: dict[str, str] = {}
    for name, text in found.items():
        if name not in _RARE or _RARE[name] != text:  # character_set_results may be NULL
            values[name] = "NULL" if text is None else text if name in _NUMERIC else literal(text)
    if results in _WIDE:  # what the proxy reads of the home server's answers would come in it, too
        raise not_supported(f"character_set_results = {results}", "use utf8mb4")
    client = found["character_set_client"]
    charset = client or "utf8mb4"
    fixed = None
    if off != "0":  # it is the same in the next statement only if it was set
        (again,) = await _row(home, "SELECT @@SESSION.timestamp LIMIT 1", prefix)
        fixed = again if again == clock else None
    limit = int(most_rows)
    return SessionSettings(
        values=values,
        database=database,
        mode=LexerMode.of(found["sql_mode"] or ""),
        encoding=encoding_of(charset),
        charset=charset,
        limit=limit if limit < 2**63 else None,
        max_seconds=float(most_seconds),
        timestamp=fixed,
        same_results=results == client or {client, results or "utf8mb3"} <= set(_CODECS),
    )


def _decoded(text: str) -> str | None:
    return None if text == "-" else bytes.fromhex(text).decode()


async def mode(home: HomeLink) -> LexerMode:
    """Ask how the session reads texts."""
    (found,) = await _row(home, "SELECT CONVERT(@@SESSION.sql_mode USING binary) LIMIT 1", b"")
    return LexerMode.of(found or "")


async def _row(home: HomeLink, sql: str, prefix: bytes) -> list[str | None]:
    return _texts(await home.table(prefix + sql.encode()))


def _texts(found: Table) -> list[str | None]:
    return [None if value is None else value.decode() for value in found.rows[0]]


def encoding_of(charset: str) -> tuple[str, str]:
    """Return the codec for a client character set."""
    if charset in _CODECS:
        return _CODECS[charset]
    if charset in _BYTEWISE:
        return ("latin-1", "strict")
    raise not_supported(f"character_set_client = {charset}", "use utf8mb4")
