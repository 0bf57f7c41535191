"""A fault of the proxy's own: the client is told an id, and the log has what happened under it."""

import re
import sys
import time

import pytest

from proxy.registry import Registry
from tests.support.rawclient import RawClient, ServerError
from tests.support.servers import ExtraProxy

FAULT = """
from proxy import table_status
from proxy.home import session_values
from skyshard.cli import cli

async def broken(*_):
    raise ZeroDivisionError("a fault of this test")

session_values.read = table_status.answer = broken
cli()
"""


class Faulty(ExtraProxy):
    """A proxy that fails where it reads values of a session, and where it lists tables."""

    def _launch(self):
        self._command = [sys.executable, "-c", FAULT, "proxy", "--config", self._command[-1]]
        return super()._launch()


@pytest.fixture(scope="module")
def faulty(cluster, tmp_path_factory):
    proxy = Faulty(cluster, tmp_path_factory.mktemp("faulty"))
    yield proxy
    proxy.stop()


def told(call, *arguments):
    """Return the id in the error that a call ends with."""
    with pytest.raises(ServerError) as caught:
        call(*arguments)
    assert (caught.value.errno, caught.value.sqlstate) == (1105, "HY000")
    return int(re.fullmatch(r"internal error, query id (\d+)", caught.value.message)[1])


def logged(log, number):
    """Return what a log has of an internal error, once it is there."""
    deadline = time.monotonic() + 10
    while True:
        entries = re.split(r"\n(?=\d{4}-)", log.read_text())
        found = [entry for entry in entries if f"query {number} " in entry and "internal error" in entry]
        if found:
            return found
        assert time.monotonic() < deadline, entries


@pytest.mark.parametrize("how", ["text", "prepared"])
@pytest.mark.parametrize("sql", ["SELECT COUNT(*) FROM Object WHERE ra > 5", "SHOW TABLE STATUS"])
def test_the_log_has_the_id_that_the_client_is_told(faulty, how, sql):
    with RawClient(faulty.port) as client:
        client.connect(database="hip")
        if how == "text":
            numbers = [told(client.query, sql) for _ in range(2)]
        else:
            prepared, _, _ = client.prepare(sql)
            numbers = [told(client.execute, prepared) for _ in range(2)]
        assert [row[:2] for row in client.query("SHOW ERRORS").rows] == [(b"Error", b"1105")]
        assert client.query("SELECT 1").rows == [(b"1",)]
    assert numbers[0] != numbers[1]
    for number in numbers:
        (entry,) = logged(faulty.log, number)
        assert "ZeroDivisionError: a fault of this test" in entry
        assert f"session {client.thread_id}" in entry


def test_no_two_processes_have_the_same_ids():
    first, second = Registry(), Registry()
    numbers = {registry.number() >> 32 for registry in (first, second) for _ in range(3)}
    assert len(numbers) == 2
    assert first.begin(1, "u", "SELECT 1").query_id < first.number() < 2**63
