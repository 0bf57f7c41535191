"""asyncmy's connection taken over: it logs in, and afterwards the bytes are ours, on every loop and transport."""

import asyncio
import contextlib
import socket
import tempfile
from pathlib import Path

import pytest

from backend import takeover
from backend.address import Address
from backend.connection import ConnectionLost, RawConnection
from backend.wire import Wire
from shard.errors import ServerError
from shard.wire import rows
from shard.wire.packets import ColumnDefinition
from tests.support.relay import Relay


@contextlib.asynccontextmanager
async def way(server, transport):
    """Yield the server's address by its unix socket, or by TCP."""
    if transport == "unix":
        yield server.address
        return
    async with Relay(server.socket) as relay:
        yield relay.address()


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_raw_rows_load_and_kill(run, wire_rows, transport):
    async def main():
        async with way(wire_rows, transport) as address:
            connection = await RawConnection.open(address, "wire")
            try:
                await raw_rows(connection)
                await load(connection)
                await kill(connection, address)
            finally:
                await connection.close()

    run(main())


async def raw_rows(connection):
    result = await connection.query(b"SELECT a, b FROM t ORDER BY a")
    assert [ColumnDefinition.decode(payload).name for payload in result.columns] == [b"a", b"b"]
    blocks = [block async for block in result.blocks()]
    assert sum(block.rows for block in blocks) == 4
    assert rows.split(b"".join(block.data for block in blocks)) == [
        [b"1", None], [b"2", b""], [b"3", b"x" * 70000], [b"4", bytes(range(256))],
    ]  # fmt: skip
    assert result.end is not None
    binary = await connection.execute(b"SELECT a FROM t WHERE a < 3 ORDER BY a", ())
    (block,) = [block async for block in binary.blocks()]
    assert block.data[4:10] == b"\0\0" + (1).to_bytes(4, "little")


async def load(connection):
    async def pieces():
        for number in range(100):
            text = b"%d\t%s\n" % (number, b"y" * 30000)
            yield text[:7]
            yield text[7:]

    await connection.run("CREATE TEMPORARY TABLE l (n INT PRIMARY KEY, t MEDIUMTEXT)")
    ok = await connection.load(b"LOAD DATA LOCAL INFILE 'x' INTO TABLE l CHARACTER SET utf8mb4", pieces())
    assert (ok.affected_rows, ok.warnings) == (100, 0)
    assert await connection.fetch("SELECT COUNT(*), SUM(n), SUM(LENGTH(t)) FROM l") == [
        [b"100", b"4950", b"3000000"]
    ]
    with pytest.raises(ServerError) as caught:
        await connection.load(b"LOAD DATA LOCAL INFILE 'x' INTO TABLE nowhere", pieces())
    assert caught.value.errno == 1146
    assert await connection.fetch("SELECT 1") == [[b"1"]]


async def kill(connection, address):
    # the server sends the first row at once and has the second to work out: it is certainly running
    result = await connection.query(
        b"SELECT REPEAT('x', 300000) UNION ALL "
        b"SELECT SUM(a.seq ^ b.seq) FROM seq_1_to_10000000 a, seq_1_to_10000000 b"
    )
    blocks = result.blocks()
    await anext(blocks)
    other = await RawConnection.open(address)
    await other.run(f"KILL QUERY {connection.thread_id}")
    await other.close()
    with pytest.raises(ServerError) as caught:
        async for _ in blocks:
            pass
    assert (caught.value.errno, caught.value.sqlstate) == (1317, "70100")
    assert await connection.fetch("SELECT 2") == [[b"2"]]


def test_a_connection_is_as_the_client_wants_it_whatever_the_server_says(run, wire_rows):
    async def main():
        connection = await RawConnection.open(wire_rows.address)
        asked = "SELECT @@character_set_client, @@character_set_results, @@collation_connection, @@autocommit"
        fresh = await connection.fetch(asked)
        assert fresh == [[b"utf8mb4", b"utf8mb4", b"utf8mb4_general_ci", b"1"]]
        await connection.run("SET NAMES latin1, autocommit=0, @x=1")
        await connection.run("CREATE TEMPORARY TABLE wire.gone (a INT)")
        await connection.reset()
        assert await connection.fetch(asked) == fresh
        assert await connection.fetch("SELECT @x") == [[None]]
        with pytest.raises(ServerError):
            await connection.run("SELECT * FROM wire.gone")
        assert await connection.fetch("SELECT CONNECTION_ID()") == [[b"%d" % connection.thread_id]]
        with pytest.raises(ServerError) as caught:  # one packet is one statement
            await connection.run("SELECT 1; SELECT 2")
        assert caught.value.errno == 1064
        await connection.close()

    run(main())


@pytest.mark.parametrize(
    ("address", "database", "errno"),
    [
        (Address("root", "wrong"), None, 1045),
        (Address("nobody", ""), None, 1045),
        (Address("root", ""), "no_such_database", 1049),
    ],
)
def test_refusals_are_the_servers_own(run, plain, address, database, errno):
    async def main():
        here = Address(address.user, address.password, socket=plain.socket)
        with pytest.raises(ServerError) as caught:
            await RawConnection.open(here, database)
        assert caught.value.errno == errno

    run(main())


def test_a_password_beyond_ascii(run, plain):
    async def main():
        root = await RawConnection.open(plain.address)
        await root.run("CREATE OR REPLACE USER umlaut@localhost IDENTIFIED BY 'Schlüssel-鍵'")
        connection = await RawConnection.open(Address("umlaut", "Schlüssel-鍵", socket=plain.socket))
        assert await connection.fetch("SELECT CURRENT_USER()") == [[b"umlaut@localhost"]]
        await connection.close()
        await root.run("DROP USER umlaut@localhost")
        await root.close()

    run(main())


def test_nobody_there(run, tmp_path):
    async def main():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for address in (
            Address("u", "", socket=str(tmp_path / "none")),
            Address("u", "", host="127.0.0.1", port=port),
        ):
            with pytest.raises(ConnectionLost):
                await RawConnection.open(address)

    run(main())


@pytest.mark.parametrize("words", [b"", b"\x05\0\0\0\x0a", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
@pytest.mark.parametrize("hang", [True, False])
def test_a_server_that_is_none(run, monkeypatch, words, hang):
    monkeypatch.setattr(takeover, "CONNECT_TIMEOUT_S", 0.3)

    async def main():
        ended = asyncio.Event()

        async def serve(reader, writer):
            writer.write(words)
            await writer.drain()
            if hang:
                await reader.read()  # until the client gives up
            writer.close()
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionLost):
                await RawConnection.open(Address("u", "", host="127.0.0.1", port=port))
            async with asyncio.timeout(5):
                await ended.wait()  # the socket was closed, not forgotten

    run(main())


@pytest.mark.parametrize("piece", [1, 5])
def test_bytes_may_come_in_any_pieces(run, wire_rows, piece):
    async def main():
        async with Relay(wire_rows.socket, piece=piece) as relay:
            connection = await RawConnection.open(relay.address(), "wire")
            assert await connection.fetch("SELECT a, b FROM t WHERE a <> 3 ORDER BY a") == [
                [b"1", None], [b"2", b""], [b"4", bytes(range(256))],
            ]  # fmt: skip
            await connection.close()

    run(main())


def test_what_asyncmy_calls_its_parts(run, plain):
    """The private names that the takeover uses; when this fails, read asyncmy's new source."""

    async def main():
        wire = Wire()
        taken = await takeover.take(plain.address, None, wire)
        assert taken.transport.get_protocol() is wire
        assert taken.thread_id > 0
        assert taken.deprecate_eof in (True, False)
        taken.transport.abort()
        while wire.lost is None:
            await asyncio.sleep(0)

    run(main())


def test_a_long_socket_path_and_a_directory_are_refused_clearly(run):
    async def main():
        with tempfile.TemporaryDirectory() as directory:
            for path in (directory, str(Path(directory) / ("x" * 200))):
                with pytest.raises(ConnectionLost):
                    await RawConnection.open(Address("u", "", socket=path))

    run(main())
