"""The systemd units, and what the documents show, start what there is: command lines, files and variables are the program's."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import click
import msgspec
import pytest
import yaml
from click.testing import CliRunner

from proxy.config import ProxyConfig
from skyshard.cli import cli
from skyshard.cluster.server import certificate_files, networks
from skyshard.errors import UserError
from worker_agent.config import AgentConfig

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PROGRAM = "/opt/skyshard/bin/skyshard"
VARIABLES = {  # what the units' comments and docs/operations.md say of the files with variables
    "AFTER": "60",
    "HOME_SERVER": "mysql://skyshard@home:3306/",
    "REPAIR_OPTIONS": "--agent-tls /etc/skyshard/tls",
    "SERVER_OPTIONS": "--listen 0.0.0.0:3306 --root-password-file /etc/skyshard/root --proxy-networks 10.0.0.0/24",
}
KNOWN = {  # as `systemd-analyze verify` (252) has accepted them
    "Unit": {"Description", "After", "Wants"},
    "Service": {
        "User", "ExecStart", "TimeoutStopSec", "Restart", "RestartSec", "LimitNOFILE", "ProtectSystem", "ProtectHome",
        "NoNewPrivileges", "PrivateDevices", "EnvironmentFile", "StateDirectory", "StateDirectoryMode", "KillMode",
    },
    "Install": {"WantedBy"},
}  # fmt: skip


def read(path: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",))
    found.optionxform = str  # type: ignore[method-assign,assignment]
    found.read_string(path.read_text())
    return found


def parsed(argv: list[str]) -> click.Context:
    """Parse a command line as the program does, and run nothing."""
    context, command = click.Context(cli), cli
    name, rest = "skyshard", argv
    while isinstance(command, click.Group):
        context = command.make_context(name, list(rest))
        name_, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None, argv
        name, command = name_ or "", found  # type: ignore[assignment]
    return command.make_context(name, list(rest), parent=context)


def words(line: str, instance: str) -> list[str]:
    """Split a command line as systemd does: ${X} is one word, $X as many as it has."""
    out: list[str] = []
    for word in shlex.split(line.replace("%i", instance)):
        if match := re.fullmatch(r"\$(\w+)", word):
            out += shlex.split(VARIABLES[match[1]])
        else:
            out.append(re.sub(r"\$\{(\w+)\}", lambda found: VARIABLES[found[1]], word))
    return out


@pytest.mark.parametrize(("name", "kind"), [("proxy", ProxyConfig), ("agent", AgentConfig)])
def test_whoever_stops_a_process_waits_for_what_it_does(
    name: str, kind: type[ProxyConfig | AgentConfig]
) -> None:
    (usual,) = [field.default for field in msgspec.structs.fields(kind) if field.name == "drain_s"]
    assert kind.load(ROOT / "conf" / f"{name}.yaml").drain_s == usual
    unit = read(ROOT / "deploy" / "systemd" / f"skyshard-{name}.service")
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    container = composed["proxy" if name == "proxy" else "worker1"]["stop_grace_period"]
    for given in (unit["Service"]["TimeoutStopSec"], container.removesuffix("s")):
        assert int(given) >= usual + 15


def test_networks_of_proxies_are_checked() -> None:
    assert networks("home", None) == networks("worker", None) == []
    assert networks("home", "10.0.0.0/24, 10.1.2.3,fd00::/8") == ["10.0.0.0/24", "10.1.2.3/32", "fd00::/8"]
    for wrong in ("10.0.0.0/33", "10.0.0.1/24", "*", "proxy1", "", "10.0.0.1,"):
        with pytest.raises(UserError, match="expected addresses or networks"):
            networks("home", wrong)
    with pytest.raises(UserError, match="is for a home server"):
        networks("worker", "10.0.0.0/24")


def test_a_certificate_has_a_key() -> None:
    here = Path("server.crt"), Path("server.key")
    assert certificate_files(None, None) is None
    found = certificate_files(*here)
    assert found is not None
    assert found.certificate.is_absolute()
    assert found.key.is_absolute()
    for given in ((here[0], None), (None, here[1])):
        with pytest.raises(UserError, match="belong together"):
            certificate_files(*given)


BLOCKS = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"^(?:/opt/skyshard/bin/|docker-compose run --rm (?:-v \S+ )?)?skyshard (.*)$", re.M)


@pytest.mark.parametrize("name", ["README.md", "docs/operations.md"])
def test_commands_that_are_shown_can_be_run(name: str) -> None:
    shown = [
        command
        for kind, block in BLOCKS.findall((ROOT / name).read_text())
        if not kind
        for command in COMMAND.findall(block.replace("\\\n", " "))
    ]
    assert len(shown) >= 5
    for command in shown:
        parsed(shlex.split(command, comments=True))


def test_configuration_that_is_shown_loads(tmp_path: Path) -> None:
    operations = (ROOT / "docs" / "operations.md").read_text()
    agent, proxy = [block for kind, block in BLOCKS.findall(operations) if kind == "yaml"]
    for text, kind in ((agent, AgentConfig), (proxy, ProxyConfig)):
        (tmp_path / "shown.yaml").write_text(text)
        assert kind.load(tmp_path / "shown.yaml").secret_file == "/etc/skyshard/agents"
    assert f"SERVER_OPTIONS={VARIABLES['SERVER_OPTIONS']}\n" in operations


@pytest.mark.parametrize("arguments", [["x.yaml", "--nonsense"], ["--undo", "x"]])
def test_ingest_without_a_step_shows_what_one_types(arguments: list[str]) -> None:
    said = CliRunner().invoke(cli, ["ingest", *arguments], prog_name="skyshard").output
    assert said.startswith("Usage: skyshard ingest CATALOG [OPTIONS]")
    assert "catalogue-file" not in said


def test_there_are_units() -> None:
    assert [path.name for path in UNITS] == [
        "skyshard-agent.service",
        "skyshard-proxy.service",
        "skyshard-repair.service",
        "skyshard-server@.service",
    ]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit(path: Path, tmp_path: Path) -> None:
    for conf in (ROOT / "conf").glob("*.yaml"):  # what they are like is tested elsewhere
        (tmp_path / conf.name).write_text(conf.read_text())
    unit = read(path)
    assert {name: set(unit[name]) - KNOWN[name] for name in unit.sections()} == {
        name: set() for name in KNOWN
    }
    units = {one.name for one in UNITS}
    for key in ("After", "Wants"):
        for other in unit["Unit"][key].split():
            assert other == "network-online.target" or re.sub("@.*[.]", "@.", other) in units, other
    service = unit["Service"]
    assert service["Restart"] in ("always", "on-failure")
    for instance in ("home", "worker") if "@" in path.name else ("",):
        program, *argv = words(service["ExecStart"], instance)
        assert program == PROGRAM
        context = parsed([word.replace("/etc/skyshard", str(tmp_path)) for word in argv])
        for name, value in context.params.items():
            assert value is not None or name in (
                "database",
                "directory",
                "address",
                "tls_certificate",
                "tls_key",
            ), name
    used = set(re.findall(r"\$\{?(\w+)", service["ExecStart"]))
    assert bool(used) == ("EnvironmentFile" in service)
    comments = " ".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert all(name in comments for name in used), used
    operations = (ROOT / "docs" / "operations.md").read_text()
    assert path.name.removesuffix(".service") in operations.replace(
        "skyshard-server@home", "skyshard-server@"
    )
