"""What /metrics and /healthz say, on the proxy and on agents."""

import os
import signal
import time

import pymysql
import pytest

from tests.support.agents import until
from tests.support.servers import Inside, skyshard


@pytest.fixture
def inside(cluster):
    return Inside(cluster.directory)


def ask(cluster, sql):
    with (
        pymysql.connect(host="127.0.0.1", port=cluster.port, user="root", database="hip") as client,
        client.cursor() as cursor,
    ):
        cursor.execute(sql)
        return cursor.fetchall()


def grown(before, after):
    return {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}


async def test_a_proxy_counts_queries_rows_bytes_and_chunks(cluster, inside):
    before = inside.figures("proxy1")
    found = ask(cluster, "SELECT objectId FROM Object WHERE objectId IN (1, 2, 3)")
    assert len(found) == 3
    with pytest.raises(pymysql.MySQLError):
        ask(cluster, "SELECT objectId, (SELECT 1 UNION SELECT 2) FROM Object")
    assert len(ask(cluster, "SELECT MAX(vmag) FROM Object")) == 1
    merged = 'skyshard_queries_total{outcome="ok",strategy="scatter+merge"}'

    async def counted():
        return merged in grown(before, inside.figures("proxy1"))

    await until(counted, pause=0.1)  # a query is counted when its answer has gone
    more = grown(before, inside.figures("proxy1"))
    assert more['skyshard_queries_total{outcome="ok",strategy="routed"}'] == 1
    assert more[merged] == 1
    assert more['skyshard_query_seconds_count{strategy="routed"}'] == 1
    assert more["skyshard_rows_total"] == 4
    assert more["skyshard_chunks_total"] > 3
    assert more["skyshard_bytes_total"] > 0


async def test_states(cluster, inside):
    ask(cluster, "SELECT MAX(vmag) FROM Object")

    async def idle():
        agents = [inside.figures(name) for name in ("worker1", "worker2")]
        running = inside.figures("proxy1")["skyshard_running_queries"]
        return not running and not any(agent["skyshard_agent_running"] for agent in agents)

    await until(idle, pause=0.1)
    proxy = inside.figures("proxy1")
    assert proxy['skyshard_workers{state="active"}'] == 2
    assert proxy['skyshard_worker_up{worker="worker1"}'] == proxy['skyshard_worker_up{worker="worker2"}'] == 1
    for name in ("worker1", "worker2"):
        agent = inside.figures(name)
        assert agent["skyshard_agent_mariadb_up"] == 1
        assert agent["skyshard_agent_queued"] == 0
        assert agent['skyshard_agent_jobs_total{outcome="ok"}'] > 0
        assert agent["skyshard_agent_chunks_total"] > 0
        assert agent["skyshard_agent_bytes_total"] > 0
        assert agent['skyshard_agent_spool_bytes{where="disk"}'] == 0


CATALOG = """\
database: counted
partitioning: {stripes: 6, sub_stripes: 2, overlap_deg: 0.1}
tables:
  - {name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: [stars.csv],
     columns: {id: BIGINT NOT NULL, ra: DOUBLE NOT NULL, decl: DOUBLE NOT NULL}}
"""


def test_agents_count_the_rows_they_load(cluster, inside, tmp_path):
    def loaded():
        agents = [inside.figures(name) for name in ("worker1", "worker2")]
        return sum(agent["skyshard_agent_loaded_rows_total"] for agent in agents)

    (tmp_path / "CATALOG.yaml").write_text(CATALOG)
    (tmp_path / "stars.csv").write_text(
        "id,ra,decl\n1,45,-45\n2,135,15\n3,225,45\n"
    )  # far from chunks' borders
    before = loaded()
    cluster.ingest(tmp_path / "CATALOG.yaml")
    skyshard("catalog", "drop", "counted", "--dir", cluster.directory)
    assert loaded() - before == 3


def test_health_and_the_page_for_people(inside):
    for name in ("proxy1", "worker1", "worker2"):
        assert inside.http(name, "/healthz") == (200, "ok\n")
        assert inside.http(name, "/nothing")[0] == 404
    status, text = inside.http("proxy1", "/")
    assert status == 200
    assert "worker worker1: active" in text
    assert "database hip: " in text


async def test_a_worker_that_hangs_is_named_and_shown(cluster, inside, proxy):
    """Its agent is stopped, not gone: connections stay open and nobody answers."""
    impatient = proxy(agent_silence_s=3.0, agent_timeout_s=2.0)  # agents say every 2 s that they are there
    agent = inside.process("agent-worker1")
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(pymysql.MySQLError) as caught:
            ask(impatient, "SELECT MAX(vmag) FROM Object")
        assert time.monotonic() - began < 10
        assert (caught.value.args[0], "worker1" in caught.value.args[1]) == (1429, True)

        async def known():
            return inside.figures("proxy1")['skyshard_worker_up{worker="worker1"}'] == 0

        await until(known, pause=0.1)
        assert ask(impatient, "SELECT 1") == ((1,),)
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    assert len(ask(impatient, "SELECT MAX(vmag) FROM Object")) == 1


async def test_the_log_has_one_line_a_query(cluster, inside):
    def lines(name):
        return (inside.directory / "logs" / f"{name}.log").read_text().splitlines()

    before = len(lines("proxy1"))
    ask(cluster, "SELECT objectId FROM Object WHERE objectId = 7")
    query = ""

    async def logged():
        nonlocal query
        for line in lines("proxy1")[before:]:
            said = dict(part.split("=", 1) for part in line.split() if "=" in part)
            if said.get("strategy") == "routed":
                assert (said["outcome"], said["rows"], said["user"]) == ("ok", "1", "root")
                query = said["query"]
        return query != ""

    async def logged_by_an_agent():
        return any(f"query={query} chunks=1/1" in line for n in (1, 2) for line in lines(f"agent-worker{n}"))

    await until(logged)
    await until(logged_by_an_agent)
