"""The agent's settings: one typed object, read once at the start; unknown keys are errors."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import yaml

from backend.address import DEFAULT_SOCKET, Address
from backend.agent_tls import TlsFiles


class ConfigError(ValueError):
    """The configuration file is wrong; the text says where."""


class MariaDB(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The worker's MariaDB: a unix socket, or host and port of this machine; the password stands in a file."""

    user: str = "skyshard"
    socket: str | None = None
    host: str | None = None
    port: int | None = None
    password_file: str | None = None

    def address(self) -> Address:
        """Return the address, with the password read."""
        password = Path(self.password_file).read_text().strip() if self.password_file else ""
        path = self.socket if self.socket or self.host else DEFAULT_SOCKET
        return Address(self.user, password, path, self.host, self.port)

    def check_is_here(self) -> None:
        """Refuse a server on another machine: whether its rows are on disk cannot be said from here (see disk).

        Raises
        ------
        ConfigError
            If the host is not this machine, or not known.
        """
        if self.socket or not self.host:
            return
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConfigError(f"mariadb.host: {self.host}: {error.strerror}") from error
        if not any(_is_here(family, address) for family, _, _, _, address in found):
            raise ConfigError(
                f"mariadb.host: {self.host} is another machine; an agent runs on the machine of its MariaDB server, since "
                "it has rows on that disk before a catalogue counts on them: run it there, or give the server's socket"
            )


def _is_here(family: int, address: Any) -> bool:
    """Whether an address is one of this machine: only then can a socket have it."""
    with socket.socket(family, socket.SOCK_STREAM) as one:
        try:
            one.bind(address)
        except OSError:
            return False
    return True


class AgentConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Settings of one agent; sizes in bytes.

    Attributes
    ----------
    drain_s : float
        Seconds that jobs have to come to their end after a first SIGTERM; 0: none.
    load_dir : str or None
        A directory of agent and MariaDB server in which the server may read files (`secure_file_priv`). Rows of an
        ingest wait there, since the server loads a file of its own with half the work. None: LOAD DATA LOCAL.
    tls : TlsFiles or None
        Callers must use TLS and show a certificate of the same CA. None: connections are not encrypted.
    """

    worker: str = "worker1"
    listen: str = "127.0.0.1:4041"
    secret_file: str = "/etc/skyshard/agents.secret"  # noqa: S105 - where it is
    mariadb: MariaDB = MariaDB()
    http: str | None = None
    slots: int = max(2, os.cpu_count() or 2)
    interactive_slots: int = 2
    spool_dir: str | None = None
    spool_memory_bytes: int = 64 << 20
    spool_disk_bytes: int = 10 << 30
    spool_job_bytes: int = 256 << 20
    load_dir: str | None = None
    tls: TlsFiles | None = None
    drain_s: float = 30.0
    log_level: str = "INFO"

    @staticmethod
    def load(path: str | Path) -> AgentConfig:
        """Read a file.

        Raises
        ------
        ConfigError
            If it cannot be read, a key is unknown or of the wrong type, or the MariaDB server is on another machine.
        """
        try:
            config = msgspec.convert(yaml.safe_load(Path(path).read_text()), AgentConfig)
            config.mariadb.check_is_here()
        except (OSError, yaml.YAMLError, msgspec.ValidationError, ConfigError) as error:
            raise ConfigError(f"{path}: {error}") from error
        return config


def host_port(text: str) -> tuple[str, int]:
    """Return (host, port) of ``host:port``."""
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)
