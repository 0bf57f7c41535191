"""Trap tables: every read fails, every look at the definition works, also after restart and crash."""

from __future__ import annotations

import contextlib
import itertools
import signal

import msgspec
import pytest

from backend.connection import RawConnection
from shard.catalog.model import Column, Kind, Table
from shard.errors import ServerError
from shard.wire.packets import ColumnDefinition
from skyshard.home.guard import WIDEST, TooWide, is_trap_error, is_wide, mend_traps, trap_statements
from skyshard.home.provision import provision


def table(name: str, columns: int, sql_type: str = "DOUBLE") -> Table:
    """A director of so many columns, the two invisible ones included."""
    names = ["id", "kind", "mag", "label", *(f"c{number}" for number in range(columns - 6))]
    types = {"id": "BIGINT NOT NULL", "kind": "INT NOT NULL", "label": "VARCHAR(20)"}
    listed = tuple(Column(name=n, sql_type=types.get(n, sql_type), description=f"about {n}") for n in names)
    parts = [f"`{c.name}` {c.sql_type} COMMENT '{c.description}'" for c in listed]
    parts += [f"`{n}` INT NOT NULL DEFAULT 0 INVISIBLE" for n in ("chunkId", "subChunkId")]
    parts += [
        "PRIMARY KEY (`id`)",
        "KEY `mag` (`mag`)",
        "KEY `two` (`label`, `kind`)",
        "UNIQUE KEY `kind` (`kind`, `mag`)",
    ]
    ddl = f"CREATE TABLE `{name}` ({', '.join(parts)}) DEFAULT CHARSET=utf8mb4"
    return Table(name=name, kind=Kind.DIRECTOR, key="id", columns=listed, ddl=ddl)


NARROW, EDGE, WIDE = table("Narrow", 40), table("Edge", WIDEST), table("Wide", WIDEST + 1)
SURVEY = table("Survey", 1300)
TRAPS = (NARROW, EDGE, WIDE, SURVEY)


async def lay(home: RawConnection) -> None:
    await home.run("CREATE DATABASE IF NOT EXISTS sky CHARACTER SET utf8mb4")
    await home.run("USE sky")
    for trap in TRAPS:
        for statement in trap_statements("sky", trap):
            await home.run(statement)
    await home.run("CREATE OR REPLACE TABLE own (id BIGINT, mag DOUBLE, label VARCHAR(20)) ENGINE=MyISAM")
    await home.run("INSERT INTO own VALUES (1, 1, 'x'), (2, 2, 'y')")
    await home.run("CREATE OR REPLACE TABLE taken (n BIGINT) ENGINE=MyISAM")


def reads(name: str) -> list[str]:
    """Return statements that read a table, each by another way."""
    wheres = [
        "", "id = 1", "id > 1", "id IN (1, 2)", "mag = 1", "mag < 3", "mag IS NULL", "mag BETWEEN 1 AND 2",
        "label = 'x'", "label LIKE 'x%'", "label = 'x' AND kind > 1", "kind = 1 AND mag = 2",
        "kind = 1 OR mag = 2", "id = kind", "mag + 1 = 2", "chunkId = 3", "id = (SELECT MAX(id) FROM own)",
        "id IN (SELECT id FROM own)",
    ]  # fmt: skip
    selects = [
        ("SELECT COUNT(*) FROM {t}", ""), ("SELECT id FROM {t}", ""), ("SELECT * FROM {t}", " LIMIT 1"),
        ("SELECT 1 FROM {t}", ""), ("SELECT MIN(id), MAX(id) FROM {t}", ""), ("SELECT MAX(mag) FROM {t}", ""),
        ("SELECT COUNT(DISTINCT label) FROM {t}", ""), ("SELECT mag, COUNT(*) FROM {t}", " GROUP BY mag"),
        ("SELECT SQL_CALC_FOUND_ROWS id FROM {t}", " ORDER BY id LIMIT 2"),
    ]  # fmt: skip
    plain = [
        select.format(t=name) + (f" WHERE {where}" if where else "") + tail
        for (select, tail), where in itertools.product(selects, wheres)
    ]
    return [
        *plain,
        f"SELECT {name}.c0 FROM own JOIN {name} ON {name}.id = own.id",
        f"SELECT {name}.c0 FROM own LEFT JOIN {name} ON {name}.mag = own.mag",
        f"SET @x = (SELECT COUNT(*) FROM {name})",
        f"EXECUTE IMMEDIATE 'SELECT COUNT(*) FROM {name} WHERE id = 1'",
        f"CREATE TABLE copied AS SELECT id FROM {name}",
        f"INSERT INTO taken SELECT id FROM {name} WHERE id = 1",
        f"SELECT COUNT(*) FROM (SELECT id FROM {name}) AS d",
        f"SELECT EXISTS(SELECT 1 FROM {name} WHERE id = 1)",
        f"SELECT COUNT(*) FROM v_{name} WHERE id = 1",
        f"SELECT f_{name}()",
        f"CALL p_{name}()",
        f"SELECT id FROM {name} UNION SELECT 1",
        f"WITH w AS (SELECT id FROM {name}) SELECT COUNT(*) FROM w",
        f"SELECT id IN (SELECT id FROM {name}) FROM own",
        f"SELECT SUM(mag) OVER (ORDER BY id) FROM {name}",
    ]


async def must_fail(home: RawConnection, statement: str) -> None:
    with pytest.raises(ServerError) as caught:  # noqa: PT012 - the message names the statement
        await home.fetch(statement)
        pytest.fail(f"answered: {statement}")
    assert is_trap_error(caught.value.errno, caught.value.message), (statement, caught.value)


async def every_read_fails(home: RawConnection) -> None:
    for trap in TRAPS:
        for statement in reads(trap.name):
            await must_fail(home, statement)
        with contextlib.suppress(ServerError):  # InnoDB opens it; FEDERATED does not
            await home.run(f"HANDLER {trap.name} OPEN AS h")
            await must_fail(home, "HANDLER h READ FIRST")
            await home.run("HANDLER h CLOSE")
    assert await home.fetch("SHOW TABLES LIKE 'copied'") == []
    assert await home.fetch("SELECT COUNT(*) FROM taken") == [[b"0"]]


async def definitions_work(home: RawConnection) -> None:
    for trap in TRAPS:
        name = trap.name
        await home.run(f"PREPARE p FROM 'SELECT *, COUNT(*) FROM {name} WHERE mag > ? GROUP BY id'")
        shown = (await home.fetch(f"SHOW CREATE TABLE {name}"))[0][1] or b""
        assert b"`label` varchar(20) DEFAULT NULL COMMENT 'about label'" in shown
        assert b"`chunkId` int(11) NOT NULL INVISIBLE DEFAULT 0" in shown
        columns = await home.fetch(f"SHOW FULL COLUMNS FROM {name}")
        assert len(columns) == len(trap.columns) + 2
        assert [columns[0][0], columns[0][4], columns[0][8]] == [b"id", b"PRI", b"about id"]
        keys = [(row[2], row[4]) for row in await home.fetch(f"SHOW KEYS FROM {name}")]
        assert (b"PRIMARY", b"id") in keys
        assert (b"two", b"kind") in keys
        assert (await home.fetch(f"SHOW TABLE STATUS LIKE '{name}'"))[0][0] == name.encode()
        await home.run(f"LOCK TABLES {name} READ")
        await home.run("UNLOCK TABLES")
        result = await home.execute(f"SELECT * FROM {name} WHERE 1=0".encode(), ())
        named = [ColumnDefinition.decode(payload).name for payload in result.columns]
        await result.drain()
        assert named == [column.name.encode() for column in trap.columns]
    listed = await home.fetch(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA='sky' AND ENGINE IS NULL"
    )
    assert all((row[0] or b"").startswith(b"v_") for row in listed)


async def make_routines(home: RawConnection) -> None:
    for trap in TRAPS:
        name = trap.name
        await home.run(f"CREATE OR REPLACE VIEW v_{name} AS SELECT id, mag FROM {name}")
        body = f"RETURN (SELECT COUNT(*) FROM {name} WHERE id = 1)"
        await home.run(f"CREATE OR REPLACE FUNCTION f_{name}() RETURNS INT {body}")
        await home.run(f"CREATE OR REPLACE PROCEDURE p_{name}() SELECT COUNT(*) FROM {name} WHERE mag < 3")


async def test_reads_fail_and_definitions_work(home: RawConnection) -> None:
    await lay(home)
    await make_routines(home)
    await definitions_work(home)
    await every_read_fails(home)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_also_after_the_server_went(home: RawConnection, home_server, number: int) -> None:  # type: ignore[no-untyped-def]
    await lay(home)
    await make_routines(home)
    home_server.end(number)
    home_server.start()
    again = await home_server.connect()
    await again.run("USE sky")
    await definitions_work(again)
    await every_read_fails(again)
    for name in ("Narrow", "Survey"):
        for verb in ("CHECK", "REPAIR", "ANALYZE", "OPTIMIZE", "CHECKSUM"):
            await again.fetch(f"{verb} TABLE {name}")
    await every_read_fails(again)
    await again.close()


async def test_a_trap_moves_with_its_name(home: RawConnection) -> None:
    await lay(home)
    await home.run("CREATE DATABASE IF NOT EXISTS stage")
    for name in ("Narrow", "Survey"):
        await home.run(f"DROP TABLE IF EXISTS stage.{name}")
        await home.run(f"RENAME TABLE sky.{name} TO stage.{name}")
        await must_fail(home, f"SELECT COUNT(*) FROM stage.{name} WHERE id = 1")
        await home.run(f"DROP TABLE stage.{name}")


async def test_wide_traps_fail_whatever_becomes_of_the_account(home: RawConnection) -> None:
    await lay(home)
    await home.run("ALTER SERVER skyshard_trap OPTIONS (PASSWORD 'wrong')")
    await home.run("FLUSH TABLES")
    for where in ("", " WHERE id = 1", " WHERE mag < 3"):
        with pytest.raises(ServerError):
            await home.fetch(f"SELECT COUNT(*) FROM Survey{where}")
    await home.run("DROP SERVER skyshard_trap")
    await provision(home)
    await home.run("FLUSH TABLES")
    await home.run("USE sky")
    await definitions_work(home)


async def test_provisioning_mends_an_emptied_lure(home: RawConnection) -> None:
    await lay(home)
    await home.run("DELETE FROM skyshard_meta.wide_trap")
    await provision(home)
    await home.run("FLUSH TABLES")
    await must_fail(home, "SELECT COUNT(*) FROM sky.Survey WHERE id = 1")


async def test_provisioning_mends_traps_that_are_gone(home: RawConnection) -> None:
    await lay(home)
    await home.run("DELETE FROM skyshard_meta.`databases`")
    await home.run(
        "INSERT INTO skyshard_meta.`databases` VALUES (1, 'sky', 18, 10, 0, 'published', 1, NULL, 1, 0, 0)"
    )
    for trap in (NARROW, EDGE, SURVEY):
        definition = msgspec.json.encode(trap).hex()
        await home.run(
            "INSERT INTO skyshard_meta.`tables` (db_id, name, kind, definition) "
            f"VALUES (1, '{trap.name}', 'director', 0x{definition})"
        )
    assert await mend_traps(home) == []
    await home.run("TRUNCATE TABLE sky.Narrow")
    await home.run("DROP TABLE sky.Survey")
    assert await mend_traps(home) == ["sky.Narrow", "sky.Survey"]
    for name in ("Narrow", "Survey"):
        await must_fail(home, f"SELECT COUNT(*) FROM sky.{name}")
    await home.run("DELETE FROM skyshard_meta.`tables`")
    await home.run("DELETE FROM skyshard_meta.`databases`")


def test_which_guard() -> None:
    assert [is_wide(trap) for trap in TRAPS] == [False, False, True, True]
    with pytest.raises(TooWide):
        trap_statements("sky", table("Huge", 4097))
    with pytest.raises(ValueError, match="does not begin"):
        trap_statements("sky", Table(name="T", kind=Kind.DIRECTOR, ddl="CREATE TABLE U (a INT)"))


async def test_rows_that_no_innodb_row_holds(home: RawConnection) -> None:
    await home.run("CREATE DATABASE IF NOT EXISTS sky")
    for sql_type in ("CHAR(60) CHARACTER SET latin1 NOT NULL", "DOUBLE NOT NULL", "TEXT"):
        trap = table("Fat", 1000, sql_type)
        ddl = trap.ddl.replace("`mag` TEXT", "`mag` DOUBLE")
        for statement in trap_statements(
            "sky", Table(name="Fat", kind=Kind.DIRECTOR, columns=trap.columns, ddl=ddl)
        ):
            await home.run(statement)
        await must_fail(home, "SELECT COUNT(*) FROM sky.Fat WHERE id = 1")
