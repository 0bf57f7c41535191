"""The same rows in one plain MariaDB, copied from the workers' chunk tables."""

import msgspec

from backend.address import Address
from backend.connection import RawConnection
from shard.catalog.model import Kind, Table
from shard.catalog.naming import quote
from shard.wire import rows
from skyshard.cluster import state as states
from skyshard.cluster.local import home_address


def _exact(table, column):
    kind = next((c.sql_type for c in table.columns if c.name == column), "")
    return f"CAST({quote(column)} AS DOUBLE)" if kind.upper().startswith("FLOAT") else quote(column)


async def copy_database(directory, database: str, plain: Address, engine: str = "InnoDB") -> None:
    """Make `database` in the plain server, with the same DDL (invisible columns included) and rows."""
    state = states.read(directory)
    password = (directory / "secrets" / "service").read_text().strip()
    home = await RawConnection.open(home_address(directory, state))
    twin = await RawConnection.open(plain)
    await twin.run("SET SESSION sql_mode=''")
    await twin.run(f"CREATE DATABASE {quote(database)} CHARACTER SET utf8mb4")
    tables = [
        msgspec.json.decode(row[0], type=Table)
        for row in await home.fetch(
            "SELECT definition FROM skyshard_meta.`tables` JOIN skyshard_meta.`databases` d USING (db_id) "
            f"WHERE d.name = '{database}'"
        )
    ]
    workers = [
        await RawConnection.open(Address("skyshard", password, socket=path))
        for name, path in state.sockets.items() if name != "home"
    ]  # fmt: skip
    added = await home.fetch(
        f"SELECT ingest_id FROM skyshard_meta.ingests WHERE db_name = '{database}' AND state = 'committed'"
    )
    listed_bases = ", ".join([f"'{database}'", *(f"'skyshard_stage_{int(row[0])}'" for row in added)])
    layout = " ROW_FORMAT=DYNAMIC" if engine == "InnoDB" else ""  # chunk tables' is left to their engine, too
    for table in tables:
        head = f"CREATE TABLE {quote(table.name)}"
        await twin.run(
            f"CREATE TABLE {quote(database)}.{quote(table.name)}{table.ddl[len(head) :]} ENGINE={engine}{layout}"
        )
        names = [column.name for column in table.columns]
        if table.is_sharded:
            names += ["chunkId", "subChunkId"]
        listed = ", ".join(map(quote, names))
        copied = set()  # chunks may be on several workers
        for worker in workers[: 1 if not table.is_sharded else None]:
            pattern = f"^{table.name}_[0-9]+$" if table.is_sharded else f"^{table.name}$"
            found = await worker.fetch(
                f"SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({listed_bases}) "
                f"AND TABLE_NAME REGEXP '{pattern}' AND TABLE_ROWS > 0"
            )

            found = [tuple(row) for row in found if tuple(row) not in copied]
            copied.update(found)

            async def stream(worker=worker, found=found, table=table, names=names):
                for base, name in found:
                    exact = ", ".join(_exact(table, column) for column in names)  # FLOAT text has six digits
                    sql = f"SELECT {exact} FROM {quote(base.decode())}.{quote(name.decode())}"
                    if table.kind is Kind.MATCH:
                        sql += " WHERE skyOwner = 1"
                    result = await worker.query(sql.encode())
                    async for block in result.blocks():
                        yield rows.rows_to_load(block.data)

            ok = await twin.load(
                f"LOAD DATA LOCAL INFILE 'x' INTO TABLE {quote(database)}.{quote(table.name)} CHARACTER SET utf8mb4 "
                f"({listed})".encode(),
                stream(),
            )
            assert ok.warnings == 0, await twin.fetch("SHOW WARNINGS LIMIT 3")
        count = await twin.fetch(f"SELECT COUNT(*) FROM {quote(database)}.{quote(table.name)}")
        assert int(count[0][0]) == table.rows, table.name
    for connection in [home, twin, *workers]:
        await connection.close()
