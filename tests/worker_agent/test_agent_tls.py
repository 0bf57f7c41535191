"""TLS between agents and callers: both sides show a certificate of one CA, and the agent's names its worker."""

import asyncio
import ssl

import pytest
from click.testing import CliRunner

from backend.agent_link import AgentPool
from backend.agent_tls import BadTlsFiles, TlsFiles
from shard.errors import SkyError
from shard.wire import frames
from skyshard.cli import cli
from skyshard.cluster.certificate import Authority
from tests.support.agents import SECRET, LocalAgent, greet, job, serving


def files(directory, name):
    authority = Authority.provide(directory)
    made = authority.issue(name)
    return TlsFiles(str(authority.files.certificate), str(made.certificate), str(made.key))


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return tmp_path_factory.mktemp("ca")


def agent(server, ca, name="worker7", caller=None):
    caller = files(ca, "client").for_caller() if caller is None else caller
    return LocalAgent(server, tls=files(ca, name), caller_tls=caller)


async def test_jobs_and_large_rows_go_over_tls(chunks, ca):
    async with agent(chunks, ca) as there:
        async with there.pool.lease(7) as link:
            assert link.encrypted
        answer = await there.ask(
            job("SELECT REPEAT('#', 3000000), seq FROM mysql.seq_1_to_5", [3], database="")
        )
        assert answer.end == frames.JobEnd()
        assert [len(row[0]) for row in answer.rows[0]] == [3_000_000] * 5


async def test_an_agent_with_another_workers_name_is_refused(chunks, ca):
    async with agent(chunks, ca, name="worker8") as there:
        with pytest.raises(SkyError) as caught:
            await there.pool.get(7)
        assert caught.value.errno == 1429


async def test_strangers_are_refused(chunks, ca, tmp_path):
    stranger = files(tmp_path, "client").for_caller()
    stranger.load_verify_locations(str(ca / "ca.crt"))
    nobody = ssl.create_default_context(cafile=str(ca / "ca.crt"))
    for caller in (stranger, nobody):
        async with agent(chunks, ca, caller=caller) as there:
            with pytest.raises(SkyError):
                await there.pool.get(7)
    async with agent(chunks, ca) as there:
        plain = AgentPool({7: there.worker}, SECRET, timeout_s=1)
        with pytest.raises(SkyError):
            await plain.get(7)


async def test_an_agent_of_another_ca_is_refused(chunks, ca, tmp_path):
    async with agent(chunks, tmp_path, caller=files(ca, "client").for_caller()) as there:
        with pytest.raises(SkyError):
            await there.pool.get(7)


async def test_an_agent_that_does_not_know_the_secret_is_refused(chunks):
    async def greet_and_serve(reader, writer):
        decoder = await greet(reader, writer, b"a guess")
        while data := await reader.read(1 << 16):
            decoder.feed(data)

    async with serving(greet_and_serve) as port, LocalAgent(chunks) as there:
        worker = there.worker.__class__(worker_id=7, name="w", host="127.0.0.1", port=port)
        pool = AgentPool({7: worker}, SECRET)
        with pytest.raises(SkyError):
            await pool.get(7)
        await pool.close()
        await asyncio.sleep(0)  # lets the transports close


def test_files_that_cannot_be_used_are_named(tmp_path, ca):
    good = files(ca, "client")
    (tmp_path / "no.crt").write_text("no certificate")
    for bad in (
        TlsFiles(good.ca, str(tmp_path / "none"), good.key),
        TlsFiles(good.ca, good.certificate, good.ca),
        TlsFiles(str(tmp_path / "no.crt"), good.certificate, good.key),
    ):
        with pytest.raises(BadTlsFiles, match="agents' TLS"):
            bad.for_caller()


def test_certificates_are_made_once_and_again_for_another_ca(tmp_path):
    def made(*names):
        result = CliRunner().invoke(cli, ["certificates", "--out", str(tmp_path / "tls"), *names])
        assert result.exit_code == 0, result.output
        return {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}

    first = made("worker1")
    assert set(first) == {f"{name}.{kind}" for name in ("ca", "worker1", "client") for kind in ("crt", "key")}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "tls").iterdir())
    second = made("worker1", "worker2")
    assert first.items() <= second.items()
    (tmp_path / "tls" / "ca.key").unlink()
    third = made("worker2")
    assert third["worker2.crt"] != second["worker2.crt"]
    refused = CliRunner().invoke(cli, ["certificates", "--out", str(tmp_path / "tls"), "../worker"])
    assert refused.exit_code == 1
    assert "cannot be the name" in refused.output
