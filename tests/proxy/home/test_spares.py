"""Connections that are opened before their clients come: given once, never stale, never too many."""

import asyncio

import pytest

from backend.connection import RawConnection
from proxy.home import spares as module
from proxy.home.spares import SpareLinks
from proxy.session.handshake import greeting
from shard.errors import SkyError
from tests.support.agents import until


@pytest.fixture
async def spares(plain):
    made = SpareLinks(plain.address)
    yield made
    await made.close()


async def waiting(plain):
    """Return the ids of connections that have not logged in."""
    root = await RawConnection.open(plain.address)
    found = await root.fetch("SELECT ID FROM information_schema.PROCESSLIST WHERE USER LIKE 'unauth%'")
    await root.close()
    return {int(row[0]) for row in found}


async def thread_of(link):
    _, payload = await link.packet()
    return greeting(payload, tls=False).thread_id


async def ready(spares, number):
    async def there():
        return len(spares._ready) == number and all(link.greeted for link, _ in spares._ready)

    await until(there, 20)


async def test_the_next_client_gets_what_was_prepared(plain, spares):
    before = await waiting(plain)
    first = await spares.take()
    spares.prepare()
    await ready(spares, 1)
    threads = {await thread_of(first)}
    prepared = await waiting(plain) - before - threads
    assert len(prepared) == 1
    second = await spares.take(b"PROXY TCP4 10.1.2.3 127.0.0.1 5555 3306\r\n")
    assert await thread_of(second) in prepared
    third = await spares.take()  # nothing waits now
    assert await thread_of(third) not in prepared
    for link in (first, second, third):
        link.abort()


async def test_few_wait_and_not_for_long(plain, spares, monkeypatch):
    monkeypatch.setattr(module, "KEPT_S", 2.0)
    before = await waiting(plain)
    for _ in range(3 * module.MOST):
        spares.prepare()
    await until(lambda: _is(lambda: len(spares._ready) == module.MOST), 20)

    async def gone():
        return not spares._ready and await waiting(plain) <= before

    await until(gone, 20)


async def _is(question):
    return question()


async def test_one_that_the_server_has_ended_is_not_given(plain, spares):
    spares.prepare()
    await ready(spares, 1)
    ((link, _),) = spares._ready
    root = await RawConnection.open(plain.address)
    for thread in await waiting(plain):
        await root.run(f"KILL {thread}")
    await root.close()
    await asyncio.wait_for(link.wait_closed(), 20)
    fresh = await spares.take()
    assert fresh is not link
    assert await thread_of(fresh) > 0
    fresh.abort()


async def test_a_server_that_is_away_is_an_error_for_its_client(tmp_path):
    lost = SpareLinks(module.Address("root", "", socket=str(tmp_path / "none")))
    lost.prepare()
    with pytest.raises(SkyError):
        await lost.take()
    await lost.close()
