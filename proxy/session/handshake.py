"""The handshake's packets as values: the greeting as this proxy sends it, and what the client answers.

Layouts: Protocol::HandshakeV10, SSLRequest, HandshakeResponse41 and COM_CHANGE_USER of the MySQL protocol as
MariaDB 10.11 speaks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shard.wire.packets import PacketError, lenenc_bytes, read_lenenc_bytes
from shard.wire.protocol import Capability, Command

PROGRESS, EXTENDED_METADATA = 0x1, 0x8
"""Of MariaDB's own capabilities: reports of progress; column definitions that tell JSON from text."""
OWN = PROGRESS | EXTENDED_METADATA
IMPLEMENTED = (
    Capability.FOUND_ROWS
    | Capability.LONG_FLAG
    | Capability.CONNECT_WITH_DB
    | Capability.NO_SCHEMA
    | Capability.LOCAL_FILES
    | Capability.IGNORE_SPACE
    | Capability.PROTOCOL_41
    | Capability.INTERACTIVE
    | Capability.TRANSACTIONS
    | Capability.SECURE_CONNECTION
    | Capability.MULTI_STATEMENTS
    | Capability.MULTI_RESULTS
    | Capability.PS_MULTI_RESULTS
    | Capability.PLUGIN_AUTH
    | Capability.CONNECT_ATTRS
    | Capability.PLUGIN_AUTH_LENENC_DATA
    | Capability.SESSION_TRACK
    | Capability.DEPRECATE_EOF
)
"""What a client and the home server may agree on. TLS and compression are this proxy's own and end here."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """The home server's first packet, changed to what this proxy offers; `tls` says whether the home server offers it."""

    thread_id: int
    scramble: bytes
    payload: bytes
    tls: bool


def greeting(payload: bytes, tls: bool) -> Greeting:
    """Return the greeting for the client.

    Raises
    ------
    PacketError
        If the home server's is cut short.
    """
    end = payload.find(b"\0", 1)
    low = end + 1 + 4 + 8 + 1
    if end < 0 or len(payload) < low + 18 + 13:
        raise PacketError("greeting cut short")
    server = int.from_bytes(payload[low : low + 2] + payload[low + 5 : low + 7], "little")
    mask = (server & IMPLEMENTED | Capability.COMPRESS | (Capability.SSL if tls else 0)).to_bytes(4, "little")
    out = bytearray(payload)
    out[low : low + 2], out[low + 5 : low + 7] = mask[:2], mask[2:]
    own = int.from_bytes(payload[low + 14 : low + 18], "little") & OWN
    out[low + 14 : low + 18] = own.to_bytes(4, "little")
    scramble = payload[end + 5 : end + 13] + payload[low + 18 : low + 30]
    thread_id = int.from_bytes(payload[end + 1 : end + 5], "little")
    return Greeting(thread_id, scramble, bytes(out), bool(server & Capability.SSL))


@dataclass(slots=True)
class Response:
    """The client's answer to the greeting.

    Attributes
    ----------
    head : bytes
        Packet size, character set and filler: 28 bytes after the capabilities.
    auth : bytes
        What the client's plugin answered to the greeting's scramble.
    home_tls : bool
        The home server gets it within TLS.
    """

    capabilities: int
    head: bytes
    user: bytes
    auth: bytes
    database: bytes | None
    plugin: str
    attributes: bytes
    names: dict[str, str] = field(default_factory=dict)
    home_tls: bool = False

    @property
    def own(self) -> int:
        """MariaDB's own capabilities; none if the client says that it is MySQL's."""
        return 0 if self.capabilities & Capability.MYSQL else int.from_bytes(self.head[24:28], "little") & OWN

    @property
    def _flags(self) -> int:
        # The proxy itself loads rows.
        own = Capability.LOCAL_FILES | (Capability.SSL if self.home_tls else 0)
        return self.capabilities & IMPLEMENTED | own

    def begin(self) -> bytes:
        """Return what a response begins with; alone it asks for TLS."""
        return self._flags.to_bytes(4, "little") + self.head[:24] + self.own.to_bytes(4, "little")

    def encode(self, auth: bytes | None = None, plugin: str | None = None) -> bytes:
        """Return the response for the home server, perhaps with another plugin's answer."""
        flags = self._flags
        answer = self.auth if auth is None else auth
        out = self.begin() + self.user + b"\0"
        if flags & Capability.PLUGIN_AUTH_LENENC_DATA:
            out += lenenc_bytes(answer)
        elif flags & Capability.SECURE_CONNECTION:
            out += bytes((len(answer),)) + answer
        else:
            out += answer + b"\0"
        if flags & Capability.CONNECT_WITH_DB:
            out += (self.database or b"") + b"\0"
        if flags & Capability.PLUGIN_AUTH:
            out += (plugin or self.plugin).encode() + b"\0"
        if flags & Capability.CONNECT_ATTRS:
            out += self.attributes
        return out


def _text(payload: bytes, at: int) -> tuple[bytes, int]:
    end = payload.find(b"\0", at)
    if end < 0:
        return payload[at:], len(payload)
    return payload[at:end], end + 1


def _short(payload: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(payload) or at + 1 + payload[at] > len(payload):
        raise PacketError("authentication answer cut short")
    return payload[at + 1 : at + 1 + payload[at]], at + 1 + payload[at]


def _attributes(raw: bytes) -> dict[str, str]:
    """Return connection attributes; empty if they are not well formed."""
    found: dict[str, str] = {}
    try:
        block, _ = read_lenenc_bytes(raw, 0) if raw else (b"", 0)
        at = 0
        while at < len(block):
            key, at = read_lenenc_bytes(block, at)
            value, at = read_lenenc_bytes(block, at)
            found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    except PacketError:
        return {}
    return found


def wants_tls(payload: bytes) -> bool:
    """Whether a packet is an SSLRequest."""
    return len(payload) == 32 and bool(int.from_bytes(payload[:4], "little") & Capability.SSL)


def response(payload: bytes) -> Response:
    """Return the client's response.

    Raises
    ------
    PacketError
        If it is cut short, or of a protocol before 4.1.
    """
    if len(payload) < 33 or not int.from_bytes(payload[:4], "little") & Capability.PROTOCOL_41:
        raise PacketError("no response to a greeting")
    flags = int.from_bytes(payload[:4], "little")
    user, at = _text(payload, 32)
    if flags & Capability.PLUGIN_AUTH_LENENC_DATA:
        auth, at = read_lenenc_bytes(payload, at)
    elif flags & Capability.SECURE_CONNECTION:
        auth, at = _short(payload, at)
    else:
        auth, at = _text(payload, at)
    database: bytes | None = None
    if flags & Capability.CONNECT_WITH_DB:
        database, at = _text(payload, at)
    plugin = b""
    if flags & Capability.PLUGIN_AUTH:
        plugin, at = _text(payload, at)
    attributes = payload[at:] if flags & Capability.CONNECT_ATTRS else b""
    names = _attributes(attributes)
    if flags & Capability.CONNECT_ATTRS and not names:
        attributes = b"\0"
    return Response(
        flags, payload[4:32], user, auth, database, plugin.decode("ascii", "replace"), attributes, names
    )


@dataclass(frozen=True, slots=True)
class UserChange:
    """COM_CHANGE_USER."""

    user: bytes
    auth: bytes
    database: bytes
    rest: bytes
    plugin: str
    attributes: bytes

    def encode(self, auth: bytes, plugin: str) -> bytes:
        """Return the command with another plugin's answer."""
        answer = bytes((len(auth),)) + auth
        head = bytes((Command.CHANGE_USER,)) + self.user + b"\0" + answer + self.database + b"\0"
        return head + self.rest + plugin.encode() + b"\0" + self.attributes


def user_change(payload: bytes) -> UserChange:
    """Return a COM_CHANGE_USER's content.

    Raises
    ------
    PacketError
        If it is cut short.
    """
    user, at = _text(payload, 1)
    auth, at = _short(payload, at)
    database, at = _text(payload, at)
    rest, at = payload[at : at + 2], at + 2
    plugin, at = _text(payload, at)
    return UserChange(user, auth, database, rest, plugin.decode("ascii", "replace"), payload[at:])
