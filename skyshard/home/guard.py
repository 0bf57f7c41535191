"""The trap tables: logical tables at home that exist for metadata and fail every read.

A table of up to 1,017 columns is InnoDB with its tablespace discarded: a read fails with 1814, also after a
restart, while SHOW, PREPARE, COM_FIELD_LIST and LOCK TABLES work. InnoDB takes no more columns, so a wider
table is a FEDERATED one that points back at this very server, at a table (`LURE`) that has none of the wanted
columns: metadata works, and every read fails with 1296, 1430 or 1030. The experiments behind this are in
docs/decisions/0009-wide-trap-tables.md, the tests in tests/skyshard/home/test_guard.py.
"""

from __future__ import annotations

import logging
import secrets

import msgspec

from backend.connection import RawConnection
from shard.catalog.model import Kind, Table
from shard.catalog.naming import META_DATABASE, literal, quote
from shard.catalog.traps import TRAP_ERRNOS, is_trap_error
from shard.errors import ServerError

log = logging.getLogger("skyshard.guard")

__all__ = [
    "TRAP_ERRNOS",
    "GuardBroken",
    "TooWide",
    "is_trap_error",
    "is_wide",
    "mend_traps",
    "provide_lure",
    "trap_statements",
]

WIDEST = 1017
"""Columns of an InnoDB table at most, invisible ones included."""

SERVER = "skyshard_trap"
"""The CREATE SERVER of wide traps, and the account by which it comes back to this server."""

WIDEST_TABLE = 4096
"""Columns of a MariaDB table at most, of any engine."""

LURE = "wide_trap"
LURE_COLUMN = "this table is sharded and cannot be read here"
LURE_ROWS = 1000
"""Rows the lure shows. They must not be 0: then the optimizer answers index conditions without reading."""


class TooWide(ValueError):  # noqa: N818 - it is what happened
    """The table has more columns than any MariaDB table can have."""


class GuardBroken(RuntimeError):  # noqa: N818 - it is what happened
    """The wide traps would not hold on this server; the text says why."""


def column_count(table: Table) -> int:
    """Return the columns of the logical table, invisible ones included."""
    invisible = {Kind.REPLICATED: 0, Kind.MATCH: 3}.get(table.kind, 2)
    return len(table.columns) + invisible


def is_wide(table: Table) -> bool:
    """Whether the table is too wide for InnoDB."""
    return column_count(table) > WIDEST


def trap_statements(database: str, table: Table) -> tuple[str, ...]:
    """Return the statements that make a table's trap at home, replacing one that is there.

    Parameters
    ----------
    database : str
        The logical database, which must exist.
    table : Table
        The table; its `ddl` is taken as it is, with an ENGINE added.

    Raises
    ------
    TooWide
        If MariaDB cannot hold so many columns in any table.
    ValueError
        If `ddl` does not begin with the CREATE TABLE of this table.
    """
    if column_count(table) > WIDEST_TABLE:
        raise TooWide(
            f"table '{table.name}': {column_count(table)} columns, MariaDB holds {WIDEST_TABLE} at most"
        )
    head = f"CREATE TABLE {quote(table.name)}"
    if not table.ddl.startswith(head):
        raise ValueError(f"table '{table.name}': its definition does not begin with {head}")
    name = f"{quote(database)}.{quote(table.name)}"
    body = table.ddl[len(head) :].rstrip().rstrip(";")
    if is_wide(table):
        return (
            "INSTALL PLUGIN IF NOT EXISTS FEDERATED SONAME 'ha_federatedx'",
            f"DROP TABLE IF EXISTS {name}",
            f"CREATE TABLE {name}{body} ENGINE=FEDERATED CONNECTION={literal(f'{SERVER}/{LURE}')}",
        )
    return (
        f"DROP TABLE IF EXISTS {name}",
        # Not strict: a row that could never be stored is no reason to refuse a table that stores none.
        f"SET STATEMENT innodb_strict_mode=0 FOR CREATE TABLE {name}{body} ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
        f"ALTER TABLE {name} DISCARD TABLESPACE",
    )


async def provide_lure(connection: RawConnection) -> None:
    """Make what wide traps point at: the lure, an account that sees only it, and the SERVER entry.

    Idempotent; run at every start, because the server's socket may have moved and because the traps
    hold only while the lure shows rows.

    Raises
    ------
    GuardBroken
        If the lure shows no rows afterwards.
    """
    lure = f"{quote(META_DATABASE)}.{quote(LURE)}"
    if await _lure_rows(connection) != LURE_ROWS:
        await connection.run(f"DROP TABLE IF EXISTS {lure}")
        await connection.run(f"CREATE TABLE {lure} ({quote(LURE_COLUMN)} INT) ENGINE=MyISAM")
        await connection.run(
            f"INSERT INTO {lure} SELECT seq FROM {quote(META_DATABASE)}.seq_1_to_{LURE_ROWS}"
        )
    rows = await _lure_rows(connection)
    if rows != LURE_ROWS:
        raise GuardBroken(f"table {lure} shows {rows} rows and not {LURE_ROWS}: wide traps would not hold")
    await _provide_server(connection, lure)


async def mend_traps(connection: RawConnection) -> list[str]:
    """Make the traps of published tables again that are gone or can be read; return their names.

    A TRUNCATE at home, by dynamic SQL for one, turns an InnoDB trap into an empty table that answers.
    """
    meta = quote(META_DATABASE)
    found = await connection.fetch(
        f"SELECT d.name, t.definition FROM {meta}.`tables` t JOIN {meta}.`databases` d USING (db_id) "
        "WHERE d.state = 'published'"
    )
    mended = []
    for database, definition in found:
        name, table = (database or b"").decode(), msgspec.json.decode(definition or b"", type=Table)
        if table.is_sharded and not await holds(connection, name, table.name):
            for statement in trap_statements(name, table):
                await connection.run(statement)
            mended.append(f"{name}.{table.name}")
            log.warning("the trap of table %s.%s was gone and is made again", name, table.name)
    return mended


async def holds(connection: RawConnection, database: str, table: str) -> bool:
    """Whether a trap is there and fails every read, as it should."""
    try:
        await connection.fetch(f"SELECT 1 FROM {quote(database)}.{quote(table)} LIMIT 1")
    except ServerError as error:
        return is_trap_error(error.errno, error.message)
    return False


async def _lure_rows(connection: RawConnection) -> int | None:
    found = await connection.fetch(
        f"SELECT TABLE_ROWS FROM information_schema.TABLES "
        f"WHERE TABLE_SCHEMA={literal(META_DATABASE)} AND TABLE_NAME={literal(LURE)}"
    )
    return None if not found or found[0][0] is None else int(found[0][0])


async def _provide_server(connection: RawConnection, lure: str) -> None:
    socket = ((await connection.fetch("SELECT @@GLOBAL.socket"))[0][0] or b"").decode()
    found = await connection.fetch(
        f"SELECT Socket, Password FROM mysql.servers WHERE Server_name={literal(SERVER)} "
        f"AND Db={literal(META_DATABASE)}"
    )
    account = f"{literal(SERVER)}@localhost"
    password = (found[0][1] or b"").decode() if found else secrets.token_hex(24)
    await connection.run(f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY {literal(password)}")
    await connection.run(f"ALTER USER {account} IDENTIFIED BY {literal(password)}")
    await connection.run(f"GRANT SELECT ON {lure} TO {account}")
    if found and (found[0][0] or b"").decode() == socket:
        return
    await connection.run(
        f"CREATE OR REPLACE SERVER {quote(SERVER)} FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'localhost', "
        f"SOCKET {literal(socket)}, USER {literal(SERVER)}, PASSWORD {literal(password)}, "
        f"DATABASE {literal(META_DATABASE)})"
    )
