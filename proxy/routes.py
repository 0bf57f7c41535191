"""Which statements are distributed: texts in, routes out, without asking anybody.

What the engine asks first (settings, views, published tables) comes as arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy import classify
from proxy.home.metadata import Catalogue, CatalogueSnapshot
from proxy.home.settings import SessionSettings
from proxy.session.engine import Distributed, Home, Route
from proxy.session.own_settings import items_of
from shard.catalog.model import Database
from shard.errors import QUOTIENT, SkyError, not_supported
from shard.planner import change as changes
from shard.planner.envelope import find as find_envelope
from shard.planner.fence import SyntaxProblem
from shard.planner.lexer import Token
from shard.planner.statement import Statement, read
from shard.planner.statement import native as native_form
from shard.planner.views import Views


@dataclass(frozen=True, slots=True)
class Router:
    """Decides by what the catalogue has at the moment."""

    catalogue: Catalogue

    def select(self, text: str, tokens: list[Token], settings: SessionSettings, views: Views) -> Route:
        """Return who answers a SELECT."""
        contents = self.catalogue.contents
        databases = contents.databases
        if not (
            any(classify.sharded_names(tokens, settings.database, databases))
            or classify.has_functions(tokens)
            or classify.names_any(tokens, {name for _, name in views})
        ):
            return Home()  # the names stand in literals, as in drivers' questions about columns
        try:
            statement = _read(text, tokens, settings, databases, views)
            if statement is not None:
                _check_quotients(tokens, settings)
        except SyntaxProblem as error:
            if any(classify.sharded_names(tokens, settings.database, databases)):
                raise not_supported("this statement's syntax", "see docs/sql.md") from error
            return Home()
        if statement is not None:
            native = statement.prepared().encode(*settings.encoding)
            return Distributed(statement, native, contents=contents, views=views, settings=settings)
        at_home = native_form(text, settings.mode)
        return Home(None if at_home is None else at_home.encode(*settings.encoding))

    def change(
        self, verb: str, text: str, tokens: list[Token], settings: SessionSettings, views: Views
    ) -> Route:
        """Return who answers a statement that is no query."""
        makes_table = verb == "CREATE" and any(token.upper == "TABLE" for token in tokens[:5])
        if verb in ("INSERT", "REPLACE", "SET", "DO", "UPDATE", "DELETE") or makes_table:
            stored = self.stored(text, tokens, settings, views) or self.changed(text, tokens, settings, views)
            if stored is not None:
                return stored
            named = next(classify.sharded_names(tokens, settings.database, self.catalogue.databases), None)
            if named is not None and makes_table and not any(token.upper == "SELECT" for token in tokens):
                if any(token.upper == "LIKE" for token in tokens[: named[0]]):
                    raise not_supported("CREATE TABLE … LIKE", "use CREATE TABLE … AS SELECT … LIMIT 0")
            elif named is not None:
                raise not_supported(
                    f"{verb} that reads '{named[1]}'", "store the rows it needs in a table of your own"
                )
            if verb == "SET" and classify.has_functions(tokens):
                return _assigned(text, tokens, settings)
        return Home()

    def stored(self, text: str, tokens: list[Token], settings: SessionSettings, views: Views) -> Route | None:
        """Return the route of a statement that stores the rows of a query on sharded tables."""
        envelope = find_envelope(text, tokens)
        if envelope is None:
            return None
        contents = self.catalogue.contents
        statement = _query_of(envelope.query, tokens, settings, contents, views)
        if statement is None:
            return None
        native = envelope.around(statement.prepared())
        return Distributed(
            statement,
            native.encode(*settings.encoding),
            envelope,
            contents=contents,
            views=views,
            settings=settings,
        )

    def changed(
        self, text: str, tokens: list[Token], settings: SessionSettings, views: Views
    ) -> Distributed | None:
        """Return the route of an UPDATE or DELETE of the user's own tables that reads sharded ones."""
        change = changes.find(text, tokens)
        if change is None:
            return None
        contents = self.catalogue.contents
        statement = _query_of(change.query, tokens, settings, contents, views)
        if statement is None:
            return None
        native = changes.prepared(change, statement).text
        return Distributed(
            statement,
            native.encode(*settings.encoding),
            contents=contents,
            views=views,
            change=change,
            settings=settings,
        )


def _read(
    text: str,
    tokens: list[Token],
    settings: SessionSettings,
    databases: Mapping[str, Database],
    views: Views,
) -> Statement | None:
    """Return a query that reads sharded tables; a colon, which no query of MariaDB has, must not pass for a mark."""
    if any(token.text == ":" for token in tokens):
        raise SyntaxProblem("a colon")
    return read(text, settings.database, databases, settings.mode, views)


def _query_of(
    query: str, tokens: list[Token], settings: SessionSettings, contents: CatalogueSnapshot, views: Views
) -> Statement | None:
    """Return the query inside a statement, if it reads sharded tables."""
    try:
        statement = _read(query, tokens, settings, contents.databases, views)
    except SyntaxProblem:
        return None
    if statement is not None:
        _check_quotients(tokens, settings)
    return statement


def _assigned(text: str, tokens: list[Token], settings: SessionSettings) -> Home:
    """Return ``SET @x = expression, …`` with our functions made native; what it is not, the home server says."""
    pieces: list[str] = []
    for item in items_of([token for token in tokens[1:] if token.text != ";"]):
        if not item:
            return Home()
        end = item[-1].start + len(item[-1].text)
        piece = text[item[0].start : end]
        if classify.has_functions(item):
            if len(item) < 3 or not item[0].text.startswith("@") or item[1].text not in ("=", ":="):
                return Home()
            native = native_form(f"SELECT ({text[item[2].start : end]}) AS x", settings.mode)
            if native is None:
                return Home()
            piece = f"{item[0].text} = ({native})"
        pieces.append(piece)
    return Home(f"SET {', '.join(pieces)}".encode(*settings.encoding))


def _check_quotients(tokens: list[Token], settings: SessionSettings) -> None:
    """Refuse what the planner would fold otherwise than the session's MariaDB.

    The planner divides constants with MariaDB's default of four more digits. Of a quotient of numbers alone,
    any from 1 to 9 gives the same; inside the arguments of our functions, only four is sure to.
    """
    digits = settings.values["div_precision_increment"]
    same = digits == "4" or (digits in "123456789" and not classify.has_functions(tokens))
    quotient = None if same else classify.quotient(tokens)
    if quotient is not None:
        raise SkyError(QUOTIENT, quotient=quotient, digits=digits)
