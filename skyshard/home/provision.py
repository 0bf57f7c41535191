"""Makes a MariaDB server a home server: internal databases, metadata with migrations, idempotent."""

from __future__ import annotations

from backend.connection import RawConnection
from shard.catalog.metadata import MIGRATIONS, VERSION_TABLE
from shard.catalog.naming import INDEX_DATABASE, META_DATABASE, SCRATCH_DATABASE, quote


async def provision(connection: RawConnection) -> int:
    """Create what is missing and migrate the metadata; return the version reached."""
    for name in (META_DATABASE, INDEX_DATABASE, SCRATCH_DATABASE):
        await connection.run(f"CREATE DATABASE IF NOT EXISTS {quote(name)} CHARACTER SET utf8mb4")
    await connection.run(f"USE {quote(META_DATABASE)}")
    await connection.run(VERSION_TABLE)
    rows = await connection.fetch("SELECT COALESCE(MAX(version), 0) FROM schema_migrations")
    version = int(rows[0][0] or b"0")
    for number, statements in enumerate(MIGRATIONS, start=1):
        if number <= version:
            continue
        for statement in statements:
            await connection.run(statement)
        await connection.run(f"INSERT INTO schema_migrations (version) VALUES ({number})")
    return len(MIGRATIONS)


async def register_workers(connection: RawConnection, workers: list[tuple[int, str, str, int, int]]) -> None:
    """Write the workers (id, name, host, data port, HTTP port) and bump the catalogue's version."""
    meta = quote(META_DATABASE)
    for number, name, host, port, http in workers:
        await connection.run(
            f"INSERT INTO {meta}.workers (worker_id, name, host, port, http_port) VALUES "
            f"({number}, '{name}', '{host}', {port}, {http}) "
            f"ON DUPLICATE KEY UPDATE host = '{host}', port = {port}, http_port = {http}"
        )
    await bump(connection)


async def bump(connection: RawConnection) -> None:
    """Tell proxies that the catalogue has changed."""
    await connection.run(
        f"UPDATE {quote(META_DATABASE)}.cluster SET value = value + 1 WHERE name = 'catalogue_version'"
    )
