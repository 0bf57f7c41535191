"""Hostile clients: mutated, truncated and misframed packets in every phase, 100,000 of them.

Nothing may crash, hang, grow, tell internals or disturb others. `SKYSHARD_FUZZ_CASES` makes it longer, and
`SKYSHARD_FUZZ_SEED` other cases.
"""

import contextlib
import os
import random
import re
import struct
import threading
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from proxy.session import handshake
from proxy.session.diagnostics import Diagnostics
from proxy.session.prepared import Prepared
from proxy.session.wire import ClientGone, ClientWire
from shard.errors import SkyError
from shard.planner.lexer import LexerMode
from shard.wire.packets import PacketError
from tests.support.rawclient import (
    COMPRESS,
    LOCAL_FILES,
    USUAL,
    Closed,
    RawClient,
    ServerError,
    native_answer,
)

CASES = int(os.environ.get("SKYSHARD_FUZZ_CASES", "100000"))
SEED = int(os.environ.get("SKYSHARD_FUZZ_SEED", "5"))
BATCH = 100
THREADS = 4
INTERNALS = re.compile(
    rb"Traceback|File \"|\.py|/(tmp|home|root|usr|var)/|internal error|asyncio|mimic|Star_\d"
)

COMMANDS = [
    b"\x03SELECT COUNT(*) FROM lab.Star WHERE starId < 10", b"\x03SELECT 1; SELECT starId FROM lab.Star WHERE starId = 7",
    b"\x03SHOW WARNINGS", b"\x03KILL QUERY 999999", b"\x03SHOW FULL PROCESSLIST", b"\x03SELECT @@warning_count, FOUND_ROWS()",
    b"\x03SET STATEMENT max_statement_time=1 FOR SELECT name FROM lab.Star WHERE starId = 3", b"\x03USE lab",
    b"\x03EXPLAIN SELECT COUNT(*) FROM lab.Star", b"\x03/*!50000 SELECT */ /*M!100100 1 */ -- x", b"\x03SET NAMES latin1",
    b"\x02lab", b"\x04Star\0%", b"\x07\x01", b"\x09", b"\x0a", b"\x0c\xff\xff\x00\x00", b"\x0d", b"\x0e", b"\x1b\x00\x00", b"\x1f",
    b"\x16SELECT starId FROM lab.Star WHERE starId = ?", b"\x16SELECT ?, ? FROM lab.Star WHERE name = ?",
    b"\x17\x01\0\0\0\x00\x01\0\0\0\x00\x01\x08\x00\x07\0\0\0\0\0\0\0", b"\x17\xff\xff\xff\xff\x01\x01\0\0\0\x00\x01\xfd\x00\x0212",
    b"\x11fuzz\0\x04abcdlab\0\x2d\0mysql_native_password\0", b"\x11fuzz\0\0\0\x2d\0caching_sha2_password\0",
    b"\x18\x01\0\0\0\0\0long", b"\x19\x01\0\0\0", b"\x1a\x01\0\0\0", b"\x1c\x01\0\0\0\x05\0\0\0", b"\x1d\0\0", b"\x08", b"\x12", b"\xfa",
]  # fmt: skip


def mutated(rng, data):
    """Return bytes that are almost those."""
    out = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[at % len(out)] = rng.randrange(256)
        elif kind == 1:
            out[at:at] = bytes((rng.choice((0, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF, 0x27, 0x60, 0x3B)),))
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            del out[at : at + rng.randrange(1, 9)]
        elif kind == 4:
            out += rng.randbytes(rng.choice((1, 4, 40, 4000)))
        else:
            out[at:at] = out[: rng.randrange(len(out) + 1)]
    return bytes(out)


def framed(payload, seq=0):
    return len(payload).to_bytes(3, "little") + bytes((seq,)) + payload


def response(user=b"fuzz", flags=USUAL, scramble=bytes(20), plugin=b"mysql_native_password"):
    auth = native_answer("geheim", scramble)
    head = struct.pack("<IIB19xI", flags, 1 << 24, 45, 0) + user + b"\0" + bytes((len(auth),)) + auth
    return head + plugin + b"\0"


HELLO = bytes.fromhex("16030100300100002c0303") + bytes(32) + bytes.fromhex("0000041301c02f0100")
"""A TLS record with the beginning of a ClientHello."""


class Hammer:
    """Sends cases and looks at what comes back."""

    def __init__(self, port, seed):
        self.port, self.rng = port, random.Random(seed)
        self.cases = self.closed = 0
        self.phases = Counter()

    def dial(self, flags=0):
        client = self._stranger()  # changes of user that fail count against an address
        return client.connect(user="fuzz", password="geheim", flags=flags)

    def _stranger(self):
        """Connect from any address of this machine: one alone would soon be kept out."""
        source = f"127.{self.rng.randrange(1, 250)}.{self.rng.randrange(250)}.{self.rng.randrange(1, 250)}"
        return RawClient(self.port, timeout=30, source=source)

    def look(self, data):
        found = INTERNALS.search(data)
        assert found is None, data[max(0, found.start() - 100) : found.end() + 100]

    def until(self, client, mark):
        """Read to a mark or the connection's end; anything slower than 30 s is a hang."""
        seen = b""
        try:
            while mark not in seen:
                data = client.socket.recv(1 << 16)
                if not data:
                    raise Closed
                seen = seen[-64:] + data
                self.look(seen)
        except ConnectionError as error:
            raise Closed from error

    def commands(self, most):
        """Send mutated commands in batches, each followed by a question that has to be answered."""
        client = None
        with contextlib.ExitStack() as opened:
            while self.cases < most:
                client = client or opened.enter_context(self.dial())
                mark = b"sync%d." % self.cases
                batch = [framed(mutated(self.rng, self.rng.choice(COMMANDS))) for _ in range(BATCH)]
                self.cases += BATCH
                try:
                    client.socket.sendall(b"".join(batch) + framed(b"\x03SELECT '" + mark + b"'"))
                    self.until(client, mark)
                except (Closed, ConnectionError):  # COM_QUIT, or an answer to no question
                    self.closed += 1
                    client.socket.close()
                    client = None

    def misframed(self, most):
        """Lie about lengths and numbers, with and without compression, and leave."""
        for _ in range(most):
            flags = self.rng.choice((0, COMPRESS))
            try:
                with self.dial(flags) as client:
                    data = framed(self.rng.choice(COMMANDS))
                    if flags:
                        packed = zlib.compress(data)
                        data = (
                            len(packed).to_bytes(3, "little")
                            + b"\0"
                            + len(data).to_bytes(3, "little")
                            + packed
                        )
                    client.socket.sendall(mutated(self.rng, data) + mutated(self.rng, data))
                    client.socket.shutdown(1)
                    self.until(client, b"no such mark")
            except (Closed, ConnectionError):
                self.cases += 1

    def handshakes(self, most):
        """Answer the greeting with nearly a response, and leave."""
        for _ in range(most):
            flags = self.rng.choice((USUAL, USUAL | 0x200000 | 0x100000 | 8, 0x800 | USUAL, 0xFFFFFFFF))
            user = self.rng.choice((b"fuzz", b"", b"root", b"x" * 300, b"\xff\xfe"))
            with self._stranger() as client, contextlib.suppress(ConnectionError):
                client.greet()
                data = framed(mutated(self.rng, response(user, flags, client.scramble)), 1)
                client.socket.sendall(data + self.rng.choice((b"", b"", mutated(self.rng, data))))
                client.socket.shutdown(1)
                with contextlib.suppress(Closed):
                    self.until(client, b"no such mark")
            self.cases += 1

    def _log_in(self, phase, *packets):
        """Greet, send packets one after the other, some of them nearly so, and leave."""
        with self._stranger() as client, contextlib.suppress(ConnectionError):
            client.greet()
            for seq, make in enumerate(packets, 1):
                data = make(client)
                client.socket.sendall(data if data[:1] == b"\x16" else framed(data, seq))
            client.socket.shutdown(1)
            with contextlib.suppress(Closed):
                self.until(client, b"no such mark")
        self.cases += 1
        self.phases[phase] += 1

    def ciphers(self, most):
        """Ask for TLS, and go on with what is nearly a ClientHello."""
        for _ in range(most):
            wish = struct.pack("<IIB23x", USUAL | 0x800, 1 << 24, 45)
            hello = mutated(self.rng, HELLO)
            self._log_in("tls", lambda _, wish=wish: wish, lambda _, hello=hello: b"\x16" + hello[1:])

    def passwords(self, most):
        """Log in by caching_sha2_password, and answer what the proxy says to it with nearly anything."""
        for _ in range(most):
            first = lambda client: response(scramble=client.scramble, plugin=b"caching_sha2_password")  # noqa: E731
            if self.rng.random() < 0.3:
                first = lambda client, whole=first: mutated(self.rng, whole(client))  # noqa: E731
            more = [mutated(self.rng, self.rng.choice((b"\x02", b"geheim\0", bytes(256)))) for _ in range(2)]
            self._log_in("sha2", first, *(lambda _, data=data: data for data in more))

    def files(self, most):
        """Send nearly a file for LOAD DATA LOCAL, with its end or without."""
        for number in range(most):
            try:
                with self.dial(LOCAL_FILES) as client:
                    mark = b"file%d." % number
                    client.socket.sendall(framed(b"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE fuzzed.t"))
                    self.until(client, b"\xfbx")
                    pieces = [mutated(self.rng, b"1\ttext\n2\t\\N\n") or b"\n" for _ in range(3)]
                    data = b"".join(framed(piece, 2 + at) for at, piece in enumerate(pieces))
                    if self.rng.random() < 0.5:
                        client.socket.sendall(data + framed(b"", 5) + framed(b"\x03SELECT '" + mark + b"'"))
                        self.until(client, mark)
                    else:
                        client.socket.sendall(data[: self.rng.randrange(len(data))])
            except (Closed, ConnectionError):
                self.closed += 1
            self.cases += 1
            self.phases["file"] += 1


@pytest.mark.timeout(max(240, CASES // 300))
def test_no_packet_crashes_hangs_or_betrays_a_proxy(client, proxy, account):
    with client.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE DATABASE fuzzed")
        cursor.execute("CREATE TABLE fuzzed.t (n INT, t TEXT)")
    account("fuzz", grants=("SELECT ON lab.*", "INSERT ON fuzzed.*"))
    started = proxy(log_level="WARNING")
    process = psutil.Process(started.process.pid)
    canary = RawClient(started.port).connect(database="hip")
    stop, wrong = threading.Event(), []

    def watch():
        while not stop.is_set():
            found = canary.query("SELECT COUNT(*) FROM Object WHERE objectId < 100").rows
            if found != [(b"99",)]:
                wrong.append(found)

    Hammer(started.port, SEED).commands(2 * BATCH)  # what is made once is no growth
    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    hammers = [Hammer(started.port, SEED * 1000 + number) for number in range(THREADS)]
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for turn in (
                lambda hammer: hammer.commands(CASES // 2 // THREADS),
                lambda hammer: hammer.misframed(CASES // 200 // THREADS),
                lambda hammer: hammer.files(CASES // 400 // THREADS),
                lambda hammer: hammer.passwords(CASES // 200 // THREADS),
                lambda hammer: hammer.ciphers(CASES // 200 // THREADS),
                lambda hammer: hammer.handshakes(CASES // 100 // THREADS),
            ):
                for done in [pool.submit(turn, hammer) for hammer in hammers]:
                    done.result()
    finally:
        stop.set()
        watcher.join(30)
    assert not wrong
    assert not watcher.is_alive()
    canary.socket.close()
    assert sum(hammer.cases for hammer in hammers) >= CASES // 2
    phases = sum((hammer.phases for hammer in hammers), Counter())
    assert all(phases[phase] >= CASES // 500 for phase in ("tls", "sha2", "file")), phases
    assert process.memory_info().rss - before < 64 << 20
    with client.cursor() as cursor:
        cursor.execute("DROP DATABASE fuzzed")
    log = started.log.read_text()
    assert "Traceback" not in log, log[-3000:]
    assert "internal error" not in log


def test_no_packet_confuses_the_parsers():
    rng = random.Random(SEED)
    good = response(b"ann", USUAL | 0x200000 | 0x100000 | 8) + b"hip\0\x09\x03key\x04text"
    change = b"\x11ann\0\x04abcdhip\0\x2d\0mysql_native_password\0\x09\x03key\x04text"
    execute = COMMANDS[23] + b"\x0512345" + bytes(30)
    refused = 0
    for _ in range(CASES // 8):
        for parse, data in (
            (handshake.response, good),
            (handshake.user_change, change),
            (Prepared(b"", None, rng.randrange(1, 5), None).bind, execute),
            (
                lambda data: Diagnostics().fill_in(data, LexerMode()),
                b"SELECT FOUND_ROWS(), '@@warning_count', \"x\" /* */",
            ),
        ):
            try:
                parse(mutated(rng, data))
            except (PacketError, SkyError):
                refused += 1
    assert 0 < refused < CASES // 2


async def test_no_bytes_confuse_the_wire():
    rng = random.Random(SEED)
    ended = 0
    for _ in range(CASES // 50):
        wire = ClientWire()
        wire.compress()
        packed = zlib.compress(bytes(rng.randrange(200)))
        data = len(packed).to_bytes(3, "little") + b"\0" + rng.choice((b"\x40\0\0", b"\0\0\0")) + packed
        for _ in range(3):
            wire.data_received(mutated(rng, data))
        wire.eof_received()
        try:
            while True:
                await wire.read(rng.randrange(1, 50))
        except ClientGone:
            ended += 1
    assert ended == CASES // 50


def test_an_error_packet_is_the_end_for_who_ignores_it(cluster):
    with RawClient(cluster.port) as client:
        client.greet()
        client.socket.sendall(framed(b"nonsense", 1) + framed(b"\x03SELECT 1") * 50)
        client.seq = 2
        with pytest.raises(ServerError) as caught:
            client.read_ok()
        assert caught.value.errno == 1043
        with pytest.raises(Closed):
            client.read_ok()
