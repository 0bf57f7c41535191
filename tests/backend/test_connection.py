"""Statements and their replies on a real server: errors, several results, long rows, losses, backpressure."""

import asyncio

import pytest

from backend.connection import BLOCK_BYTES, ConnectionLost, RawConnection, Small
from backend.wire import HIGH_WATER
from shard.errors import ServerError, SkyError
from shard.wire import rows
from shard.wire.frames import Parameter
from shard.wire.packets import MAX_PAYLOAD, PacketError
from tests.support.relay import Relay


@pytest.fixture
async def connection(wire_rows):
    connection = await RawConnection.open(wire_rows.address, "wire")
    yield connection
    await connection.close()


async def test_one_statement_at_a_time(connection):
    result = await connection.query(b"SELECT seq FROM seq_1_to_1000")
    assert connection.busy
    with pytest.raises(RuntimeError):
        await connection.query(b"SELECT 1")
    ok = await result.drain()
    assert ok.warnings == 0
    assert not connection.busy
    assert await connection.fetch("SELECT 1") == [[b"1"]]


async def test_an_error_before_and_among_the_rows(connection):
    with pytest.raises(ServerError) as caught:
        await connection.query(b"SELECT nothing FROM t")
    assert (caught.value.errno, caught.value.sqlstate) == (1054, "42S22")
    await connection.run("SET SESSION sql_mode='STRICT_TRANS_TABLES', max_statement_time=1")
    result = await connection.query(b"SELECT a.seq FROM seq_1_to_100000 a, seq_1_to_100000 b")
    blocks = result.blocks()
    assert (await anext(blocks)).rows > 0
    with pytest.raises(ServerError) as caught:
        await result.drain()
    assert caught.value.errno == 1969
    assert await connection.fetch("SELECT 1") == [[b"1"]]


@pytest.mark.parametrize("extra", [0, 1, 5])
async def test_rows_longer_than_a_packet(connection, extra):
    length = MAX_PAYLOAD - 5 + extra  # with its length before it, the first field ends about the packet's end
    sql = f"SELECT REPEAT('z', {length}), 'end' UNION ALL SELECT '', NULL"
    result = await connection.query(sql.encode())
    blocks = [block async for block in result.blocks()]
    assert rows.split(b"".join(block.data for block in blocks)) == [[b"z" * length, b"end"], [b"", None]]
    assert [row for block in blocks for row in rows.split(block.data)][1] == [b"", None]  # blocks end at rows


async def test_a_field_that_looks_like_the_end(connection):
    """A field of 16 MiB and more begins with 0xFE, as the end of the rows does."""
    result = await connection.query(b"SELECT REPEAT('a', 16777216), 1 UNION ALL SELECT 'b', 2")
    found = [row for blocks in [b async for b in result.blocks()] for row in rows.split(blocks.data)]
    assert [(len(row[0]), row[1]) for row in found] == [(1 << 24, b"1"), (1, b"2")]


async def test_a_call_with_one_result_and_with_two(connection, wire_rows):
    await connection.run("CREATE OR REPLACE PROCEDURE one() SELECT a FROM t ORDER BY a")
    await connection.run("CREATE OR REPLACE PROCEDURE two() BEGIN SELECT 1; SELECT 2; END")
    result = await connection.query(b"CALL one()")
    assert [block.rows async for block in result.blocks()] == [4]
    assert result.end is not None
    assert await connection.fetch("SELECT 1") == [[b"1"]]
    result = await connection.query(b"CALL two()")
    with pytest.raises(SkyError) as caught:
        await result.drain()
    assert caught.value.errno == 1235
    assert connection.closed


async def test_statements_without_rows(connection):
    ok = await connection.run("DO 1")
    assert ok.affected_rows == 0
    result = await connection.query(b"SET @x = 1")
    assert result.columns == ()
    assert result.ok is not None
    assert [block async for block in result.blocks()] == []
    empty = await connection.query(b"SELECT a FROM t WHERE a > 99")
    assert len(empty.columns) == 1
    assert [block async for block in empty.blocks()] == []
    assert empty.end is not None


async def test_parameters_keep_their_types(connection):
    long_text = b"p" * 70000
    given = [
        Parameter(8, False, (-5).to_bytes(8, "little", signed=True)),
        Parameter(8, True, (2**64 - 1).to_bytes(8, "little")),
        Parameter(253, False, b"\xfd" + len(long_text).to_bytes(3, "little") + long_text),
        Parameter(253, False, None),
    ]
    result = await connection.execute(b"SELECT ?, ?, LENGTH(?), ? IS NULL", given)
    (block,) = [block async for block in result.blocks()]
    assert block.data[6:14] == (-5).to_bytes(8, "little", signed=True)
    assert block.data[14:22] == b"\xff" * 8
    with pytest.raises(ServerError):
        await connection.execute(b"SELECT FROM", ())
    prepared = "SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'"
    assert await connection.fetch(prepared) == [[b"Prepared_stmt_count", b"0"]]
    with pytest.raises(PacketError):
        await connection.execute(b"SELECT ?, ?", given[:1])
    assert connection.closed  # what was executed had other parameters


async def test_one_that_is_prepared_executed_and_closed_at_once(connection):
    more = 0
    five, closes = (
        [Parameter(8, False, (5).to_bytes(8, "little"))],
        "SHOW SESSION STATUS LIKE 'Com_stmt_close'",
    )
    small = None
    while not isinstance(small, Small):  # the replies may come one after the other
        connection.begin(b"SELECT ?, 'x' FROM seq_1_to_3", five)
        small = await connection.end()
        if not isinstance(small, Small):
            assert [block.rows async for block in small.blocks()] == [3]
            more += 1
    assert (small.block.rows, small.warnings, len(small.tails)) == (3, 0, 26)
    assert small.block.data[6:14] == five[0].value
    connection.begin(b"SELECT ?, REPEAT('z', 20000000)", five)
    result = await connection.end()
    assert not isinstance(result, Small)
    assert sum([len(block.data) async for block in result.blocks()]) > 20_000_000
    for sql, errno in ((b"SELECT a FROM nowhere", 1146), (b"SELECT 9223372036854775807 + ?", 1690)):
        connection.begin(sql, five if b"?" in sql else ())
        with pytest.raises(ServerError) as caught:
            await (await connection.end()).drain()
        assert caught.value.errno == errno
        assert not connection.busy
    prepared = "SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'"
    assert await connection.fetch(prepared) == [[b"Prepared_stmt_count", b"0"]]
    assert await connection.fetch(closes) == [[b"Com_stmt_close", str(3 + more).encode()]]
    connection.begin(b"SELECT ?, ?", five)
    with pytest.raises(PacketError):
        await connection.end()
    assert connection.closed


@pytest.mark.parametrize("parameters", [None, ()])
async def test_statements_that_are_sent_together(connection, parameters):
    long = b"SELECT REPEAT('z', 20000000)"
    replies = connection.ask([b"SELECT 1", b"SELECT a FROM none", b"DO 1", long, b"SELECT 5"], parameters)
    sizes = []
    for _ in range(5):
        assert connection.busy
        try:
            result = await replies.next()
        except ServerError as error:
            sizes.append(error.errno)
            continue
        sizes.append(sum([len(block.data) async for block in result.blocks()]))
    assert not connection.busy
    with_header = 20_000_000 + 2 * 4 + 9 + (0 if parameters is None else 2)
    assert sizes[1:4] == [1146, 0, with_header]
    assert await connection.fetch("SELECT 1") == [[b"1"]]
    with pytest.raises(ServerError) as caught:
        await connection.run_all(["SET @x = 1", "SET @x = y", "SET @x = none()", "SET @z = 3"])
    assert caught.value.errno == 1054
    assert await connection.fetch("SELECT @x, @z") == [[b"1", b"3"]]


@pytest.mark.parametrize("after", [90, 400, 5_000, 100_000])
async def test_a_server_that_goes_away_is_an_error_wherever_it_happens(wire_rows, after):
    async with Relay(wire_rows.socket, cut_after=after) as relay:
        with pytest.raises(ConnectionLost):
            await open_and_run(relay.address(), "SELECT a.seq FROM seq_1_to_1000 a, seq_1_to_1000 b")


async def open_and_run(address, sql):
    connection = await RawConnection.open(address, "wire")
    await connection.run(sql)


async def test_nobody_reads_so_the_server_waits_and_memory_does_not_grow(connection):
    result = await connection.query(b"SELECT REPEAT('m', 100000) FROM seq_1_to_1000")  # 100 MB
    held = most = 0
    async for block in result.blocks():
        most = max(most, connection.wire.size)
        held = max(held, len(block.data))
        await asyncio.sleep(0)
    assert most <= HIGH_WATER + (1 << 20)
    assert held <= BLOCK_BYTES + HIGH_WATER + (1 << 20)


async def test_a_pausing_server_does_not_hold_back_what_it_sent(connection):
    """The first row is handed out though the block is not full."""
    await connection.run("SET SESSION max_statement_time=20")
    result = await connection.query(
        b"SELECT REPEAT('x', 40000) UNION ALL "  # longer than the server's own buffer
        b"SELECT SUM(a.seq ^ b.seq) FROM seq_1_to_10000000 a, seq_1_to_10000000 b"
    )
    async with asyncio.timeout(10):
        block = await anext(result.blocks())
    assert block.rows == 1


async def test_load_that_fails_on_our_side_closes_the_connection(connection):
    async def broken():
        yield b"1\tx\n"
        raise LookupError("the source is gone")

    await connection.run("CREATE TEMPORARY TABLE l (n INT, t TEXT)")
    with pytest.raises(LookupError):
        await connection.load(b"LOAD DATA LOCAL INFILE 'x' INTO TABLE l", broken())
    assert connection.closed


async def test_load_of_nothing_and_a_statement_that_is_no_load(connection):
    async def none():
        return
        yield b""

    async def never():
        raise AssertionError("nobody asked for the text")
        yield b""

    await connection.run("CREATE TEMPORARY TABLE l (n INT PRIMARY KEY)")
    ok = await connection.load(b"LOAD DATA LOCAL INFILE 'x' INTO TABLE l", none())
    assert ok.affected_rows == 0
    with pytest.raises(ValueError, match="rows"):
        await connection.load(b"SELECT 1", never())


async def test_the_server_asks_for_a_file_nobody_offered(connection):
    await connection.run("CREATE TEMPORARY TABLE l (n INT PRIMARY KEY)")
    with pytest.raises(ConnectionLost):
        await connection.query(b"LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE l")
    assert connection.closed
