"""The certificates of a cluster: one for clients, signed by itself, and a private CA's for agents and their callers.

Clients that verify can be given the file itself as their CA; MariaDB's clients from 11.4 on need nothing,
because the proxy proves the certificate with the account's password. Keys are of the curve P-256: every client with
TLS 1.2 knows it, and a handshake costs the proxy a quarter less than with RSA.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CALLER = "client"
"""The name of the certificate that proxies and commands show to agents."""

DAYS = 3650
RENEW_DAYS = 30
"""A certificate that ends within so many days is made anew at a start."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where certificate and key are (PEM)."""

    certificate: Path
    key: Path


def provide(directory: Path) -> Files:
    """Return the directory's certificate and key; made when they are missing or about to end."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Files(directory / "server.crt", directory / "server.key")
    if _found(files) is None:
        key = ec.generate_private_key(ec.SECP256R1())
        _keep(files, _certificate(key), key)
    return files


@dataclass(frozen=True, slots=True)
class Authority:
    """A private CA: its certificate and key, and where they are."""

    files: Files
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @staticmethod
    def provide(directory: Path) -> Authority:
        """Return the CA of a directory (``ca.crt``, ``ca.key``); made when it is missing or about to end."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = Files(directory / "ca.crt", directory / "ca.key")
        found = _found(files)
        if found is None or not isinstance(found[1], ec.EllipticCurvePrivateKey):
            key = ec.generate_private_key(ec.SECP256R1())
            made = _authority_certificate(key)
            _keep(files, made, key)
            return Authority(files, made, key)
        return Authority(files, found[0], found[1])

    def issue(self, name: str) -> Files:
        """Return certificate and key of a worker or caller (``NAME.crt``, ``NAME.key``).

        They are made when they are missing, about to end, or of another CA.
        """
        directory = self.files.certificate.parent
        files = Files(directory / f"{name}.crt", directory / f"{name}.key")
        found = _found(files)
        if found is None or not self._signed(found[0]):
            key = ec.generate_private_key(ec.SECP256R1())
            _keep(files, self._certificate(name, key.public_key()), key)
        return files

    def _signed(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def _certificate(self, name: str, public: ec.EllipticCurvePublicKey) -> x509.Certificate:
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return (
            _builder(name, self.certificate.subject, public)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def _found(files: Files) -> tuple[x509.Certificate, PrivateKeyTypes] | None:
    """Return a certificate and its key, or None if there is none that lasts."""
    try:
        found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    except (OSError, ValueError):
        return None
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEW_DAYS)
    return (
        (found, key) if found.public_key() == key.public_key() and found.not_valid_after_utc > soon else None
    )


def _keep(files: Files, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write(files.key, key.private_bytes(pem, form, serialization.NoEncryption()))
    _write(files.certificate, certificate.public_bytes(pem))


def _write(path: Path, data: bytes) -> None:
    partial = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
    partial.rename(path)


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Return a certificate for this machine and loopback, usable as its own CA."""
    hosts = {"localhost", socket.gethostname()}
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in sorted(hosts) if host.isascii()]
    names += [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    return (
        _builder("skyshard", _name("skyshard"), key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _authority_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return (
        _builder("skyshard CA", _name("skyshard CA"), key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: str, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(signs: bool) -> x509.KeyUsage:
    """Return what a key is for: TLS, and signing certificates if it `signs`."""
    return x509.KeyUsage(
        digital_signature=True, key_encipherment=True, key_cert_sign=signs, content_commitment=False,
        data_encipherment=False, key_agreement=False, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip
