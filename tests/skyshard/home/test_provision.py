"""Provisioning: complete, idempotent, and right after it was cut short."""

from __future__ import annotations

import asyncio

from backend.connection import RawConnection
from shard.catalog.metadata import MIGRATIONS
from skyshard.home.provision import provision


async def test_twice_is_once(home: RawConnection) -> None:
    before = await home.fetch("SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES ORDER BY 1, 2")
    assert await provision(home) == len(MIGRATIONS)
    after = await home.fetch("SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES ORDER BY 1, 2")
    assert before == after
    assert await home.fetch("SELECT COUNT(*) FROM skyshard_meta.schema_migrations") == [
        [str(len(MIGRATIONS)).encode()]
    ]


async def test_a_migration_cut_short_is_run_over(home: RawConnection) -> None:
    await home.run("DELETE FROM skyshard_meta.schema_migrations")
    await home.run("DROP TABLE skyshard_meta.chunk_rows")
    await provision(home)
    assert await home.fetch("SELECT COUNT(*) FROM skyshard_meta.chunk_rows") == [[b"0"]]
    assert await home.fetch("SELECT COUNT(*) FROM skyshard_meta.cluster WHERE name='catalogue_version'") == [
        [b"1"]
    ]


async def test_two_at_once(home: RawConnection, home_server) -> None:  # type: ignore[no-untyped-def]
    others = [await home_server.connect() for _ in range(3)]
    assert await asyncio.gather(*(provision(other) for other in others)) == [len(MIGRATIONS)] * 3
    for other in others:
        await other.close()


async def test_no_anonymous_account_and_no_test_database(home: RawConnection) -> None:
    accounts = {(user, host) for user, host in await home.fetch("SELECT User, Host FROM mysql.user")}
    assert accounts == {
        (b"root", b"localhost"), (b"root", b"127.0.0.1"), (b"root", b"::1"), (b"mariadb.sys", b"localhost"),
        (b"skyshard", b"localhost"), (b"skyshard_trap", b"localhost"), (b"PUBLIC", b""),  # a role: everybody
    }  # fmt: skip
    assert await home.fetch("SELECT * FROM mysql.db WHERE User=''") == []
    assert [b"test"] not in await home.fetch("SHOW DATABASES")


async def test_the_traps_account_sees_the_lure_alone(home: RawConnection) -> None:
    grants = [row[0] or b"" for row in await home.fetch("SHOW GRANTS FOR skyshard_trap@localhost")]
    assert [grant.split(b" IDENTIFIED")[0] for grant in grants] == [
        b"GRANT USAGE ON *.* TO `skyshard_trap`@`localhost`",
        b"GRANT SELECT ON `skyshard_meta`.`wide_trap` TO `skyshard_trap`@`localhost`",
    ]
