"""Provisioning: complete, idempotent, and right after it was cut short."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from backend.connection import RawConnection
from backend.pool import Pool
from proxy.home.metadata import Catalogue, WrongMetadata
from shard.catalog.metadata import MIGRATIONS
from shard.catalog.routines import CHANGED_OF
from shard.errors import ServerError
from skyshard.errors import UserError
from skyshard.home.provision import check_version, provision, set_replicas


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


async def test_the_number_of_copies_stays_unless_another_is_given(home: RawConnection) -> None:
    found = []
    for replicas in (None, 2, None, 1):
        await set_replicas(home, replicas)
        found += await home.fetch("SELECT value FROM skyshard_meta.cluster WHERE name = 'replicas'")
    assert found == [[b"1"], [b"2"], [b"2"], [b"1"]]


async def test_a_proxy_starts_with_metadata_of_its_release_alone(home: RawConnection, home_server) -> None:  # type: ignore[no-untyped-def]
    pool = Pool(home_server.address, 2)
    catalogue = Catalogue(pool)
    await home.run("INSERT INTO skyshard_meta.schema_migrations (version) VALUES (999)")
    with pytest.raises(WrongMetadata, match=r"version 999.*start one of their release"):
        await catalogue.start()
    for refuse in (provision, check_version):
        with pytest.raises(UserError, match=r"version 999.*use the release that the cluster runs"):
            await refuse(home)
    await home.run(f"DELETE FROM skyshard_meta.schema_migrations WHERE version >= {len(MIGRATIONS)}")
    with pytest.raises(UserError, match="skyshard home init"):
        await check_version(home)
    with pytest.raises(WrongMetadata, match="run 'skyshard home init'"):
        await catalogue.start()
    assert await provision(home) == len(MIGRATIONS)
    await catalogue.start()
    await catalogue.close()
    await pool.close()


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


async def test_an_older_cluster_learns_how_many_copies_it_has(home: RawConnection) -> None:
    meta = "skyshard_meta"
    await home.run(f"DELETE FROM {meta}.schema_migrations WHERE version > 1")
    await home.run(f"ALTER TABLE {meta}.`databases` DROP COLUMN replicas")
    for number, copies in ((1, 3), (2, 0)):
        await home.run(
            f"INSERT INTO {meta}.`databases` (db_id, name, stripes, sub_stripes, overlap_deg, state) "
            f"VALUES ({number}, 'old{number}', 18, 10, 0, 'published')"
        )
        for worker in range(copies):
            await home.run(
                f"INSERT INTO {meta}.chunk_replicas (db_id, chunk_id, worker_id) VALUES (1, 7, {worker})"
            )
    assert await provision(home) == len(MIGRATIONS)
    assert await home.fetch(f"SELECT replicas FROM {meta}.`databases` ORDER BY db_id") == [[b"3"], [b"1"]]


async def test_nobody_learns_which_names_are_published(home: RawConnection, home_server) -> None:  # type: ignore[no-untyped-def]
    await home.run(
        "CREATE FUNCTION IF NOT EXISTS skyshard_scratch.changed_in(a TEXT, b TEXT) RETURNS INT NO SQL RETURN 1"
    )
    await home.run("GRANT EXECUTE ON FUNCTION skyshard_scratch.changed_in TO PUBLIC")
    await provision(home)
    await home.run(
        "INSERT INTO skyshard_meta.`databases` (name, stripes, sub_stripes, overlap_deg, state) "
        "VALUES ('hidden_sky', 18, 10, 0.5, 'published')"
    )
    await home.run(
        "INSERT INTO skyshard_meta.`tables` (db_id, name, kind, definition) "
        "VALUES (LAST_INSERT_ID(), 'Band', 'replicated', '{\"changed\": 7}')"
    )
    (number,) = (await home.fetch("SELECT MAX(table_id) FROM skyshard_meta.`tables`"))[0]
    await home.run("CREATE USER astronomer@localhost")
    other = await RawConnection.open(dataclasses.replace(home_server.address, user="astronomer", password=""))
    try:
        assert await other.fetch(f"SELECT {CHANGED_OF}({(number or b'').decode()})") == [[b"7"]]
        assert await other.fetch(f"SELECT {CHANGED_OF}(0)") == [[None]]
        for name in ("hidden_sky", "no_sky"):
            with pytest.raises(ServerError) as refused:
                await other.fetch(f"SELECT skyshard_scratch.changed_in('{name}', 'Band')")
            assert refused.value.errno in (1305, 1370)
            with pytest.raises(ServerError):
                await other.fetch(f"SELECT {CHANGED_OF}('{name}', 'Band')")
        with pytest.raises(ServerError):
            await other.fetch("SHOW CREATE TABLE skyshard_meta.`tables`")
        assert (
            await other.fetch(
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'hidden_sky'"
            )
            == []
        )
    finally:
        await other.close()
        await home.run("DROP USER astronomer@localhost")
        await home.run("DELETE FROM skyshard_meta.`tables`")
        await home.run("DELETE FROM skyshard_meta.`databases`")
