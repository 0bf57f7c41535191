"""`skyshard ingest`: the command."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shard.catalog.catalog_file import CatalogFile, CatalogFileError, Places, parse
from skyshard.cluster.options import cluster_options
from skyshard.errors import UserError

if TYPE_CHECKING:
    from skyshard.cluster.connect import ClusterAddress


@click.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@cluster_options
@click.option("--replace", is_flag=True, help="Swap a published database for these files.")
@click.option(
    "--replicas", type=click.IntRange(1, 64), help="Copies of every chunk.  [default: the cluster's]"
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=lambda: os.cpu_count() or 1,
    show_default="processors",
    help="Processes that partition pieces of large files; 1: this one alone.",
)
def ingest_command(
    address: ClusterAddress, catalog: Path, replace: bool, replicas: int | None, processes: int
) -> None:
    """Load the catalogue that CATALOG (a YAML file) describes, and publish it."""
    from skyshard.cluster.connect import plain_errors
    from skyshard.ingest.ingest import Ingest
    from skyshard.ingest.processes import steady_memory
    from skyshard.ingest.progress import Bars

    steady_memory()
    file, places = _read(catalog)
    with plain_errors(), Bars() as bars:
        asyncio.run(
            Ingest(
                file,
                places,
                catalog.parent,
                address,
                replace=replace,
                replicas=replicas,
                jobs=processes,
                bars=bars,
            ).run()
        )
    click.echo(f"Database '{file.database}' is published.")


def _read(catalog: Path) -> tuple[CatalogFile, Places]:
    try:
        text = catalog.read_text()
        return parse(text, str(catalog)), Places(text, str(catalog))
    except OSError as error:
        raise UserError(f"{catalog}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{catalog}: it is no UTF-8 text") from error
    except CatalogFileError as error:
        raise UserError(str(error)) from error
