"""Fixtures of the sessions' tests: accounts, raw clients, proxies with settings of their own."""

import pymysql
import pytest

from tests.support.rawclient import RawClient
from tests.support.servers import ExtraProxy, Inside


@pytest.fixture
def client(cluster):
    connection = pymysql.connect(
        host="127.0.0.1", port=cluster.port, user="root", database="hip", autocommit=True
    )
    yield connection
    connection.close()


@pytest.fixture
def raw(cluster):
    """Return a function that opens raw clients of the cluster."""
    opened = []

    def open_one(port=None, **options):
        made = RawClient(port or cluster.port)
        opened.append(made)
        return made.connect(**options)

    yield open_one
    for made in opened:
        made.socket.close()


@pytest.fixture
def proxy(cluster, tmp_path):
    """Return a function that starts another proxy of the cluster."""
    started = []

    def start(**settings):
        started.append(ExtraProxy(cluster, tmp_path, **settings))
        return started[-1]

    yield start
    for made in started:
        made.stop()


@pytest.fixture
def account(client):
    """Return a function that makes an account."""
    made = []

    def create(name, how="IDENTIFIED BY 'geheim'", grants=("SELECT ON hip.*",)):
        with client.cursor() as cursor:
            cursor.execute(f"CREATE OR REPLACE USER {name} {how}")
            for grant in grants:
                cursor.execute(f"GRANT {grant} TO {name}")
        made.append(name)

    yield create
    with client.cursor() as cursor:
        for name in made:
            cursor.execute(f"DROP USER IF EXISTS {name}")


@pytest.fixture
def pair(raw, plain):
    """Return a function that opens the same client at skyshard and at plain MariaDB."""
    opened = []

    def open_two(database="hip", **options):
        other = RawClient(plain.socket)
        opened.append(other)
        return raw(database=database, **options), other.connect(database=database, **options)

    yield open_two
    for made in opened:
        made.socket.close()


@pytest.fixture
def own(client):
    with client.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE DATABASE own_protocol")
        yield "own_protocol"
        cursor.execute("DROP DATABASE own_protocol")


@pytest.fixture
def short(cluster):
    """Return a function that gives how many look-ups took the short way since it was last asked."""
    inside, seen = Inside(cluster.directory), [0.0]

    def count():
        before, seen[0] = seen[0], inside.figures("proxy1").get("skyshard_look_ups_total", 0.0)
        return seen[0] - before

    count()
    return count
