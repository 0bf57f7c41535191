"""A cluster on one machine: healthy, idempotent, mended after deaths, gone without a trace."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import psutil
import pymysql
import pytest

from backend.connection import RawConnection
from skyshard.cluster import health, layout, local
from skyshard.cluster import state as states
from skyshard.cluster.connect import from_dir
from skyshard.cluster.mariadb import WORKER_NICE
from skyshard.errors import UserError


def skyshard(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "skyshard.cli", *map(str, arguments)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=110,
    )  # fmt: skip


def ask(port: int, sql: str) -> tuple[tuple[object, ...], ...]:
    """Ask as root without a password, over TCP."""
    with pymysql.connect(host="127.0.0.1", port=port, user="root") as client, client.cursor() as cursor:
        cursor.execute(sql)
        return tuple(cursor.fetchall())


def pids(directory: Path) -> dict[str, int]:
    return {process.name: process.pid for process in states.require(directory).processes}


def test_all_are_healthy_and_the_proxy_answers(running: Path) -> None:
    shown = skyshard("cluster", "status", "--dir", running)
    assert shown.returncode == 0, shown.stdout
    names = [line.split()[:2] for line in shown.stdout.splitlines()]
    assert names == [
        [name, "ok"] for name in ("supervisor", "home", "worker1", "agent-worker1", "proxy1", "proxy2")
    ]
    state = states.require(running)
    assert ask(state.port, "SELECT 1 + 1, CURRENT_USER()") == ((2, "root@localhost"),)


def test_workers_servers_give_way_to_what_answers(running: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    nice = {name: psutil.Process(pid).nice() - own for name, pid in pids(running).items()}
    assert nice == {"home": 0, "worker1": WORKER_NICE, "agent-worker1": 0, "proxy1": 0, "proxy2": 0}


def test_up_again_changes_nothing(running: Path) -> None:
    before = pids(running)
    again = skyshard("cluster", "up", "--dir", running)
    assert again.returncode == 0, again.stderr
    assert f"mariadb -h 127.0.0.1 -P {states.require(running).port} -u root" in again.stdout
    assert pids(running) == before
    other = skyshard("cluster", "up", "--dir", running, "--workers", 3)
    assert (other.returncode, "--workers 1" in other.stderr) == (1, True)
    assert "Traceback" not in other.stderr


def test_accounts_settings_and_modes(running: Path) -> None:
    port = states.require(running).port
    accounts = set(ask(port, "SELECT User, Host FROM mysql.user WHERE User <> 'mariadb.sys'"))
    assert accounts == {
        ("root", "localhost"), ("root", "127.0.0.1"), ("root", "::1"), ("skyshard", "localhost"),
        ("skyshard_trap", "localhost"), ("PUBLIC", ""),  # a role: everybody
    }  # fmt: skip
    assert not {"test"} & {row[0] for row in ask(port, "SHOW DATABASES")}
    settings = "@@max_connections >= 4500, @@thread_handling, @@local_infile, @@performance_schema, @@log_bin"
    assert ask(port, f"SELECT {settings}, @@skip_networking, @@proxy_protocol_networks <> ''") == (
        (1, "pool-of-threads", 1, 0, 0, 1, 1),
    )
    assert [path.stat().st_mode & 0o777 for path in (running / "secrets").iterdir()] == [0o600, 0o600]
    assert running.stat().st_mode & 0o077 == 0


async def test_metadata_and_workers(running: Path) -> None:
    home = await RawConnection.open(from_dir(running).home)
    rows = await home.fetch("SELECT worker_id, name, host, port, http_port FROM skyshard_meta.workers")
    replicas = await home.fetch("SELECT value FROM skyshard_meta.cluster WHERE name='replicas'")
    await home.close()
    ports = states.require(running).ports
    numbers = [str(ports[name]).encode() for name in ("worker1", "worker1-http")]
    assert rows == [[b"1", b"worker1", b"127.0.0.1", *numbers]]
    assert replicas == [[b"1"]]


@pytest.mark.parametrize("name", ["proxy1", "agent-worker1", "home", "worker1"])
def test_what_dies_is_started_again(running: Path, name: str) -> None:
    before = pids(running)
    restarts = {p.name: p.restarts for p in states.require(running).processes}[name]
    victim = psutil.Process(before[name])
    victim.kill()
    victim.wait(10)
    local.up(running, local.Wish())  # waits until all are healthy
    state = states.require(running)
    assert pids(running)[name] != before[name]
    assert {p.name: p.restarts for p in state.processes}[name] == restarts + 1
    assert ask(state.port, "SELECT 1") == ((1,),)


def test_down_leaves_no_process_and_keeps_data(running: Path) -> None:
    state = states.require(running)
    ask(state.port, "CREATE DATABASE mine")
    boss = health.supervisor_of(running)
    assert boss is not None
    everyone = {pid: health.started(pid) for pid in (boss.pid, *pids(running).values())}
    with pymysql.connect(host="127.0.0.1", port=state.port, user="root") as client:
        client.begin()  # nobody waits for it
        assert skyshard("cluster", "down", "--dir", running).returncode == 0
        with pytest.raises(pymysql.OperationalError):
            client.ping(reconnect=False)
    assert "is killed" not in (running / "logs" / "supervisor.log").read_text()
    assert [pid for pid, start in everyone.items() if health.process_of(pid, start)] == []
    assert skyshard("cluster", "status", "--dir", running).returncode == 1
    assert "not running" in skyshard("cluster", "down", "--dir", running).stdout
    local.up(running, local.Wish())
    assert states.require(running).port == state.port
    assert ("mine",) in ask(state.port, "SHOW DATABASES")


def test_a_process_is_known_by_its_start_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.getpid()
    start = health.started(own)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 4102444800.0)  # the clock is set
    assert health.process_of(own, start) == psutil.Process(own)
    assert health.process_of(own, start + 0.03) is None
    assert health.process_of(own, start - 1) is None
    assert health.process_of(0, 0.0) is None
    with pytest.raises(psutil.NoSuchProcess):
        health.started(2**22 + 1)  # no process has it


def test_a_killed_supervisor_takes_its_children_with_it(running: Path) -> None:
    boss = health.supervisor_of(running)
    assert boss is not None
    children = [psutil.Process(pid) for pid in pids(running).values()]
    boss.send_signal(signal.SIGKILL)
    boss.wait(10)
    local.up(running, local.Wish())
    assert not any(child.is_running() for child in children)
    assert ask(states.require(running).port, "SELECT 1") == ((1,),)


def test_clusters_side_by_side(running: Path, make, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    """Each has its own data; stopping one leaves the other alone."""
    other = make(tmp_path_factory.mktemp("beside") / "c", local.Wish(workers=1, port=local.free_port()))
    ports = [states.require(directory).port for directory in (running, other)]
    ask(ports[1], "CREATE DATABASE theirs")
    assert ("theirs",) not in ask(ports[0], "SHOW DATABASES")
    assert set(pids(running).values()).isdisjoint(pids(other).values())
    before = pids(running)
    local.down(other)
    assert pids(running) == before
    assert all(found.healthy for found in local.status(running))
    with pytest.raises(pymysql.OperationalError):
        ask(ports[1], "SELECT 1")


def test_more_workers_but_never_fewer(running: Path) -> None:
    local.down(running)
    local.up(running, local.Wish(workers=2, proxies=1))
    assert [found.name for found in local.status(running) if found.healthy][1:4] == [
        "home",
        "worker1",
        "worker2",
    ]
    with pytest.raises(UserError, match="--auto-repair-after"):
        local.up(running, local.Wish(auto_repair_after=5.0))
    local.down(running)
    with pytest.raises(UserError, match="cannot be fewer"):
        local.up(running, local.Wish(workers=1))


def test_the_automatic_repair_runs_where_it_is_wanted(running: Path) -> None:
    local.up(running, local.Wish(auto_repair_after=5.0))
    shown = {found.name: found for found in local.status(running)}
    assert shown["repair"].healthy
    deadline = time.monotonic() + 20
    while (
        "automatic repair (after 5 s) runs; 0 copies"
        not in skyshard("worker", "list", "--dir", running).stdout
    ):
        assert time.monotonic() < deadline
    with urlopen(
        f"http://127.0.0.1:{states.require(running).ports['proxy1-http']}/metrics", timeout=20
    ) as answer:
        assert "skyshard_auto_repair_seconds 5.0" in answer.read().decode()
    local.down(running)
    local.up(running, local.Wish(auto_repair_after=0.0))
    assert "repair" not in pids(running)
    assert "automatic" not in skyshard("worker", "list", "--dir", running).stdout
    local.down(running)


def test_two_ups_at_once_make_one_cluster(make, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    directory = tmp_path_factory.mktemp("twice") / ("long" * 25)  # its sockets would be too long
    wish = local.Wish(workers=1, port=local.free_port())
    seen: list[dict[str, int]] = []
    threads = [
        threading.Thread(target=lambda: (make(directory, wish), seen.append(pids(directory)))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert all(len(path) < 108 for path in states.require(directory).sockets.values())
    assert ask(wish.port or 0, "SELECT 1") == ((1,),)
    shutil.rmtree(Path(states.require(directory).sockets["home"]).parent, ignore_errors=True)


def test_mistakes_are_one_message(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = skyshard("cluster", "up", "--dir", tmp_path / "a", "--port", taken.getsockname()[1])
    (tmp_path / "file").write_text("")
    cases = {
        "is in use": busy,
        "cannot write to": skyshard("cluster", "up", "--dir", tmp_path / "file" / "c"),
        "there is no cluster in": skyshard("cluster", "status", "--dir", tmp_path / "none"),
        "needs its own worker": skyshard("cluster", "up", "--dir", tmp_path / "b", "--replicas", 3),
    }
    for text, done in cases.items():
        assert done.returncode == 1, done.stdout
        assert text in done.stderr
        assert "Traceback" not in done.stderr


def test_without_mariadb_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(UserError, match="apt-get install mariadb-server"):
        local.up(tmp_path / "c", local.Wish(port=local.free_port()))


def test_a_start_that_fails_leaves_nothing(make, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    directory = tmp_path_factory.mktemp("broken") / "c"
    layout.make_directories(directory)
    (directory / "home" / "data").mkdir(parents=True)  # not a data directory: mariadbd ends at once
    old = local.START_S
    local.START_S = 3.0
    try:
        with pytest.raises(UserError, match=r"home did not become healthy(.|\n)*home.log"):
            make(directory, local.Wish(workers=1, port=local.free_port()))
    finally:
        local.START_S = old
    assert health.supervisor_of(directory) is None
    assert not any(found.healthy for found in asyncio.run(health.check(directory, states.require(directory))))
