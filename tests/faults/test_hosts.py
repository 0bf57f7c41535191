"""Every part on a host of its own: queries, a worker that is lost, rows that come meanwhile, and its repair."""

from pathlib import Path

import pytest

from tests.faults.hosts import Hosts, Loopback, Namespaces, NoNamespaces, running
from tests.support.sky import Sky, signature, written

ALL = ("Star", "Ref", "Visit", "Pair", "Band")
FIRST, MORE = Sky(0, 60), Sky(60, 30)


def lose(hosts: Hosts, name: str) -> None:
    """Let a worker be lost: its cable is pulled out, or its processes are killed."""
    if isinstance(hosts.places, Namespaces):
        hosts.places.cable(name, plugged=False)
    else:
        hosts.kill(f"agent-{name}")
        hosts.kill(name)


def bring_back(hosts: Hosts, name: str) -> None:
    if isinstance(hosts.places, Namespaces):
        hosts.places.cable(name, plugged=True)
    else:
        hosts.start_worker(name)
    hosts.until(lambda: "no answer" not in hosts.command("worker", "list"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", [Loopback, Namespaces])
def test_a_worker_is_lost_and_comes_back(kind, tmp_path: Path) -> None:
    try:
        places = kind()
    except NoNamespaces as reason:
        print(f"skipped: {reason}")
        pytest.skip(str(reason))
    with running(tmp_path / "hosts", places) as hosts:
        listed = [line.split() for line in hosts.command("worker", "list").splitlines()]
        addresses = [places.addresses[name] for name in ("worker1", "worker2")]
        assert [line[2] for line in listed] == [f"{address}:{hosts.port}" for address in addresses]
        hosts.command("ingest", written(tmp_path / "first", "sky", FIRST, ALL))
        before, after = signature(FIRST), signature(FIRST, MORE)
        hosts.until(lambda: hosts.answers(before, "sky"))
        lose(hosts, "worker2")
        assert hosts.answers(before, "sky")
        told = hosts.command("ingest", written(tmp_path / "more", "sky", MORE, ALL[:4]), "--append")
        assert "worker2 (id 2) does not answer" in told
        assert hosts.answers(after, "sky")
        bring_back(hosts, "worker2")
        assert hosts.answers(after, "sky")  # its copies are out of use
        hosts.command("repair", "sky")
        hosts.command("catalog", "verify", "sky")
        lose(hosts, "worker1")
        assert hosts.answers(after, "sky")  # from the repaired copies alone
