"""The options by which a command is told where a cluster is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., object])
_FILE = click.Path(path_type=Path, dir_okay=False)


def cluster_options(command: _F) -> _F:
    """Add --dir, --home, --secret-file and --password-file to a command (see `connect.from_options`)."""
    for option in (
        click.option("--password-file", type=_FILE, help="The account's password, with --home."),
        click.option("--secret-file", type=_FILE, help="The agents' secret, with --home."),
        click.option("--home", help="A home server: mysql://user@host:port/."),
        click.option(
            "--dir", "directory", type=click.Path(path_type=Path), help="A local cluster's directory."
        ),
    ):
        command = option(command)
    return command
