"""What authentication plugins make of a password: answers to scrambles, and the hashes servers keep.

Layouts and formulas: MySQL's native and caching_sha2 plugins, MariaDB's ed25519 plugin (RFC 8032 with the
password itself as the seed), MariaDB 11.4's proof that a self-signed certificate is the server's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

NATIVE, ED25519, CLEAR, DIALOG = "mysql_native_password", "client_ed25519", "mysql_clear_password", "dialog"
SHA2 = "caching_sha2_password"

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_BASE_Y = 4 * pow(5, _P - 2, _P) % _P
_Point = tuple[int, int, int, int]


def xor(left: bytes, right: bytes) -> bytes:
    """Return bytes XORed; `right` is repeated as needed."""
    return bytes(byte ^ right[index % len(right)] for index, byte in enumerate(left))


def native(password: bytes, scramble: bytes) -> bytes:
    """Return mysql_native_password's answer to a scramble of 20 bytes."""
    if not password:
        return b""
    once = hashlib.sha1(password).digest()  # noqa: S324 - the protocol's
    twice = hashlib.sha1(once).digest()  # noqa: S324
    return xor(once, hashlib.sha1(scramble[:20] + twice).digest())  # noqa: S324


def _add(a: _Point, b: _Point) -> _Point:
    """Add two points in extended coordinates (RFC 8032, 5.1.4)."""
    one = (a[1] - a[0]) * (b[1] - b[0]) % _P
    two = (a[1] + a[0]) * (b[1] + b[0]) % _P
    three = 2 * a[3] * b[3] * _D % _P
    four = 2 * a[2] * b[2] % _P
    e, f, g, h = two - one, four - three, four + three, two + one
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    out: _Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            out = _add(out, point)
        point = _add(point, point)
        scalar >>= 1
    return out


def _base() -> _Point:
    square = (_BASE_Y * _BASE_Y - 1) * pow(_D * _BASE_Y * _BASE_Y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if x & 1:
        x = _P - x
    return x, _BASE_Y, 1, x * _BASE_Y % _P


def _packed(point: _Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def ed25519(password: bytes, scramble: bytes) -> bytes:
    """Return client_ed25519's answer, a signature of the scramble (32 bytes)."""
    if not password:
        return b""
    digest = hashlib.sha512(password).digest()
    secret = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    public = _packed(_times(secret, _base()))
    nonce = int.from_bytes(hashlib.sha512(digest[32:] + scramble[:32]).digest(), "little") % _ORDER
    head = _packed(_times(nonce, _base()))
    challenge = int.from_bytes(hashlib.sha512(head + public + scramble[:32]).digest(), "little") % _ORDER
    return head + ((nonce + challenge * secret) % _ORDER).to_bytes(32, "little")


def answer(plugin: str, password: bytes, scramble: bytes) -> bytes | None:
    """Return a plugin's answer; None if the plugin is not known here."""
    if plugin == NATIVE:
        return native(password, scramble)
    if plugin == ED25519:
        return ed25519(password, scramble)
    if plugin in (CLEAR, DIALOG):
        return password + b"\0"
    return None


def stored_hash(plugin: str, text: str) -> bytes:
    """Return the bytes of an account's `authentication_string`; empty if it is none.

    MariaDB's clients can make the same from the password.
    """
    try:
        if plugin == NATIVE and len(text) == 41 and text.startswith("*"):
            return bytes.fromhex(text[1:])
        if plugin == ED25519 and len(text) == 43:
            return base64.b64decode(text + "=")
    except ValueError:
        return b""
    return b""


class _Way(msgspec.Struct):
    """One way to authenticate, as mysql.global_priv keeps it."""

    plugin: str = ""
    authentication_string: str = ""


class _Account(_Way):
    """An account's entry: its only way, or several."""

    auth_or: list[_Way] = []
    ssl_type: int = 0


_DEMANDS = {1: "SSL", 2: "X509", 3: "SUBJECT, ISSUER or CIPHER"}
"""What REQUIRE says, by mysql.global_priv's `ssl_type`."""


def kept_of(entry: bytes, plugin: str) -> bytes:
    """Return what an account keeps of its password for a client's plugin; empty if it keeps nothing.

    Parameters
    ----------
    entry : bytes
        The account's JSON in mysql.global_priv.
    """
    account = msgspec.json.decode(entry, type=_Account)
    for way in (account, *account.auth_or):
        if way.plugin in (plugin, plugin.removeprefix("client_")):
            kept = stored_hash(plugin, way.authentication_string)
            if kept:
                return kept
    return b""


def demands_tls(entry: bytes) -> bool:
    """Whether an account has REQUIRE SSL."""
    return msgspec.json.decode(entry, type=_Account).ssl_type == 1


def demand_of(entry: bytes, said: bytes, scramble: bytes) -> str:
    """Return what an account's REQUIRE demands, to one whose native answer proves its password; else nothing.

    Parameters
    ----------
    entry : bytes
        The account's JSON in mysql.global_priv.
    """
    demand = _DEMANDS.get(msgspec.json.decode(entry, type=_Account).ssl_type, "")
    kept = kept_of(entry, NATIVE) if demand else b""
    if not kept or len(said) != len(kept):
        return ""
    once = xor(said, hashlib.sha1(scramble[:20] + kept).digest())  # noqa: S324 - the protocol's
    return demand if hmac.compare_digest(hashlib.sha1(once).digest(), kept) else ""  # noqa: S324


def certificate_proof(kept: bytes, scramble: bytes, fingerprint: bytes) -> bytes:
    """Return the text of the final OK packet that proves a certificate to MariaDB ≥ 11.4 clients.

    Parameters
    ----------
    kept : bytes
        What the server keeps of the password.
    scramble : bytes
        The greeting's, 20 bytes.
    fingerprint : bytes
        SHA-256 of the certificate (DER).
    """
    return b"\x01" + hashlib.sha256(kept + scramble[:20] + fingerprint).hexdigest().encode()


@dataclass(slots=True)
class KeyPair:
    """The RSA key that protects passwords of clients without TLS; made when first needed."""

    _key: rsa.RSAPrivateKey | None = field(default=None, repr=False)

    def _private(self) -> rsa.RSAPrivateKey:
        if self._key is None:
            self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return self._key

    def public_pem(self) -> bytes:
        """Return the public key as the client wants it."""
        return (
            self._private()
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def password(self, encrypted: bytes, nonce: bytes) -> bytes | None:
        """Return the password that a client encrypted; None if it is not one."""
        oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303
        try:
            plain = self._private().decrypt(encrypted, oaep)
        except ValueError:
            return None
        text = xor(plain, nonce)
        return text[:-1] if text.endswith(b"\0") else None
