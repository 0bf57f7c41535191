"""`skyshard ingest`: one command that does everything, and its steps one by one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from shard.errors import SkyError
from skyshard.cluster.options import cluster_options
from skyshard.errors import NotNow, UserError

if TYPE_CHECKING:
    from skyshard.cluster.connect import ClusterAddress
    from skyshard.ingest.steps import Steps

_T = TypeVar("_T")
_WHOLE = "catalogue-file"


class _Steps(click.Group):
    """A group whose first argument need not be a command: then everything is done."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [_WHOLE, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "CATALOG [OPTIONS]")
        formatter.write_usage(ctx.command_path, "STEP [OPTIONS] [ARGS]...")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        whole = self.commands[_WHOLE]
        with formatter.section("Options without a STEP"):
            formatter.write_dl(
                [record for item in whole.get_params(ctx) if (record := item.get_help_record(ctx))]
            )
        self.format_commands(ctx, formatter)


class _Whole(click.Command):
    """What is done without a STEP: its name is not typed, and so is in no message."""

    def make_context(self, info_name: str | None, *args: Any, **extra: Any) -> click.Context:
        del info_name
        return super().make_context("CATALOG", *args, **extra)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        path = "" if ctx.parent is None else ctx.parent.command_path
        formatter.write_usage(path, "CATALOG [OPTIONS]")
        formatter.write_usage(path, "--undo ID | --abort ID | --consolidate DATABASE [OPTIONS]")


@click.group("ingest", cls=_Steps)
def ingest_command() -> None:
    """Load the catalogue that CATALOG (a YAML file) describes, and publish it.

    With --append its files' rows come to tables that are published, all at once. The STEPs do the same one by one.
    """


_JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
_PROCESSES = click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=lambda: os.cpu_count() or 1,
    show_default="processors",
    help="Processes that partition pieces of large files; 1: this one alone.",
)
_BATCH = click.option(
    "--batch",
    "batch_mib",
    type=click.IntRange(0, 1 << 30),
    default=1024,
    show_default=True,
    metavar="MIB",
    help="MiB of a table's files that a process takes from the queue at once; 0: a single file.",
)
_REPLACE = click.option("--replace", is_flag=True, help="Swap a published database for these files.")
_REPLICAS = click.option(
    "--replicas", type=click.IntRange(1, 64), help="Copies of every chunk.  [default: the cluster's]"
)
_GRACE = click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long queries that run may still need tables that --undo and --consolidate drop.",
)


@ingest_command.command(_WHOLE, cls=_Whole, hidden=True)
@click.argument("catalog", type=click.Path(path_type=Path), required=False)
@cluster_options
@click.option("--append", is_flag=True, help="Add the files' rows to the published tables, as a transaction.")
@click.option("--undo", type=int, metavar="ID", help="Take back a transaction that was committed.")
@click.option("--abort", type=int, metavar="ID", help="Remove a transaction that was not committed.")
@click.option(
    "--consolidate", metavar="DATABASE", help="Make what was committed lasting; it cannot be undone then."
)
@_REPLACE
@_REPLICAS
@_BATCH
@_PROCESSES
@_GRACE
@_JSON
def whole(
    address: ClusterAddress,
    catalog: Path | None,
    append: bool,
    undo: int | None,
    abort: int | None,
    consolidate: str | None,
    replace: bool,
    replicas: int | None,
    batch_mib: int,
    processes: int,
    grace_s: float,
    as_json: bool,
) -> None:
    """Load the catalogue that CATALOG (a YAML file) describes, and publish it; or add its rows to what is published."""
    asked = [name for name, value in (("CATALOG", catalog), ("--undo", undo), ("--abort", abort),
                                      ("--consolidate", consolidate)) if value is not None]  # fmt: skip
    if len(asked) != 1:
        raise click.UsageError("say one of CATALOG, --undo ID, --abort ID, --consolidate DATABASE")
    if catalog is not None and not append:
        return _publish(address, catalog, replace, replicas, processes, batch_mib, as_json)
    if replace or replicas is not None:
        raise click.UsageError("--replace and --replicas are for a CATALOG without --append")
    if append and catalog is None:
        raise click.UsageError("--append is for a CATALOG")

    async def work(steps: Steps) -> Any:
        if catalog is not None:
            return await _append(steps, catalog, batch_mib << 20)
        if undo is not None:
            await steps.undo(undo)
            return (await steps.status(number=undo))[0]
        if abort is not None:
            await steps.abort(abort)
            return (await steps.status(number=abort))[0]
        return {"database": consolidate, "consolidated": await steps.consolidate(consolidate or "")}

    def line(found: Any) -> str:
        if isinstance(found, dict):
            numbers = ", ".join(map(str, found["consolidated"])) or "none"
            return f"Database '{consolidate}': consolidated transactions: {numbers}."
        return _line(found)

    _step(address, as_json, work, line, processes, grace_s)
    return None


async def _append(steps: Steps, catalog: Path, batch_bytes: int) -> Any:
    """Do all steps of a transaction; one that is wrong is aborted, one that was cut short goes on next time."""
    from skyshard.ingest.registering import LASTING

    number = await steps.register(catalog, append=True, batch_bytes=batch_bytes)
    one = (await steps.status(number=number))[0]
    if one.state in LASTING:
        return one
    try:
        await steps.load(number)
        await steps.check(number)
        await steps.publish(number)
    except UserError as error:
        one = (await steps.status(number=number))[0]
        if one.state in LASTING:  # another process that works on it was faster
            return one
        if isinstance(error, NotNow):
            raise NotNow(
                f"{error}; transaction {number} is {one.state}, with all that is loaded: run this again, or remove it "
                f"(skyshard ingest --abort {number})"
            ) from error
        if one.state == "open":
            with suppress(NotNow):  # others are at it, who will find the same mistake
                await steps.abort(number)
        raise
    return (await steps.status(number=number))[0]


def _publish(
    address: ClusterAddress,
    catalog: Path,
    replace: bool,
    replicas: int | None,
    processes: int,
    batch_mib: int,
    as_json: bool,
) -> None:
    async def work(steps: Steps) -> Any:
        from skyshard.ingest.whole import Whole

        database, rows = await Whole(steps, catalog, replace, replicas, batch_mib << 20).run()
        return {"database": database, "state": "published", "rows": rows}

    _step(address, as_json, work, lambda found: f"Database '{found['database']}' is published.", processes)


# steps ---------------------------------------------------------------------------------------------


@ingest_command.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@cluster_options
@_REPLACE
@_REPLICAS
@_BATCH
@_JSON
def register(
    address: ClusterAddress,
    catalog: Path,
    replace: bool,
    replicas: int | None,
    batch_mib: int,
    as_json: bool,
) -> None:
    """Open a transaction for CATALOG, and queue its files.

    The rows are added to the published tables; if the database is not published, or with --replace, they are its first.
    """

    async def work(steps: Steps) -> Any:
        number = await steps.register(catalog, replace, replicas, batch_bytes=batch_mib << 20)
        return (await steps.status(number=number))[0]

    _step(address, as_json, work, _line)


@ingest_command.command()
@click.argument("number", type=int, metavar="ID")
@click.argument("table")
@click.argument("files", nargs=-1, required=True)
@cluster_options
@_JSON
def queue(address: ClusterAddress, number: int, table: str, files: tuple[str, ...], as_json: bool) -> None:
    """Put more FILES (paths or URLs) of TABLE into the queue of transaction ID."""

    async def work(steps: Steps) -> Any:
        await steps.queue(number, table, list(files))
        return (await steps.status(number=number))[0]

    _step(address, as_json, work, _line)


def _simple(name: str, said: str) -> None:
    """Add a step that takes a transaction's number."""

    @ingest_command.command(name, help=said)
    @click.argument("number", type=int, metavar="ID")
    @cluster_options
    @_PROCESSES
    @_JSON
    def command(address: ClusterAddress, number: int, processes: int, as_json: bool) -> None:
        async def work(steps: Steps) -> Any:
            await getattr(steps, name)(number)
            return (await steps.status(number=number))[0]

        _step(address, as_json, work, _line, processes)


_simple("load", "Load the queued files of transaction ID; what is loaded already is not loaded again.")
_simple("check", "Compare the rows of transaction ID on all workers with its files.")
_simple(
    "publish", "Commit transaction ID, or publish the first ingest ID: its rows are visible, all at once."
)


@ingest_command.command()
@click.argument("database")
@cluster_options
@_JSON
def index(address: ClusterAddress, database: str, as_json: bool) -> None:
    """Make the director indexes of DATABASE anew from the rows of its workers."""

    async def work(steps: Steps) -> Any:
        return {"database": database, "keys": await steps.index(database)}

    def line(found: Any) -> str:
        return "\n".join(f"{name}: {keys:,} keys" for name, keys in found["keys"].items())

    _step(address, as_json, work, line)


def _trial(name: str, said: str, line: Callable[[Any], str]) -> None:
    """Add a step that publishes nothing."""

    @ingest_command.command(name, help=said)
    @click.argument("catalog", type=click.Path(path_type=Path))
    @cluster_options
    @_PROCESSES
    @_JSON
    def command(address: ClusterAddress, catalog: Path, processes: int, as_json: bool) -> None:
        from skyshard.ingest import trials

        async def work(steps: Steps) -> Any:
            return await getattr(trials, name)(steps, catalog)

        _step(address, as_json, work, line, processes)


_trial(
    "validate",
    "Read, check and place all rows of CATALOG's files; nothing is loaded.",
    lambda found: "\n".join(
        f"{one.table}: {one.rows:,} rows in {one.chunks} chunks, {one.overlap_rows:,} in overlaps"
        for one in found
    ),
)
_trial(
    "benchmark",
    "Load CATALOG's files into tables that nobody sees, drop these, and say how long it took.",
    lambda one: f"{one.rows:,} rows, {one.size:,} bytes in {one.seconds} s: {one.rows_per_s:,.0f} rows/s",
)


@ingest_command.command("status")
@click.argument("database", required=False)
@cluster_options
@_JSON
def show(address: ClusterAddress, database: str | None, as_json: bool) -> None:
    """Show the transactions of DATABASE, or of all, and their files."""

    async def work(steps: Steps) -> Any:
        return await steps.status(database)

    _step(address, as_json, work, lambda found: "\n".join(map(_line, found)))


def _line(one: Any) -> str:
    lines = [f"transaction {one.id} of database '{one.database}': {one.state}"]
    lines += [
        f"  {file.table}: {file.url}: {file.state}" + (f" ({file.reason})" if file.reason else "")
        for file in one.files
    ]
    return "\n".join(lines)


class _told:  # noqa: N801 - a block
    """Writes a user's mistake as JSON as well, if that is wanted."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._as_json and isinstance(error, UserError | SkyError):
            click.echo(msgspec.json.encode({"error": str(error)}).decode())


def _step(
    address: ClusterAddress,
    as_json: bool,
    work: Callable[[Steps], Coroutine[Any, Any, _T]],
    line: Callable[[_T], str],
    processes: int = 1,
    grace_s: float = 10.0,
) -> None:
    """Run a step and write what came of it."""
    from skyshard.cluster.connect import plain_errors
    from skyshard.ingest.processes import steady_memory
    from skyshard.ingest.progress import Bars
    from skyshard.ingest.steps import Steps

    steady_memory()
    with _told(as_json), plain_errors(), Bars(quiet=as_json) as bars:
        found = asyncio.run(work(Steps(address, bars, processes, grace_s)))
    click.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else line(found))
