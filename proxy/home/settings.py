"""The session settings that change results, read from the session's own home connection."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.home.link import HomeLink
from shard.catalog.naming import literal
from shard.errors import not_supported
from shard.planner.lexer import LexerMode

_NAMES = (
    "sql_mode", "time_zone", "character_set_client", "character_set_results", "collation_connection",
    "div_precision_increment", "group_concat_max_len", "default_week_format", "lc_time_names",
)  # fmt: skip
_NUMERIC = frozenset({"div_precision_increment", "group_concat_max_len", "default_week_format"})
_CODECS = {
    "utf8mb4": ("utf-8", "surrogateescape"), "utf8mb3": ("utf-8", "surrogateescape"),
    "utf8": ("utf-8", "surrogateescape"),
}  # fmt: skip
_BYTEWISE = frozenset(
    [
        "latin1",
        "latin2",
        "latin5",
        "latin7",
        "ascii",
        "binary",
        "cp1250",
        "cp1251",
        "cp1256",
        "cp1257",
        "greek",
        "hebrew",
        "koi8r",
        "koi8u",
        "cp850",
        "cp852",
        "cp866",
        "dec8",
        "hp8",
        "swe7",
        "macce",
        "macroman",
        "keybcs2",
        "geostd8",
        "armscii8",
        "tis620",
    ]
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
    limit : int or None
        sql_select_limit, if it is set.
    max_seconds : float
        max_statement_time; 0 is none.
    """

    values: dict[str, str]
    database: str | None
    mode: LexerMode
    encoding: tuple[str, str]
    charset: str
    limit: int | None
    max_seconds: float


async def read(home: HomeLink, prefix: bytes = b"") -> SessionSettings:
    """Ask the session's home connection, perhaps under a ``SET STATEMENT … FOR``."""
    columns = ", ".join(f"@@SESSION.{name}" for name in _NAMES)
    found = await home.table(
        prefix
        + f"SELECT DATABASE(), @@SESSION.sql_select_limit, @@SESSION.max_statement_time, {columns} LIMIT 1".encode()
    )
    row = found.rows[0]
    texts = [None if value is None else value.decode() for value in row]
    values: dict[str, str] = {}
    for name, text in zip(_NAMES, texts[3:], strict=True):
        values[name] = "NULL" if text is None else text if name in _NUMERIC else literal(text)
    charset = texts[5] or "utf8mb4"
    limit = int(texts[1] or "0")
    return SessionSettings(
        values=values,
        database=texts[0],
        mode=LexerMode.of(texts[3] or ""),
        encoding=encoding_of(charset),
        charset=charset,
        limit=limit if limit < 2**63 else None,
        max_seconds=float(texts[2] or "0"),
    )


def encoding_of(charset: str) -> tuple[str, str]:
    """Return the codec for a client character set."""
    if charset in _CODECS:
        return _CODECS[charset]
    if charset in _BYTEWISE:
        return ("latin-1", "strict")
    raise not_supported(f"character_set_client = {charset}", "use utf8mb4")
