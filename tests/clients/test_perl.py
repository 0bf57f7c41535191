"""Perl's DBD::MariaDB."""

import pytest

from tests.clients.conftest import ACCOUNTS, DRIVERS


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ACCOUNTS)
def test_dbd_mariadb(both, need, mode):
    need("DBD::MariaDB")
    both.compare("DBD::MariaDB", ["perl", str(DRIVERS / "script.pl")], mode)
