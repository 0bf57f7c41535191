"""A client of the MySQL protocol for tests that want to choose every byte: plugins, flags, framing, TLS.

It shares no code with the proxy, blocks, and keeps the numbers of packets strictly.
"""

import hashlib
import socket
import ssl
import struct
import zlib
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

LONG_PASSWORD, FOUND_ROWS, LONG_FLAG, WITH_DB, COMPRESS, LOCAL_FILES = 1, 2, 4, 8, 0x20, 0x80
PROTOCOL_41, SSL, TRANSACTIONS, SECURE, MULTI_STATEMENTS, MULTI_RESULTS = (
    0x200,
    0x800,
    0x2000,
    0x8000,
    0x10000,
    0x20000,
)
PLUGIN_AUTH, DEPRECATE_EOF = 0x80000, 0x1000000
USUAL = (
    LONG_PASSWORD
    | LONG_FLAG
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE
    | MULTI_STATEMENTS
    | MULTI_RESULTS
    | PLUGIN_AUTH
)
NATIVE, SHA2 = "mysql_native_password", "caching_sha2_password"
CURSOR_EXISTS, LAST_ROW_SENT, MORE_RESULTS = 0x40, 0x80, 8


class ServerError(Exception):
    def __init__(self, payload):
        self.errno = int.from_bytes(payload[1:3], "little")
        self.sqlstate = payload[4:9].decode() if payload[3:4] == b"#" else ""
        self.message = payload[9 if self.sqlstate else 3 :].decode()
        super().__init__(self.errno, self.sqlstate, self.message)


class Closed(Exception):  # noqa: N818
    """The server closed the connection."""


def lenenc(data, at):
    first = data[at]
    if first < 251:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def lenenc_text(data, at):
    size, at = lenenc(data, at)
    return data[at : at + size], at + size


def native_answer(password, scramble):
    if not password:
        return b""
    once = hashlib.sha1(password.encode()).digest()
    mixed = hashlib.sha1(scramble[:20] + hashlib.sha1(once).digest()).digest()
    return bytes(a ^ b for a, b in zip(once, mixed, strict=True))


def sha2_answer(password, scramble):
    if not password:
        return b""
    once = hashlib.sha256(password.encode()).digest()
    mixed = hashlib.sha256(hashlib.sha256(once).digest() + scramble[:20]).digest()
    return bytes(a ^ b for a, b in zip(once, mixed, strict=True))


@dataclass
class Result:
    columns: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    status: int = 0
    warnings: int = 0
    affected: int = 0
    info: bytes = b""


class RawClient:
    """A connection; `connect()` logs in, `query()` and the others run commands."""

    def __init__(self, port, timeout=20, source="127.0.0.1"):
        """Connect to a port of this machine, or to a socket's path; `source` is the own address."""
        if isinstance(port, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(port)
        else:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout, (source, 0))
        self.received = b""
        self.opened = b""
        self.compressed = False
        self.packed_seq = 0
        self.seq = 0
        self.flags = USUAL
        self.own = 0  # MariaDB's own capabilities
        self.auth_ok = None
        self.prepared_columns = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # framing

    def _bytes(self, size):
        while len(self.received) < size:
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionError:
                more = b""
            if not more:
                raise Closed
            self.received += more
        out, self.received = self.received[:size], self.received[size:]
        return out

    def _stream(self, size):
        if not self.compressed:
            return self._bytes(size)
        while len(self.opened) < size:
            head = self._bytes(7)
            assert head[3] == self.packed_seq, "numbers of compressed packets"
            self.packed_seq = (self.packed_seq + 1) & 255
            body = self._bytes(int.from_bytes(head[:3], "little"))
            plain = int.from_bytes(head[4:7], "little")
            if plain:
                body = zlib.decompress(body)
                assert len(body) == plain
            self.opened += body
        out, self.opened = self.opened[:size], self.opened[size:]
        return out

    def read(self):
        whole = b""
        while True:
            head = self._stream(4)
            assert head[3] == self.seq, f"packet {head[3]}, expected {self.seq}"
            self.seq = (self.seq + 1) & 255
            size = int.from_bytes(head[:3], "little")
            whole += self._stream(size)
            if size < 0xFFFFFF:
                return whole

    def read_ok(self):
        payload = self.read()
        if payload[:1] == b"\xff" and payload[1:3] == b"\xff\xff":
            return self.read_ok()  # a report of progress
        if payload[:1] == b"\xff":
            raise ServerError(payload)
        return payload

    def frame(self, payload):
        out = b""
        for start in range(0, len(payload) + 1, 0xFFFFFF):
            piece = payload[start : start + 0xFFFFFF]
            out += len(piece).to_bytes(3, "little") + bytes((self.seq,)) + piece
            self.seq = (self.seq + 1) & 255
        return out

    def send(self, payload):
        data = self.frame(payload)
        if not self.compressed:
            self.socket.sendall(data)
            return
        for start in range(0, len(data), 0xFFFFF0):
            piece = data[start : start + 0xFFFFF0]
            packed = zlib.compress(piece)
            head = (
                len(packed).to_bytes(3, "little")
                + bytes((self.packed_seq,))
                + len(piece).to_bytes(3, "little")
            )
            self.packed_seq = (self.packed_seq + 1) & 255
            self.socket.sendall(head + packed)

    def command(self, payload):
        self.seq = self.packed_seq = 0
        self.send(payload)

    # logging in

    def greet(self):
        payload = self.read_ok()
        self.greeting = payload
        end = payload.index(b"\0", 1)
        self.version = payload[1:end].decode()
        self.thread_id = int.from_bytes(payload[end + 1 : end + 5], "little")
        low = end + 14
        self.offered = int.from_bytes(payload[low : low + 2] + payload[low + 5 : low + 7], "little")
        self.scramble = payload[end + 5 : end + 13] + payload[low + 18 : low + 30]
        return self

    def start_tls(self, context=None):
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.flags |= SSL
        self.send(struct.pack("<IIB19xI", self.flags, 1 << 24, 45, self.own))
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        return self

    def connect(self, user="root", password="", database=None, flags=0, plugin=NATIVE, tls=None):
        """Log in; `tls` is a context, or True for one that verifies nothing."""
        self.greet()
        self.flags |= flags | (WITH_DB if database else 0)
        if tls is not None:
            self.start_tls(None if tls is True else tls)
        self.login(user, password, database, plugin)
        return self

    def login(self, user, password, database=None, plugin=NATIVE):
        make = {NATIVE: native_answer, SHA2: sha2_answer}[plugin]
        auth = make(password, self.scramble)
        payload = struct.pack("<IIB19xI", self.flags, 1 << 24, 45, self.own) + user.encode() + b"\0"
        payload += bytes((len(auth),)) + auth + (database.encode() + b"\0" if database else b"")
        self.send(payload + plugin.encode() + b"\0")
        self.dialogue(password, plugin)
        if self.flags & COMPRESS:
            self.compressed = True

    def dialogue(self, password, plugin):
        while True:
            payload = self.read_ok()
            if payload[:1] == b"\x00":
                self.auth_ok = payload
                return
            if payload[:1] == b"\xfe":
                name, _, scramble = payload[1:].partition(b"\0")
                plugin = name.decode()
                self.send({NATIVE: native_answer, SHA2: sha2_answer}[plugin](password, scramble))
            elif plugin == SHA2 and payload == b"\x01\x04":
                if isinstance(self.socket, ssl.SSLSocket):
                    self.send(password.encode() + b"\0")
                else:
                    self._by_rsa(password, scramble)
            elif payload != b"\x01\x03":
                raise AssertionError(payload)

    def _by_rsa(self, password, scramble):
        self.send(b"\x02")
        key = serialization.load_pem_public_key(self.read_ok()[1:])
        text = password.encode() + b"\0"
        mixed = bytes(byte ^ scramble[i % 20] for i, byte in enumerate(text))
        oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
        self.send(key.encrypt(mixed, oaep))

    # commands

    def simple(self, payload):
        """Run a command that is answered by OK or EOF."""
        self.command(payload)
        return self.read_ok()

    def query(self, sql):
        return self.query_all(sql)[0]

    def query_all(self, sql):
        self.command(b"\x03" + (sql.encode() if isinstance(sql, str) else sql))
        return self.results()

    def results(self, binary=False):
        out = [self.result(binary)]
        while out[-1].status & MORE_RESULTS:
            out.append(self.result(binary))
        return out

    def result(self, binary=False):
        out = Result()
        payload = self.read_ok()
        if payload[:1] == b"\x00":
            out.affected, at = lenenc(payload, 1)
            _, at = lenenc(payload, at)
            out.status, out.warnings = struct.unpack_from("<HH", payload, at)
            out.info = payload[at + 4 :]
            return out
        self._columns(out, lenenc(payload, 0)[0])
        if binary and out.status & CURSOR_EXISTS:
            return out
        self._rows(out, binary)
        return out

    def _columns(self, out, count):
        out.columns = [self.read_ok() for _ in range(count)]
        if not self.flags & DEPRECATE_EOF:
            payload = self.read_ok()
            assert payload[:1] == b"\xfe"
            assert len(payload) == 5
            out.warnings, out.status = struct.unpack("<HH", payload[1:])

    def _rows(self, out, binary):
        while True:
            payload = self.read_ok()
            if payload[:1] == b"\xfe" and len(payload) < 0xFFFFFF:
                if self.flags & DEPRECATE_EOF:
                    assert payload[1:3] == b"\0\0", "no affected rows, no insert id"
                    out.status, out.warnings = struct.unpack_from("<HH", payload, 3)
                else:
                    assert len(payload) == 5
                    out.warnings, out.status = struct.unpack("<HH", payload[1:])
                return
            out.rows.append(payload if binary else tuple(self._texts(payload)))

    @staticmethod
    def _texts(payload):
        at = 0
        while at < len(payload):
            if payload[at] == 0xFB:
                yield None
                at += 1
            else:
                text, at = lenenc_text(payload, at)
                yield text

    def prepare(self, sql):
        """Return (statement id, columns, parameters)."""
        self.command(b"\x16" + sql.encode())
        payload = self.read_ok()
        number, columns, parameters = struct.unpack_from("<IHH", payload, 1)
        for count in (parameters, columns):
            self.prepared_columns = [self.read_ok() for _ in range(count)]
            if count and not self.flags & DEPRECATE_EOF:
                assert self.read_ok()[:1] == b"\xfe"
        return number, columns, parameters

    def execute(self, number, values=(), cursor=0, types=True):
        """Execute with 64-bit integers, floats, strings or None; return the results."""
        payload = b"\x17" + struct.pack("<IBI", number, cursor, 1)
        if values:
            nulls = sum(1 << i for i, value in enumerate(values) if value is None)
            payload += nulls.to_bytes((len(values) + 7) // 8, "little") + bytes((int(types),))
            codes = {
                int: b"\x08\0",
                float: b"\x05\0",
                str: b"\xfd\0",
                bytes: b"\xfc\0",
                type(None): b"\x06\0",
            }
            if types:
                payload += b"".join(codes[type(value)] for value in values)
            for value in values:
                if isinstance(value, int):
                    payload += struct.pack("<q", value)
                elif isinstance(value, float):
                    payload += struct.pack("<d", value)
                elif value is not None:
                    data = value.encode() if isinstance(value, str) else value
                    assert len(data) < 251
                    payload += bytes((len(data),)) + data
        self.command(payload)
        return self.result(binary=True)

    def fetch(self, number, count):
        """Return (row payloads, status)."""
        self.command(b"\x1c" + struct.pack("<II", number, count))
        out = Result()
        self._rows(out, binary=True)
        return out.rows, out.status


def refused(function, *arguments, **options):
    """Return the errno with which a call is refused."""
    with pytest.raises(ServerError) as caught:
        function(*arguments, **options)
    return caught.value.errno


def outcome(client):
    """Return the number of rows of the next result, or the error's number."""
    try:
        return len(client.result().rows)
    except ServerError as error:
        return error.errno
