"""The trap tables: logical tables at home that exist for metadata and fail every read.

An InnoDB table with its tablespace discarded fails reads with 1814, also after a restart, while SHOW,
PREPARE and LOCK TABLES work. InnoDB stops at 1,017 columns; a wider table is refused until it has a
guard that passes the same test.
"""

from __future__ import annotations

from shard.catalog.model import Table
from shard.catalog.naming import quote

WIDEST = 1017


class TooWide(ValueError):  # noqa: N818 - it is what happened
    """The table has more columns than a trap table can have."""


def trap_statements(database: str, table: Table) -> tuple[str, ...]:
    """Return the statements that make a table's trap at home.

    Raises
    ------
    TooWide
        For more than 1,017 columns, invisible ones included.
    """
    if len(table.columns) + 3 > WIDEST:
        raise TooWide(f"table '{table.name}': more than {WIDEST - 3} columns are not supported yet")
    name = f"{quote(database)}.{quote(table.name)}"
    body = table.ddl[len(f"CREATE TABLE {quote(table.name)}") :]
    return (
        "SET SESSION innodb_strict_mode = 0",
        f"DROP TABLE IF EXISTS {name}",
        f"CREATE TABLE {name}{body} ENGINE=InnoDB",
        f"ALTER TABLE {name} DISCARD TABLESPACE",
    )
