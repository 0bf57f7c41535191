"""A trap that was made readable behind the proxy's back is a trap again."""

import time

import pymysql
import pytest

from shard.catalog.traps import is_trap_error
from skyshard.cluster import health
from skyshard.cluster import state as states


def home_of(cluster):
    address = health.server_address(cluster.directory, states.require(cluster.directory))
    return pymysql.connect(
        unix_socket=address.socket, user=address.user, password=address.password, autocommit=True
    )


def is_trap(home):
    """Read the table at home; return whether that fails as a trap's read does."""
    with home.cursor() as cursor:
        try:
            cursor.execute("SELECT COUNT(*) FROM hip.Object")
        except pymysql.MySQLError as error:
            return is_trap_error(*error.args)
        return False


def test_a_truncated_trap_is_closed_again(cluster, client, proxy):
    with home_of(cluster) as home, client.cursor() as cursor:
        assert is_trap(home)
        home.query("TRUNCATE TABLE hip.Object")
        assert not is_trap(home)
        proxy(trap_check_s=0.1)
        deadline = time.monotonic() + 20
        while not is_trap(home):
            assert time.monotonic() < deadline
        cursor.execute("SELECT COUNT(*) FROM Object")
        assert cursor.fetchall() == ((118216,),)
        with pytest.raises(pymysql.MySQLError) as caught:
            cursor.execute("EXECUTE IMMEDIATE CONCAT('SELECT COUNT(*) FROM hip.Ob', 'ject')")
        assert caught.value.args[0] == 1235
