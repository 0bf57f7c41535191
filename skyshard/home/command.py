"""`skyshard home`: sets a home server up that was not started by `skyshard cluster`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from shard.errors import ServerError
from skyshard.errors import UserError
from skyshard.home.provision import check_version, provision, set_replicas


@click.group("home")
def home_command() -> None:
    """Set up the home server of a cluster."""


@home_command.command()
@click.option(
    "--home",
    required=True,
    envvar="SKYSHARD_HOME",
    show_envvar=True,
    help="mysql://user@host:port/ or mysql://user@localhost/?socket=PATH.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SKYSHARD_PASSWORD_FILE",
    show_envvar=True,
    help="File with the password of --home's account; without it SKYSHARD_HOME_PASSWORD is the password.",
)
@click.option(
    "--replicas", type=click.IntRange(1, 64), help="Copies of every chunk.  [default: as it is, or 1]"
)
@click.option(
    "--wait", type=click.FloatRange(0), default=0.0, help="Seconds to wait until the server answers."
)
def init(home: str, password_file: Path | None, replicas: int | None, wait: float) -> None:
    """Make or migrate the metadata; does no harm when it is there."""
    from skyshard.cluster.connect import address_of

    version = asyncio.run(_init(address_of(home, password_file), replicas, wait))
    click.echo(f"The home server is ready (metadata version {version}).")


async def _init(address: Address, replicas: int | None, wait: float) -> int:
    connection = await connected(address, wait)
    try:
        version = await provision(connection)
        await set_replicas(connection, replicas)
    finally:
        await connection.close()
    return version


async def connected(address: Address, wait: float = 0.0) -> RawConnection:
    """Connect to a home server, trying again for `wait` seconds.

    Raises
    ------
    UserError
        If it does not answer.
    """
    deadline = asyncio.get_running_loop().time() + wait
    while True:
        try:
            return await RawConnection.open(address)
        except ConnectionLost as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise UserError("the home server cannot be reached") from error
        await asyncio.sleep(0.2)


async def checked(address: Address, wait: float = 0.0) -> RawConnection:
    """Connect to a home server whose metadata are those of this release, which may come about within `wait` seconds.

    Raises
    ------
    UserError
        If it does not answer, or they are of another.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        connection = await connected(address, max(0.0, deadline - loop.time()))
        try:
            await check_version(connection)
        except BaseException as error:
            await connection.close()
            if not isinstance(error, UserError | ServerError) or loop.time() >= deadline:
                raise
        else:
            return connection
        await asyncio.sleep(0.2)
