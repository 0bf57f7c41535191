"""TLS between agents and those who call them (proxies, ingest): both sides show a certificate of one private CA.

An agent's certificate names its worker, so that a caller knows that it speaks with the worker it means,
wherever that has moved. `skyshard certificates` makes such files.
"""

from __future__ import annotations

import ssl

import msgspec

SHUTDOWN_S = 2.0
"""Seconds for the other side to say goodbye before a connection is cut."""


class BadTlsFiles(ValueError):  # noqa: N818 - it is what happened
    """A file cannot be read, or is no certificate or key; the text says which files."""


class TlsFiles(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """PEM files: the private CA's certificate, and certificate and key of this side."""

    ca: str
    certificate: str
    key: str

    def for_agent(self) -> ssl.SSLContext:
        """Return the context of an agent: callers must show a certificate of the CA.

        Raises
        ------
        BadTlsFiles
            If a file cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._filled(context)

    def for_caller(self) -> ssl.SSLContext:
        """Return the context of a proxy or command: an agent must show a certificate with its worker's name.

        Raises
        ------
        BadTlsFiles
            If a file cannot be used.
        """
        return self._filled(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _filled(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # both sides are ours
        try:
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.ca)
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror or str(error)
            raise BadTlsFiles(f"agents' TLS: {self.ca}, {self.certificate}, {self.key}: {reason}") from error
        return context
