"""Makes a director index anew, from the rows that the workers have."""

from __future__ import annotations

from collections.abc import AsyncIterator

from shard.catalog.model import Kind, Table
from shard.catalog.naming import INDEX_DATABASE, chunk_table, index_table, quote
from skyshard.errors import UserError
from skyshard.ingest.commit import Commits
from skyshard.ingest.transactions import Published, published
from skyshard.replicas.stream import read_rows


async def rebuild(commits: Commits) -> dict[str, int]:
    """Exchange the director indexes of a database for new ones; return director → keys.

    The database's lock must be held. Keys of transactions that are visible are in the new index as well.

    Raises
    ------
    UserError
        If a chunk cannot be read; then nothing has changed.
    """
    base = await published(commits.home, commits.database)
    out = {}
    for table in base.tables:
        if table.kind is Kind.DIRECTOR:
            out[table.name] = await _one(commits, base, table)
    await commits.home.run("START TRANSACTION")
    await commits.ledger.changed(base.db_id)
    await commits.home.run("COMMIT")
    return out


async def _one(commits: Commits, base: Published, table: Table) -> int:
    home, at = commits.home, f"{quote(INDEX_DATABASE)}."
    name = at + quote(index_table(base.name, table.name))
    new, old = (at + quote(index_table(f"skyshard_{word}", table.name)) for word in ("new", "old"))
    kind = next(column.sql_type for column in table.columns if column.name == table.key)
    await home.run(f"DROP TABLE IF EXISTS {new}, {old}")
    await home.run(
        f"CREATE TABLE {new} (directorKey {kind}, chunkId INT NOT NULL, subChunkId INT NOT NULL, "
        "KEY (directorKey)) ENGINE=Aria TRANSACTIONAL=0 DEFAULT CHARSET=utf8mb4"
    )
    await home.run(f"CREATE TABLE IF NOT EXISTS {name} LIKE {new}")
    selected = f"{quote(table.key or '')}, chunkId, subChunkId"
    sent = [0]

    async def stream() -> AsyncIterator[bytes]:
        for chunk, ids in sorted(base.holders.items()):
            if not ids:
                raise UserError(f"nobody has chunk {chunk} of database '{base.name}'; run skyshard repair")
            made = chunk_table(table.name, chunk, base.states.get(chunk, 0))
            async for piece in read_rows(commits.ledger.agents, ids[0], base.name, made, selected, sent):
                yield piece

    ok = await home.load(
        f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {new} CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' "
        "ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (directorKey, chunkId, subChunkId)".encode(),
        stream(),
    )
    if not ok.affected_rows == sent[0] == table.rows or ok.warnings:
        raise UserError(
            f"table '{table.name}': the workers have {sent[0]} of {table.rows} rows, {ok.affected_rows} came into the "
            "index; nothing was changed"
        )
    await home.run(f"FLUSH TABLES {new}")
    await home.run(f"RENAME TABLE {name} TO {old}, {new} TO {name}")
    await home.run(f"DROP TABLE {old}")
    return ok.affected_rows
