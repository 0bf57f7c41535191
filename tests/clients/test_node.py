"""Node's clients: mysql2 and mariadb."""

import pytest

from tests.clients.conftest import ACCOUNTS, CLIENTS, DRIVERS


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ACCOUNTS)
@pytest.mark.parametrize("client", ["mysql2", "mariadb (node)"])
def test_node(both, need, client, mode):
    need(client)
    name = client.removesuffix(" (node)")
    both.compare(
        client, ["node", "--expose-gc", str(DRIVERS / "node.js"), name, str(CLIENTS / "node_modules")], mode
    )
