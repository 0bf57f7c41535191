"""Logins: TLS, plugins, refusals and how they are slowed down, changes of user, limits, who sees whom."""

import hashlib
import re
import ssl
import struct
import threading
import time

import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.proxy.test_traps import home_of
from tests.support.authority import Authority
from tests.support.rawclient import (
    DEPRECATE_EOF,
    NATIVE,
    SHA2,
    SSL,
    Closed,
    RawClient,
    ServerError,
    native_answer,
    refused,
    sha2_answer,
)
from tests.support.servers import skyshard

SLOW = "SELECT COUNT(*) FROM hip.Detection a JOIN hip.Detection b ON a.objectId = b.objectId WHERE SIN(a.flux * b.flux) + SIN(a.mjd * b.mjd) > 3"


# TLS ---------------------------------------------------------------------------------------------


def test_tls_is_on_and_its_certificate_verifies(cluster):
    authority = cluster.directory / "tls" / "server.crt"
    connection = pymysql.connect(
        host="127.0.0.1", port=cluster.port, user="root", ssl_ca=str(authority), ssl_verify_identity=True
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM hip.Object")
        assert cursor.fetchone() == (118216,)


@pytest.mark.parametrize("tls", [True, None], ids=["tls", "plain"])
def test_show_status_has_the_clients_own_tls(raw, tls):
    with raw(tls=tls) as client:
        cipher = client.socket.cipher()[0].encode() if tls else b""
        version = client.socket.version().encode() if tls else b""
        both = [(b"Ssl_cipher", cipher), (b"Ssl_version", version)]
        assert client.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'").rows == both[:1]
        assert client.query("/* Workbench */ SHOW STATUS LIKE 'ssl\\_version'").rows == both[1:]
        filtered = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Ssl_version', 'Ssl_cipher') AND Value <> ''"
        assert client.query(filtered).rows == (both if tls else [])
        listed = client.query("SHOW STATUS").rows
        assert [row for row in listed if row in both] == both
        assert [row[0].lower() for row in listed].index(b"ssl_cipher") > [row[0] for row in listed].index(
            b"Queries"
        )
        number, columns, _ = client.prepare("SHOW STATUS LIKE 'Ssl_cipher'")
        assert columns == 2
        assert client.execute(number).rows[0].endswith(b"Ssl_cipher" + bytes((len(cipher),)) + cipher)


def test_tls_carries_large_rows_both_ways(raw):
    with raw(tls=True) as client:
        text = "x" * 17_000_000
        assert client.query(f"SELECT '{text}'").rows == [(text.encode(),)]


def test_the_certificate_is_proved_with_the_password(cluster, raw, account):
    account("prover")
    made = RawClient(cluster.port)
    made.flags &= ~1  # MariaDB's own clients do not set CLIENT_MYSQL
    with made:
        made.connect(user="prover", password="geheim", tls=True)
        found = x509.load_pem_x509_certificate((cluster.directory / "tls" / "server.crt").read_bytes())
        fingerprint = found.fingerprint(hashes.SHA256())
        kept = hashlib.sha1(hashlib.sha1(b"geheim").digest()).digest()
        proof = hashlib.sha256(kept + made.scramble + fingerprint).hexdigest().encode()
        assert made.auth_ok.endswith(bytes((65, 1)) + proof)
        assert made.query("SELECT 1").rows == [(b"1",)]


def test_tls_required(proxy, raw, cluster):
    files = {
        "certificate": str(cluster.directory / "tls/server.crt"),
        "key": str(cluster.directory / "tls/server.key"),
    }
    port = proxy(tls=files | {"required": True}).port
    assert refused(raw, port) == 3159
    assert raw(port, tls=True).query("SELECT 1").rows == [(b"1",)]


def test_tls_off(proxy, raw):
    client = raw(proxy(tls=None).port)
    assert not client.offered & SSL
    assert client.query("SELECT 1").rows == [(b"1",)]


def test_client_certificates(proxy, raw, cluster, tmp_path):
    own, others = Authority(tmp_path / "own"), Authority(tmp_path / "others")
    files = {
        "certificate": str(cluster.directory / "tls/server.crt"),
        "key": str(cluster.directory / "tls/server.key"),
    }
    port = proxy(tls=files | {"required": True, "client_ca": str(own.certificate)}).port

    def context(files=None):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if files is not None:
            made.load_cert_chain(*files)
        return made

    for bad in (context(), context(others.client("eve"))):
        with pytest.raises((Closed, ssl.SSLError, OSError)):
            raw(port, tls=bad)
    assert raw(port, tls=context(own.client("ann"))).query("SELECT 1").rows == [(b"1",)]


@pytest.mark.parametrize("plugin", [NATIVE, SHA2])
def test_an_account_that_requires_tls_comes_in_with_it(raw, account, plugin):
    name = f"private_{plugin[:3]}"
    account(name, "IDENTIFIED BY 'geheim' REQUIRE SSL")
    client = raw(user=name, password="geheim", tls=True, plugin=plugin, database="hip")
    assert client.query("SELECT CURRENT_USER(), CONNECTION_ID()").rows == [
        (f"{name}@%".encode(), str(client.thread_id).encode())
    ]
    assert client.query("SELECT COUNT(*) FROM Object WHERE ra < 400").rows == [(b"118216",)]
    assert len(client.query("SELECT REPEAT('x', 3000000)").rows[0][0]) == 3000000
    assert refused(raw, user=name, password="falsch", tls=True, plugin=plugin) == 1045
    with pytest.raises(ServerError) as caught:
        raw(user=name, password="geheim", plugin=plugin)
    assert (caught.value.errno, caught.value.sqlstate) == (1045, "28000")
    assert "REQUIRE SSL: connect with TLS" in caught.value.message


@pytest.mark.parametrize(
    ("require", "plugin"), [("X509", NATIVE), ("SUBJECT '/CN=a'", NATIVE), ("X509", SHA2)]
)
def test_accounts_that_require_certificates_are_told_that_they_cannot_come_in(raw, account, require, plugin):
    name = f"demands_{require[:3]}_{plugin[:3]}"
    account(name, f"IDENTIFIED BY 'geheim' REQUIRE {require}")
    with pytest.raises(ServerError) as caught:
        raw(user=name, password="geheim", tls=True, plugin=plugin)
    assert (caught.value.errno, caught.value.sqlstate) == (1045, "28000")
    assert f"REQUIRE {require.split()[0]}" in caught.value.message
    with pytest.raises(ServerError) as caught:  # who does not know the password is told nothing
        raw(user=name, password="falsch", tls=True, plugin=plugin)
    assert caught.value.errno == 1045
    assert "REQUIRE" not in caught.value.message


@pytest.mark.parametrize("mode", ["off", "required"])
def test_the_command_line_says_what_tls_does(tmp_path, mode):
    out = skyshard("cluster", "up", "--help").stdout
    assert "--tls [on|off|required]" in out
    bad = skyshard("cluster", "up", "--dir", tmp_path / "c", "--tls", mode + "x", check=False)
    assert bad.returncode == 2
    assert not (tmp_path / "c").exists()


def test_the_key_is_private(cluster):
    key = cluster.directory / "tls" / "server.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    serialization.load_pem_private_key(key.read_bytes(), None)


# plugins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [None, True])
@pytest.mark.parametrize("flags", [0, DEPRECATE_EOF])
def test_caching_sha2_clients_come_in(raw, account, tls, flags):
    account("modern")
    client = raw(user="modern", password="geheim", plugin=SHA2, tls=tls, flags=flags)
    assert client.query("SELECT COUNT(*) FROM hip.Object").rows == [(b"118216",)]
    assert client.query("SELECT USER()").rows == [(b"modern@127.0.0.1",)]


@pytest.mark.parametrize("tls", [None, True])
def test_caching_sha2_clients_need_the_password(raw, account, tls):
    account("modern")
    assert refused(raw, user="modern", password="falsch", plugin=SHA2, tls=tls) == 1045


def test_caching_sha2_without_a_password(raw):
    assert raw(plugin=SHA2).query("SELECT 1").rows == [(b"1",)]


def test_ed25519_accounts(client, raw, account):
    with client.cursor() as cursor:
        cursor.execute("INSTALL SONAME 'auth_ed25519'")
        try:
            account("signer", "IDENTIFIED VIA ed25519 USING PASSWORD('geheim')")
            made = raw(user="signer", password="geheim", plugin=SHA2, tls=True)
            assert made.query("SELECT COUNT(*) FROM hip.Object").rows == [(b"118216",)]
            assert refused(raw, user="signer", password="falsch", plugin=SHA2, tls=True) == 1045
        finally:
            cursor.execute("DROP USER IF EXISTS signer")
            cursor.execute("UNINSTALL SONAME 'auth_ed25519'")


# refusals ----------------------------------------------------------------------------------------


def test_who_goes_on_after_a_refusal_gets_nothing(cluster, account):
    account("locked")
    with RawClient(cluster.port) as client:
        client.greet()
        client.flags &= ~0x80000
        assert refused(client.login, "locked", "falsch") == 1045
        with pytest.raises((Closed, ConnectionError)):
            client.query("SELECT COUNT(*) FROM hip.Object")


def test_guessing_is_slowed_down_and_logged(proxy, raw, account):
    account("target")
    door = proxy()
    numbers = {}
    for attempt in range(12):
        number = refused(raw, door.port, user="target", password=f"guess{attempt}")
        numbers[number] = numbers.get(number, 0) + 1
    assert numbers == {1045: 10, 1129: 2}
    assert refused(raw, door.port, user="target", password="geheim") == 1129
    assert raw(door.port).query("SELECT 1").rows == [(b"1",)]
    log = door.log.read_text()
    assert len(re.findall("login of 'target' from 127.0.0.1 refused", log)) == 10
    assert len(re.findall("login of 'target' from 127.0.0.1 blocked", log)) == 3
    assert "guess" not in log
    assert "geheim" not in log


def trickle(client, started):
    while time.monotonic() < started + 10:
        client.socket.sendall(b"\x01")
        time.sleep(0.05)  # a slow-loris sends a byte now and then


def test_a_silent_client_is_cut_off(proxy):
    port = proxy(handshake_timeout_s=2).port
    with RawClient(port) as silent:
        silent.greet()
        with pytest.raises(Closed):
            silent.read()
    with RawClient(port) as slow:
        slow.greet()
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            trickle(slow, started)
        assert time.monotonic() - started < 8


def left(cluster, raw, thread):
    """Wait until the home server has let a session go."""
    watcher = raw()
    while watcher.query(f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {thread}").rows:
        pass
    with home_of(cluster) as home, home.cursor() as cursor:
        while cursor.execute("SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = %s", (thread,)):
            pass


@pytest.mark.parametrize("tls", [None, True])
@pytest.mark.parametrize("quits", [True, False])
def test_the_home_server_is_told_goodbye(cluster, raw, account, tls, quits):
    account("leaver", "IDENTIFIED BY 'geheim' REQUIRE SSL" if tls else "IDENTIFIED BY 'geheim'")

    def aborted():
        with home_of(cluster) as home, home.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Aborted_clients'")
            return int(cursor.fetchall()[0][1])

    for last in (False, False, True):
        before = aborted()
        for sql in ("SELECT COUNT(*) FROM hip.Object", "SELECT SLEEP(0)", None):
            client = raw(user="leaver", password="geheim", tls=tls)
            if sql is not None:
                client.query(sql)
            if quits:
                client.command(b"\x01")
            client.socket.close()
            left(cluster, raw, client.thread_id)
        if aborted() == before:
            break
        assert not last  # once, it may have been what a test before this one has left


# changes of user ---------------------------------------------------------------------------------


def change_user(client, user, password, plugin=NATIVE):
    answer = {NATIVE: native_answer, SHA2: sha2_answer}[plugin](password, client.scramble)
    client.command(
        b"\x11"
        + user.encode()
        + b"\0"
        + bytes((len(answer),))
        + answer
        + b"hip\0\x2d\0"
        + plugin.encode()
        + b"\0"
    )
    client.dialogue(password, plugin)


def test_a_session_changes_to_an_account_that_requires_tls_only_if_it_began_so(raw, account):
    account("private_a", "IDENTIFIED BY 'geheim' REQUIRE SSL")
    account("open_a")
    began = raw(user="private_a", password="geheim", tls=True)
    for name in ("open_a", "private_a"):
        change_user(began, name, "geheim")
        assert began.query("SELECT DATABASE()").rows == [(b"hip",)]
    with pytest.raises(ServerError) as caught:
        change_user(raw(user="open_a", password="geheim", tls=True), "private_a", "geheim")
    assert "REQUIRE SSL: connect anew" in caught.value.message


@pytest.mark.parametrize("plugin", [NATIVE, SHA2])
def test_change_user(raw, account, plugin):
    account("second")
    client = raw(tls=True)
    client.query("SET @x = 1")
    number, _, _ = client.prepare("SELECT COUNT(*) FROM hip.Object")
    change_user(client, "second", "geheim", plugin)
    assert client.query("SELECT USER(), DATABASE(), @x").rows == [(b"second@127.0.0.1", b"hip", None)]
    assert client.query("SELECT COUNT(*) FROM Object").rows == [(b"118216",)]
    assert refused(client.query, "SELECT * FROM mysql.global_priv") == 1142
    assert refused(client.execute, number) == 1243


def test_a_failed_change_of_user_ends_the_session(raw, account):
    account("second")
    client = raw()
    assert refused(change_user, client, "second", "falsch") == 1045
    with pytest.raises((Closed, ConnectionError)):
        client.query("SELECT COUNT(*) FROM hip.Object")


# limits ------------------------------------------------------------------------------------------


def test_too_many_connections(proxy, raw):
    port = proxy(max_connections=3).port
    first = [raw(port) for _ in range(3)]
    with pytest.raises(ServerError) as caught:
        raw(port)
    assert (caught.value.errno, caught.value.sqlstate) == (1040, "08004")
    assert caught.value.message == "Too many connections"
    first[0].socket.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            raw(port)
            break
        except ServerError:
            assert time.monotonic() < deadline


def test_limits_of_a_user(proxy, raw, account):
    account("small")
    account("hasty")
    limits = {"connections": 2, "queries": 1, "result_bytes": 10_000}
    port = proxy(user_limits={"small": limits, "hasty": {"statement_s": 0.5}}).port
    one, two = (raw(port, user="small", password="geheim", database="hip") for _ in range(2))
    assert refused(raw, port, user="small", password="geheim") == 1226
    assert raw(port).query("SELECT 1").rows == [(b"1",)]
    assert refused(one.query, "SELECT * FROM Object") == 1104
    assert len(one.query("SELECT objectId FROM Object LIMIT 50").rows) == 50
    assert refused(raw(port, user="hasty", password="geheim", database="hip").query, SLOW) == 1969
    seen = []
    thread = threading.Thread(target=lambda: seen.append(refused(one.query, SLOW)))
    thread.start()
    root, mine = raw(port), str(one.thread_id).encode()
    while not any(
        row[0] == mine and b"chunks" in (row[6] or b"") for row in root.query("SHOW PROCESSLIST").rows
    ):
        assert thread.is_alive()
    assert refused(two.query, "SELECT objectId FROM Object LIMIT 1") == 1226
    root.query(f"KILL QUERY {one.thread_id}")
    thread.join()
    assert seen == [1317]
    assert len(two.query("SELECT objectId FROM Object LIMIT 1").rows) == 1


def test_a_result_past_its_limit_of_rows_from_home_leaves_the_session_usable(proxy, raw, account):
    account("small", grants=("ALL ON poor.*", "SELECT ON hip.*"))
    port = proxy(user_limits={"small": {"result_bytes": 10_000}}).port
    root = raw(port)
    root.query("CREATE OR REPLACE DATABASE poor")
    try:
        small = raw(port, user="small", password="geheim", database="hip")
        small.query("CREATE TABLE poor.t (id BIGINT, name TEXT)")
        root.query("INSERT INTO poor.t SELECT objectId, REPEAT('x', 9999) FROM hip.Object LIMIT 1000")
        delete = "DELETE FROM poor.t WHERE id IN (SELECT objectId FROM Object) RETURNING id, name"
        assert refused(small.query, delete) == 1104
        assert small.query("SELECT 5").rows == [(b"5",)]
        assert len(small.query("SELECT objectId FROM Object LIMIT 50").rows) == 50
    finally:
        root.query("DROP DATABASE poor")


def test_limits_are_those_of_the_name_that_the_server_knows(proxy, raw, account):
    """It takes quotes off a name, and reads it in the client's character set."""
    account("small")
    account("`größe`")
    limits = {"connections": 1}
    port = proxy(user_limits={"small": limits, "größe": limits}).port
    kept = raw(port, user="small", password="geheim")
    assert refused(raw, port, user="'small'", password="geheim") == 1226
    assert kept.query("SELECT 1").rows == [(b"1",)]
    kept = raw(port, user="größe", password="geheim")
    with RawClient(port) as other:
        other.greet()
        auth = native_answer("geheim", other.scramble)
        head = struct.pack("<IIB23x", other.flags, 1 << 24, 8)  # latin1_swedish_ci
        name = "größe".encode("latin-1")
        other.send(head + name + b"\0" + bytes((len(auth),)) + auth + NATIVE.encode() + b"\0")
        assert refused(other.dialogue, "geheim", NATIVE) == 1226
    assert kept.query("SELECT 1").rows == [(b"1",)]


@pytest.mark.parametrize("plugin", [NATIVE, SHA2])
def test_a_change_to_a_user_past_a_limit_ends_the_session(proxy, raw, account, plugin):
    account("small")
    port = proxy(user_limits={"small": {"connections": 1}}).port
    kept = raw(port, user="small", password="geheim")
    client = raw(port, tls=True)
    assert refused(change_user, client, "small", "geheim", plugin) == 1226
    with pytest.raises((Closed, ConnectionError)):
        client.query("SELECT 1")
    assert kept.query("SELECT 1").rows == [(b"1",)]


def test_a_plugin_that_no_password_answers_ends_a_change_of_user(raw, account):
    account("odd", how="IDENTIFIED VIA unix_socket")
    client = raw(tls=True)
    with pytest.raises(ServerError):
        change_user(client, "odd", "geheim", SHA2)
    with pytest.raises((Closed, ConnectionError)):
        client.query("SELECT 1")


# who sees whom -----------------------------------------------------------------------------------


def test_grants_take_effect_at_once(client, raw, account):
    account("guest", grants=())
    guest = raw(user="guest", password="geheim")
    assert guest.query("SHOW DATABASES").rows == [(b"information_schema",), (b"skyshard_scratch",)]
    assert refused(guest.query, "SELECT COUNT(*) FROM hip.Object") == 1142
    assert refused(guest.query, "USE hip") == 1044
    with client.cursor() as cursor:
        cursor.execute("GRANT SELECT (objectId) ON hip.Object TO guest")
        assert guest.query("SELECT COUNT(objectId) FROM hip.Object").rows == [(b"118216",)]
        assert refused(guest.query, "SELECT SUM(ra) FROM hip.Object") == 1143
        for area in ("qserv_areaspec_circle(10, 10, 1)", "qserv_areaspec_box(0, 0, 1, 1) = 1"):
            assert refused(guest.query, f"SELECT objectId FROM hip.Object o WHERE {area}") == 1143
        cursor.execute("CREATE OR REPLACE ROLE reader")
        cursor.execute("GRANT SELECT ON hip.* TO reader")
        cursor.execute("GRANT reader TO guest")
        guest.query("SET ROLE reader")
        assert guest.query("SELECT COUNT(ra) FROM hip.Object").rows == [(b"118216",)]
        cursor.execute("SET PASSWORD FOR guest = PASSWORD('neu')")
        assert refused(raw, user="guest", password="geheim") == 1045
        assert raw(user="guest", password="neu").query("SELECT 1").rows == [(b"1",)]
        cursor.execute("DROP ROLE reader")


def test_other_users_queries_are_their_own(raw, account):
    account("alice")
    account("bob")
    alice = raw(user="alice", password="geheim", database="hip")
    bob = raw(user="bob", password="geheim", database="hip")
    root = raw()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(refused(alice.query, SLOW)))
    thread.start()

    def listed(by):
        return [
            row for row in by.query("SHOW FULL PROCESSLIST").rows if row[0] == str(alice.thread_id).encode()
        ]

    while not any(b"chunks" in (row[6] or b"") for row in listed(root)):
        assert thread.is_alive()
    assert listed(bob) == []
    assert refused(bob.query, f"KILL QUERY {alice.thread_id}") == 1095
    assert thread.is_alive()
    root.query(f"KILL QUERY {alice.thread_id}")
    thread.join(10)
    assert seen == [1317]


def test_who_comes_soon_after_another_is_still_who_they_are(raw, account):
    account("swift@127.0.0.1")
    account("other@127.0.0.2")
    seen = set()
    for _ in range(4):
        client = raw(user="swift", password="geheim")
        assert client.query("SELECT USER(), CURRENT_USER(), CONNECTION_ID()").rows == [
            (b"swift@127.0.0.1", b"swift@127.0.0.1", b"%d" % client.thread_id)
        ]
        seen.add(client.thread_id)
        assert refused(raw, user="other", password="geheim") == 1045
    assert len(seen) == 4


@pytest.mark.parametrize("plugin", [NATIVE, SHA2])
def test_accounts_at_localhost_are_for_clients_of_this_machine(cluster, raw, account, plugin):
    account("near@localhost")
    account("anywhere@'127.0.0.%'")
    assert raw(user="near", password="geheim", plugin=plugin).query("SELECT 1").rows == [(b"1",)]
    with RawClient(cluster.port, source="127.0.0.2") as client, pytest.raises(ServerError) as caught:
        client.connect(user="near", password="geheim", plugin=plugin)
    assert caught.value.args[:2] == (1045, "28000")
    assert "'near'@'127.0.0.2' (using password: YES)" in caught.value.message
    with RawClient(cluster.port, source="127.0.0.2") as client:
        client.connect(user="anywhere", password="geheim", plugin=plugin)
        assert client.query("SELECT CURRENT_USER()").rows == [(b"anywhere@127.0.0.%",)]
        auth = native_answer("geheim", client.scramble)
        client.command(b"\x11near\0" + bytes((len(auth),)) + auth + b"\0\x2d\0" + NATIVE.encode() + b"\0")
        with pytest.raises(ServerError) as caught:
            client.dialogue("geheim", NATIVE)
        assert caught.value.errno == 1045
        with pytest.raises((Closed, ConnectionError)):
            client.query("SELECT 1")


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("DROP TABLE lab.Star", 1142),
        ("INSERT INTO lab.Star (starId) VALUES (1)", 1142),
        ("TRUNCATE lab.Star", 1142),
        ("UPDATE lab.Star SET starId = 1", 1142),
        ("EXECUTE IMMEDIATE 'DROP TABLE lab.Star'", 1142),
        ("DROP DATABASE lab", 1044),
        ("DROP TABLE hip.Object", 1290),
        ("DROP DATABASE hip", 1290),
    ],
)
def test_refused_changes_tell_no_more_than_grants_allow(raw, account, plain, sql, number):
    account("stranger")
    with RawClient(plain.socket) as other:
        other.connect().query("CREATE OR REPLACE USER stranger IDENTIFIED BY 'geheim'")
        other.query("GRANT SELECT ON hip.* TO stranger")
        with RawClient(plain.socket) as same:
            same.connect(user="stranger", password="geheim")
            with pytest.raises(ServerError) as wanted:
                same.query(sql)
        other.query("DROP USER stranger")
    with pytest.raises(ServerError) as caught:
        raw(user="stranger", password="geheim").query(sql)
    assert caught.value.errno == number
    if number != 1290:
        assert caught.value.message == wanted.value.message.replace("localhost", "127.0.0.1")
