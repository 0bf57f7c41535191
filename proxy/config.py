"""The proxy's settings: one typed object, read once at the start; unknown keys are errors."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from backend.address import Address


class ConfigError(ValueError):
    """The configuration file is wrong; the text says where."""


class Home(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The home server and the service account there; the password stands in a file."""

    user: str = "skyshard"
    socket: str | None = None
    host: str | None = None
    port: int | None = None
    password_file: str | None = None

    def address(self) -> Address:
        """Return the address, with the password read."""
        password = Path(self.password_file).read_text().strip() if self.password_file else ""
        return Address(self.user, password, self.socket, self.host, self.port)


class ProxyConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Settings of one proxy; sizes in bytes, times in seconds."""

    listen: str
    secret_file: str
    home: Home
    http: str | None = None
    byte_budget_bytes: int = 64 << 20
    chunk_commit_bytes: int = 16 << 20
    max_connections: int = 4000
    handshake_timeout_s: float = 10.0
    agent_timeout_s: float = 5.0
    service_connections: int = 32
    reuse_port: bool = False
    log_level: str = "INFO"

    @staticmethod
    def load(path: str | Path) -> ProxyConfig:
        """Read a file.

        Raises
        ------
        ConfigError
            If it cannot be read, or a key is unknown or of the wrong type.
        """
        try:
            return msgspec.convert(yaml.safe_load(Path(path).read_text()), ProxyConfig)
        except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
            raise ConfigError(f"{path}: {error}") from error


def host_port(text: str) -> tuple[str, int]:
    """Return (host, port) of ``host:port``."""
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)
