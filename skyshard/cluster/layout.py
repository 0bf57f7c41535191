"""Lays a local cluster out: directories, secrets, sockets, ports and configuration files."""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from skyshard.cluster import certificate, mariadb
from skyshard.cluster import state as states
from skyshard.errors import UserError

_LONGEST_SOCKET = 100
"""Bytes; the kernel takes 107."""

_PORTS = range(20_000, 32_000)
"""Below the ports that the kernel gives to outgoing connections, so that a restart finds its port free."""


def is_free(port: int) -> bool:
    """Whether a TCP port can be listened on at loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(taken: Iterable[int] = ()) -> int:
    """Return a TCP port that is free on loopback, chosen at random.

    Parameters
    ----------
    taken : iterable of int
        Ports that are spoken for though nobody listens yet.
    """
    for port in random.sample(_PORTS, 500):
        if port not in taken and is_free(port):
            return port
    raise UserError(f"no free port was found between {_PORTS.start} and {_PORTS.stop}")


def make_directories(directory: Path) -> None:
    """Make the cluster's directory, readable by its owner alone.

    Raises
    ------
    UserError
        If it cannot be made or written.
    """
    try:
        for name in ("", "run", "logs", "secrets"):
            (directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, probe = tempfile.mkstemp(dir=directory)
        os.close(descriptor)
        Path(probe).unlink()
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror}") from error


def secret(directory: Path, name: str) -> str:
    """Return one of the cluster's generated secrets; made, with mode 0600, when it is not there."""
    path = directory / "secrets" / name
    if not path.exists():
        partial = path.with_suffix(".new")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_hex(24))
        partial.rename(path)
    return path.read_text().strip()


def _socket_path(directory: Path, name: str) -> str:
    """Return a server's socket; in a private directory under the temporary one if DIR is too long."""
    path = directory / "run" / f"{name}.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return str(path)
    short = (
        Path(tempfile.gettempdir()) / f"skyshard-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}"
    )
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid() or short.stat().st_mode & 0o077 or short.is_symlink():
        raise UserError(f"{short} belongs to somebody else; use a shorter --dir")
    return str(short / f"{name}.sock")


def plan(
    directory: Path,
    workers: int,
    replicas: int,
    port: int,
    proxies: int,
    tls: str,
    agent_tls: bool,
    auto_repair_after: float = 0.0,
) -> states.ClusterState:
    """Choose ports, write the configuration files and return the cluster's state, nothing started yet."""
    names = ["home", *(f"worker{number}" for number in range(1, workers + 1))]
    sockets = {name: _socket_path(directory, name) for name in names}
    ports: dict[str, int] = {}
    for name in [n for w in names[1:] for n in (w, f"{w}-http")] + [
        f"proxy{n}-http" for n in range(1, proxies + 1)
    ]:
        ports[name] = free_port({port, *ports.values()})
    listed = [
        states.Process(
            name=name,
            kind="mariadb",
            argv=mariadb.command(
                directory / name / "data",
                sockets[name],
                directory / "run",
                name,
                name == "home",
                tls=certificate.provide(directory / "tls") if name == "home" and tls != "off" else None,
            ),
            nice=0 if name == "home" else mariadb.WORKER_NICE,
        )
        for name in names
    ]
    skyshard = [sys.executable, "-m", "skyshard.cli"]
    for name in names[1:]:
        config = directory / "run" / f"{name}.yaml"
        more = _agent_tls_config(directory, "tls", name) if agent_tls else ""
        config.write_text(_agent_config(directory, name, sockets[name], ports) + more)
        argv = [*skyshard, "agent", "--config", str(config)]
        listed.append(states.Process(name=f"agent-{name}", kind="agent", argv=argv))
    for number in range(1, proxies + 1):
        name = f"proxy{number}"
        config = directory / "run" / f"{name}.yaml"
        text = _proxy_config(directory, port, ports[f"{name}-http"], sockets["home"], proxies > 1)
        text += _tls_config(directory, tls)
        config.write_text(
            text + (_agent_tls_config(directory, "agent_tls", certificate.CALLER) if agent_tls else "")
        )
        listed.append(
            states.Process(name=name, kind="proxy", argv=[*skyshard, "proxy", "--config", str(config)])
        )
    if auto_repair_after:
        argv = [*skyshard, "repair", "--auto-repair-after", f"{auto_repair_after:g}", "--dir", str(directory)]
        listed.append(states.Process(name="repair", kind="repair", argv=argv))
    return states.ClusterState(
        port=port,
        workers=workers,
        replicas=replicas,
        proxies=proxies,
        tls=tls,
        agent_tls=agent_tls,
        auto_repair_after=auto_repair_after,
        sockets=sockets,
        ports=ports,
        processes=listed,
    )


def _quoted(value: object) -> str:
    """Return a YAML string that is right whatever is in it."""
    return "'" + str(value).replace("'", "''") + "'"


def _server(directory: Path, path: str, more: str = "") -> str:
    return f"{{socket: {_quoted(path)}, password_file: {_quoted(directory / 'secrets' / 'service')}{more}}}"


def _agent_config(directory: Path, name: str, path: str, ports: dict[str, int]) -> str:
    spool = directory / name / "spool"
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    return (
        f"worker: {name}\nlisten: 127.0.0.1:{ports[name]}\nhttp: 127.0.0.1:{ports[f'{name}-http']}\n"
        f"secret_file: {_quoted(directory / 'secrets' / 'agents')}\nspool_dir: {_quoted(spool)}\n"
        f"load_dir: {_quoted(directory / name / 'files')}\n"
        f"mariadb: {_server(directory, path)}\n"
    )


def _proxy_config(directory: Path, port: int, http: int, path: str, shared: bool) -> str:
    return (
        f"listen: 127.0.0.1:{port}\nhttp: 127.0.0.1:{http}\nreuse_port: {str(shared).lower()}\n"
        f"secret_file: {_quoted(directory / 'secrets' / 'agents')}\n"
        f"home: {_server(directory, path, ', proxy_protocol: true')}\n"
    )


def _tls_config(directory: Path, tls: str) -> str:
    if tls == "off":
        return ""
    made = certificate.provide(directory / "tls")
    return (
        f"tls: {{certificate: {_quoted(made.certificate)}, key: {_quoted(made.key)}, "
        f"required: {str(tls == 'required').lower()}}}\n"
    )


def make_data(directory: Path, state: states.ClusterState, say: Callable[[str], None]) -> None:
    """Make the data directories that are missing: one template, made once and copied."""
    missing = [
        directory / name / "data" for name in state.sockets if not (directory / name / "data").exists()
    ]
    if not missing:
        return
    say(f"making {len(missing)} MariaDB data directories")
    template = directory / "template" / "data"
    shutil.rmtree(template.parent, ignore_errors=True)
    try:
        mariadb.initialise(template, mariadb.account_sql(secret(directory, "service")))
        for data in missing:
            mariadb.copy(template, data)
    except OSError as error:
        raise UserError(f"cannot make the data directories in {directory}: {error.strerror}") from error
    finally:
        shutil.rmtree(template.parent, ignore_errors=True)


def agent_tls_dir(directory: Path) -> Path:
    """Return where the private CA of a cluster's agents and the certificates that it signed are."""
    return directory / "tls" / "agents"


def _agent_tls_config(directory: Path, key: str, name: str) -> str:
    """Return the setting of an agent or caller, with its certificate made if it is not there."""
    authority = certificate.Authority.provide(agent_tls_dir(directory))
    made = authority.issue(name)
    return (
        f"{key}: {{ca: {_quoted(authority.files.certificate)}, certificate: {_quoted(made.certificate)}, "
        f"key: {_quoted(made.key)}}}\n"
    )
