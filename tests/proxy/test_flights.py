"""Look-ups that need no task: what interrupts one, or comes in an unusual way, finds it and the session as ever."""

import asyncio
import contextlib
import socket
import threading

import pymysql
import pytest

from tests.proxy.test_session import ask
from tests.support.agents import until
from tests.support.servers import Inside

SQL = "SELECT objectId, ra FROM hip.Object WHERE objectId = {}"


@pytest.fixture
def keys(client):
    """Return keys whose look-ups are known: shape, privileges, chunk."""
    found = [
        row[0]
        for row in ask(client, "SELECT objectId FROM hip.Object WHERE objectId BETWEEN 100 AND 999 LIMIT 5")
    ]
    for key in [*found, *found]:
        assert ask(client, SQL.format(key))[0][0] == key
    return found


@contextlib.contextmanager
def held(cluster, client, key):
    """Let the workers hold up what reads a key's chunk."""
    chunk = ask(client, f"SELECT chunkId FROM hip.Object WHERE objectId = {key}")[0][0]
    inside = Inside(cluster.directory)
    holders = []
    try:
        for number in range(1, inside.state.workers + 1):
            address = inside.server(f"worker{number}")
            holder = pymysql.connect(unix_socket=address.socket, user=address.user, password=address.password)
            holders.append(holder)
            with contextlib.suppress(pymysql.err.ProgrammingError):  # the other worker has this chunk
                ask(holder, f"LOCK TABLES hip.Object_{chunk} WRITE")
        yield inside
    finally:
        for holder in holders:
            holder.close()


def waiting(inside, key, number):
    async def there():
        return await inside.statements(f"= {key}") == number

    asyncio.run(until(there, 30))


def known(cluster, key):
    """Return a session that may look keys up for the next second."""
    connection = pymysql.connect(host="127.0.0.1", port=cluster.port, user="root", database="hip")
    for _ in range(2):
        assert ask(connection, SQL.format(key))[0][0] == key
    return connection


class Asked(threading.Thread):
    """Asks in a thread; `found` is the answer or the error."""

    def __init__(self, connection, sql):
        super().__init__(daemon=True)
        self.connection, self.sql, self.found = connection, sql, None
        self.start()

    def run(self):
        try:
            self.found = ask(self.connection, self.sql)
        except pymysql.MySQLError as error:
            self.found = error


def test_one_that_takes_long_is_answered_all_the_same(cluster, client, keys):
    with held(cluster, client, keys[0]) as inside:
        asked = Asked(client, SQL.format(keys[0]))
        waiting(inside, keys[0], 1)
    asked.join(30)
    assert [row[0] for row in asked.found] == [keys[0]]
    assert ask(client, SQL.format(keys[1]))[0][0] == keys[1]


def test_a_kill_ends_one_and_the_session_goes_on(cluster, client, keys):
    with held(cluster, client, keys[0]) as inside:
        asked = Asked(client, SQL.format(keys[0]))
        waiting(inside, keys[0], 1)
        with pymysql.connect(host="127.0.0.1", port=cluster.port, user="root") as other:
            ask(other, f"KILL QUERY {client.thread_id()}")
        asked.join(30)
        assert isinstance(asked.found, pymysql.MySQLError)
        assert asked.found.args[0] == 1317
        waiting(inside, keys[0], 0)
    for key in keys:
        assert ask(client, SQL.format(key))[0][0] == key


def test_a_client_that_leaves_ends_one(cluster, client, keys):
    leaver = known(cluster, keys[1])
    with held(cluster, client, keys[0]) as inside:
        Asked(leaver, SQL.format(keys[0]))
        waiting(inside, keys[0], 1)
        leaver._sock.shutdown(socket.SHUT_RDWR)
        waiting(inside, keys[0], 0)
    assert ask(client, SQL.format(keys[0]))[0][0] == keys[0]


def test_a_kill_of_the_connection_ends_one(cluster, client, keys):
    victim = known(cluster, keys[1])
    with held(cluster, client, keys[0]) as inside:
        asked = Asked(victim, SQL.format(keys[0]))
        waiting(inside, keys[0], 1)
        ask(client, f"KILL {victim.thread_id()}")
        asked.join(30)
        assert isinstance(asked.found, pymysql.MySQLError)
        waiting(inside, keys[0], 0)


def test_several_that_are_sent_at_once_are_answered_in_turn(client, keys):
    mixed = [SQL.format(key) for key in keys] + [
        "SELECT 7",
        SQL.format(keys[0]),
        "SELECT nothing",
        "SELECT 8",
    ]
    for texts in (mixed, mixed[::-1], mixed * 5):
        for text in texts:
            client._execute_command(3, text)
        for text in texts:
            client._next_seq_id = 1
            if "nothing" in text:
                with pytest.raises(pymysql.MySQLError):
                    client._read_query_result()
                continue
            client._read_query_result()
            assert str(client._result.rows[0][0]) == text.rsplit(" ", 1)[1]
            client._result = None


def test_one_that_comes_in_pieces_is_read_as_one(client, keys):
    for size in (1, 3, 4, 5, 7, 30):
        for key in keys:
            text = b"\x03" + SQL.format(key).encode()
            packet = len(text).to_bytes(3, "little") + b"\0" + text
            for start in range(0, len(packet), size):
                client._sock.sendall(packet[start : start + size])
            client._next_seq_id = 1
            client._read_query_result()
            assert client._result.rows[0][0] == key
            client._result = None


def test_what_was_known_before_an_agent_restarts_is_known_after(cluster, client, keys):
    inside = Inside(cluster.directory)
    asyncio.run(inside.renew("agent-worker1"))
    asyncio.run(inside.renew("agent-worker2"))
    for _ in range(3):
        for key in keys:
            assert ask(client, SQL.format(key))[0][0] == key
