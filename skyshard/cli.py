"""The `skyshard` command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from skyshard.errors import UserError


class _Group(click.Group):
    """Turns a user's mistake into a message and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"skyshard: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Group)
def cli() -> None:
    """Point a MySQL client at a sky catalogue that is too big for one server."""


@cli.group()
def cluster() -> None:
    """Run a cluster on this machine."""


_DIR = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), required=True, help="The cluster's directory."
)


@cluster.command()
@_DIR
@click.option("--workers", default=2, show_default=True, help="Number of workers.")
@click.option("--replicas", default=1, show_default=True, help="Copies of every chunk.")
@click.option("--port", default=4040, show_default=True, help="Port for MySQL clients.")
@click.option("--processes", default=1, show_default=True, help="Proxy processes that share the port.")
def up(directory: Path, workers: int, replicas: int, port: int, processes: int) -> None:
    """Start a cluster, or restart what of it does not run."""
    from skyshard.cluster import local

    state = local.up(directory, workers, replicas, port, processes)
    click.echo(f"The cluster is up. Connect with: mariadb -h 127.0.0.1 -P {state.port} -u root")


@cluster.command()
@_DIR
def down(directory: Path) -> None:
    """Stop what `up` started; the data stays."""
    from skyshard.cluster import local

    local.down(directory)
    click.echo("The cluster is down; its data stays.")


@cluster.command()
@_DIR
def status(directory: Path) -> None:
    """Show one line a process; exit 0 only when all are healthy."""
    from skyshard.cluster import local

    lines = local.status(directory)
    for name, ok, text in lines:
        click.echo(f"{name:16} {'ok' if ok else 'DOWN':5} {text}")
    if not all(ok for _, ok, _ in lines):
        sys.exit(1)


_CONFIG = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False), required=True, help="YAML file."
)


@cli.command()
@_CONFIG
def proxy(config: str) -> None:
    """Run a proxy until it gets a signal."""
    from proxy.main import main as run

    sys.exit(run(config))


@cli.command()
@_CONFIG
def agent(config: str) -> None:
    """Run an agent until it gets a signal."""
    from worker_agent.main import main as run

    sys.exit(run(config))


def _register() -> None:
    from skyshard.ingest.command import ingest_command
    from skyshard.sample.command import sample_command

    cli.add_command(ingest_command, "ingest")
    cli.add_command(sample_command, "sample")


_register()


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
