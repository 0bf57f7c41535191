"""The proxy's settings: one typed object, read once at the start; unknown keys are errors."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import msgspec
import yaml

from backend.address import DEFAULT_SOCKET, Address
from backend.agent_tls import TlsFiles
from proxy.execute.admission import Admission
from proxy.session.limits import Limits, SessionLimits
from proxy.session.tls import Tls


class ConfigError(ValueError):
    """The configuration file is wrong; the text says where."""


class Home(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The home server and the service account there; the password stands in a file."""

    user: str = "skyshard"
    socket: str | None = None
    host: str | None = None
    port: int | None = None
    password_file: str | None = None
    proxy_protocol: bool = False

    def address(self) -> Address:
        """Return the address, with the password read."""
        password = Path(self.password_file).read_text().strip() if self.password_file else ""
        socket = self.socket if self.socket or self.host else DEFAULT_SOCKET
        return Address(self.user, password, socket, self.host, self.port)


class TlsConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """TLS for clients: PEM files; `client_ca` asks clients for certificates signed by it."""

    certificate: str
    key: str
    required: bool = False
    client_ca: str | None = None

    def load(self) -> Tls:
        """Return the TLS context.

        Raises
        ------
        ConfigError
            If a file cannot be read or is no certificate or key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
            first = Path(self.certificate).read_text()
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
            end = first.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
            start = first.index("-----BEGIN CERTIFICATE-----")
            der = ssl.PEM_cert_to_DER_cert(first[start:end])
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(f"tls: {self.certificate}, {self.key}: {error}") from error
        return Tls(context, hashlib.sha256(der).digest(), self.required)


class Jobs(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Asynchronous queries; sizes in bytes, 0 is none.

    Attributes
    ----------
    running : int
        Jobs that this process runs at once; others wait.
    running_per_user : int
        Jobs of one user that run at once in all processes that have this limit.
    per_user : int
        Jobs of one user that wait or run.
    user_bytes : int
        Bytes of results that one user may keep.
    statement_s : float
        Seconds one job may run.
    keep_s : float
        Seconds after which a result is dropped.
    history_s : float
        Seconds for which the history is kept.
    history_min_s : float
        Seconds that a query must have taken to be noted in the history.
    """

    running: int = 4
    running_per_user: int = 3
    per_user: int = 100
    user_bytes: int = 10 << 30
    statement_s: float = 86400.0
    keep_s: float = 7 * 86400.0
    history_s: float = 30 * 86400.0
    history_min_s: float = 0.1


class ProxyConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Settings of one proxy; sizes in bytes, times in seconds.

    Attributes
    ----------
    drain_s : float
        Seconds that clients have to finish what they do after a first SIGTERM; 0: none.
    """

    listen: str = "127.0.0.1:4040"
    secret_file: str = "/etc/skyshard/agents.secret"  # noqa: S105 - where it is
    home: Home = Home()
    http: str | None = None
    byte_budget_bytes: int = 64 << 20
    chunk_commit_bytes: int = 16 << 20
    max_connections: int = 4000
    handshake_timeout_s: float = 10.0
    agent_timeout_s: float = 5.0
    agent_silence_s: float = 8.0
    heartbeat_s: float = 0.5
    heartbeat_timeout_s: float = 0.75
    home_silence_s: float = 15.0
    service_connections: int = 32
    trap_check_s: float = 30.0
    drain_s: float = 60.0
    reuse_port: bool = False
    log_level: str = "INFO"
    tls: TlsConfig | None = None
    agent_tls: TlsFiles | None = None
    packet_bytes: int = 1 << 30
    packet_timeout_s: float = 30.0
    inbox_bytes: int = 256 << 20
    long_data_bytes: int = 64 << 20
    cursor_bytes: int = 1 << 30
    jobs: Jobs = Jobs()
    admission: Admission = Admission()
    limits: Limits = Limits()
    user_limits: dict[str, Limits] = {}

    def client_tls(self) -> Tls | None:
        """Return TLS for clients, with its files read; None if it is off."""
        return None if self.tls is None else self.tls.load()

    def session_limits(self) -> SessionLimits:
        """Return what one session may make the process keep."""
        return SessionLimits(
            self.packet_bytes, self.packet_timeout_s, self.long_data_bytes, self.cursor_bytes
        )

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
