"""The script with asyncmy."""

import asyncio
import ssl

import asyncmy
from asyncmy.cursors import SSCursor
from common import CA, DB, HOST, PASSWORD, PORT, SQL, USER, Streamed, say


async def connect():
    context = ssl.create_default_context(cafile=CA) if CA else None
    return await asyncmy.connect(
        host=HOST,
        port=PORT,
        user=USER,
        password=PASSWORD,
        database="hip",
        ssl=context,
        autocommit=True,
        charset="utf8mb4",
    )


async def rows(connection, sql, parameters=None):
    async with connection.cursor() as cursor:
        await cursor.execute(sql.replace("?", "%s") if parameters else sql, parameters)
        found = [list(row) for row in await cursor.fetchall()] if cursor.description else []
        return [[list(column[:2]) for column in cursor.description] if cursor.description else None, found]


async def streamed(connection):
    result = Streamed()
    async with connection.cursor(SSCursor) as cursor:
        await cursor.execute(SQL["stream"])
        while many := await cursor.fetchmany(1000):
            for row in many:
                result.add(row)
    result.say()


async def cancelled(connection):
    other = await connect()
    victim = (await rows(connection, "SELECT CONNECTION_ID()"))[1][0][0]

    async def kill():
        await asyncio.sleep(0.3)  # let the statement begin
        await rows(other, f"KILL QUERY {victim}")

    killer = asyncio.create_task(kill())
    try:
        say("cancel", await rows(connection, SQL["slow"]))
    except Exception as error:
        say("cancel", [type(error).__name__, *error.args])
    await killer
    await other.ensure_closed()
    say("afterwards", await rows(connection, "SELECT 1"))


async def main():
    connection = await connect()
    for sql in (
        f"DROP DATABASE IF EXISTS {DB}",
        f"CREATE DATABASE {DB} CHARACTER SET utf8mb4",
        SQL["own_make"],
        SQL["own_fill"],
    ):
        await rows(connection, sql)
    for sql in ("SHOW FULL TABLES FROM lab", "SHOW FULL COLUMNS FROM lab.Star"):
        say(sql, await rows(connection, sql))
    for step in ("databases", "typed", "every", "merged", "own_read", "create"):
        say(step, await rows(connection, SQL[step]))
    say("parameters", await rows(connection, SQL["parameters"], (3, 7, 12, "a b")))
    await streamed(connection)
    await cancelled(connection)
    for step in [name for name in SQL if name.startswith("error_")]:
        try:
            say(step, await rows(connection, SQL[step]))
        except Exception as error:
            say(step, [type(error).__name__, *error.args])
    for step in (
        "begin",
        "inside",
        "change",
        "rollback",
        "after",
        "temporary",
        "temporary_fill",
        "temporary_read",
    ):
        say(step, await rows(connection, SQL[step]))
    await rows(connection, SQL["warned"])
    say("warnings", await rows(connection, SQL["warnings"]))
    await rows(connection, f"DROP DATABASE {DB}")
    await connection.ensure_closed()


asyncio.run(main())
