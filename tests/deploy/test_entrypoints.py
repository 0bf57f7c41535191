"""The containers' own commands, run without containers: each part on a loopback address of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pymysql
import pytest
import yaml
from click.testing import CliRunner

from skyshard.cli import cli
from skyshard.cluster.layout import is_free
from skyshard.cluster.mariadb import WORKER_NICE
from tests.support import handmade
from tests.support.servers import skyshard

ROOT = Path(__file__).parents[2]
HOME, PROXY = "127.0.0.2", "127.0.0.5"
PROXY_ELSEWHERE, STRANGER = "127.0.0.9", "127.0.0.8"
CLIENT = "203.0.113.7"
WORKERS = {"worker1": "127.0.0.3", "worker2": "127.0.0.4"}


class Deployment:
    """home.sh, two worker.sh and a proxy, as compose.yaml starts them."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.secrets = directory / "secrets"
        self.secrets.mkdir()
        for name in ("service", "agents", "root"):
            (self.secrets / name).write_text(f"{name}'s secret\n")
        self.processes: dict[str, subprocess.Popen] = {}

    @property
    def options(self) -> list[str]:
        return [
            "--home", f"mysql://skyshard@{HOME}:{self.port}/", "--password-file", str(self.secrets / "service"),
            "--secret-file", str(self.secrets / "agents"),
        ]  # fmt: skip

    def start(self, name: str, command: list[str], **environment: object) -> None:
        settings = {
            "SKYSHARD": f"{sys.executable} -m skyshard.cli",
            "SECRETS": self.secrets,
            "DATA": self.directory / name,
            **environment,
        }
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env={**os.environ, **{key: str(value) for key, value in settings.items()}},
            )  # fmt: skip

    def start_home(self, **environment: object) -> None:
        ready = self.directory / "home" / "ready"
        ready.unlink(missing_ok=True)
        self.start(
            "home", ["bash", "deploy/docker/home.sh"], LISTEN=f"{HOME}:{self.port}",
            PROXY_NETWORKS=f"10.7.0.0/16, {PROXY_ELSEWHERE}", **environment,
        )  # fmt: skip
        self.wait(ready.exists, "home")

    def start_worker(self, name: str) -> None:
        home = f"mysql://skyshard@{HOME}:{self.port}/"
        address = WORKERS[name]
        self.start(
            name, ["bash", "deploy/docker/worker.sh"], WORKER=name, ADDRESS=address, HOST=address,
            PORT=self.port, HTTP_PORT=self.port + 1, HOME_URL=home,
        )  # fmt: skip

    def start_proxy(self) -> None:
        config = yaml.safe_load((ROOT / "conf" / "proxy.yaml").read_text())
        config |= {"listen": f"{PROXY}:{self.port}", "http": f"{PROXY}:{self.port + 1}"}
        config["secret_file"] = str(self.secrets / "agents")
        config["home"] |= {"host": HOME, "port": self.port, "password_file": str(self.secrets / "service")}
        path = self.directory / "proxy.yaml"
        path.write_text(yaml.safe_dump(config))
        self.start("proxy", [sys.executable, "-m", "skyshard.cli", "proxy", "--config", str(path)])

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def wait(self, condition, name: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self.processes[name].poll() is None, self.log(name)
            assert time.monotonic() < deadline, self.log(name)
            time.sleep(0.05)

    def workers(self) -> list[list[str]]:
        done = skyshard("worker", "list", *self.options)
        return [line.split() for line in done.stdout.splitlines()]

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        assert [child for child in below if child.is_running()] == []
        return code


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    port = next(p for p in range(21000, 31000, 7) if is_free(p) and is_free(p + 1))
    made = Deployment(tmp_path_factory.mktemp("d"), port)
    try:
        made.start_home(REPLICAS=2)
        for name in WORKERS:
            made.start_worker(name)
            made.wait(lambda name=name: "is " + name in made.log(name), name)
        made.start_proxy()
        made.wait(lambda: can_connect(made), "proxy")
        yield made
    finally:
        for name in list(made.processes):
            made.stop(name)


def test_a_workers_server_gives_way_to_its_agent(deployment):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    started = psutil.Process(deployment.processes["worker1"].pid)
    found = {process.name(): process.nice() - own for process in started.children(recursive=True)}
    assert {name: nice for name, nice in found.items() if nice} == {"mariadbd": WORKER_NICE}


def connect(made, password="root's secret", **options):
    return pymysql.connect(host=PROXY, port=made.port, user="root", password=password, **options)


def at_home(made):
    return pymysql.connect(host=HOME, port=made.port, user="root", password="root's secret")


def can_connect(made):
    with socket.socket() as probe:
        return probe.connect_ex((PROXY, made.port)) == 0


def test_workers_register_themselves(deployment):
    listed = deployment.workers()
    assert [[line[1], line[3], line[-1]] for line in listed] == [[name, "active", "ok"] for name in WORKERS]
    assert [line[2] for line in listed] == [f"{address}:{deployment.port}" for address in WORKERS.values()]


def test_a_catalogue_is_loaded_and_read(deployment, tmp_path):
    skyshard("ingest", handmade.write(tmp_path / "lab", stars=60), *deployment.options)
    with connect(deployment, database="lab") as client, client.cursor() as cursor:
        cursor.execute("SELECT COUNT(*), COUNT(DISTINCT starId) FROM Star WHERE decl > -91")
        assert cursor.fetchall() == ((60, 60),)
    copies = [int(line[4]) for line in deployment.workers()]
    assert copies[0] == copies[1] > 0  # REPLICAS=2


def test_nobody_comes_in_without_a_password(deployment):
    for password in ("", "service's secret"):
        with pytest.raises(pymysql.OperationalError) as caught:
            connect(deployment, password=password)
        assert caught.value.args[0] == 1045
    with connect(deployment) as client, client.cursor() as cursor:
        cursor.execute("SELECT User, Host FROM mysql.user WHERE Host = '%' OR User = ''")
        assert set(cursor.fetchall()) == {("root", "%"), ("skyshard", "%")}


def test_a_command_is_told_by_the_environment_where_the_cluster_is(deployment):
    given = dict(zip(deployment.options[::2], deployment.options[1::2], strict=True))
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["skyshard"]
    assert service["entrypoint"] == ["/venv/bin/skyshard"]
    told = {name: given["--" + name.removeprefix("SKYSHARD_").lower().replace("_", "-")]
            for name in service["environment"]}  # fmt: skip
    done = CliRunner().invoke(cli, ["worker", "list"], env=told)
    assert done.exit_code == 0, done.output
    assert [line.split()[1] for line in done.output.splitlines()] == list(WORKERS)


def connected_by_proxy(made, source):
    """Log ada in as a proxy at an address does, for a client whose address is CLIENT."""
    sock = socket.create_connection((HOME, made.port), source_address=(source, 0))
    sock.sendall(f"PROXY TCP4 {CLIENT} {HOME} 40000 3306\r\n".encode())
    client = pymysql.connect(user="ada", password="secret", defer_connect=True)
    client.connect(sock)
    return client


def test_only_proxies_of_its_networks_tell_home_who_their_clients_are(deployment):
    with at_home(deployment) as root:
        root.cursor().execute(f"CREATE USER ada@'{CLIENT}' IDENTIFIED BY 'secret'")
        with connected_by_proxy(deployment, PROXY_ELSEWHERE) as client, client.cursor() as cursor:
            cursor.execute("SELECT USER()")
            assert cursor.fetchall() == ((f"ada@{CLIENT}",),)
        with pytest.raises(pymysql.OperationalError):  # the connection is cut
            connected_by_proxy(deployment, STRANGER)
        root.cursor().execute(f"DROP USER ada@'{CLIENT}'")


def test_the_home_server_comes_back_with_its_number_of_copies(deployment):
    assert deployment.stop("home") == 0
    deployment.start_home()  # without REPLICAS
    with at_home(deployment) as root, root.cursor() as cursor:
        cursor.execute("SELECT value FROM skyshard_meta.cluster WHERE name = 'replicas'")
        assert cursor.fetchall() == (("2",),)
    deployment.wait(lambda: can_query(deployment), "proxy")


def can_query(made):
    try:
        with connect(made):
            return True
    except pymysql.OperationalError:
        return False


def test_a_worker_comes_back_with_its_data(deployment):
    assert deployment.stop("worker1") == 0
    assert deployment.workers()[0][-2:] == ["no", "answer"]
    with connect(deployment, database="lab") as client, client.cursor() as cursor:
        cursor.execute("SELECT MAX(starId) FROM Star")  # the other worker has a copy of every chunk
        assert cursor.fetchall() == ((60,),)
    deployment.start_worker("worker1")
    deployment.wait(lambda: deployment.log("worker1").count("Worker 1 is worker1") == 2, "worker1")
    assert [line[-1] for line in deployment.workers()] == ["ok", "ok"]


def test_an_entrypoint_ends_when_one_of_its_processes_does(deployment):
    script = deployment.processes["worker2"]
    (agent,) = [child for child in psutil.Process(script.pid).children() if "agent" in child.cmdline()]
    agent.kill()
    assert script.wait(60) == 1
    deployment.processes.pop("worker2")
    deployment.start_worker("worker2")
    deployment.wait(lambda: deployment.log("worker2").count("Worker 2 is worker2") == 2, "worker2")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["worker", "add", "x", "--host", WORKERS["worker1"]], "is worker worker1, not x"),
        (["worker", "add", "x", "--host", "127.0.0.9"], "no agent that knows the secret answers"),
        (["worker", "list", "--home", "nonsense"], "expected mysql://"),
        (["worker", "list", "--home", "mysql://127.0.0.9:1/"], "the home server cannot be reached"),
    ],
)
def test_mistakes_are_one_message(deployment, arguments, text):
    rest = deployment.options[2:] if "--home" in arguments else deployment.options
    port = ["--port", str(deployment.port)] if "add" in arguments else []
    done = skyshard(*arguments, *rest, *port, check=False)
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_proxy_without_its_home_says_so(deployment, tmp_path):
    config = yaml.safe_load((deployment.directory / "proxy.yaml").read_text())
    config |= {"listen": f"{PROXY}:{deployment.port + 2}", "http": None}
    config["home"]["host"] = "127.0.0.9"
    path = tmp_path / "proxy.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    done = skyshard("proxy", "--config", path, check=False)
    assert done.returncode == 1
    assert "skyshard proxy: " in done.stderr
    assert "Traceback" not in done.stderr
