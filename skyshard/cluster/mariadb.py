"""MariaDB servers of a local cluster: data directories and command lines."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from pathlib import Path

from skyshard.errors import UserError


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
    """Make a data directory: root without a password on the machine itself, no anonymous account."""
    if (data / "mysql").exists():
        return
    partial = data.with_name(data.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        find("mariadb-install-db"), "--no-defaults", f"--datadir={partial}", f"--user={getpass.getuser()}",
        "--skip-test-db", "--auth-root-authentication-method=normal", "--skip-name-resolve",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"mariadb-install-db failed: {done.stderr.strip()[-500:]}")
    bootstrap = [find("mariadbd"), "--no-defaults", "--bootstrap", f"--datadir={partial}", "--silent-startup",
                 f"--user={getpass.getuser()}"]  # fmt: skip
    done = subprocess.run(bootstrap, input=init_sql, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"mariadbd --bootstrap failed: {done.stderr.strip()[-500:]}")
    partial.rename(data)


def account_sql(password: str) -> str:
    """Return the SQL (one statement a line) that makes the service account and removes strangers."""
    return "\n".join(
        (
            "USE mysql;",
            "DELETE FROM global_priv WHERE User='';",
            "DELETE FROM global_priv WHERE User='root' AND Host NOT IN ('localhost','127.0.0.1','::1');",
            "DELETE FROM db WHERE User='';",
            "FLUSH PRIVILEGES;",
            f"CREATE USER skyshard@localhost IDENTIFIED BY '{password}';",
            "GRANT ALL ON *.* TO skyshard@localhost WITH GRANT OPTION;",
            "CREATE DATABASE IF NOT EXISTS skyshard_scratch CHARACTER SET utf8mb4;",
            "",
        )
    )


def command(data: Path, socket: str, run: Path, name: str, home: bool) -> list[str]:
    """Return mariadbd's command line, tuned for scans and many tables."""
    return [
        find("mariadbd"), "--no-defaults", f"--datadir={data}", f"--socket={socket}", f"--pid-file={run / name}.pid",
        f"--user={getpass.getuser()}", "--skip-networking", "--skip-name-resolve", "--local-infile=1",
        "--skip-log-bin", "--performance-schema=OFF", "--character-set-server=utf8mb4",
        "--table-open-cache=20000", "--table-definition-cache=20000", "--open-files-limit=65535",
        "--max-allowed-packet=1G", "--thread-handling=pool-of-threads", "--max-connections=4600",
        "--key-buffer-size=128M", "--aria-pagecache-buffer-size=128M", "--innodb-buffer-pool-size=128M",
        "--innodb-flush-log-at-trx-commit=1" if home else "--innodb-flush-log-at-trx-commit=2",
        "--bulk-insert-buffer-size=64M", "--myisam-sort-buffer-size=64M", "--read-rnd-buffer-size=1M",
        "--max-heap-table-size=256M", "--tmp-table-size=256M", "--thread-pool-size=8",
    ]  # fmt: skip
