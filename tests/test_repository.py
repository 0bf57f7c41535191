"""Rules of the repository: who imports whom, what every file opens with, configuration that loads."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest

from proxy.config import ProxyConfig
from shard.catalog.catalog_file import CatalogFileError, parse
from skyshard.cli import cli
from worker_agent.config import AgentConfig

ROOT = Path(__file__).parents[1]
PACKAGES = ("proxy", "shard", "worker_agent", "backend", "skyshard")
FILES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
FORBIDDEN = {
    "shard": {"proxy", "worker_agent", "backend", "skyshard"},
    "backend": {"proxy", "worker_agent", "skyshard"},
    "proxy": {"worker_agent", "skyshard", "pyarrow"},
    "worker_agent": {"proxy", "skyshard", "pyarrow"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file(path):
    relative = path.relative_to(ROOT)
    names = {name.split(".")[0] for name in imports(path)}
    assert not names & FORBIDDEN.get(relative.parts[0], set())
    if relative.parts[:2] in (("shard", "planner"), ("shard", "geometry")):
        assert "asyncio" not in names
    if relative.parts[:2] != ("shard", "planner"):
        assert "sqlglot" not in names
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert len(path.read_text().splitlines()) <= 600
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 70, node.name


@pytest.mark.parametrize(
    "module", ["skyshard.home.workers", "skyshard.replicas.command", "skyshard.catalog.command"]
)
def test_commands_that_load_nothing_start_without_arrow(module):
    program = f"import sys, {module}; sys.exit('pyarrow' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_no_path_of_a_machine_is_committed():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in listed:
        path = ROOT / name
        if path.suffix not in (".parquet",) and path.is_file():
            assert not re.search(r"/(opt/dev|work/main|home/\w+/)", path.read_text(errors="replace")), name


def test_example_configuration_loads():
    assert ProxyConfig.load(ROOT / "conf/proxy.yaml").listen.endswith(":4040")
    assert AgentConfig.load(ROOT / "conf/agent.yaml").worker == "worker1"
    assert len(parse((ROOT / "conf/catalogue.example.yaml").read_text(), "example").tables) == 5


@pytest.mark.parametrize(("config", "name"), [(ProxyConfig, "proxy"), (AgentConfig, "agent")])
def test_every_setting_has_a_default_and_stands_in_the_example(config, name, tmp_path):
    text = (ROOT / f"conf/{name}.yaml").read_text()
    for key in _keys(config):
        assert re.search(rf"\b{key}:", text), key
    empty = tmp_path / "empty.yaml"
    empty.write_text("{}")
    assert config.load(empty)


def _keys(struct):
    """Yield the names of a struct's fields, and of those inside."""
    for field in msgspec.structs.fields(struct):
        yield field.name
        for inner in getattr(field.type, "__args__", (field.type,)):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from _keys(inner)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("kind: replicated", "kind: replicate"), "replicate"),
        (("    key: sourceId", "    keys: sourceId"), "keys"),
        (("stripes: 85", "stripes: many"), "stripes"),
        (("    director: Object", "    director: Nobody"), "director"),
    ],
)
def test_mistakes_in_a_catalogue_file_name_line_and_key(change, key):
    text = (ROOT / "conf/catalogue.example.yaml").read_text()
    assert change[0] in text
    with pytest.raises(CatalogFileError) as caught:
        parse(text.replace(*change), "c.yaml")
    assert key in str(caught.value)
    found = int(str(caught.value).split(":")[1])
    line = text[: text.index(change[0])].count("\n") + 1
    assert 0 <= line - found <= 2, str(caught.value)


def test_compose_file_is_valid():
    program = shutil.which("docker-compose")
    assert program, "scripts/setup.sh installs docker-compose"
    done = subprocess.run(
        [program, "-f", ROOT / "compose.yaml", "config", "-q"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_systemd_units_start_commands_that_exist():
    units = sorted((ROOT / "deploy/systemd").glob("*.service"))
    names = ["skyshard-agent", "skyshard-proxy", "skyshard-repair", "skyshard-server@"]
    assert [unit.stem for unit in units] == names
    for unit in units:
        lines = unit.read_text().splitlines()
        start = next(line for line in lines if line.startswith("ExecStart=")).removeprefix("ExecStart=")
        program, command, *arguments = shlex.split(start)
        assert program.endswith("/bin/skyshard")
        found = cli.get_command(click.Context(cli), command)
        known = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= known
        if program := shutil.which("systemd-analyze"):
            said = subprocess.run([program, "verify", unit], capture_output=True, text=True).stderr
            assert [line for line in said.splitlines() if "is not executable" not in line] == []
