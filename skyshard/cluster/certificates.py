"""`skyshard certificates`: the private CA by which agents and their callers know each other."""

from __future__ import annotations

import re
from pathlib import Path

import click

from skyshard.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")


@click.command("certificates")
@click.argument("names", nargs=-1)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where ca.crt, ca.key and the certificates are, or are made.",
)
def certificates_command(names: tuple[str, ...], out: Path) -> None:
    """Make certificates for agents (NAMES are their workers') and one, client, for proxies and commands.

    What is there already stays, unless it ends within a month. Give every agent ca.crt and its own two files,
    every proxy ca.crt, client.crt and client.key, and keep ca.key to yourself.
    """
    from skyshard.cluster.certificate import CALLER, Authority

    for name in names:
        if not _NAME.match(name) or name == "ca":
            raise UserError(
                f"'{name}' cannot be the name of a certificate; use letters, digits, '.', '_', '-'"
            )
    authority = Authority.provide(out)
    for name in (*names, CALLER):
        made = authority.issue(name)
        click.echo(f"{made.certificate}  {made.key}")
