"""Real servers for tests: private directories, free ports, stopped by handle."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import yaml

from backend.address import Address
from backend.connection import RawConnection
from skyshard.cluster import certificate, health, mariadb
from skyshard.cluster import state as states
from skyshard.cluster.layout import free_port, is_free
from tests.support.agents import until

LOOK = "information_schema.PROCESSLIST"
"""Is in each look at what a server runs; a server forgets a statement a moment after its answer."""
IN_USE = "address already in use"


class PlainMariaDB:
    """One plain MariaDB server with a unix socket, and perhaps a port."""

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        tls: certificate.Files | None = None,
        home: bool = True,
    ) -> None:
        """Start it with the settings of a home server, or of a worker's."""
        self.directory, self.port, self.tls, self.home = directory, port, tls, home
        directory.mkdir(parents=True)
        mariadb.initialise(directory / "data", mariadb.account_sql("plain"))
        self.socket = str(directory / "s")
        self.process: subprocess.Popen | None = None
        self.start()

    @property
    def address(self) -> Address:
        return Address("root", "", socket=self.socket)

    def start(self) -> None:
        command = mariadb.command(self.directory / "data", self.socket, self.directory, "plain", self.home)
        if self.port is not None:
            command.remove("--skip-networking")
            command += ["--bind-address=127.0.0.1", f"--port={self.port}"]
        if self.tls is not None:
            command += [f"--ssl-cert={self.tls.certificate}", f"--ssl-key={self.tls.key}"]
        Path(self.socket).unlink(missing_ok=True)  # left by a server that was killed
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


def skyshard(
    *arguments: str, check: bool = True, timeout: float = 300, **options: object
) -> subprocess.CompletedProcess:
    """Run the command as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", "skyshard.cli", *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
        stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


class LocalCluster:
    """A cluster made by the command line."""

    def __init__(self, directory: Path, port: int, *options: str, workers: int = 2) -> None:
        self.directory, self.port = directory, port
        for last in (False, False, True):
            size = ("--port", str(self.port), "--workers", str(workers))
            done = skyshard("cluster", "up", "--dir", directory, *size, *options, check=last)
            if done.returncode == 0:
                return
            # Somebody else took one of the ports between their choice and their use.
            logs = [path.read_text() for path in (directory / "logs").glob("*.log")]
            said = done.stdout + done.stderr
            assert any(IN_USE in text.lower() for text in (*logs, said)), said
            self.stop()
            self.port = free_port()

    @property
    def address(self) -> Address:
        return Address("root", "", host="127.0.0.1", port=self.port)

    def ingest(self, catalog: Path, *options: str, timeout: float = 300) -> None:
        skyshard("ingest", catalog, "--dir", self.directory, *options, timeout=timeout)

    def stop(self) -> None:
        skyshard("cluster", "down", "--dir", self.directory, check=False)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.directory)


def free_ports(number: int) -> int:
    """Return a port that is free with those behind it, `number` in all."""
    while True:
        first = free_port()
        if all(is_free(port) for port in range(first, first + number)):
            return first


class ExtraProxy:
    """One more proxy of a running cluster, with settings of its own; HTTP for `processes` ports from `http` on."""

    @property
    def address(self) -> Address:
        return Address("root", "", host="127.0.0.1", port=self.port)

    def __init__(
        self, cluster: LocalCluster, directory: Path, processes: int = 0, **settings: object
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for _ in range(5):
            self.port, self.http = free_port(), free_ports(processes)
            if self._start(cluster, directory, processes, settings):
                return
        raise AssertionError(self.log.read_text())

    def _start(
        self, cluster: LocalCluster, directory: Path, processes: int, settings: dict[str, object]
    ) -> bool:
        """Start the process; return whether it listens: another may have taken a port that was free."""
        config = yaml.safe_load((cluster.directory / "run" / "proxy1.yaml").read_text())
        config |= {"listen": f"127.0.0.1:{self.port}", "http": None, "reuse_port": False}
        if processes:
            config["http"] = f"127.0.0.1:{self.http}"
        config |= settings
        self.log = directory / f"proxy-{self.port}.log"
        path = directory / f"proxy-{self.port}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
        options = ("--processes", str(processes)) if processes else ()
        self._command = [sys.executable, "-m", "skyshard.cli", "proxy", "--config", str(path), *options]
        return self._launch()

    def _launch(self) -> bool:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            if self.process.poll() is not None:
                assert "address already in use" in self.log.read_text(), self.log.read_text()
                return False
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def again(self) -> None:
        """Start a proxy that has ended once more, on its port."""
        assert self._launch(), self.log.read_text()

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):  # at once, whatever it does
            self.process.send_signal(number)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:  # nothing of it is left to the tests behind this one
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it does not end:\n{self.log.read_text()[-4000:]}") from None


class Inside:
    """A look inside a local cluster: its processes, its workers' servers, its figures."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def state(self) -> states.ClusterState:
        return states.require(self.directory)

    def process(self, name: str) -> psutil.Process:
        (pid,) = [process.pid for process in self.state.processes if process.name == name]
        return psutil.Process(pid)

    async def renew(self, name: str) -> None:
        """End a process; wait until its successor, which the supervisor starts, is healthy."""
        old = self.process(name)
        old.kill()

        async def healthy() -> bool:
            try:
                status, _ = await asyncio.to_thread(self.http, name.removeprefix("agent-"), "/healthz")
                return self.process(name).pid != old.pid and status == 200
            except (OSError, ValueError, psutil.Error):
                return False

        await until(healthy, 60, pause=0.1)

    def server(self, name: str) -> Address:
        return health.server_address(self.directory, self.state, name)

    def http(self, name: str, path: str = "/metrics") -> tuple[int, str]:
        """Ask a proxy or the agent of a worker; return status and text."""
        try:
            with urlopen(f"http://127.0.0.1:{self.state.ports[f'{name}-http']}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def figures(self, name: str) -> dict[str, float]:
        """Return a process's metrics by name and labels, as they are written."""
        status, text = self.http(name)
        assert status == 200
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    async def statements(self, text: str) -> int:
        """Return how many statements that contain `text` run on all workers together."""
        found = 0
        for number in range(1, self.state.workers + 1):
            connection = await RawConnection.open(self.server(f"worker{number}"))
            rows = await connection.fetch(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST "
                f"WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Sleep' AND INFO LIKE '%{text}%' "
                f"AND INFO NOT LIKE '%{LOOK}%'"  # an earlier look may still be seen
            )
            await connection.close()
            found += int(rows[0][0])
        return found
