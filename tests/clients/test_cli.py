"""The mariadb command-line client, by itself and under a terminal; mariadb-dump; unixODBC's isql."""

import os
import pty
import re
import select
import subprocess
import time

import pytest

from tests.clients import table
from tests.clients.conftest import ACCOUNTS, DRIVERS, SCRATCH, compare_peaks, measured, without_scratch
from tests.support.rawclient import RawClient

SCRIPT = dict(
    line.split("\t", 1)
    for line in (DRIVERS / "script.tsv").read_text().replace("$DB", "own_cli").splitlines()
)


def options(server, mode):
    user, password = ACCOUNTS[mode]
    tls = (
        ["--ssl", f"--ssl-ca={server.certificate}", "--ssl-verify-server-cert"]
        if mode == "tls"
        else ["--skip-ssl"]
    )
    return [
        "--no-defaults",
        "-h127.0.0.1",
        f"-P{server.port}",
        f"-u{user}",
        f"-p{password}" if password else "--skip-password",
        *tls,
    ]


def run(server, mode, *arguments, text="", program="mariadb"):
    done = subprocess.run(
        [program, *options(server, mode), "--default-character-set=utf8mb4", *arguments], input=text, capture_output=True, encoding="utf-8",
        errors="backslashreplace", timeout=100, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )  # fmt: skip
    error = re.sub(
        r"(?s)-{10,}\n.*?\n-{10,}\n\n", "", done.stderr
    )  # the statement, if it failed before its columns
    return done.returncode, done.stdout, error


def peak(server, mode):
    """Return the most memory of the client while it streams, in KiB."""
    command = ["mariadb", *options(server, mode), "--quick", "--execute", SCRIPT["stream"]]
    done = subprocess.run(
        measured(command, "--only"), capture_output=True, text=True, timeout=100, check=True
    )
    return done.stdout.split()[1]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ACCOUNTS)
def test_batch(both, need, mode):
    need("mariadb CLI")
    said = []
    for server in (both.plain, both.ours):
        steps = {}
        run(
            server,
            mode,
            text="DROP DATABASE IF EXISTS own_cli; CREATE DATABASE own_cli CHARACTER SET utf8mb4",
        )
        for step, sql in SCRIPT.items():
            if step in ("stream", "slow", "warned", "warnings"):
                continue
            for style in ("--batch", "--table", "--vertical", "--xml", "--html", "--column-type-info"):
                if style != "--batch" and step not in ("typed", "every", "own_read"):
                    continue
                code, out, err = run(server, mode, style, "hip", text=sql + ";")
                steps[f"{step} {style}"] = repr((code, out, err))
        counted = run(server, mode, "--quick", "--skip-column-names", text=SCRIPT["stream"])
        steps["stream"] = repr((counted[0], len(counted[1].splitlines())))
        steps["peak"] = peak(server, mode)
        steps["warnings"] = repr(
            run(server, mode, "--show-warnings", "-vv", text=SCRIPT["warned"] + " ORDER BY 1")[:1]
        )
        steps["several"] = repr(
            run(server, mode, "hip", text="delimiter //\nSELECT 1; SELECT COUNT(*) FROM Object//\nSELECT 2//")
        )
        steps["safe"] = repr(
            run(server, mode, "--safe-updates", "hip", text="SELECT objectId FROM Object ORDER BY objectId")
        )
        steps["compressed"] = repr(run(server, mode, "--compress", text=SCRIPT["typed"]))
        steps["forced"] = repr(
            run(
                server, mode, "--force", "hip", text="SELECT nosuch FROM Object; SELECT COUNT(*) FROM Object;"
            )
        )
        run(server, mode, text="DROP DATABASE own_cli")
        said.append(steps)
    compare_peaks("mariadb CLI", *said)
    table.note("mariadb CLI", mode, *said, SCRATCH, 0)
    for step, plain in said[0].items():
        ours = said[1][step]
        assert (without_scratch(ours) if step in SCRATCH else ours) == plain, step


class Terminal:
    """The client under a pseudo terminal."""

    def __init__(self, server, mode="open"):
        self.seen, self.asked = "", 0
        child, self.fd = pty.fork()
        if child == 0:
            os.environ.update(TERM="dumb", COLUMNS="200", LANG="C.UTF-8", MYSQL_HISTFILE="/dev/null")
            os.execvp("mariadb", ["mariadb", *options(server, mode), "--prompt=ready> ", "hip"])
        self.child = child
        self.ask("")

    def until(self, mark, seconds=30):
        """Return what comes up to a mark."""
        deadline = time.monotonic() + seconds
        while mark not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{mark!r} did not come: {self.seen[-2000:]!r}"
            self.seen += os.read(self.fd, 1 << 16).decode("utf-8", "replace")
        found, _, self.seen = self.seen.partition(mark)
        return found

    def type(self, text):
        os.write(self.fd, text.encode())

    def ask(self, text):
        """Return what a line brings up: all until a shell's arithmetic, which no echo of input shows."""
        self.asked += 1
        self.type(f"{text}\n\\! echo fin$(({self.asked} + 1000))\n")
        said = self.until(f"fin{self.asked + 1000}").replace("\r", "").replace("\x07", "")
        hidden = ["ready> ", "echo fin", *([text] if text else [])]
        return "\n".join(line for line in said.splitlines() if not any(mark in line for mark in hidden))

    def close(self):
        self.type("\\q\n")
        os.waitpid(self.child, 0)
        os.close(self.fd)


@pytest.fixture
def terminals(both, need):
    need("mariadb CLI")
    opened = [Terminal(server) for server in (both.plain, both.ours)]
    yield opened
    for terminal in opened:
        terminal.close()


def test_completion_in_a_terminal(terminals):
    found = [terminal.ask("SELECT COUNT(*) FROM ObjectBr\t WHERE 1;") for terminal in terminals]
    assert re.findall(r"\| +(\d+) \|", found[0]) == re.findall(r"\| +(\d+) \|", found[1]) != []
    table.note_tests("mariadb CLI", "completion")


def test_status_and_use_in_a_terminal(terminals):
    plain, ours = (terminal.ask("\\s") for terminal in terminals)
    for line in (
        "Server version:",
        "Protocol version:",
        "Current database:",
        "Current user:",
        "Server characterset:",
        "Conn.  characterset:",
        "SSL:",
    ):
        wanted, got = (
            next(found for found in text.splitlines() if found.startswith(line)) for text in (plain, ours)
        )
        assert wanted == got
    assert "Uptime:" in ours
    for text in (
        "use lab",
        "SELECT DATABASE();",
        "show tables;",
        "DESCRIBE Star;",
        "SELECT COUNT(*) FROM Star;",
        "\\u hip",
        "SELECT kind FROM lab.Star LIMIT 0;",
        "nonsense;",
        "\\W",
        "\\w",
    ):
        plain, ours = (re.sub(r"[\d.]+ sec", "… sec", terminal.ask(text)) for terminal in terminals)
        assert plain == ours, text
    table.note_tests("mariadb CLI", r"\s")


def test_interrupting_in_a_terminal(terminals):
    for terminal in terminals:
        terminal.type(SCRIPT["slow"] + ";\n")
        time.sleep(1)  # a person looks for a moment before interrupting
        started = time.monotonic()
        terminal.type("\x03")
        terminal.until("ERROR 1317 (70100)")
        assert time.monotonic() - started < 2
        assert "118216" in terminal.ask("SELECT COUNT(*) FROM Object;")
    table.note_tests("mariadb CLI", "Ctrl-C")


def test_progress_in_a_terminal(terminals):
    _, ours = terminals
    ours.type(SCRIPT["slow"] + ";\n")
    said = ours.until("% of stage done")
    assert re.search(r"Stage: 1 of 2 'scatter\+merge: \d+/\d+ chunks' +[\d.]+$", said), said
    ours.type("\x03")
    ours.until("ERROR 1317 (70100)")
    assert "118216" in ours.ask("SELECT COUNT(*) FROM Object;")
    table.note_tests("mariadb CLI", "progress line")


def dump(server, mode, *arguments):
    code, out, err = run(server, mode, *arguments, program="mariadb-dump")
    assert code == 0, err
    return re.sub(r"(?m)^-- (Host|Server version|Dump completed|MariaDB dump).*$", "", out)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ACCOUNTS)
@pytest.mark.parametrize("how", [(), ("--single-transaction", "--quick"), ("--skip-extended-insert", "--complete-insert", "--hex-blob", "--order-by-primary")], ids=["locks", "transaction", "complete"])  # fmt: skip
def test_dump_of_a_sharded_database_restores(both, need, mode, how):
    need("mariadb CLI")
    text = dump(both.ours, mode, *how, "lab")
    run(
        both.plain,
        mode,
        text="DROP DATABASE IF EXISTS own_back; CREATE DATABASE own_back CHARACTER SET utf8mb4",
    )
    code, _, err = run(both.plain, mode, "own_back", text=text)
    assert code == 0, err
    for name in ("Star", "Visit", "Ref", "StarRef", "Band", "Lut"):
        counts = []
        for database in ("lab", "own_back"):
            columns = run(
                both.plain,
                mode,
                "--skip-column-names",
                text=f"SELECT GROUP_CONCAT(COLUMN_NAME ORDER BY ORDINAL_POSITION) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA='lab' AND TABLE_NAME='{name}' AND EXTRA NOT LIKE '%INVISIBLE%'",
            )[1].strip()
            counts.append(
                run(
                    both.plain,
                    mode,
                    "--skip-column-names",
                    text=f"SELECT COUNT(*), BIT_XOR(CRC32(CONCAT_WS('|', {columns}))) FROM {database}.{name}",
                )[1]
            )
        assert counts[0] == counts[1] != "", name
    run(both.plain, mode, text="DROP DATABASE own_back")
    table.note_tests("mariadb-dump", "a sharded database restores into plain MariaDB")


@pytest.mark.timeout(200)
def test_dump_of_an_own_database_is_the_same(both, need):
    need("mariadb CLI")
    dumped = []
    for server in (both.plain, both.ours):
        run(
            server,
            "open",
            text="DROP DATABASE IF EXISTS own_cli; CREATE DATABASE own_cli CHARACTER SET utf8mb4;"
            + SCRIPT["own_make"]
            + ";"
            + SCRIPT["own_fill"],
        )
        run(
            server,
            "open",
            "own_cli",
            text="CREATE VIEW v AS SELECT id, d FROM kinds; CREATE TRIGGER tr BEFORE INSERT ON kinds FOR EACH ROW SET NEW.tiny = 1",
        )
        dumped.append(dump(server, "open", "--routines", "--triggers", "own_cli"))
        run(server, "open", text="DROP DATABASE own_cli")
    assert dumped[0].replace(str(both.plain.port), "") == dumped[1].replace(str(both.ours.port), "")
    assert "CREATE" in dumped[1]
    table.note_tests("mariadb-dump", "the dump of an own database is identical")


def without_the_view_of_queries(text):
    """Take the one row of skyshard_jobs' view out of the list of all tables, and out of its two counts."""
    lines = text.splitlines()
    (at,) = [number for number, line in enumerate(lines) if "| skyshard_jobs " in line]
    del lines[at]
    for pattern in (r"^SQLRowCount returns (\d+)$", r"^(\d+) rows fetched$"):  # the list is asked for first
        number, match = next((n, m) for n, line in enumerate(lines) if (m := re.match(pattern, line)))
        lines[number] = lines[number].replace(match[1], str(int(match[1]) - 1))
    return "\n".join(lines) + "\n"


@pytest.mark.timeout(100)
@pytest.mark.parametrize("mode", ACCOUNTS)
def test_isql(both, need, tmp_path, mode):
    need("ODBC")
    said = []
    for server in (both.plain, both.ours):
        user, password = ACCOUNTS[mode]
        tls = f"SSLCA={server.certificate};SSLVERIFY=1;" if mode == "tls" else ""
        source = f"DRIVER={{MariaDB Unicode}};SERVER=127.0.0.1;PORT={server.port};UID={user};PWD={{{password}}};DATABASE=lab;{tls}"
        text = "\n".join(
            [
                "help",
                "help Star",
                "SELECT COUNT(*) FROM Star",
                "SELECT starId, name, d FROM Star WHERE starId < 20 ORDER BY starId",
                "SELECT nosuch FROM Star",
                "SELECT kind, COUNT(*) FROM Star GROUP BY kind ORDER BY kind",
                "quit",
            ]
        )
        done = subprocess.run(
            ["isql", "-k", "-b", "-v", source], input=text, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said.append((done.stdout, done.stderr))
    assert said[0] == (without_the_view_of_queries(said[1][0]), said[1][1])
    assert "galaxy" in said[1][0]
    table.note_tests("ODBC", "isql with and without TLS")


@pytest.mark.timeout(100)
def test_connecting_and_asking_takes_no_longer_than_two_connections_would(both):
    def seconds(server):
        started = time.perf_counter()
        with RawClient(server.port) as client:
            client.connect(user=ACCOUNTS["open"][0], database="hip")
            client.query("SELECT 1")
        return time.perf_counter() - started

    best = []
    for server in (both.plain, both.ours):
        best.append(min(seconds(server) for _ in range(200)))
    assert best[1] <= 2 * best[0] + 0.0005, best  # the home server's connection, and half a millisecond
