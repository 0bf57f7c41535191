"""The options by which a command is told where a cluster is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_FILE = click.Path(path_type=Path, dir_okay=False)
_DIRECTORY = click.Path(path_type=Path, file_okay=False)


def cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --dir, --home, --secret-file, --password-file and --agent-tls to a command.

    The command's first argument becomes the address that they give (see `connect.from_options`). All but --dir may
    stand in the environment, for containers.
    """

    @functools.wraps(command)
    def run(
        *args: Any,
        directory: Path | None,
        home: str | None,
        secret_file: Path | None,
        password_file: Path | None,
        agent_tls: Path | None,
        **more: Any,
    ) -> None:
        from skyshard.cluster.connect import from_options

        command(from_options(directory, home, secret_file, password_file, agent_tls), *args, **more)

    decorated: Callable[..., None] = run
    for option in (
        click.option(
            "--agent-tls",
            type=_DIRECTORY,
            envvar="SKYSHARD_AGENT_TLS",
            show_envvar=True,
            help="The directory of ca.crt, client.crt and client.key, with --home, if agents use TLS.",
        ),
        click.option(
            "--password-file",
            type=_FILE,
            envvar="SKYSHARD_PASSWORD_FILE",
            show_envvar=True,
            help="File with the password of --home's account; without it SKYSHARD_HOME_PASSWORD is the password.",
        ),
        click.option(
            "--secret-file",
            type=_FILE,
            envvar="SKYSHARD_SECRET_FILE",
            show_envvar=True,
            help="File with the agents' secret; needed with --home.",
        ),
        click.option(
            "--home",
            envvar="SKYSHARD_HOME",
            show_envvar=True,
            help="Home server: mysql://user@host:port/ or mysql://user@localhost/?socket=PATH.",
        ),
        click.option("--dir", "directory", type=_DIRECTORY, help="A local cluster's directory."),
    ):
        decorated = option(decorated)
    return decorated
