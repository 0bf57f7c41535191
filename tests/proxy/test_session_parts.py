"""The parts of a session that need no server: throttle, diagnostics, passwords, handshake packets, the wire."""

import asyncio
import hashlib
import os
import zlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from proxy.registry import Registry
from proxy.running_board import KILLS, SLOTS, TEXT_BYTES, RunningBoard, Shown
from proxy.session import handshake, owned, passwords
from proxy.session.diagnostics import Diagnostics
from proxy.session.limits import Limits, Usage
from proxy.session.owned import ShowConditions
from proxy.session.throttle import ACCOUNT_FAILURES, ADDRESS_FAILURES, Failures, LoginThrottle
from proxy.session.wire import HIGH_WATER, ClientGone, ClientWire
from shard.errors import HOME_DOWN, INTERRUPTED, TIMEOUT, SkyError
from shard.planner.lexer import LexerMode
from shard.wire.frames import Note
from shard.wire.packets import PacketError


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_throttle_blocks_an_account_and_gives_back_with_time():
    clock = Clock()
    throttle = LoginThrottle(clock=clock)
    for _ in range(ACCOUNT_FAILURES):
        assert throttle.wait("a", "u") == 0
        throttle.failed("a", "u")
    assert throttle.wait("a", "u") == pytest.approx(6)
    assert throttle.wait("a", "v") == throttle.wait("b", "u") == 0
    clock.now = 6.0
    assert throttle.wait("a", "u") == 0
    throttle.succeeded("a", "u")
    throttle.failed("a", "u")
    assert throttle.wait("a", "u") == 0


def test_the_throttle_blocks_an_address_that_tries_many_accounts():
    throttle = LoginThrottle(clock=Clock())
    for number in range(ADDRESS_FAILURES):
        throttle.failed("a", f"u{number}")
    assert throttle.wait("a", "fresh") > 0
    assert throttle.wait("b", "fresh") == 0


def test_the_throttle_forgets_the_least_recent_when_it_is_full():
    clock = Clock()
    throttle = LoginThrottle(clock=clock)
    for number in range(3 * Failures.CAPACITY):
        clock.now += 1e-6
        throttle.failed(f"10.{number}", "u")
    for _ in range(ACCOUNT_FAILURES):
        throttle.failed("10.7", "u")
    assert throttle.wait("10.7", "u") > 0
    assert throttle.wait("10.8", "u") == 0


def test_processes_count_failed_logins_together():
    shared = Failures()
    here, there = (LoginThrottle(shared, Clock()) for _ in range(2))
    for number in range(ACCOUNT_FAILURES):
        (here, there)[number % 2].failed("a", "u")
    assert here.wait("a", "u") == there.wait("a", "u") == pytest.approx(6)
    assert LoginThrottle(clock=Clock()).wait("a", "u") == 0
    there.succeeded("a", "u")
    assert here.wait("a", "u") == 0


def test_processes_see_each_others_queries():
    board = RunningBoard(3)
    here, there, third = (board.share(number) for number in range(3))
    long = Shown(7, "SELECT 'ü' " + "x" * TEXT_BYTES, "scatter: 1/4 chunks", 12.5, 1, 2, 25.0)
    short = replace(long, session_id=8, sql="SELECT 2", state="routed: 0/1 chunks", percent=0.0)
    here.show(long)
    here.show(short)
    there.show(replace(long, session_id=9))
    cut = long.sql.encode()[:TEXT_BYTES].decode(errors="ignore")
    assert sorted(third.others(), key=lambda one: one.session_id) == [
        replace(long, sql=cut), short, replace(long, session_id=9, sql=cut)
    ]  # fmt: skip
    assert [one.session_id for one in here.others()] == [9]
    here.show(replace(short, state="routed: 1/1 chunks", percent=100.0))
    here.hide(7)
    assert list(there.others()) == [replace(short, state="routed: 1/1 chunks", percent=100.0)]
    assert replace(short, percent=50.0, stage=2).overall == 75.0
    for number in range(2 * SLOTS):  # more than there is room for
        here.show(replace(short, session_id=100 + number))
    assert len(list(there.others())) == SLOTS
    board.clear(0)
    assert list(there.others()) == []


def test_processes_kill_each_others_queries():
    board = RunningBoard(2)
    here, there = board.share(0), board.share(1)
    assert not there.killed(7, 0.0)
    here.kill(7, 12.5)
    assert [there.killed(7, since) for since in (12.0, 12.5, 13.0)] == [True, True, False]
    assert not there.killed(8, 12.0)
    ours, other = Registry(here), Registry(there)
    query = other.begin(9, "u", "SELECT 1")
    ours.kill(9, query.started - 1)  # it is about the one before
    assert not other.killed(query)
    ours.kill(9, query.started + 1)
    assert other.killed(query)
    for number in range(KILLS):  # the oldest are forgotten
        here.kill(100 + number, 20.0)
    assert not there.killed(9, 0.0)
    assert there.killed(100, 20.0)
    board.clear(0)
    assert not there.killed(100, 20.0)


def test_kill_is_about_the_query_that_ran_when_it_was_sent():
    registry = Registry()
    query = registry.begin(9, "u", "SELECT 1")
    registry.kill(9, query.started - 1)
    assert query.reason is None
    registry.kill(9, query.started + 1)
    assert query.reason is not None
    assert query.reason.code is INTERRUPTED


def test_a_query_that_is_ended_past_its_time_ends_for_its_time():
    """The home server ends what fills tables there by a clock of its own, which looks like a KILL."""
    late, early = (Registry().begin(9, "u", "SELECT 1") for _ in range(2))
    late.deadline, early.deadline = late.started, early.started + 1000
    for query in (late, early):
        query.cancel()
        query.cancel(SkyError(HOME_DOWN))  # the first reason stays
    assert [query.reason and query.reason.code for query in (late, early)] == [TIMEOUT, INTERRUPTED]


def test_usage_counts_users_apart():
    usage = Usage(Limits(connections=1), {"big": Limits(connections=2)})
    usage.enter("a")
    with pytest.raises(SkyError) as caught:
        usage.enter("a")
    assert caught.value.errno == 1226
    usage.enter("big")
    usage.enter("big")
    usage.leave("a")
    usage.enter("a")


@pytest.mark.parametrize(
    ("sql", "filled"),
    [
        (b"SELECT 1", None),
        (b"SELECT 'FOUND_ROWS()'", None),
        (
            b"SELECT found_rows ( ) + 1 FROM t",
            b"SELECT IF(0,found_rows ( ),8) + 1 AS `found_rows ( ) + 1` FROM t",
        ),
        (
            b"(SELECT SQL_NO_CACHE a, @@error_count  > FOUND_ROWS(), 1) UNION SELECT 1, 2, 3",
            b"(SELECT SQL_NO_CACHE a, IF(0,@@error_count,CAST(0 AS UNSIGNED))  > IF(0,FOUND_ROWS(),8)"
            b" AS `@@error_count  > FOUND_ROWS()`, 1) UNION SELECT 1, 2, 3",
        ),
        (b"SELECT (SELECT ROW_COUNT()) n LIMIT 1", b"SELECT (SELECT IF(0,ROW_COUNT(),-1)) n LIMIT 1"),
        (b"SET @n = FOUND_ROWS() + 1", b"SET @n = IF(0,FOUND_ROWS(),8) + 1"),
        (b"INSERT INTO t SELECT ROW_COUNT()", b"INSERT INTO t SELECT IF(0,ROW_COUNT(),-1) AS `ROW_COUNT()`"),
        (
            b"SELECT @@warning_count, FOUND_ROWS()",
            b"SELECT IF(0,@@warning_count,CAST(2 AS UNSIGNED)) AS `@@warning_count`, IF(0,FOUND_ROWS(),8) AS `FOUND_ROWS()`",
        ),
        (b"SELECT ROW_COUNT() AS n", b"SELECT IF(0,ROW_COUNT(),-1) AS n"),
    ],
)
def test_questions_about_the_last_statement_are_filled_in(sql, filled):
    assert Diagnostics(8, 2, [Note("Warning", 1292, "x")]).fill_in(sql, LexerMode()) == filled


def test_show_warnings_has_limits_and_errors_only():
    known = Diagnostics(0, 3, [Note("Note", 1, "a"), Note("Error", 2, "b"), Note("Warning", 3, "c")])
    codes = {
        b"show warnings": [b"1", b"2", b"3"],
        b"SHOW WARNINGS LIMIT 1": [b"1"],
        b"SHOW WARNINGS LIMIT 1, 5;": [b"2", b"3"],
        b"SHOW WARNINGS LIMIT 1 OFFSET 2": [b"3"],
        b"SHOW ERRORS": [b"2"],
    }
    for sql, expected in codes.items():
        assert [row[1] for row in known.show(owned.read(sql, LexerMode()))] == expected
    assert known.show(ShowConditions(False, counted=True)) == [[b"3"]]
    assert known.show(ShowConditions(True, counted=True)) == [[b"1"]]


@pytest.mark.parametrize("password", [b"geheim", "schlüssel".encode(), b"x" * 200])
def test_ed25519_signs_what_the_library_verifies(password):
    scramble = os.urandom(32)
    signature = passwords.ed25519(password, scramble)
    public = passwords._packed(passwords._times(_secret(password), passwords._base()))
    ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, scramble)


def _secret(password):
    return int.from_bytes(hashlib.sha512(password).digest()[:32], "little") & ((1 << 254) - 8) | (1 << 254)


def test_stored_hashes_are_found_in_accounts():
    kept = "*" + hashlib.sha1(hashlib.sha1(b"x").digest()).hexdigest().upper()
    entry = b'{"plugin":"mysql_native_password","authentication_string":"' + kept.encode() + b'","access":1}'
    assert passwords.kept_of(entry, "mysql_native_password") == bytes.fromhex(kept[1:])
    assert passwords.kept_of(entry, "client_ed25519") == b""
    several = b'{"auth_or":[{"plugin":"unix_socket"},' + entry.replace(b',"access":1', b"") + b"]}"
    assert passwords.kept_of(several, "mysql_native_password") == bytes.fromhex(kept[1:])


def test_responses_are_read_and_written_again():
    head = (handshake.IMPLEMENTED).to_bytes(4, "little") + b"\0\0\0\1\x2d" + bytes(23)
    payload = head + b"ann\0\x03abchip\0mysql_native_password\0\x09\x03key\x04text"
    said = handshake.response(payload)
    assert (said.user, said.auth, said.database, said.names) == (b"ann", b"abc", b"hip", {"key": "text"})
    assert said.encode() == payload
    for cut in range(33):
        with pytest.raises(PacketError):
            handshake.response(payload[:cut])


class Transport:
    """Takes what a wire writes."""

    def __init__(self):
        self.written, self.paused, self.closed = b"", False, False

    def write(self, data):
        self.written += bytes(data)

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = True

    def get_extra_info(self, name):
        return None


def wire():
    made, transport = ClientWire(), Transport()
    made.connection_made(transport)
    return made, transport


async def test_a_client_that_sends_without_end_is_paused():
    made, transport = wire()
    for _ in range(HIGH_WATER // 65536 + 2):
        made.data_received(bytes(65536))
    assert transport.paused
    await made.read(HIGH_WATER)
    waiting = asyncio.ensure_future(made.read(1 << 20))
    await asyncio.sleep(0)
    assert not transport.paused
    made.data_received(bytes(1 << 20))
    assert len(await waiting) == 1 << 20


async def test_what_was_sent_before_the_end_is_served_and_the_end_is_told():
    made, _ = wire()
    made.data_received(b"abc")
    made.eof_received()
    assert await made.read(3) == b"abc"
    with pytest.raises(ClientGone):
        await made.read(1)


async def test_compressed_packets_are_opened_one_at_a_time():
    made, _ = wire()
    made.compress()
    bomb = zlib.compress(bytes(16_000_000), 9)
    packed = len(bomb).to_bytes(3, "little") + b"\0" + (16_000_000).to_bytes(3, "little") + bomb
    for _ in range(20):
        made.data_received(packed)
    assert len(await made.read(10)) == 10
    assert len(made._buffer) <= 16_000_000


@pytest.mark.parametrize(
    "packed",
    [
        b"\x05\0\0\0\x05\0\0hello",
        len(zlib.compress(b"hello")).to_bytes(3, "little") + b"\0\x04\0\0" + zlib.compress(b"hello"),
        len(zlib.compress(b"hello")).to_bytes(3, "little") + b"\0\x06\0\0" + zlib.compress(b"hello"),
        b"\x03\0\0\0\x05\0\0" + zlib.compress(b"hello")[:3],
    ],
)
async def test_compressed_packets_that_lie_end_the_connection(packed):
    made, _ = wire()
    made.compress()
    made.data_received(packed)
    with pytest.raises(ClientGone):
        await made.read(1)
