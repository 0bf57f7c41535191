"""Makes a MariaDB server a home server: internal databases, metadata with migrations, idempotent."""

from __future__ import annotations

from backend.connection import RawConnection
from shard.catalog.metadata import MIGRATIONS, VERSION_TABLE
from shard.catalog.naming import INDEX_DATABASE, META_DATABASE, SCRATCH_DATABASE, literal, quote
from shard.catalog.routines import HTM_ID, create_changed_of, create_htm_id
from shard.errors import ServerError
from skyshard.errors import UserError
from skyshard.home.guard import mend_traps, provide_lure

ALREADY_DONE = frozenset({1050, 1060, 1061, 1062})
"""Table, column, key or row exists: a migration that was cut short had got past this statement."""

LOCK_NAME = "skyshard provision"
LOCK_WAIT_S = 60


async def provision(connection: RawConnection) -> int:
    """Create what is missing and migrate the metadata; return the version reached.

    Idempotent, and safe when two do it at once: the second waits for the first.

    Raises
    ------
    TimeoutError
        If another provisioning does not end within a minute.
    GuardBroken
        If trap tables would not hold on this server.
    UserError
        If the metadata are of a later release.
    """
    lock = literal(LOCK_NAME)
    if (await connection.fetch(f"SELECT GET_LOCK({lock}, {LOCK_WAIT_S})"))[0][0] != b"1":
        raise TimeoutError("another process is setting up the home server")
    try:
        for name in (META_DATABASE, INDEX_DATABASE, SCRATCH_DATABASE):
            await connection.run(f"CREATE DATABASE IF NOT EXISTS {quote(name)} CHARACTER SET utf8mb4")
        # Rows of a query that a session stores, or joins with its own tables, wait in its temporary tables.
        await connection.run(f"GRANT CREATE TEMPORARY TABLES ON {quote(SCRATCH_DATABASE)}.* TO PUBLIC")
        await connection.run(create_htm_id())
        await connection.run(f"GRANT EXECUTE ON FUNCTION {HTM_ID} TO PUBLIC")
        for statement in create_changed_of():
            await connection.run(statement)
        await connection.run(f"USE {quote(META_DATABASE)}")
        await connection.run(VERSION_TABLE)
        rows = await connection.fetch("SELECT COALESCE(MAX(version), 0) FROM schema_migrations")
        version = int(rows[0][0] or b"0")
        if version > len(MIGRATIONS):
            raise UserError(_other(version))
        for number, statements in enumerate(MIGRATIONS, start=1):
            if number > version:
                await _migrate(connection, number, statements)
        await provide_lure(connection)
        await mend_traps(connection)
    finally:
        await connection.run(f"DO RELEASE_LOCK({lock})")
    return len(MIGRATIONS)


async def check_version(connection: RawConnection) -> None:
    """Refuse to work with metadata of another release.

    Raises
    ------
    UserError
        Saying what to do.
    """
    rows = await connection.fetch(
        f"SELECT COALESCE(MAX(version), 0) FROM {quote(META_DATABASE)}.schema_migrations"
    )
    version = int(rows[0][0] or b"0")
    if version != len(MIGRATIONS):
        raise UserError(_other(version))


def _other(version: int) -> str:
    what = f"the cluster's metadata are of version {version}, and this release works with version {len(MIGRATIONS)}"
    if version > len(MIGRATIONS):
        return f"{what}; use the release that the cluster runs"
    return f"{what}; bring the cluster up to date first (skyshard home init, or skyshard cluster up)"


async def _migrate(connection: RawConnection, number: int, statements: tuple[str, ...]) -> None:
    """Run one migration; DDL commits by itself, so one that was cut short is run over."""
    for statement in statements:
        try:
            await connection.run(statement)
        except ServerError as error:
            if error.errno not in ALREADY_DONE:
                raise
    await connection.run(f"INSERT INTO schema_migrations (version) VALUES ({number})")


async def register_workers(connection: RawConnection, workers: list[tuple[int, str, str, int, int]]) -> None:
    """Write the workers (id, name, host, data port, HTTP port) and bump the catalogue's version."""
    meta = quote(META_DATABASE)
    for number, name, host, port, http in workers:
        await connection.run(
            f"INSERT INTO {meta}.workers (worker_id, name, host, port, http_port) VALUES "
            f"({number}, {literal(name)}, {literal(host)}, {port}, {http}) "
            f"ON DUPLICATE KEY UPDATE host = {literal(host)}, port = {port}, http_port = {http}"
        )
    await bump(connection)


async def add_worker(connection: RawConnection, name: str, host: str, port: int, http: int) -> int:
    """Write one worker, new, moved or back again, and tell the proxies; return its id.

    Whatever the metadata say of copies on one that had been removed, nobody has kept them right since.
    """
    meta = quote(META_DATABASE)
    workers = f"{meta}.workers"
    await connection.run("START TRANSACTION")
    await connection.run(
        f"UPDATE {meta}.chunk_replicas SET state = 'stale' WHERE worker_id IN "
        f"(SELECT worker_id FROM {workers} WHERE name = {literal(name)} AND state = 'removed')"
    )
    await connection.run(
        f"INSERT INTO {workers} (name, host, port, http_port) VALUES "
        f"({literal(name)}, {literal(host)}, {port}, {http}) "
        f"ON DUPLICATE KEY UPDATE host = VALUES(host), port = {port}, http_port = {http}, "
        "state = IF(state = 'removed', 'active', state)"
    )
    await bump(connection)
    await connection.run("COMMIT")
    found = await connection.fetch(f"SELECT worker_id FROM {workers} WHERE name = {literal(name)}")
    return int(found[0][0] or b"0")


async def set_replicas(connection: RawConnection, replicas: int | None) -> None:
    """Write how many copies of every chunk an ingest makes; None: as it was said before, or one."""
    verb = "INSERT IGNORE" if replicas is None else "REPLACE"
    await connection.run(
        f"{verb} INTO {quote(META_DATABASE)}.cluster VALUES ('replicas', '{1 if replicas is None else replicas}')"
    )


async def bump(connection: RawConnection) -> None:
    """Tell proxies that the catalogue has changed."""
    await connection.run(
        f"UPDATE {quote(META_DATABASE)}.cluster SET value = value + 1 WHERE name = 'catalogue_version'"
    )
