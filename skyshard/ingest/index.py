"""Makes the director indexes of a published database anew, from the rows of its workers.

Each transaction that can be undone keeps an index of its own, so that an undo takes its keys away with its rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterable, Iterator

from shard.catalog import ddl
from shard.catalog.model import Kind, Table
from shard.catalog.naming import INDEX_DATABASE, chunk_table, index_aside, index_table, quote, stage_name
from skyshard.errors import UserError
from skyshard.ingest.commit import Commits
from skyshard.ingest.transactions import Published, published
from skyshard.replicas.stream import read_rows

_Source = tuple[int, str, str]
"""A worker, a database, and a table of it."""


async def rebuild(commits: Commits) -> dict[str, int]:
    """Make the index of every director anew, of what was published and of each transaction; return the keys of each.

    Raises
    ------
    UserError
        If a chunk cannot be read; the indexes that are made by then are right, the others as they were.
    """
    base = await published(commits.home, commits.database)
    visible = [one.number for one in await commits.visible()]
    parts = await commits.ledger.parts(visible)
    out = {}
    for table in base.tables:
        if table.kind is not Kind.DIRECTOR:
            continue
        added = {
            number: {chunk: tables[table.name][0] for chunk, tables in part.items() if table.name in tables}
            for number, part in parts.items()
        }
        first = table.rows - sum(sum(rows.values()) for rows in added.values())
        chunks = _sources(base, table, base.holders, base.name, commits.away)
        out[table.name] = await _one(commits, base, base.name, table, chunks, first)
        for number, rows in added.items():
            if rows:
                stage = stage_name(number)
                chunks = _sources(base, table, rows, stage, commits.away)
                out[table.name] += await _one(commits, base, stage, table, chunks, sum(rows.values()))
    await commits.home.run("START TRANSACTION")
    await commits.ledger.changed(base.db_id)
    await commits.home.run("COMMIT")
    return out


def _sources(
    base: Published, table: Table, chunks: Iterable[int], database: str, away: Container[int]
) -> Iterator[_Source]:
    """Yield where the rows of some chunks are, without those that later transactions have added."""
    for chunk in sorted(chunks):
        ids = [worker for worker in base.holders.get(chunk, ()) if worker not in away]
        if not ids:
            raise UserError(
                f"nobody who answers has chunk {chunk} of database '{base.name}'; run skyshard repair"
            )
        yield ids[0], database, chunk_table(table.name, chunk)


async def _one(
    commits: Commits, to: Published, database: str, table: Table, sources: Iterable[_Source], rows: int
) -> int:
    """Make one table of an index."""
    home, at = commits.home, f"{quote(INDEX_DATABASE)}."
    name = at + quote(index_table(database, table.name))
    made = index_aside(to.db_id, table.name, "new")
    new, old = at + quote(made), at + quote(index_aside(to.db_id, table.name, "old"))
    await home.run(f"DROP TABLE IF EXISTS {new}, {old}")
    await home.run(ddl.director_index(made, table.columns, table.key))
    await home.run(f"CREATE TABLE IF NOT EXISTS {name} LIKE {new}")
    selected = f"{quote(table.key or '')}, chunkId, subChunkId"
    sent = [0]

    async def stream() -> AsyncIterator[bytes]:
        for worker, base, made in sources:
            async for piece in read_rows(commits.ledger.agents, worker, base, made, selected, sent):
                yield piece

    ok = await home.load(
        f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {new} CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' "
        "ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (directorKey, chunkId, subChunkId)".encode(),
        stream(),
    )
    if not ok.affected_rows == sent[0] == rows or ok.warnings:
        raise UserError(
            f"table '{table.name}': the workers have {sent[0]} of {rows} rows, {ok.affected_rows} came into the "
            "index; it was not changed"
        )
    await home.run(f"FLUSH TABLES {new}")
    await home.run(f"RENAME TABLE {name} TO {old}, {new} TO {name}")
    await home.run(f"DROP TABLE {old}")
    return ok.affected_rows
