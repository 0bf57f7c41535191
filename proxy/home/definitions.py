"""Column definitions of distributed statements, as MariaDB itself gives them.

PREPARE and execution differ, so definitions come from executing the statement at home over empty
temporary InnoDB tables that shadow the logical ones. A shadow connection keeps the
shadows it has made; they are made again when the catalogue's version changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from backend.connection import RawConnection
from backend.pool import Pool
from shard.catalog.model import Table
from shard.catalog.naming import META_DATABASE, quote
from shard.planner.plan import Sql
from shard.wire.frames import Parameter
from shard.wire.packets import ColumnDefinition
from shard.wire.protocol import BLOB_TYPES, DECIMAL_TYPES, STRING_TYPES

WIDEST_INNODB = 1000
"""Columns; InnoDB stops at 1,017. Wider tables get an Aria shadow of two rows (not a constant table)."""

_LENGTHY = DECIMAL_TYPES | STRING_TYPES | BLOB_TYPES
"""Type bytes of parameters whose values say how long, or how exact, they are."""
FIXED_MODE = "''"


@dataclass(frozen=True, slots=True)
class Shadow:
    """One table to be shadowed: database, catalogue entry, catalogue version."""

    database: str
    table: Table
    version: int


def shadow_ddl(database: str, table: Table) -> list[str]:
    """Return the statements that make a table's shadow."""
    name = f"{quote(database)}.{quote(table.name)}"
    head = f"CREATE TABLE {quote(table.name)}"
    body = table.ddl[len(head) :] if table.ddl.startswith(head) else table.ddl[table.ddl.index("(") :]
    wide = len(table.columns) > WIDEST_INNODB
    engine = "Aria TRANSACTIONAL=0" if wide else "InnoDB"
    statements = [
        f"DROP TEMPORARY TABLE IF EXISTS {name}",
        f"CREATE TEMPORARY TABLE {name} {body.rstrip().rstrip(';')} ENGINE={engine}",
    ]
    if wide:
        statements += [f"INSERT INTO {name} () VALUES ()"] * 2
    return statements


@dataclass(slots=True)
class _Session:
    """What a service connection has been made into: shadows by place, default database, settings."""

    shadows: dict[tuple[str, str], int] = field(default_factory=dict)
    database: str | None = None
    settings: dict[str, str] = field(default_factory=dict)


class ShadowPool:
    """Service connections at home on which shadows stand for logical tables.

    They keep their settings; what the next statement needs besides is sent together with it.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # By connection, not by its number: a server that restarts gives the numbers out again.
        self._sessions: WeakKeyDictionary[RawConnection, _Session] = WeakKeyDictionary()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    @asynccontextmanager
    async def lease(
        self,
        shadows: Sequence[Shadow],
        settings: Mapping[str, str],
        database: str | None,
        variables: Mapping[str, str] | None = None,
    ) -> AsyncIterator[RawConnection]:
        """Lend a connection with these shadows and session settings.

        Parameters
        ----------
        shadows : sequence of Shadow
            Tables the statement reads.
        settings : mapping
            Session settings as SQL literals.
        database : str or None
            Default database, for unqualified names.
        variables : mapping
            User variables (``@x``) as SQL literals.
        """
        async with self._pool.lease() as connection:
            session = self._sessions.setdefault(connection, _Session())
            try:
                for statement in _preparation(session, shadows, settings, database or META_DATABASE):
                    connection.defer(statement)
                if variables:
                    connection.defer(set_variables(variables))
                yield connection
                await connection.flush()
            except BaseException:
                self._sessions.pop(connection, None)
                await connection.close()
                raise

    def forget(self, connection: RawConnection, database: str, table: str) -> None:
        """Note that a shadow was used up: it is made again when it is next needed."""
        session = self._sessions.get(connection)
        if session is not None:
            session.shadows.pop((database, table), None)


def _preparation(
    session: _Session, shadows: Sequence[Shadow], settings: Mapping[str, str], database: str
) -> list[str]:
    """Return the statements that give a connection the wanted shadows, database and settings, and note that it has them."""
    out: list[str] = []
    missing = [s for s in shadows if session.shadows.get((s.database, s.table.name)) != s.version]
    if missing or session.database != database:
        out.append(f"SET SESSION sql_mode={FIXED_MODE}, innodb_strict_mode=0, character_set_client=utf8mb4")
        for name in ("sql_mode", "character_set_client"):
            session.settings.pop(name, None)
    for shadow in missing:
        out += shadow_ddl(shadow.database, shadow.table)
        session.shadows[shadow.database, shadow.table.name] = shadow.version
    if session.database != database:
        out.append(f"USE {quote(database)}")
        session.database = database
    wanted = dict.fromkeys(session.settings, "DEFAULT") | dict(settings)
    changed = {name: value for name, value in wanted.items() if session.settings.get(name) != value}
    if changed:
        out.append(set_statement(changed))
        session.settings = wanted
    return out


def set_variables(variables: Mapping[str, str]) -> str:
    """Return the SET that gives a service session the user's variables."""
    return "SET " + ", ".join(f"{name}={value}" for name, value in variables.items())


def set_statement(settings: Mapping[str, str]) -> str:
    """Return the SET that gives a service session the user's settings."""
    return "SET " + ", ".join(f"SESSION {quote(name)}={value}" for name, value in settings.items())


def show_create(name: str) -> str:
    """Return the SHOW CREATE TABLE (of a quoted name) whose text is the same under any of a session's settings."""
    return f"SET STATEMENT sql_mode='', sql_quote_show_create=1 FOR SHOW CREATE TABLE {name}"


def form_of(parameter: Parameter) -> tuple[object, ...]:
    """Return what column definitions depend on of a parameter: its type, a text's length, a DECIMAL's digits."""
    value = parameter.value
    if value is None or parameter.type not in _LENGTHY:
        return parameter.type, parameter.unsigned, value is None
    characters = len(value.decode("utf-8", "replace"))
    point = value.find(b".") if parameter.type in DECIMAL_TYPES else None
    return parameter.type, len(value), characters, point


class Definitions:
    """Cached column definitions: raw payloads, as the home server sends them."""

    def __init__(self, shadows: ShadowPool, size: int = 2000) -> None:
        self._shadows = shadows
        self._size = size
        self._cache: OrderedDict[tuple[object, ...], tuple[bytes, ...]] = OrderedDict()

    async def of(
        self,
        sql: Sql,
        encoding: tuple[str, str],
        shadows: Sequence[Shadow],
        settings: Mapping[str, str],
        database: str | None,
        parameters: Sequence[Parameter] = (),
        variables: Mapping[str, str] | None = None,
        cursor: bool = False,
    ) -> tuple[bytes, ...]:
        """Return the definitions of a statement's columns.

        Parameters
        ----------
        sql : Sql
            The statement over the logical tables, native functions only.
        encoding : tuple of str
            Codec and error handler of the session's text.
        parameters : sequence of Parameter
            Those of `sql`, in its order.
        cursor : bool
            Its rows are for a cursor: MariaDB then defines the columns of the temporary table where they wait.
        """
        key = (
            cursor,
            sql.text, encoding, tuple(settings.items()), database, tuple(map(form_of, parameters)),
            tuple((shadow.database, shadow.table.name, shadow.version) for shadow in shadows),
            tuple((variables or {}).items()),
        )  # fmt: skip
        found = self._cache.get(key)
        if found is not None and "timestamp" not in settings:
            self._cache.move_to_end(key)
            return found
        text = sql.text.encode(*encoding)
        async with self._shadows.lease(shadows, settings, database, variables) as connection:
            prepared = bool(parameters) or cursor
            result = await (
                connection.execute(text, parameters, cursor) if prepared else connection.query(text)
            )
            columns = result.columns
            await result.drain()
        self._cache[key] = columns
        while len(self._cache) > self._size:
            self._cache.popitem(last=False)
        return columns


def under_their_names(
    columns: tuple[bytes, ...], aliases: Sequence[str | None], encoding: tuple[str, str]
) -> tuple[bytes, ...]:
    """Return definitions under their aliases: over empty tables the server may give an item another one's.

    It does so with an expression of a derived table that is grouped and selected twice.

    Parameters
    ----------
    columns : tuple of bytes
        Payloads of the definitions.
    aliases : sequence
        Of the statement's items; None where one has none.
    encoding : tuple
        Codec and error handler of names in definitions.
    """
    found = [ColumnDefinition.decode(column) for column in columns]
    if len(aliases) != len(found) or len({column.name for column in found}) == len(found):
        return columns
    wanted = [
        column.name if alias is None else alias.encode(*encoding)
        for column, alias in zip(found, aliases, strict=True)
    ]
    return tuple(
        data if name == column.name or column.name not in wanted else column.renamed(name).encode()
        for data, column, name in zip(columns, found, wanted, strict=True)
    )
