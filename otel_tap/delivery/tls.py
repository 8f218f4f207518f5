"""The files that TLS to a collector needs: trusted certificates and the agent's own.

Owns: reading and checking them. Promises: files that passed `check` can be used by both
protocols. The key itself is never kept. Must not know: endpoints or protocols.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from otel_tap.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; None: the host's trusted certificates, no certificate of our own."""

    certificate: Path | None = None  # what is trusted, instead of the host's
    client_certificate: Path | None = None
    client_key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """A context for clients; raises OSError (ssl.SSLError is one) on an unusable file."""
        context = ssl.create_default_context(cafile=self.certificate)
        if self.client_certificate is not None:
            # The empty password: OpenSSL would otherwise ask for one at the terminal.
            context.load_cert_chain(self.client_certificate, self.client_key, password="")
        return context

    def check(self, certificate: str, client_certificate: str, client_key: str) -> None:
        """Raise ConfigError naming the variable (given by name) of a file that cannot be used."""
        for variable, path in (
            (certificate, self.certificate),
            (client_certificate, self.client_certificate),
            (client_key, self.client_key),
        ):
            if path is not None:
                try:
                    path.read_bytes()
                except OSError as error:
                    raise ConfigError(
                        f"{variable}: cannot read {path}: {error.strerror}",
                        remedy="name a PEM file that this user may read",
                    ) from error
        if self.certificate is not None:
            _check(TlsFiles(self.certificate), certificate, "certificates to trust")
        if self.client_certificate is not None:
            own = TlsFiles(None, self.client_certificate, self.client_key)
            _check(own, f"{client_certificate} and {client_key}", "a certificate and its key")


def _check(files: TlsFiles, variables: str, wanted: str) -> None:
    try:
        files.context()
    except OSError as error:
        raise ConfigError(
            f"{variables}: not {wanted}: {error.strerror or error}",
            remedy="name PEM files; the key must belong to the certificate and have no password",
        ) from error
