"""Which functions of which TLS library carry which probe.

A table, not code: a new library is a new row here and its program in bpf/.
"""

from __future__ import annotations

from dataclasses import dataclass

from otel_tap.events import TlsLibrary


@dataclass(frozen=True, slots=True)
class Probe:
    """A program of the object file at a function's entry, its return, or both."""

    symbol: str
    entry_program: str | None
    return_program: str | None
    needed: bool  # without it the file is not tapped at all


@dataclass(frozen=True, slots=True)
class LibraryProbes:
    """All probes of one kind of TLS library."""

    library: TlsLibrary
    object_name: str
    probes: tuple[Probe, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every function that may carry a probe."""
        return tuple(probe.symbol for probe in self.probes)


OPENSSL = LibraryProbes(
    TlsLibrary.OPENSSL,
    "openssl.bpf.o",
    (
        # The ends of sessions first: a pointer used again must never meet an old session.
        Probe("SSL_free", "ssl_free", None, needed=True),
        Probe("SSL_clear", "ssl_clear", None, needed=False),
        Probe("SSL_new", None, "ssl_new_return", needed=True),
        Probe("SSL_read", "ssl_read", "ssl_return", needed=True),
        Probe("SSL_write", "ssl_write", "ssl_return", needed=True),
        Probe("SSL_read_ex", "ssl_read_ex", "ssl_return", needed=False),
        Probe("SSL_write_ex", "ssl_write_ex", "ssl_return", needed=False),
    ),
)

# Which socket a session writes to when it does not write to one itself.
OPENSSL_BIO = LibraryProbes(
    TlsLibrary.OPENSSL,
    "openssl.bpf.o",
    (Probe("BIO_write", "bio_write", None, needed=True),),
)

LIBRARIES = (OPENSSL, OPENSSL_BIO)
"""A file may hold the functions of several of them."""

SOCKET_OBJECTS = ("socket.bpf.o", "tcp_state.bpf.o", "process.bpf.o")
"""Objects whose programs attach to the kernel itself; the first one creates the shared maps."""
