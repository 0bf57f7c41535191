"""The `skyshard` command: local clusters, ingest, the sample, and the long-running processes.

Sub-commands import what they need when they run, so that --help is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click

from shard.errors import SkyError
from skyshard.errors import UserError

_ELSEWHERE = {
    "catalog": ("skyshard.catalog.command", "catalog_command"),
    "certificates": ("skyshard.cluster.certificates", "certificates_command"),
    "ingest": ("skyshard.ingest.command", "ingest_command"),
    "home": ("skyshard.home.command", "home_command"),
    "repair": ("skyshard.replicas.command", "repair_command"),
    "server": ("skyshard.cluster.server", "server_command"),
    "worker": ("skyshard.home.workers", "worker_command"),
    "sample": ("skyshard.sample.command", "sample_command"),
}


class _Group(click.Group):
    """Turns a user's mistake into a message and exit code 1, and finds commands of other packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ELSEWHERE:
            module, name = _ELSEWHERE[cmd_name]
            found = getattr(import_module(module), name)
            return found if isinstance(found, click.Command) else None
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> object:  # noqa: RET503 - `exit` does not return
        try:
            return super().invoke(ctx)
        except (UserError, SkyError) as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        click.echo(f"skyshard: {message}", err=True)
        ctx.exit(1)


@click.group(cls=_Group)
@click.version_option(package_name="skyshard")
def cli() -> None:
    """Point a MySQL client at a sky catalogue that is too big for one server."""


@cli.group()
def cluster() -> None:
    """Run a cluster on this machine."""


_DIR = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The cluster's directory: data, secrets, logs.",
)


@cluster.command()
@_DIR
@click.option("--workers", type=click.IntRange(1, 64), help="Workers.  [default: 2, or as it was]")
@click.option(
    "--replicas", type=click.IntRange(1, 64), help="Copies of every chunk.  [default: 1, or as it was]"
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="MySQL clients' port.  [default: 4040, or as it was]"
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="Proxy processes that share the port.  [default: 1, or as it was]",
)
@click.option(
    "--tls",
    type=click.Choice(["on", "off", "required"]),
    help="TLS for clients, with a certificate that is made in DIR/tls.  [default: on, or as it was]",
)
@click.option(
    "--agent-tls/--no-agent-tls",
    default=None,
    help="TLS between proxies, ingest and agents, by a private CA in DIR/tls/agents.  [default: off, or as it was]",
)
@click.option(
    "--auto-repair-after",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Make copies that have been missing for so long again; 0: never.  [default: 0, or as it was]",
)
def up(
    directory: Path,
    workers: int | None,
    replicas: int | None,
    port: int | None,
    processes: int | None,
    tls: str | None,
    agent_tls: bool | None,
    auto_repair_after: float | None,
) -> None:
    """Start a cluster, or what of it does not run; return when it answers."""
    from skyshard.cluster import local

    wish = local.Wish(
        workers=workers,
        replicas=replicas,
        port=port,
        proxies=processes,
        tls=tls,
        agent_tls=agent_tls,
        auto_repair_after=auto_repair_after,
    )
    with _progress() as say:
        state = local.up(directory, wish, say)
    click.echo(f"The cluster is up. Connect with: mariadb -h 127.0.0.1 -P {state.port} -u root")


class _progress:  # noqa: N801 - used as a function
    """Shows one line of progress on a terminal, nothing elsewhere."""

    def __enter__(self) -> Callable[[str], None]:
        from rich.console import Console

        console = Console(stderr=True)
        self._status = console.status("starting the cluster")
        self._shown = console.is_terminal
        if self._shown:
            self._status.start()
        return self._say

    def _say(self, text: str) -> None:
        if self._shown:
            self._status.update(text)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._status.stop()


@cluster.command()
@_DIR
def down(directory: Path) -> None:
    """Stop what `up` started; the data stays."""
    from skyshard.cluster import local

    ran = local.down(directory)
    click.echo("The cluster is down; its data stays." if ran else "The cluster was not running.")


@cluster.command()
@_DIR
def status(directory: Path) -> None:
    """Show one line a process; exit 0 only when all are healthy."""
    from skyshard.cluster import local

    found = local.status(directory)
    for process in found:
        click.echo(f"{process.name:16} {'ok' if process.healthy else 'DOWN':5} {process.text}")
    if not all(process.healthy for process in found):
        sys.exit(1)


_CONFIG = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False), required=True, help="YAML configuration file."
)


@cli.command()
@_CONFIG
@click.option(
    "--processes",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that share the port.",
)
def proxy(config: str, processes: int) -> None:
    """Run a proxy until it gets a signal."""
    if processes > 1:
        from proxy.processes import Processes

        sys.exit(Processes(config, processes).run())
    from proxy.main import main as run

    sys.exit(run(config))


@cli.command()
@_CONFIG
def agent(config: str) -> None:
    """Run an agent until it gets a signal."""
    from worker_agent.main import main as run

    sys.exit(run(config))


def main() -> None:
    """Run the command line."""
    cli(prog_name="skyshard")


if __name__ == "__main__":
    main()
