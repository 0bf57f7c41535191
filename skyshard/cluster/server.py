"""`skyshard server`: becomes one MariaDB server of a cluster, set up as a local cluster's are.

For containers and other deployments: makes the data directory when it is missing, then is mariadbd.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import click

from skyshard.cluster import mariadb
from skyshard.cluster.certificate import Files
from skyshard.cluster.connect import read_secret
from skyshard.errors import UserError

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--role", type=click.Choice(["home", "worker"]), required=True, help="What the server is for.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Data, temporary files and the socket (run/mariadb.sock).",
)
@click.option("--listen", help="ADDRESS:PORT for TCP; without it there is the socket alone.")
@click.option(
    "--proxy-networks",
    metavar="NETWORKS",
    help="Addresses or networks (10.0.0.0/24), with commas, of proxies on other machines that tell who their clients are "
    "(home.proxy_protocol). Home servers only.",
)
@click.option(
    "--password-file",
    type=_FILE,
    required=True,
    help="File with the service account's password, for new data.",
)
@click.option(
    "--root-password-file",
    type=_FILE,
    help="File with the password of root@'%', for new data; needed with --listen.",
)
@click.option("--tls-certificate", type=_FILE, help="Certificate (PEM) for accounts with REQUIRE SSL.")
@click.option("--tls-key", type=_FILE, help="Its key.")
def server_command(
    role: str,
    directory: Path,
    listen: str | None,
    proxy_networks: str | None,
    password_file: Path,
    root_password_file: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
) -> None:
    """Run a home or worker server; the data directory is made when it is missing."""
    if listen is not None and root_password_file is None:
        raise UserError("a server that listens needs --root-password-file")
    offered = certificate_files(tls_certificate, tls_key)
    proxies = networks(role, proxy_networks)
    root = None if root_password_file is None else read_secret(root_password_file)
    directory = directory.absolute()
    for name in ("", "run"):
        (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    mariadb.initialise(directory / "data", mariadb.account_sql(read_secret(password_file), root))
    socket = str(directory / "run" / "mariadb.sock")
    where = None if listen is None else _host_port(listen)
    command = mariadb.command(
        directory / "data", socket, directory / "run", "mariadb", role == "home", where, proxies, offered
    )
    if role != "home":
        os.nice(mariadb.WORKER_NICE)
    os.execv(command[0], command)  # signals and the exit code are the server's own


def networks(role: str, text: str | None) -> list[str]:
    """Return the networks of --proxy-networks; whoever connects from one of them may say to be anybody.

    Raises
    ------
    UserError
        If the server is a worker's, or a network is none.
    """
    if text is None:
        return []
    if role != "home":
        raise UserError("--proxy-networks is for a home server: proxies do not connect to workers' servers")
    try:
        return [str(ipaddress.ip_network(word.strip())) for word in text.split(",")]
    except ValueError as error:
        raise UserError(
            f"--proxy-networks: {error}; expected addresses or networks such as 10.0.0.0/24"
        ) from error


def certificate_files(certificate: Path | None, key: Path | None) -> Files | None:
    """Return what --tls-certificate and --tls-key name.

    Raises
    ------
    UserError
        If there is one without the other.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UserError("--tls-certificate and --tls-key belong together")
    return Files(certificate.absolute(), key.absolute())


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--listen {text}: expected ADDRESS:PORT")
    return host, int(port)
