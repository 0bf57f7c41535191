"""The socket's edge: backpressure both ways, waiting, and the end."""

import asyncio

import pytest

from backend.wire import HIGH_WATER, ConnectionLost, Wire


@pytest.fixture
async def pair():
    """Yield a wire on a real socket and the other end's streams."""
    ends = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *streams: ends.set_result(streams), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wire = Wire()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: wire, "127.0.0.1", port)
    wire.transport = transport
    reader, writer = await ends
    yield wire, reader, writer
    transport.abort()
    writer.transport.abort()
    server.close()


async def test_bytes_in_order_and_the_end_after_them(pair):
    wire, _, writer = pair
    taker = asyncio.ensure_future(wire.take())
    await asyncio.sleep(0)
    writer.write(b"abc")
    got = await taker
    writer.write(b"d" * 5000)
    writer.close()
    while len(got) < 5003:
        got += await wire.take()
    assert got == b"abc" + b"d" * 5000
    with pytest.raises(ConnectionLost):
        await wire.take()
    with pytest.raises(ConnectionLost):
        await wire.drain()


async def test_nobody_takes_so_reading_stops(pair):
    wire, _, writer = pair
    total = 64 * HIGH_WATER
    writer.write(bytes(total))
    async with asyncio.timeout(10):
        while wire.transport.is_reading():
            await asyncio.sleep(0)
    assert HIGH_WATER < wire.size <= 2 * HIGH_WATER
    got, most = 0, 0
    async with asyncio.timeout(20):
        while got < total:
            most = max(most, wire.size)
            got += len(await wire.take())
    assert got == total
    assert most <= 2 * HIGH_WATER


async def test_drain_waits_for_room(pair):
    wire, reader, _ = pair
    wire.transport.write(bytes(32 << 20))
    drained = asyncio.ensure_future(wire.drain())
    await asyncio.sleep(0)
    assert not drained.done()
    left = 32 << 20
    async with asyncio.timeout(20):
        while left:
            left -= len(await reader.read(1 << 20))
        await drained


async def test_drain_ends_when_the_connection_does(pair):
    wire, _, writer = pair
    wire.transport.write(bytes(32 << 20))
    drained = asyncio.ensure_future(wire.drain())
    await asyncio.sleep(0)
    assert not drained.done()
    writer.transport.abort()
    with pytest.raises(ConnectionLost):
        async with asyncio.timeout(10):
            await drained


async def test_waiting_for_a_while(pair):
    wire, _, writer = pair
    assert await wire.wait(0.001) is False
    writer.write(b"x")
    assert await wire.wait(10) is True
    assert await wire.wait(0) is True
    assert await wire.take() == b"x"
    writer.close()
    assert await wire.wait(10) is True


async def test_a_waiter_may_be_cancelled_and_nothing_is_lost(pair):
    wire, _, writer = pair
    for _ in range(3):
        taker = asyncio.ensure_future(wire.take())
        await asyncio.sleep(0)
        taker.cancel()
        await asyncio.gather(taker, return_exceptions=True)
    writer.write(b"all")
    got = b""
    while len(got) < 3:
        got += await wire.take()
    assert got == b"all"


async def test_a_wire_that_is_read_only_on_demand(pair):
    wire, _, writer = pair
    wire._high_water = 0
    writer.write(b"abc")
    assert await wire.take() == b"abc"
    assert not wire.transport.is_reading()  # nobody has asked for more
    writer.write(b"de")
    assert await wire.take() == b"de"
    wire.resume()
    assert wire.transport.is_reading()


async def test_whoever_waits_for_the_end_is_woken(pair):
    wire, _, writer = pair
    waiting = [asyncio.ensure_future(wire.end()) for _ in range(2)]
    writer.write(b"abc")
    assert await wire.take() == b"abc"
    assert not any(one.done() for one in waiting)
    writer.close()
    await asyncio.gather(*waiting)
    assert wire.lost == "closed by the server"
    await wire.end()
