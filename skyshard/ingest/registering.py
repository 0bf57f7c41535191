"""Registering: what has to be so before an ingest or a transaction is opened, and which one is found again."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shard.catalog.catalog_file import CatalogFile
from shard.catalog.naming import literal
from skyshard.catalog.cluster import Cluster
from skyshard.errors import UserError
from skyshard.ingest import files, sources
from skyshard.ingest.commit import Commits
from skyshard.ingest.contributions import lock_loaders
from skyshard.ingest.first import First, FirstIngest, asked, same_files
from skyshard.ingest.ledger import Ledger
from skyshard.ingest.order import Order, Stamped, fingerprint, owner, parsed
from skyshard.ingest.queue import Queue
from skyshard.ingest.transactions import META, Published, transactions

LASTING = ("committed", "consolidating", "consolidated")
"""States of transactions whose rows are visible."""


async def is_published(cluster: Cluster, name: str) -> bool:
    """Whether a database is published."""
    found = await cluster.home.fetch(f"SELECT 1 FROM {META}.`databases` WHERE name = {literal(name)}")
    return bool(found)


async def first_order(
    cluster: Cluster, order: Order, replace: bool, replicas: int | None
) -> tuple[Order, First]:
    """Return an order with what a first ingest needs to know: copies, workers, and whether it replaces a database."""
    active = [number for number, worker in cluster.workers.items() if worker.state == "active"]
    what = await asked(cluster.home, active, replicas, replace)
    return msgspec.structs.replace(order, first=what), what


async def open_first(first: FirstIngest, order: Order, what: First, now: Stamped) -> int:
    """Open a first ingest whose steps are run one by one."""
    file, mark = parsed(order)[0], fingerprint(order)
    begun = await first.begun(mark, what, now, "open")
    await first.staging.check_closed(begun or 0)
    if begun is not None:
        return begun
    await first.staging.check_free(what.replace, [spec.name for spec in file.tables])
    detail = msgspec.json.encode(order).decode()
    return await first.open(owner(), detail, mark, what, now, "open")


async def done_before(cluster: Cluster, database: str, mark: str, now: Stamped) -> int | None:
    """Return the transaction that has made the rows of these very files visible, if there is one."""
    for one in await transactions(
        cluster.home,
        f"i.db_name = {literal(database)} AND i.fingerprint = '{mark}' "
        f"AND i.state IN ({', '.join(map(literal, LASTING))})",
    ):
        if await same_files(cluster.home, one.number, now):
            return one.number
    return None


async def check_not_there(
    cluster: Cluster, database: str, listed: Iterable[tuple[str, files.DataFile, sources.Stamp]]
) -> None:
    """Refuse files (of a table) whose rows are visible already: they would be there twice.

    Raises
    ------
    UserError
        Naming the first, and what has its rows.
    """
    lasting = ", ".join(map(literal, LASTING))
    known = {
        tuple((value or b"").decode() for value in row[:4]): (row[4] or b"").decode()
        for row in await cluster.home.fetch(
            f"SELECT f.name, f.url, f.size, f.checksum, i.ingest_id FROM {META}.ingest_files f "
            f"JOIN {META}.ingests i USING (ingest_id) WHERE i.db_name = {literal(database)} AND (i.state IN ({lasting}) "
            f"OR i.state = 'published' AND i.ingest_id = (SELECT version FROM {META}.`databases` "
            f"WHERE name = {literal(database)}))"
        )
    }
    for table, file, stamp in listed:
        number = known.get((table, file.name, str(stamp.size), stamp.checksum))
        if number is not None:
            raise UserError(
                f"{file.shown}: table '{database}.{table}' has its rows already, by ingest {number}; name only files that are "
                "new (to add its rows once more, copy it to another name)"
            )


async def check_free(cluster: Cluster, base: Published, file: CatalogFile) -> None:
    """Refuse new tables whose names users' own tables have."""
    rows = await cluster.home.fetch_texts(
        f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(base.name)}"
    )
    here = {row[0].lower() for row in rows}
    for spec in file.tables:
        if base.table(spec.name) is None and spec.name.lower() in here:
            raise UserError(
                f"'{base.name}.{spec.name}' is a user's table or view; drop it, or choose another name"
            )


async def open_or_found(cluster: Cluster, commits: Commits, file: CatalogFile, order: Order) -> int:
    """Return the open transaction of this very order, or open one.

    Raises
    ------
    UserError
        If another open transaction is about one of the tables.
    """
    names, mark = {spec.name for spec in file.tables}, fingerprint(order)
    for one in await transactions(cluster.home, f"i.db_name = {literal(file.database)} AND i.state = 'open'"):
        if one.fingerprint == mark:
            return one.number
        if both := sorted(names.intersection(one.tables)):
            raise UserError(
                f"another ingest of table '{file.database}.{both[0]}' is open: transaction {one.number} of "
                f"{one.owner}, since {one.started} UTC; finish it with its own command, or abort it "
                f"(skyshard ingest --abort {one.number})"
            )
    tables = [(spec.name, spec.kind) for spec in file.tables]
    return await commits.ledger.open(
        file.database, owner(), msgspec.json.encode(order).decode(), mark, tables
    )


async def check_not_late(
    cluster: Cluster, ledger: Ledger, number: int, file: CatalogFile, now: Stamped
) -> None:
    """Refuse files that have come about since their table was loaded: nobody would load them."""
    known = {(item.table, item.url) for item in await Queue(cluster.home, number).status()}
    fresh = {
        spec.name: one.shown
        for spec, listed in zip(file.tables, now, strict=True)
        for one, _ in listed
        if (spec.name, one.name) not in known
    }
    if not fresh:
        return
    await lock_loaders(cluster.home, number)
    for table in sorted(set(fresh).intersection(await ledger.loaded_tables(number))):
        raise UserError(
            f"transaction {number}: table '{table}' is loaded already, and {fresh[table]} has come about since; make what "
            f"is loaded visible first (skyshard ingest publish {number}), or abort it (skyshard ingest --abort {number})"
        )
