"""The certificate of a local cluster, made once and signed by itself.

Clients that verify can be given the file itself as their CA; MariaDB's clients from 11.4 on need nothing,
because the proxy proves the certificate with the account's password.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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
    if not _lasts(files):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        _write(
            files.key,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        _write(files.certificate, _certificate(key).public_bytes(serialization.Encoding.PEM))
    return files


def _lasts(files: Files) -> bool:
    try:
        found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    except (OSError, ValueError):
        return False
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEW_DAYS)
    return found.public_key() == key.public_key() and found.not_valid_after_utc > soon


def _write(path: Path, data: bytes) -> None:
    partial = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
    partial.rename(path)


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    """Return a certificate for this machine and loopback, usable as its own CA."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "skyshard")])
    hosts = {"localhost", socket.gethostname()}
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in sorted(hosts) if host.isascii()]
    names += [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    now = datetime.datetime.now(datetime.UTC)
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True, key_encipherment=True, key_cert_sign=True, content_commitment=False,
        data_encipherment=False, key_agreement=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
