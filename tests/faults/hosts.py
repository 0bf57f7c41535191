"""A home server, two workers and a proxy as separate hosts: addresses of their own, or network namespaces.

Every part is started by its own command with a configuration file, as systemd units do. Hosts in namespaces share nothing but
a bridge between them, so that a cable can be pulled out; addresses are those of documentation (RFC 5737).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import yaml

from skyshard.cluster.layout import is_free

NAMES = ("home", "worker1", "worker2", "proxy", "client")


def free_port() -> int:
    """Return a port that is free, together with the next one."""
    return next(port for port in range(31000, 32000, 7) if is_free(port) and is_free(port + 1))


class NoNamespaces(Exception):  # noqa: N818 - it is what happened
    """This machine does not let us make network namespaces; the text says why."""


class Loopback:
    """Hosts that are addresses of the loopback device."""

    def __init__(self) -> None:
        self.addresses = {name: f"127.0.0.{number}" for number, name in enumerate(NAMES, start=11)}

    def prefix(self, _: str) -> list[str]:
        """Return what stands before a command that runs on a host."""
        return []

    def close(self) -> None:
        """There is nothing to take away."""


class Namespaces:
    """Hosts that are network namespaces.

    Raises
    ------
    NoNamespaces
        If they cannot be made here.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise NoNamespaces("network namespaces need root and the command ip")
        self.addresses = {name: f"192.0.2.{number}" for number, name in enumerate(NAMES, start=11)}
        self._mark = f"skyshard{os.getpid()}"
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self.close()
            raise NoNamespaces(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from error

    def _name(self, host: str) -> str:
        return f"{self._mark}-{host}"

    def _ip(self, *arguments: str, inside: str | None = None) -> None:
        where = ["-n", self._name(inside)] if inside else []
        subprocess.run(["ip", *where, *arguments], check=True, capture_output=True, text=True)

    def _make(self) -> None:
        for host in ("bridge", *NAMES):
            self._ip("netns", "add", self._name(host))
            self._ip("link", "set", "lo", "up", inside=host)
        self._ip("link", "add", "br0", "type", "bridge", inside="bridge")
        self._ip("link", "set", "br0", "up", inside="bridge")
        for host, address in self.addresses.items():
            there = ("netns", self._name("bridge"))
            self._ip("link", "add", "eth0", "type", "veth", "peer", "name", host, *there, inside=host)
            self._ip("link", "set", host, "master", "br0", "up", inside="bridge")
            self._ip("addr", "add", f"{address}/24", "dev", "eth0", inside=host)
            self._ip("link", "set", "eth0", "up", inside=host)

    def prefix(self, host: str) -> list[str]:
        """Return what stands before a command that runs on a host."""
        return ["ip", "netns", "exec", self._name(host)]

    def cable(self, host: str, plugged: bool) -> None:
        """Pull a host's cable out, or plug it in."""
        self._ip("link", "set", host, "up" if plugged else "down", inside="bridge")

    def close(self) -> None:
        """Take all of them away."""
        for host in ("bridge", *NAMES):
            subprocess.run(["ip", "netns", "del", self._name(host)], check=False, capture_output=True)


class Hosts:
    """The parts of a cluster on their hosts.

    Parameters
    ----------
    directory : Path
        For data, secrets, configuration files and logs.
    places : Loopback or Namespaces
        The hosts.
    """

    def __init__(self, directory: Path, places: Loopback | Namespaces) -> None:
        self.directory, self.places, self.port = directory, places, free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (directory / "secrets").mkdir(parents=True)
        for name in ("service", "agents", "root"):
            self._secret(name).write_text(f"{name}'s secret\n")

    def _secret(self, name: str) -> Path:
        return self.directory / "secrets" / name

    @property
    def options(self) -> list[str]:
        """Return where commands find the cluster."""
        home = f"mysql://skyshard@{self.places.addresses['home']}:{self.port}/"
        files = [
            "--password-file",
            str(self._secret("service")),
            "--secret-file",
            str(self._secret("agents")),
        ]
        return ["--home", home, *files]

    def command(self, *arguments: object, check: bool = True) -> str:
        """Run `skyshard` on the client's host; return its output."""
        argv = [
            *self.places.prefix("client"),
            sys.executable,
            "-m",
            "skyshard.cli",
            *map(str, arguments),
            *self.options,
        ]
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, sql: str, database: str) -> tuple[str, ...]:
        """Ask the proxy from the client's host; return the only row."""
        argv = [
            *self.places.prefix("client"), "mariadb", "--no-defaults", "-h", self.places.addresses["proxy"],
            "-P", str(self.port), "-u", "root", "-N", "-B", "-e", sql, database,
        ]  # fmt: skip
        secret = {**os.environ, "MYSQL_PWD": self._secret("root").read_text().strip()}
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=secret, timeout=60)
        assert done.returncode == 0, done.stderr
        return tuple(done.stdout.rstrip("\n").split("\t"))

    def _start(self, name: str, host: str, *arguments: object) -> None:
        argv = [*self.places.prefix(host), sys.executable, "-m", "skyshard.cli", *map(str, arguments)]
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _config(self, name: str, **settings: object) -> Path:
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    def start_home(self) -> None:
        """Start the home server, and set it up."""
        here = self.directory / "home"
        listen = f"{self.places.addresses['home']}:{self.port}"
        secrets = ("--password-file", self._secret("service"), "--root-password-file", self._secret("root"))
        self._start("home", "home", "server", "--role", "home", "--dir", here, "--listen", listen, *secrets)
        socket = f"mysql://skyshard@localhost/?socket={here}/run/mariadb.sock"
        made = ["home", "init", "--home", socket, *map(str, secrets[:2]), "--replicas", "2", "--wait", "120"]
        subprocess.run([sys.executable, "-m", "skyshard.cli", *made], check=True, stdin=subprocess.DEVNULL)

    def start_worker(self, name: str) -> None:
        """Start a worker's MariaDB and agent, and register it."""
        here, address = self.directory / name, self.places.addresses[name]
        self._start(
            name,
            name,
            "server",
            "--role",
            "worker",
            "--dir",
            here,
            "--password-file",
            self._secret("service"),
        )
        (here / "spool").mkdir(parents=True, exist_ok=True)
        config = self._config(
            f"agent-{name}",
            worker=name,
            listen=f"{address}:{self.port}",
            http=f"{address}:{self.port + 1}",
            secret_file=str(self._secret("agents")),
            spool_dir=str(here / "spool"),
            mariadb={"socket": f"{here}/run/mariadb.sock", "password_file": str(self._secret("service"))},
        )
        self._start(f"agent-{name}", name, "agent", "--config", config)
        ports = ("--port", self.port, "--http-port", self.port + 1)
        self.command("worker", "add", name, "--host", address, *ports, "--wait", "120")

    def start_proxy(self) -> None:
        """Start the proxy."""
        address = self.places.addresses["proxy"]
        home = {"host": self.places.addresses["home"], "port": self.port, "user": "skyshard"}
        config = self._config(
            "proxy",
            listen=f"{address}:{self.port}",
            http=f"{address}:{self.port + 1}",
            secret_file=str(self._secret("agents")),
            home={**home, "password_file": str(self._secret("service"))},
        )
        self._start("proxy", "proxy", "proxy", "--config", config)

    def kill(self, name: str) -> None:
        """End a process and all below it by SIGKILL."""
        process = self._processes.pop(name)
        below = psutil.Process(process.pid).children(recursive=True)
        for one in (process, *below):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                one.send_signal(signal.SIGKILL)
        process.wait(30)
        psutil.wait_procs(below, 30)

    def close(self) -> None:
        """End everything, the home server last."""
        for name in sorted(self._processes, key=lambda one: one == "home"):
            process = self._processes[name]
            below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            process.wait(60)
            _, alive = psutil.wait_procs(below, 30)
            assert not alive, alive
        self.places.close()

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for something."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, {
                path.name: path.read_text()[-500:] for path in self.directory.glob("*.log")
            }
            time.sleep(0.1)

    def answers(self, wanted: dict[str, tuple[str, ...]], database: str) -> bool:
        """Whether the proxy is there; what it answers must be what is wanted."""
        try:
            found = {sql: self.ask(sql, database) for sql in wanted}
        except AssertionError as error:
            if "Can't connect" in str(error) or "ERROR 2002" in str(error):
                return False
            raise
        assert found == wanted
        return True


@contextlib.contextmanager
def running(directory: Path, places: Loopback | Namespaces) -> Iterator[Hosts]:
    """Yield a cluster of two workers."""
    hosts = Hosts(directory, places)
    try:
        hosts.start_home()
        hosts.start_worker("worker1")
        hosts.start_worker("worker2")
        hosts.start_proxy()
        yield hosts
    finally:
        hosts.close()
