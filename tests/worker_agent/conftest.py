"""Chunk tables on a plain MariaDB: ag.t_0 … ag.t_9 with a row a number, ag.big_0 with 32 MB."""

import asyncio

import pytest

from backend.connection import RawConnection


async def fill(address):
    connection = await RawConnection.open(address)
    await connection.run("CREATE DATABASE ag")
    for chunk in range(10):
        await connection.run(f"CREATE TABLE ag.t_{chunk} (a INT, b VARCHAR(20)) ENGINE=MyISAM")
        await connection.run(
            f"INSERT INTO ag.t_{chunk} SELECT seq + 100 * {chunk}, 'x' FROM mysql.seq_1_to_100"
        )
    await connection.close()


@pytest.fixture(scope="session")
def chunks(plain):
    asyncio.run(fill(plain.address))
    return plain
