"""`skyshard catalog`: looks at the databases of a cluster, checks, backs up, restores, copies and drops them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from skyshard.catalog.cluster import alive, opened, parted
from skyshard.catalog.faults import Report
from skyshard.catalog.report import DatabaseReport, reports, size_text
from skyshard.cluster.connect import ClusterAddress, plain_errors
from skyshard.cluster.options import cluster_options
from skyshard.errors import UserError

if TYPE_CHECKING:
    from skyshard.catalog.manifest import Manifest
    from skyshard.catalog.restore import Restore
    from skyshard.catalog.sources import Source

_JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON, sizes in bytes.")
_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_REPLICAS = click.option(
    "--replicas", type=click.IntRange(1, 64), help="Copies of every chunk.  [default: the cluster's]"
)
_REPLACE = click.option(
    "--replace",
    is_flag=True,
    help="Take the place of a published catalogue of this name, which answers until then.",
)


@click.group("catalog")
def catalog_command() -> None:
    """Look at the databases of a cluster, check, back up, restore, copy and drop them."""


@catalog_command.command("list")
@cluster_options
@_JSON
def list_catalogs(address: ClusterAddress, as_json: bool) -> None:
    """Show one line a database: state, tables, chunks, copies, rows, bytes on all workers."""
    with plain_errors():
        found = asyncio.run(_reports(address, None))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    for one in found:
        size = None if one.data_bytes is None else one.data_bytes + (one.index_bytes or 0)
        click.echo(
            f"{one.name:24} {one.state:9} {len(one.tables):>3} tables {one.chunks:>6} chunks "
            f"x {one.replicas} {one.rows:>14,} rows {size_text(size):>10}{_lacks(one)}"
        )
    _complain(found)


@catalog_command.command()
@click.argument("database")
@cluster_options
@_JSON
def show(address: ClusterAddress, database: str, as_json: bool) -> None:
    """Show DATABASE: its grid, its workers, and one line a table."""
    with plain_errors():
        found = asyncio.run(_reports(address, database))
    one = found[0]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(one)).decode())
        return
    click.echo(f"database {one.name}: {one.state}, since {one.published or '?'} UTC")
    click.echo(
        f"grid: {one.stripes} stripes, {one.sub_stripes} sub-stripes, overlap {one.overlap_deg} deg; "
        f"{one.chunks} chunks x {one.replicas}{_lacks(one)}"
    )
    click.echo("workers: " + ", ".join(f"{name} {chunks} chunks" for name, chunks in one.workers.items()))
    for table in one.tables:
        click.echo(
            f"  {table.name:24} {table.kind:10} {table.rows:>14,} rows {table.chunks:>6} chunks "
            f"data {size_text(table.data_bytes)}, indexes {size_text(table.index_bytes)}, "
            f"overlap {table.overlap_rows:,} rows {size_text(table.overlap_bytes)}"
        )
    _complain(found)


@catalog_command.command()
@click.argument("database")
@cluster_options
@_JSON
def drop(address: ClusterAddress, database: str, as_json: bool) -> None:
    """Drop DATABASE everywhere; if this is interrupted, run it again."""
    with plain_errors():
        left, away = asyncio.run(_drop(address, database))
    if as_json:
        click.echo(msgspec.json.encode({"dropped": database, "left": left, "away": away}).decode())
        return
    click.echo(f"Database '{database}' is dropped.")
    if away:
        click.echo(
            f"  note: {', '.join(away)} does not answer; 'skyshard repair' drops its tables when it is back"
        )
    if left:
        click.echo(f"  note: a database of this name stays, with users' own {', '.join(left)}")


@catalog_command.command()
@click.argument("database")
@cluster_options
@click.option("--quick", is_flag=True, help="Compare tables and numbers of rows alone; read no rows.")
@_JSON
def verify(address: ClusterAddress, database: str, quick: bool, as_json: bool) -> None:
    """Check that all parts of DATABASE agree, while queries run; exit code 1 if they do not."""
    with plain_errors():
        report = asyncio.run(_verify(address, database, quick, _quiet if as_json else _progress))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        for fault in report.faults:
            click.echo(str(fault))
        what = f"{len(report.faults)} faults" if report.faults else "no fault"
        click.echo(
            f"Database '{report.database}': {what}; {report.chunks} chunks, {report.tables} tables on "
            f"{report.workers} workers, {report.rows:,} rows"
            + (", of which only the numbers were compared" if quick else "")
        )
    if report.faults:
        click.get_current_context().exit(1)


@catalog_command.command()
@click.argument("database")
@cluster_options
@click.option("--to", "target", type=_DIRECTORY, required=True, help="Where the files go.")
@_JSON
def backup(address: ClusterAddress, database: str, target: Path, as_json: bool) -> None:
    """Write DATABASE to files while it is queried; if this is interrupted, run it again."""
    with plain_errors():
        made = asyncio.run(_backup(address, database, target, _quiet if as_json else _progress))
    size, rows = sum(part.size for part in made.parts), sum(table.rows for table in made.tables)
    if as_json:
        found = {"database": database, "files": len(made.parts), "rows": rows, "bytes": size}
        click.echo(msgspec.json.encode(found).decode())
        return
    click.echo(
        f"Database '{database}' is backed up in {target}: {len(made.parts):,} files, {rows:,} rows, {size_text(size)}."
    )


@catalog_command.command()
@click.argument("saved", metavar="BACKUP", type=_DIRECTORY)
@cluster_options
@click.option("--as", "name", help="The name it gets.  [default: the one it had]")
@_REPLICAS
@_REPLACE
@_JSON
def restore(
    address: ClusterAddress, saved: Path, name: str | None, replicas: int | None, replace: bool, as_json: bool
) -> None:
    """Publish the catalogue that was backed up in the directory BACKUP, on any number of workers.

    If this is interrupted, run it again.
    """
    from skyshard.catalog.sources import BackupSource

    with plain_errors():
        source = BackupSource(saved)
        name = name or source.description.database
        done = asyncio.run(
            _restore(address, source, name, replicas, replace, _quiet if as_json else _progress)
        )
    _restored(name, done, as_json)


@catalog_command.command()
@click.argument("database")
@click.argument("name")
@cluster_options
@_REPLICAS
@_REPLACE
@_JSON
def copy(
    address: ClusterAddress, database: str, name: str, replicas: int | None, replace: bool, as_json: bool
) -> None:
    """Publish DATABASE once more, as NAME; if this is interrupted, run it again."""
    with plain_errors():
        if replace and database == name:
            raise UserError(f"'{database}' cannot take its own place; choose another name")
        done = asyncio.run(
            _copy(address, database, name, replicas, replace, _quiet if as_json else _progress)
        )
    _restored(name, done, as_json)


def _restored(name: str, done: Restore, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"published": name, "checksums": done.compares}).decode())
        return
    if not done.compares:
        click.echo("  note: the servers are of several versions; rows were counted, checksums not compared")
    click.echo(f"Database '{name}' is published.")


async def _backup(
    address: ClusterAddress, database: str, target: Path, say: Callable[[str], None]
) -> Manifest:
    from skyshard.catalog.backup import Backup

    async with opened(address) as cluster:
        return await Backup(cluster, database, target, say).run()


async def _restore(
    address: ClusterAddress,
    source: Source,
    name: str,
    replicas: int | None,
    replace: bool,
    say: Callable[[str], None],
) -> Restore:
    from skyshard.catalog.restore import Restore

    async with opened(address) as cluster:
        run = Restore(address, cluster, source, name, replicas, replace, say)
        await run.run()
        return run


async def _copy(
    address: ClusterAddress,
    database: str,
    name: str,
    replicas: int | None,
    replace: bool,
    say: Callable[[str], None],
) -> Restore:
    from skyshard.catalog import published
    from skyshard.catalog.backup import servers_of
    from skyshard.catalog.restore import Restore
    from skyshard.catalog.sources import CatalogSource

    async with opened(address) as cluster:
        found = await published.read(cluster.home, database)
        there = await alive(cluster)
        source = CatalogSource(cluster, found, there, await servers_of(cluster, there))
        run = Restore(address, cluster, source, name, replicas, replace, say)
        await run.run()
        return run


async def _verify(address: ClusterAddress, database: str, quick: bool, say: Callable[[str], None]) -> Report:
    from skyshard.catalog.verify import verify as check

    async with opened(address) as cluster:
        return await check(cluster, database, quick, say)


def _quiet(_: str) -> None:
    """Say nothing."""


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text}\r", err=True, nl=False)


async def _reports(address: ClusterAddress, database: str | None) -> list[DatabaseReport]:
    async with opened(address) as cluster:
        return await reports(cluster, database)


async def _drop(address: ClusterAddress, database: str) -> tuple[list[str], list[str]]:
    from skyshard.catalog.drop import Drop
    from skyshard.ingest.staging import Staging
    from skyshard.ingest.transactions import lock_database

    async with opened(address) as cluster:
        there, away = await parted(cluster)
        stage = Staging(cluster.home, cluster.agents, there, database, away)
        await lock_database(cluster.home, database)
        await stage.recover()
        drop = Drop(cluster.home, cluster.agents, cluster.workers.values(), database)
        return await drop.run(), drop.away


def _lacks(one: DatabaseReport) -> str:
    return f", {one.incomplete} with too few copies" if one.incomplete else ""


def _complain(found: list[DatabaseReport]) -> None:
    """End with code 1 if a worker did not answer, so that sizes are not known.

    Raises
    ------
    UserError
        Naming the workers.
    """
    silent = sorted({name for one in found for name in one.silent})
    if silent:
        raise UserError(f"sizes are not known, since these workers do not answer: {', '.join(silent)}")
