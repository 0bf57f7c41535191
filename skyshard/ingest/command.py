"""`skyshard ingest`: the command."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from backend.connection import ConnectionLost
from shard.catalog.catalog_file import CatalogFileError, parse
from shard.errors import SkyError
from skyshard.errors import UserError


@click.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="A local cluster's directory.")
@click.option("--home", help="A home server: mysql://user:password@host:port/.")
@click.option(
    "--secret-file", type=click.Path(path_type=Path, exists=True), help="The agents' secret, with --home."
)
@click.option("--replace", is_flag=True, help="Swap a published database for these files.")
def ingest_command(
    catalog: Path, directory: Path | None, home: str | None, secret_file: Path | None, replace: bool
) -> None:
    """Load the catalogue that CATALOG (a YAML file) describes, and publish it."""
    from skyshard.cluster.connect import from_dir, from_url
    from skyshard.ingest.ingest import Ingest

    if directory is not None:
        address = from_dir(directory)
    elif home is not None and secret_file is not None:
        address = from_url(home, secret_file)
    else:
        raise UserError("say where the cluster is: --dir DIR, or --home URL with --secret-file FILE")
    try:
        file = parse(catalog.read_text(), str(catalog))
    except OSError as error:
        raise UserError(f"{catalog}: {error.strerror}") from error
    except CatalogFileError as error:
        raise UserError(str(error)) from error
    try:
        asyncio.run(Ingest(file, catalog.parent, address, replace, click.echo).run())
    except SkyError as error:
        raise UserError(error.message) from error
    except ConnectionLost as error:
        raise UserError("the home server cannot be reached") from error
    except BaseExceptionGroup as group:
        first = group.exceptions[0]
        if isinstance(first, (SkyError, UserError)):
            raise UserError(str(first)) from group
        raise
    click.echo(f"Database '{file.database}' is published.")
