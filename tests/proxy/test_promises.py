"""What a connector says first is answered at once, and holds for what follows: as if the home server had answered."""

import struct

import pytest

from backend.connection import RawConnection
from proxy.home.spares import SpareLinks
from proxy.session.handshake import greeting
from proxy.session.promises import MOST, promised
from shard.errors import ServerError
from shard.wire.packets import packet
from tests.support.agents import until
from tests.support.rawclient import USUAL, RawClient

TRACKS = 1 << 23
FIRST = (
    "SET NAMES utf8mb4",
    "set autocommit=0",
    "SET AUTOCOMMIT = 1;",
    "SET  NAMES 'utf8mb4'",
    "SET autocommit = 0",
)
ASKED = "SELECT @@character_set_client, @@character_set_results, @@collation_connection, @@autocommit"
COUNTED = "SHOW SESSION STATUS LIKE 'Com_set_option'"


@pytest.mark.parametrize(
    ("sql", "status", "expected"),
    [
        ("SET NAMES utf8mb4", 2, 2),
        ("SET NAMES utf8mb4", 1, 1),
        ("set names 'UTF8MB4' ;", 0, 0),
        ("SET AUTOCOMMIT = 0", 2, 0),
        ("SET SESSION autocommit=1", 0, 2),
        ("SET NAMES 'utf8mb4", 2, None),
        ("SET NAMES utf8mb4'", 2, None),
        ("SET GLOBAL AUTOCOMMIT = 0", 2, None),
        ("SET NAMES latin1", 2, None),
        ("SET NAMES utf8mb4 COLLATE nonsense", 2, None),
        ("SET AUTOCOMMIT = 2", 2, None),
        ("SET AUTOCOMMIT = 0, @x = 1", 2, None),
        ("SET NAMES utf8mb4; SELECT 1", 2, None),
        ("SET AUTOCOMMIT = 0" + " " * 100, 2, None),
    ],
)
def test_only_what_connectors_say_is_promised(sql, status, expected):
    assert promised(sql.encode(), status, 0) == expected
    assert promised(sql.encode(), status, TRACKS) is None


def said(port, statements):
    """Return the OK packets of statements, and what the session is like afterwards."""
    with RawClient(port) as client:
        client.connect()
        assert not client.flags & TRACKS
        answers = []
        for sql in statements:
            client.command(b"\x03" + sql.encode())
            answers.append(client.read_ok())
        return answers, client.query(ASKED).rows, client.query(COUNTED).rows


@pytest.mark.parametrize("number", range(len(FIRST) + 1))
def test_the_client_sees_no_difference(cluster, plain, number):
    ours, theirs = (said(where, FIRST[:number]) for where in (cluster.port, plain.socket))
    assert ours == theirs
    assert ours[2][0][1] == str(number).encode()


async def test_nothing_is_promised_where_sessions_begin_with_statements_of_the_servers_own(cluster):
    """MariaDB runs them behind the login's OK, whose flags do not tell of them."""

    def begin():
        with RawClient(cluster.port) as client:
            client.connect("begun", "p")
            client.command(b"\x03SET NAMES utf8mb4")
            return struct.unpack_from("<H", client.read_ok(), 3)[0]

    async def not_in_autocommit():
        return begin() & 2 == 0

    async def in_autocommit():
        return begin() & 2 == 2

    with RawClient(cluster.port) as root:
        root.connect()
        root.query("CREATE OR REPLACE USER begun IDENTIFIED BY 'p'")
        assert begin() & 2
        try:
            root.query("SET GLOBAL init_connect = 'SET autocommit = 0'")
            await until(not_in_autocommit)
        finally:
            root.query("SET GLOBAL init_connect = ''")
            await until(in_autocommit)
            root.query("DROP USER begun")


def test_it_holds_for_distributed_queries_too(cluster):
    with RawClient(cluster.port) as client:
        client.connect(database="hip")
        for sql in ("SET NAMES utf8mb4", "SET AUTOCOMMIT = 0"):
            client.query(sql)
        sql = "SELECT CHARSET('a'), @@autocommit, COUNT(*) > 0 FROM Object WHERE objectId > 0"
        assert client.query(sql).rows == [(b"utf8mb4", b"0", b"1")]


def test_autocommit_commits_before_it_answers(cluster):
    with RawClient(cluster.port) as client, RawClient(cluster.port) as other:
        client.connect()
        other.connect()
        client.query("CREATE OR REPLACE DATABASE promised")
        client.query("CREATE TABLE promised.t (n INT) ENGINE=InnoDB")
        client.query("SET AUTOCOMMIT = 0")
        client.query("INSERT INTO promised.t VALUES (1)")
        assert other.query("SELECT * FROM promised.t").rows == []
        client.query("SET AUTOCOMMIT = 1")
        assert other.query("SELECT * FROM promised.t").rows == [(b"1",)]
        client.query("DROP DATABASE promised")


async def logged_in(plain):
    """Return a connection to a server that is logged in as root without a password."""
    spares = SpareLinks(plain.address)
    link = await spares.take()
    await spares.close()
    _, payload = await link.packet()
    link.thread_id = greeting(payload, tls=False).thread_id
    answer = struct.pack("<IIB23x", USUAL & ~TRACKS, 1 << 24, 45) + b"root\0\0"
    await link.send(packet(answer, 1))
    _, payload = await link.packet()
    assert payload[0] == 0
    return link


async def test_promises_go_in_front_of_the_next_command(plain):
    link = await logged_in(plain)
    for number in (1, 2, 3):
        link.promise(f"\x03SET @a{number} = {number}".encode(), 0)
    assert link.status == 0
    assert (await link.table(b"SELECT @a1, @a2, @a3")).rows == [[b"1", b"2", b"3"]]
    link.promise(b"\x03SET @a1 = 5", 2)
    assert (await link.table(b"SELECT @a1")).rows == [[b"5"]]
    await link.close()


def test_later_ones_are_answered_by_the_home_server(cluster):
    with RawClient(cluster.port) as client:
        client.connect()
        for _ in range(MOST + 3):
            client.query("SET NAMES utf8mb4")
        counted = client.query(COUNTED).rows
        assert counted == [(b"Com_set_option", str(MOST + 3).encode())]
        client.query("SET AUTOCOMMIT = 0")
        client.query("BEGIN")
        client.query("SET AUTOCOMMIT = 1")
        assert client.query("SELECT @@in_transaction").rows == [(b"0",)]


async def test_a_promise_that_is_broken_ends_the_session(plain):
    link = await logged_in(plain)
    link.promise(b"\x03SET nonsense = 1", 2)
    with pytest.raises(ServerError) as raised:
        await link.table(b"SELECT 1")
    assert raised.value.errno == 1193
    assert link.closed


async def test_what_was_promised_is_no_goodbye(plain):
    link = await logged_in(plain)
    link.promise(b"\x03SET @a = 1", 2)
    await link.send(packet(b"\x19" + bytes(4), 0))  # the end of a statement, which has no answer
    root = await RawConnection.open(plain.address)
    await until(lambda: idle(root, link.thread_id), 20)
    await root.run(f"KILL {link.thread_id}")
    await link.wait_closed()
    said = link.unasked()
    assert said == b"" or said[4] == 0xFF
    await root.close()


async def idle(root, thread):
    """Whether a connection waits for its next command, and its last was none that has an answer."""
    found = await root.fetch(
        f"SELECT COMMAND, TIME_MS FROM information_schema.PROCESSLIST WHERE ID = {thread}"
    )
    return found[0][0] == b"Sleep"
