"""Real servers for tests: private directories, free ports, stopped by handle."""

import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

from backend.address import Address
from skyshard.cluster import mariadb


class PlainMariaDB:
    """One plain MariaDB server with a unix socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        mariadb.initialise(directory / "data", mariadb.account_sql("plain"))
        self.socket = str(directory / "s")
        self.process: subprocess.Popen | None = None
        self.start()

    @property
    def address(self) -> Address:
        return Address("root", "", socket=self.socket)

    def start(self) -> None:
        command = mariadb.command(self.directory / "data", self.socket, self.directory, "plain", home=True)
        log = (self.directory / "log").open("ab")
        with log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not Path(self.socket).exists():
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None


def skyshard(*arguments: str, check: bool = True, **options: object) -> subprocess.CompletedProcess:
    """Run the command as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", "skyshard.cli", *map(str, arguments)], capture_output=True, text=True, timeout=300,
        stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


class LocalCluster:
    """A cluster made by the command line."""

    def __init__(self, directory: Path, port: int, workers: int = 2) -> None:
        self.directory, self.port = directory, port
        skyshard("cluster", "up", "--dir", directory, "--port", str(port), "--workers", str(workers))

    @property
    def address(self) -> Address:
        return Address("root", "", host="127.0.0.1", port=self.port)

    def ingest(self, catalog: Path, *options: str) -> None:
        skyshard("ingest", catalog, "--dir", self.directory, *options)

    def stop(self) -> None:
        skyshard("cluster", "down", "--dir", self.directory, check=False)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.directory)
