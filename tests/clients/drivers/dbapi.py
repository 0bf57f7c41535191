"""The script with a DB-API module: pymysql, mysql.connector, mariadb or pyodbc."""

import sys
import time

from common import CA, DB, HOST, PASSWORD, PORT, SQL, USER, Streamed, interrupt, say

NAME = sys.argv[1]
CHANGES = ("own_make", "own_fill", "begin", "change", "rollback", "temporary", "temporary_fill")


def connect(database="hip"):
    if NAME == "pymysql":
        import pymysql

        return pymysql.connect(
            host=HOST, port=PORT, user=USER, password=PASSWORD, database=database, ssl_ca=CA,
            ssl_verify_identity=bool(CA), autocommit=True,
        )  # fmt: skip
    if NAME == "mysql-connector-python":
        import mysql.connector

        tls = {"ssl_ca": CA, "ssl_verify_identity": True} if CA else {"ssl_disabled": True}
        return mysql.connector.connect(
            host=HOST, port=PORT, user=USER, password=PASSWORD, database=database, autocommit=True, use_pure=True,
            collation="utf8mb4_general_ci", **tls,
        )  # fmt: skip
    if NAME == "mariadb":
        import mariadb

        tls = {"ssl_ca": CA, "ssl_verify_cert": True} if CA else {"ssl": False}
        return mariadb.connect(
            host=HOST, port=PORT, user=USER, password=PASSWORD, database=database, autocommit=True, **tls
        )
    import pyodbc

    tls = f"SSLCA={CA};SSLVERIFY=1;" if CA else ""
    quoted = "{" + PASSWORD.replace("}", "}}") + "}"
    made = pyodbc.connect(
        f"DRIVER={{MariaDB Unicode}};SERVER={HOST};PORT={PORT};UID={USER};PWD={quoted};DATABASE={database};{tls}"
        "NO_PROMPT=1;FORWARDONLY=1;NO_CACHE=1",
        autocommit=True,
    )
    made.add_output_converter(pyodbc.SQL_TYPE_TIME, bytes.hex)  # its own stops at 23 hours
    return made


def marks(sql):
    return sql if NAME in ("pyodbc", "mariadb") else sql.replace("?", "%s")


def rows(connection, sql, parameters=None, **options):
    cursor = connection.cursor(**options)
    cursor.execute(
        marks(sql) if parameters is not None else sql, *([parameters] if parameters is not None else [])
    )
    found = [list(row) for row in cursor.fetchall()] if cursor.description else []
    described = [list(column[:2]) for column in cursor.description] if cursor.description else None
    cursor.close()
    return [described, found]


def failure(error):
    for known in ("errno", "sqlstate"):
        if hasattr(error, known):
            return [type(error).__name__, getattr(error, "errno", None), getattr(error, "sqlstate", None)]
    return [type(error).__name__, *[str(item) for item in error.args]]


def metadata(connection):
    if NAME == "pyodbc":
        cursor = connection.cursor()
        for database in ("lab", "hip"):
            say(f"tables {database}", [list(row) for row in cursor.tables(catalog=database).fetchall()])
        say("columns", [list(row) for row in cursor.columns(table="Star", catalog="lab").fetchall()])
        keys = [list(row) for row in cursor.statistics("Object", catalog="hip").fetchall()]
        say("keys", [row[:10] + row[11:] for row in keys])  # cardinalities are estimates
        say("primary", [list(row) for row in cursor.primaryKeys("kinds", catalog=DB).fetchall()])
        return
    say("databases", rows(connection, SQL["databases"]))
    for sql in ("SHOW FULL TABLES FROM lab", "SHOW FULL COLUMNS FROM lab.Star", "SHOW INDEX FROM hip.Object"):
        found = rows(connection, sql)
        if "INDEX" in sql:  # cardinalities are estimates
            found[1] = [row[:6] + row[7:] for row in found[1]]
        say(sql, found)


def streamed(connection):
    result = Streamed()
    if NAME == "pymysql":
        from pymysql.cursors import SSCursor

        cursor = connection.cursor(SSCursor)
    else:
        cursor = connection.cursor(**({"buffered": False} if NAME == "mariadb" else {}))
    cursor.execute(SQL["stream"])
    while many := cursor.fetchmany(1000):
        for row in many:
            result.add(row)
    cursor.close()
    result.say()


def own_id(connection):
    return rows(connection, "SELECT CONNECTION_ID()")[1][0][0]


def cancelled(connection):
    other, victim = connect(), own_id(connection)

    def kill():
        cursor = other.cursor()
        cursor.execute(f"KILL QUERY {victim}")
        cursor.close()

    cancel = kill
    if NAME == "pyodbc":
        cursor = connection.cursor()
        cancel = cursor.cancel
    thread = interrupt(cancel)
    started = time.monotonic()
    try:
        if NAME == "pyodbc":
            cursor.execute(SQL["slow"])
            cursor.fetchall()
        else:
            rows(connection, SQL["slow"])
        say("cancel", "not cancelled")
    except Exception as error:
        say("cancel", [failure(error)[:3], time.monotonic() - started < 3])
    thread.join()
    other.close()
    say("afterwards", rows(connection, "SELECT 1"))


def errors(connection):
    for step in [name for name in SQL if name.startswith("error_")]:
        try:
            say(step, rows(connection, SQL[step]))
        except Exception as error:
            say(step, failure(error))
    try:
        connect("nosuch_database").close()
        say("error_connect", "connected")
    except Exception as error:
        say("error_connect", failure(error)[:2])


def main():
    connection = connect()
    rows(connection, f"DROP DATABASE IF EXISTS {DB}")
    rows(connection, f"CREATE DATABASE {DB} CHARACTER SET utf8mb4")
    for step in ("own_make", "own_fill"):
        rows(connection, SQL[step])
    metadata(connection)
    for step in ("typed", "every", "merged", "own_read", "create"):
        if step == "every" and NAME == "mariadb":
            continue  # it cannot read all of them from plain MariaDB, either: a SystemError
        say(step, rows(connection, SQL[step]))
    say("parameters", rows(connection, SQL["parameters"], (3, 7, 12, "a b")))
    say("parameters_merged", rows(connection, SQL["parameters_merged"], (-500.5, "2024-02-29 12:34:30")))
    if NAME in ("mysql-connector-python", "mariadb"):
        say("prepared", rows(connection, SQL["parameters"], (3, 7, 12, "a b"), prepared=True))
        for step in ("typed", "own_read"):
            sql = SQL[step]
            if NAME == "mysql-connector-python":  # it does not read every type of binary rows
                sql = sql.replace("starId, name, code, kind, flags, f, d,", "starId, name, d,")
                sql = sql.replace(" day, t, dt, y, txt, b, g", " dt, txt").replace(
                    "*", "id, u, d, dt, txt, db"
                )
            say(f"prepared_{step}", rows(connection, sql, (), prepared=True))
    streamed(connection)
    cancelled(connection)
    errors(connection)
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
        say(step, rows(connection, SQL[step]))
    rows(connection, SQL["warned"])
    say("warnings", rows(connection, SQL["warnings"]))
    rows(connection, f"DROP DATABASE {DB}")
    connection.close()


main()
