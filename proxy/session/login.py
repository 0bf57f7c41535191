"""Logs a client in: TLS, the home server's authentication relayed, or passwords taken over TLS or RSA.

The home server decides about every login. Its dialogue with the client's plugin is relayed; a client whose
plugin the home server lacks (caching_sha2_password) is asked for the password itself, protected by TLS or
RSA, and the proxy answers the home server with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from backend.pool import Pool
from backend.wire import ConnectionLost
from proxy.home.link import HomeLink
from proxy.session import passwords
from proxy.session.client import ClientStream
from proxy.session.handshake import (
    EXTENDED_METADATA,
    IMPLEMENTED,
    PROGRESS,
    Response,
    UserChange,
    greeting,
    response,
    user_change,
    wants_tls,
)
from proxy.session.passwords import SHA2
from proxy.session.throttle import LoginThrottle
from proxy.session.tls import Tls, towards_home
from shard.catalog.naming import literal
from shard.errors import (
    BAD_HANDSHAKE,
    BLOCKED,
    DENIED,
    INSECURE,
    NO_SUCH_PLUGIN,
    REQUIRE_UNMET,
    ServerError,
    SkyError,
)
from shard.wire.packets import Err, Ok, PacketError, lenenc_bytes, packet
from shard.wire.protocol import Capability

log = logging.getLogger("skyshard.login")

_SWITCH, _MORE, _ERR = 0xFE, 0x01, 0xFF
_THIS_MACHINE = frozenset({"", "127.0.0.1", "::1"})
"""What a name server would call localhost; sessions of this process have no address."""
_SHORT_NAME = 80
"""Characters of a name that no server cuts."""
_FULL, _WANT_KEY = b"\x01\x04", b"\x02"


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """What all logins of a process share.

    `pool` reaches the home server with the service account: it knows what is kept of a password. `by_socket`
    says that sessions reach it by a Unix socket, and their clients' addresses by PROXY protocol. `home_tls` is for
    those whose accounts demand TLS.
    """

    pool: Pool
    tls: Tls | None
    throttle: LoginThrottle
    keys: passwords.KeyPair
    by_socket: bool = False
    home_tls: ssl.SSLContext = field(default_factory=towards_home)


class Login:
    """One connection's authentications: its first, and every COM_CHANGE_USER.

    `admit` is asked, with the user's name, once the home server has accepted; it may raise SkyError.
    """

    def __init__(
        self, client: ClientStream, home: HomeLink, door: Doorkeeper, admit: Callable[[str], None]
    ) -> None:
        self._client, self._home, self._door, self._admit = client, home, door, admit
        self._scramble = b""
        self._plugin = passwords.NATIVE
        self._answered = self._home_offers_tls = False
        self._proof = b"", b""
        """What was last said to prove a password, and the scramble that it is for."""
        self.user = ""

    async def run(self) -> Response | None:
        """Greet and authenticate; return the client's response, or None if it may not come in.

        Raises
        ------
        ClientGone
            If the client leaves, or breaks off TLS.
        SkyError
            If it says nothing sensible.
        """
        _, payload = await self._home.packet()
        if payload[:1] == b"\xff":
            await self._client.raw(packet(payload, 0))
            return None
        first = greeting(payload, self._door.tls is not None)
        self._home.thread_id, self._scramble = first.thread_id, first.scramble
        self._home_offers_tls = first.tls
        await self._client.packet(first.payload)
        payload = await self._client.answer()
        if wants_tls(payload) and self._door.tls is not None:
            await self._client.wire.start_tls(self._door.tls.context)
            payload = await self._client.answer()
        try:
            said = response(payload)
        except PacketError as error:
            raise SkyError(BAD_HANDSHAKE) from error
        if self._door.tls is not None and self._door.tls.required and not self._client.wire.secure:
            raise SkyError(INSECURE)
        self._client.capabilities = said.capabilities & IMPLEMENTED
        self._client.extended = bool(said.own & EXTENDED_METADATA)
        self._client.progresses = bool(said.own & PROGRESS)
        self._home.deprecate_eof = self._client.deprecate_eof
        self.user = _unquoted(said.user.decode("utf-8", "replace"))
        if not await self._first(said):
            return None
        if said.capabilities & Capability.COMPRESS:
            self._client.wire.compress()
        return said

    async def change(self, payload: bytes) -> bool:
        """Do a COM_CHANGE_USER; return whether it succeeded."""
        said = user_change(payload)
        self.user = said.user.decode("utf-8", "replace")
        self._allowed()
        self._proof = said.auth, self._scramble
        if said.plugin == SHA2:
            secret = await self._password()
            self._proof = passwords.native(secret, self._scramble), self._scramble
            await self._home.send(packet(self._changed(said, secret), 0))
            return self._seen(await self._answer(secret))
        await self._home.send(packet(payload, 0))
        return self._seen(await self._relay(said.plugin))

    def _changed(self, said: UserChange, secret: bytes) -> bytes:
        return said.encode(passwords.native(secret, self._scramble), passwords.NATIVE)

    def _allowed(self) -> None:
        """Refuse one who guesses."""
        wait = self._door.throttle.wait(self._client.wire.peer[0], self.user)
        if wait:
            log.warning("login of %r from %s blocked", self.user, self._client.wire.peer[0] or "a socket")
            raise SkyError(BLOCKED, seconds=int(wait) + 1)

    async def _first(self, said: Response) -> bool:
        self._allowed()
        if said.plugin == SHA2 and not self._speaks_native(said):
            secret = await self._password()
            self._answered = bool(secret)
            auth = passwords.native(secret, self._scramble)
            self._proof = auth, self._scramble
            await self._respond(said, auth, passwords.NATIVE)
            return self._seen(await self._answer(secret))
        self._answered, self._proof = bool(said.auth), (said.auth, self._scramble)
        await self._respond(said)
        return self._seen(await self._relay(said.plugin))

    async def _respond(self, said: Response, auth: bytes | None = None, plugin: str | None = None) -> None:
        """Give the home server the response; within TLS for a client with TLS whose account may demand that."""
        said.home_tls = (
            self._home_offers_tls
            and self._client.wire.secure
            and any(map(passwords.demands_tls, await self._known()))
        )
        if said.home_tls:
            await self._home.start_tls(packet(said.begin(), 1), self._door.home_tls)
        await self._home.send(packet(said.encode(auth, plugin), 2 if said.home_tls else 1))

    def _speaks_native(self, said: Response) -> bool:
        """Whether a client without TLS that names caching_sha2_password also knows the old plugin.

        Oracle's library does up to version 8; without TLS it would refuse to send the password.
        """
        name, version = said.names.get("_client_name", ""), said.names.get("_client_version", "")
        return not self._client.wire.secure and name == "libmysql" and version[:2] in ("5.", "8.")

    def _seen(self, accepted: bool) -> bool:
        """Count and log a refused login."""
        address = self._client.wire.peer[0]
        if accepted:
            self._door.throttle.succeeded(address, self.user)
        else:
            self._door.throttle.failed(address, self.user)
            log.warning("login of %r from %s refused", self.user, address or "a socket")
        return accepted

    # the home server's dialogue ------------------------------------------------------------------

    async def _relay(self, plugin: str) -> bool:
        """Relay authentication packets until OK or ERR; return whether it was OK."""

        async def ask(payload: bytes, _: bytes) -> bytes:
            await self._client.packet(payload)
            answer = await self._client.answer()
            self._answered = self._answered or bool(answer)
            return answer

        return await self._dialogue(plugin or passwords.NATIVE, ask)

    async def _answer(self, secret: bytes) -> bool:
        """Answer the home server's plugins with a password."""

        async def know(_: bytes, scramble: bytes) -> bytes:
            reply = passwords.answer(self._plugin, secret, scramble)
            if reply is None:
                raise SkyError(NO_SUCH_PLUGIN, plugin=self._plugin)
            return reply

        return await self._dialogue(passwords.NATIVE, know)

    async def _dialogue(self, plugin: str, reply: Callable[[bytes, bytes], Awaitable[bytes]]) -> bool:
        """Give the home server what `reply` says to each packet (payload, scramble) until OK or ERR."""
        self._plugin, scramble = plugin, self._scramble
        while True:
            seq, payload = await self._home.packet()
            if payload[:1] in (b"\x00", b"\xff"):
                return await self._finish(payload)
            if payload[0] == _SWITCH:
                name, _, scramble = payload[1:].partition(b"\0")
                self._plugin = name.decode("ascii", "replace")
            answer = await reply(payload, scramble)
            self._proof = answer, scramble
            await self._home.send(packet(answer, (seq + 1) & 255))

    async def _finish(self, payload: bytes) -> bool:
        """Pass the home server's verdict on."""
        if payload[0] == _ERR:
            demand = await self._demand() if Err.decode(payload).errno == DENIED.errno else ""
            if demand:
                host, remedy = self._client.wire.peer[0], self._remedy(demand)
                await self._client.error(
                    SkyError(REQUIRE_UNMET, user=self.user, host=host, demand=demand, remedy=remedy)
                )
            else:
                await self._client.packet(payload)
            return False
        if await self._takes_for_local():
            denied = SkyError(
                DENIED,
                user=self.user,
                host=self._client.wire.peer[0],
                using="YES" if self._answered else "NO",
            )
            await self._client.error(denied)
            self._home.leave()
            return False
        await self._settle_name()
        try:
            self._admit(self.user)
        except SkyError:
            self._home.leave()
            raise
        ok = Ok.decode(payload)
        self._home.status = ok.status
        proof = await self._certificate_proof() if not self._client.capabilities & Capability.MYSQL else b""
        if proof:
            payload = Ok(
                ok.affected_rows, ok.last_insert_id, ok.status & 0x2203, 0, lenenc_bytes(proof)
            ).encode()
        await self._client.packet(payload)
        return True

    async def _settle_name(self) -> None:
        """Know a user by the name that the home server has: it reads names in the client's character set, and cuts them."""
        if self.user.isascii() and len(self.user) <= _SHORT_NAME:
            return
        with contextlib.suppress(ServerError):  # an expired password: nothing may be asked
            ((found,),) = (await self._home.table(b"SELECT CONVERT(USER() USING binary)")).rows
            self.user = (found or b"").rpartition(b"@")[0].decode("utf-8", "replace")

    async def _takes_for_local(self) -> bool:
        """Whether the home server has taken a client from elsewhere for one at localhost.

        MariaDB that resolves no names lets whoever comes by a socket use accounts at localhost, whatever address
        the PROXY protocol tells.
        """
        address = self._client.wire.peer[0]
        if not self._door.by_socket or address in _THIS_MACHINE:
            return False
        try:
            account = (await self._home.table(b"SELECT CURRENT_USER()")).rows[0][0] or b""
        except ServerError:  # an expired password: nothing may be asked
            return True
        return account.rpartition(b"@")[2].lower() == b"localhost"

    async def _demand(self) -> str:
        """Return what the account REQUIREs, if it is that which a client with the right password lacks."""
        demands = (passwords.demand_of(entry, *self._proof) for entry in await self._known())
        return next(filter(None, demands), "")

    def _remedy(self, demand: str) -> str:
        """Return what helps one who does not meet a demand of his account."""
        if demand != "SSL":  # TLS ends here: the home server sees no certificate of a client's
            return (
                "no connection through skyshard meets it; `tls.client_ca` of the proxy demands certificates"
            )
        if not self._client.wire.secure:
            return "connect with TLS"
        return "the home server must offer TLS, too" if not self._home_offers_tls else "connect anew"

    async def _known(self) -> list[bytes]:
        """Return what is kept of the accounts of the user's name; nothing if the home server does not say."""
        try:
            return list((await self._entries()).values())
        except (ServerError, ConnectionLost):  # its own answer stands as it is
            return []

    async def _certificate_proof(self) -> bytes:
        """Return the text that proves this proxy's certificate to one who knows the account's password."""
        tls = self._door.tls
        # A client that has no password proves none.
        if tls is None or not self._client.wire.secure or not self._answered:
            return b""
        asked, entries = await asyncio.gather(
            self._home.table(b"SELECT CURRENT_USER()"), self._entries(), return_exceptions=True
        )
        if isinstance(asked, ServerError):  # an expired password: nothing may be asked
            return b""
        if isinstance(asked, BaseException):
            raise asked
        if isinstance(entries, BaseException):
            raise entries
        account = (asked.rows[0][0] or b"").decode()
        kept = passwords.kept_of(entries.get(account, b"{}"), self._plugin)
        return passwords.certificate_proof(kept, self._scramble, tls.fingerprint) if kept else b""

    async def _entries(self) -> dict[str, bytes]:
        """Return what the home server keeps of the accounts of the user's name: name@host → JSON."""
        async with self._door.pool.lease() as connection:
            found = await connection.fetch(
                f"SELECT CONCAT(User, '@', Host), Priv FROM mysql.global_priv WHERE User IN ({literal(self.user)}, '')"
            )
        return {(account or b"").decode(): entry or b"{}" for account, entry in found}

    # caching_sha2_password -----------------------------------------------------------------------

    async def _password(self) -> bytes:
        """Ask a client that speaks caching_sha2_password for its password, by full authentication."""
        nonce = os.urandom(20).replace(b"\0", b"\1")
        client = self._client
        await client.packet(bytes((_SWITCH,)) + SHA2.encode() + b"\0" + nonce + b"\0")
        if (await client.answer()).rstrip(b"\0") == b"":
            return b""
        await client.packet(_FULL)
        said = await client.answer()
        if client.wire.secure:
            return said.removesuffix(b"\0")
        if said == _WANT_KEY:
            await client.packet(bytes((_MORE,)) + self._door.keys.public_pem())
            said = await client.answer()
        secret = self._door.keys.password(said, nonce)
        if secret is None:
            raise SkyError(BAD_HANDSHAKE)
        return secret


def _unquoted(user: str) -> str:
    """Return a user's name as MariaDB reads it from a response to its greeting: it takes quotes off."""
    return user[1:-1] if len(user) > 1 and user[0] == user[-1] == "'" else user
