"""MariaDB Connector/J, and STILTS over it."""

import subprocess

import pytest

from tests.clients import table
from tests.clients.conftest import ACCOUNTS, DRIVERS

JAR = "/usr/share/java/mariadb-java-client.jar"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("java")
    subprocess.run(
        ["javac", "-encoding", "UTF-8", "-cp", JAR, "-d", directory, DRIVERS / "Jdbc.java"],
        check=True,
        timeout=120,
    )
    return directory


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ACCOUNTS)
def test_connector_j(both, need, compiled, mode):
    need("Connector/J")
    command = [
        "java",
        "-Dfile.encoding=UTF-8",
        "-Xmx192m",
        "-Duser.timezone=UTC",
        "-cp",
        f"{compiled}:{JAR}",
        "Jdbc",
    ]
    both.compare("Connector/J", command, mode)


@pytest.mark.timeout(120)
def test_stilts(both, need, tmp_path):
    need("STILTS")
    made = []
    for server in (both.plain, both.ours):
        out = tmp_path / f"{server.name}.csv"
        source = f"jdbc:mariadb://127.0.0.1:{server.port}/lab#SELECT starId, ra, decl, name, d, big, small FROM Star WHERE starId < 200"
        subprocess.run(
            [
                "stilts", "-classpath", JAR, "-Djdbc.drivers=org.mariadb.jdbc.Driver", "tpipe", f"in={source}",
                "cmd=sort starId", f"out={out}", "ofmt=csv",
            ],
            check=True, timeout=60, capture_output=True, env=server.environment("open", "own_clients") | {"HOME": str(tmp_path)},
        )  # fmt: skip
        made.append(out.read_text())
    assert made[0] == made[1]
    assert made[0].count("\n") == 200
    table.note_tests("STILTS", "tpipe over jdbc:mariadb")
