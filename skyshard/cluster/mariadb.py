"""MariaDB servers of a local cluster: data directories and command lines.

A server of a cluster reads no option file of the machine, listens on a unix socket alone, and reads and
writes files for SQL clients only in a directory of its own.
"""

from __future__ import annotations

import getpass
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from shard.catalog.naming import literal
from skyshard.cluster.certificate import Files
from skyshard.errors import UserError

LOG_FILE_SIZE = "--innodb-log-file-size=32M"
MOST_FILES = 262_144
"""Open files a server is given at most, if the machine allows so many."""
WORKER_NICE = 5
"""By how much a worker's server gives way to other processes: what the agent and the proxy beside it have to pass on waits for
its scans otherwise (docs/decisions/0012-workers-give-way.md)."""


def find(program: str) -> str:
    """Return a MariaDB program's path.

    Raises
    ------
    UserError
        If MariaDB is not installed.
    """
    for place in (None, "/usr/sbin:/usr/local/sbin"):
        found = shutil.which(program, path=place)
        if found:
            return found
    raise UserError(
        f"{program} was not found; install MariaDB's server (Debian: apt-get install mariadb-server)"
    )


def initialise(data: Path, init_sql: str) -> None:
    """Make a data directory, whole or not at all.

    Root has no password and logs in from the machine itself only; there is no anonymous account and no
    test database.

    Parameters
    ----------
    data : Path
        The directory to make; nothing is done if it is there.
    init_sql : str
        One statement a line, run with the grant tables not yet loaded.

    Raises
    ------
    UserError
        If a MariaDB program is missing or fails.
    """
    if (data / "mysql").exists():
        return
    data.parent.mkdir(parents=True, exist_ok=True)
    partial = data.with_name(data.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    user = f"--user={getpass.getuser()}"
    install = [
        find("mariadb-install-db"), "--no-defaults", f"--datadir={partial}", user, "--skip-test-db",
        "--auth-root-authentication-method=normal", "--skip-name-resolve", LOG_FILE_SIZE,
    ]  # fmt: skip
    accounts = [
        find("mariadbd"), "--no-defaults", "--bootstrap", f"--datadir={partial}", "--silent-startup", user,
        LOG_FILE_SIZE,
    ]  # fmt: skip
    # A server that starts removes every temporary table in its directory for them, another's too.
    with tempfile.TemporaryDirectory(prefix=data.name + ".tmp", dir=data.parent) as temporary:
        _run(install, temporary)
        _run(accounts, temporary, init_sql)
    partial.rename(data)


def _run(command: list[str], temporary: str, text: str | None = None) -> None:
    environment = os.environ | {"TMPDIR": temporary}
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise UserError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-500:]}")


def copy(template: Path, data: Path) -> None:
    """Copy a data directory of a server that never ran as a whole or not at all."""
    if (data / "mysql").exists():
        return
    data.parent.mkdir(parents=True, exist_ok=True)
    partial = data.with_name(data.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(template, partial)
    partial.rename(data)


def account_sql(password: str, root_password: str | None = None) -> str:
    """Return the SQL (one statement a line) that makes the service account and removes strangers.

    Parameters
    ----------
    password : str
        The service account's.
    root_password : str or None
        For a server that others reach by network: the service account and a root account with this
        password may come from anywhere, and root without a password only by the socket.
    """
    remote = []
    trusted = "'localhost','127.0.0.1','::1'" if root_password is None else "'localhost'"
    if root_password is not None:
        for user, secret in (("skyshard", password), ("root", root_password)):
            remote += [
                f"CREATE USER {user}@'%' IDENTIFIED BY {literal(secret)};",
                f"GRANT ALL ON *.* TO {user}@'%' WITH GRANT OPTION;",
            ]
    return "\n".join(
        (
            "USE mysql;",
            "DELETE FROM global_priv WHERE User='';",
            f"DELETE FROM global_priv WHERE User='root' AND Host NOT IN ({trusted});",
            "DELETE FROM db WHERE User='';",
            f"DELETE FROM proxies_priv WHERE Host NOT IN ({trusted});",
            "FLUSH PRIVILEGES;",
            f"CREATE USER skyshard@localhost IDENTIFIED BY {literal(password)};",
            "GRANT ALL ON *.* TO skyshard@localhost WITH GRANT OPTION;",
            *remote,
            "CREATE DATABASE IF NOT EXISTS skyshard_scratch CHARACTER SET utf8mb4;",
            "",
        )
    )


def command(
    data: Path,
    socket: str,
    run: Path,
    name: str,
    home: bool,
    listen: tuple[str, int] | None = None,
    proxies: Sequence[str] = (),
    tls: Files | None = None,
) -> list[str]:
    """Return mariadbd's command line, tuned for scans and many tables; makes the directories it names.

    Parameters
    ----------
    data : Path
        The data directory; temporary files and files of SQL clients go beside it.
    socket : str
        The unix socket.
    run : Path
        Where the file with the process id goes.
    home : bool
        Whether it is the home server: thousands of mostly idle sessions, and users' own data.
    listen : (str, int) or None
        Address and port for TCP; None: the socket alone.
    proxies : sequence of str
        Networks of other machines whose proxies are believed what they say of their clients' addresses (home server).
    tls : Files or None
        The certificate that it offers TLS with, which accounts may REQUIRE.
    """
    for place in ("tmp", "files"):
        (data.parent / place).mkdir(mode=0o700, parents=True, exist_ok=True)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = MOST_FILES if allowed == resource.RLIM_INFINITY else min(allowed, MOST_FILES)
    tables = max(1000, min(20_000, (files - 6000) // 2))  # a MyISAM table in the cache takes two files
    shared = [
        find("mariadbd"), "--no-defaults", f"--datadir={data}", f"--socket={socket}",
        f"--pid-file={run / name}.pid", f"--user={getpass.getuser()}", f"--tmpdir={data.parent / 'tmp'}",
        f"--secure-file-priv={data.parent / 'files'}", "--skip-symbolic-links",
        "--skip-name-resolve", "--local-infile=1", "--skip-log-bin", "--log-warnings=1",
        "--performance-schema=OFF", "--character-set-server=utf8mb4", f"--open-files-limit={files}",
        f"--table-open-cache={tables}", f"--table-definition-cache={tables}", "--max-allowed-packet=1G",
        "--max-heap-table-size=256M", "--tmp-table-size=256M",
        # A slow client makes readers pause for long; it must not cost them their connection.
        "--net-read-timeout=3600", "--net-write-timeout=3600",
        # A machine that is gone says no goodbye; the locks of its commands must not outlive it for hours.
        "--tcp-keepalive-time=30", "--tcp-keepalive-interval=10", "--tcp-keepalive-probes=3",
        "--key-buffer-size=128M", "--aria-pagecache-buffer-size=128M", "--innodb-buffer-pool-size=128M",
        LOG_FILE_SIZE, "--bulk-insert-buffer-size=64M", "--myisam-sort-buffer-size=64M",
        "--read-rnd-buffer-size=1M",
    ]  # fmt: skip
    network = (
        ["--skip-networking"] if listen is None else [f"--bind-address={listen[0]}", f"--port={listen[1]}"]
    )
    # A table that is marked as crashed is opened no more: mended on opening, it may lack a row and answer all the same.
    worker = [
        # Rows go out in pieces of this size: with the default of 16 KiB an agent spends half as much again on reading them.
        "--max-connections=1000", "--net-buffer-length=256K", "--innodb-flush-log-at-trx-commit=2", "--myisam-recover-options=OFF",
    ]  # fmt: skip
    offered = [] if tls is None else [f"--ssl-cert={tls.certificate}", f"--ssl-key={tls.key}"]
    return [*shared, *network, *offered, *(_home_options(proxies) if home else worker)]


def _home_options(proxies: Sequence[str]) -> list[str]:
    believed = ("localhost", "127.0.0.1", "::1", *proxies)  # `localhost` means the unix socket
    return [
        "--max-connections=4600", "--back-log=1024", "--innodb-flush-log-at-trx-commit=1",
        "--thread-handling=pool-of-threads", f"--thread-pool-size={max(8, 2 * (os.cpu_count() or 1))}",
        "--thread-pool-stall-limit=20",  # ms; so long may a long query hold up the sessions of its group
        f"--proxy-protocol-networks={','.join(believed)}",
    ]  # fmt: skip
