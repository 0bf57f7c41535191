"""SQLAlchemy (reflection, ORM-less queries, transactions) and pandas (read_sql, to_sql) over pymysql."""

import json
import warnings

import pandas as pd
import sqlalchemy as sa
from common import CA, DB, HOST, PASSWORD, PORT, SQL, USER, interrupt, say

URL = sa.URL.create("mysql+pymysql", USER, PASSWORD, HOST, PORT, "hip", query={"charset": "utf8mb4"})
ARGUMENTS = {"ssl": {"ca": CA, "check_hostname": True}} if CA else {}


def reflected(engine):
    inspector = sa.inspect(engine)
    say("schemas", inspector.get_schema_names())
    for schema in ("hip", "lab"):
        say(f"tables {schema}", inspector.get_table_names(schema=schema))
        say(f"views {schema}", inspector.get_view_names(schema=schema))
    columns = inspector.get_columns("Star", schema="lab")
    say("columns", [{key: repr(value) for key, value in column.items()} for column in columns])
    say("indexes", inspector.get_indexes("Object", schema="hip"))
    say("primary", inspector.get_pk_constraint("kinds", schema=DB))
    say("unique", inspector.get_unique_constraints("kinds", schema=DB))
    say("options", inspector.get_table_options("Object", schema="hip"))
    say("comment", inspector.get_table_comment("Detection", schema="hip"))
    say(
        "has table",
        [
            inspector.has_table("Object"),
            inspector.has_table("nosuch"),
            inspector.has_table("Star", schema="lab"),
        ],
    )


def queried(engine):
    star = sa.Table("Star", sa.MetaData(), schema="lab", autoload_with=engine)
    with engine.connect() as connection:
        query = sa.select(star.c.starId, star.c.name, star.c.d).where(
            star.c.starId.in_([3, 7, 12]), star.c.name != "a b"
        )
        say("select", [list(row) for row in connection.execute(query.order_by(star.c.starId))])
        grouped = (
            sa.select(star.c.kind, sa.func.count(), sa.func.avg(star.c.d))
            .group_by(star.c.kind)
            .order_by(star.c.kind)
        )
        say("grouped", [list(row) for row in connection.execute(grouped)])
        say(
            "limited",
            [
                list(row)
                for row in connection.execute(
                    sa.select(star.c.starId).order_by(star.c.starId).limit(3).offset(2)
                )
            ],
        )
        streamed = connection.execution_options(stream_results=True, yield_per=1000).execute(
            sa.text(SQL["stream"])
        )
        say("stream", sum(1 for _ in streamed))
        connection.rollback()
        victim = connection.execute(sa.text("SELECT CONNECTION_ID()")).scalar()

        def kill():
            with engine.connect() as other:
                other.execute(sa.text(f"KILL CONNECTION {victim}"))

        thread = interrupt(kill)
        try:
            connection.execute(sa.text(SQL["slow"]))
            say("cancel", "not cancelled")
        except sa.exc.DBAPIError as error:
            say("cancel", [type(error).__name__, error.connection_invalidated])
        thread.join()
    for step in [name for name in SQL if name.startswith("error_")]:
        try:
            with engine.connect() as connection:
                say(step, [list(row) for row in connection.execute(sa.text(SQL[step]))])
        except sa.exc.DBAPIError as error:
            say(step, [type(error).__name__, *error.orig.args])


def framed(engine):
    say("read_sql", json.loads(pd.read_sql(SQL["typed"], engine).astype(str).to_json(orient="split")))
    frame = pd.read_sql(
        "SELECT objectId, ra, decl FROM hip.Object WHERE objectId < 100 ORDER BY objectId", engine
    )
    say("dtypes", frame.dtypes.astype(str).to_dict())
    say(
        "chunks",
        [
            len(piece)
            for piece in pd.read_sql(
                "SELECT objectId FROM hip.Object WHERE objectId < 5000", engine, chunksize=2000
            )
        ],
    )
    say("to_sql", frame.to_sql("frame", engine, schema=DB, index=False, if_exists="replace", chunksize=30))
    say(
        "appended",
        frame.head(7).to_sql("frame", engine, schema=DB, index=False, if_exists="append", method="multi"),
    )
    say(
        "read back",
        json.loads(
            pd.read_sql(f"SELECT * FROM {DB}.frame ORDER BY objectId, ra", engine).to_json(orient="split")
        ),
    )
    say("read_sql_table", len(pd.read_sql_table("Filter", engine, schema="hip")))


def main():
    warnings.simplefilter("ignore")
    engine = sa.create_engine(URL, connect_args=ARGUMENTS, pool_pre_ping=True)
    with engine.begin() as connection:
        for sql in (
            f"DROP DATABASE IF EXISTS {DB}",
            f"CREATE DATABASE {DB} CHARACTER SET utf8mb4",
            SQL["own_make"],
        ):
            connection.execute(sa.text(sql))
        connection.exec_driver_sql(SQL["own_fill"])
    say("version", list(engine.dialect.server_version_info))
    reflected(engine)
    queried(engine)
    framed(engine)
    with engine.connect() as connection, connection.begin() as transaction:
        say("inside", connection.execute(sa.text(SQL["inside"])).scalar())
        connection.execute(sa.text(SQL["change"]))
        transaction.rollback()
    with engine.begin() as connection:
        say("after", [list(row) for row in connection.execute(sa.text(SQL["after"]))])
        connection.execute(sa.text(f"DROP DATABASE {DB}"))
    engine.dispose()


main()
