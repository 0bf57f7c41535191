"""Clients that have logged in and do not end what they begin to send: each costs bounded time, all of them bounded memory."""

import select
import time

import pytest

from backend.connection import RawConnection
from tests.support.agents import until
from tests.support.rawclient import COMPRESS, Closed, ServerError, outcome
from tests.support.servers import ExtraProxy, Inside

PATIENCE_S = 1.0
INBOX = 4 << 20
LONG = (100_000).to_bytes(3, "little") + b"\0"


@pytest.fixture(scope="module")
def port(cluster, tmp_path_factory):
    made = ExtraProxy(
        cluster, tmp_path_factory.mktemp("trickle"), packet_timeout_s=PATIENCE_S, inbox_bytes=INBOX
    )
    yield made.port
    made.stop()


@pytest.fixture(scope="module")
def patient(cluster, tmp_path_factory):
    """A port on which nobody is given up for being slow while a test is held up."""
    made = ExtraProxy(cluster, tmp_path_factory.mktemp("patient"), packet_timeout_s=30.0, inbox_bytes=INBOX)
    yield made.port
    made.stop()


def test_commands_that_trickle_are_given_up(raw, port):
    begun = [
        (0, b"\x20"),
        (0, LONG),
        (0, LONG + b"\x03SELECT" + bytes(50_000)),
        (COMPRESS, b"\x10\x27\x00\x00"),
        (COMPRESS, b"\x0b\x00\x00\x00\x00\x00\x00" + LONG + b"\x03SELECT"),
    ]
    clients = [raw(port, flags=flags) for flags, _ in begun]
    for client, (_, begin) in zip(clients, begun, strict=True):
        client.socket.sendall(begin)
    started, going = time.monotonic(), list(clients)
    while going and time.monotonic() < started + 20:
        for client in list(going):
            try:
                client.socket.sendall(b"\x01")
            except ConnectionError:
                going.remove(client)
        time.sleep(0.02)  # between two bytes of a slow-loris
    assert not going
    assert PATIENCE_S / 2 < time.monotonic() - started < 8 * PATIENCE_S


def test_a_command_that_stops_is_given_up(raw, port):
    client = raw(port)
    client.socket.sendall(LONG + b"\x03SELECT" + bytes(50_000))
    with pytest.raises((Closed, ConnectionError)):
        client.read()


def test_who_is_slow_or_idle_is_served(raw, proxy):
    patience = 2.5
    client = raw(proxy(packet_timeout_s=patience).port)
    text = b"\x03SELECT LENGTH('" + b"x" * 40_000 + b"')"
    data = len(text).to_bytes(3, "little") + b"\0" + text
    client.seq = 1
    for start in range(0, len(data), 5000):
        client.socket.sendall(data[start : start + 5000])
        # An upload over a slow line; the whole of it takes longer than the patience.
        time.sleep(patience / 7)
    assert client.result().rows == [(b"40000",)]
    time.sleep(1.2 * patience)  # between two commands a client may wait for long
    assert client.query("SELECT 1").rows == [(b"1",)]


def test_what_is_being_received_is_bounded(raw, patient):
    """Of two commands that do not fit together one is refused; then the other goes on."""
    clients = [raw(patient), raw(patient)]
    ((end, rows), _) = [begin(client, 3 << 20) for client in clients]
    (less, *_), _, _ = select.select([client.socket for client in clients], [], [], 20)
    (other,) = (client for client in clients if client.socket is not less)
    other.socket.sendall(end)
    with pytest.raises(ServerError) as caught:
        next(client for client in clients if client is not other).read_ok()
    assert caught.value.errno == 1104
    assert "inbox_bytes" in caught.value.message
    assert other.result().rows == rows
    assert other.query("SELECT 1").rows == [(b"1",)]


def begin(client, size):
    """Send a command of so many x but for its end; return that, and what would be answered."""
    text = b"\x03SELECT LENGTH('" + b"x" * size + b"')"
    client.seq = 1
    client.socket.sendall(len(text).to_bytes(3, "little") + b"\0" + text[:-10])
    return text[-10:], [(str(size).encode(),)]


def test_a_slow_sender_of_much_is_not_in_the_way_of_less(raw, patient):
    slow, quick, small = raw(patient), raw(patient), raw(patient)
    begin(slow, 7 << 19)
    end, rows = begin(quick, 1 << 20)
    with pytest.raises(ServerError) as caught:
        slow.read_ok()
    assert (caught.value.errno, "inbox_bytes" in caught.value.message) == (1104, True)
    assert small.query("SELECT 1").rows == [(b"1",)]
    quick.socket.sendall(end)
    assert quick.result().rows == rows


def test_who_sends_much_in_many_commands_is_not_in_the_way_of_others(raw, patient, account):
    account("many", "")
    many = [raw(patient, user="many") for _ in range(6)]
    begun = [begin(client, 600_000) for client in many]
    other = raw(patient)
    end, rows = begin(other, 1 << 20)
    (refused,), _, _ = select.select([client.socket for client in [*many, other]], [], [], 20)
    other.socket.sendall(end)
    assert other.result().rows == rows
    went_on = []
    for client, (end, rows) in zip(many, begun, strict=True):
        if client.socket is not refused:
            client.socket.sendall(end)
            went_on.append(client.result().rows == rows)
    assert went_on == [True] * 5


async def test_the_home_servers_longest_command_is_the_longest(cluster, raw, port):
    home = await RawConnection.open(Inside(cluster.directory).server("home"))
    ((usual,),) = await home.fetch("SELECT @@GLOBAL.max_allowed_packet")

    async def taken(size):
        client = raw(port)
        client.command(b"\x03SELECT '" + b"x" * (size - len("?SELECT ''")) + b"'")
        return outcome(client)

    async def refused():
        return await taken(1 << 20) == 1153

    async def taken_again():
        return await taken(1 << 20) == 1

    try:
        await home.run("SET GLOBAL max_allowed_packet = 1048576")
        await until(refused, pause=0.1)
        assert await taken((1 << 20) - 1) == 1
    finally:
        await home.run(f"SET GLOBAL max_allowed_packet = {int(usual)}")
        await until(taken_again, pause=0.1)
        await home.close()
