"""Which functions of which TLS library carry which probe.

A table, not code: a new library is a new row here and its program in bpf/.
"""

from __future__ import annotations

from dataclasses import dataclass

from otel_tap.events import TlsLibrary


@dataclass(frozen=True, slots=True)
class Probe:
    """A program of the object file at a function's entry, its return, or both.

    `reads`: the arguments (from 1) that the entry program takes. `done`: the argument that says
    where the number of bytes is written; 0 when the function returns it. `inner`: the entry
    programs for a function that does the same but has that pointer as the given argument.
    """

    symbol: str
    entry_program: str | None
    return_program: str | None
    needed: bool  # without it the file is not tapped at all
    reads: tuple[int, ...] = ()
    done: int = 0
    inner: tuple[tuple[int, str], ...] = ()


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


# Of a function that is only known by the _ex form, whether 0 means the end or any failure is not
# known: it keeps the program of that form.
_READ_INNER = ((4, "ssl_read_inner"),)
_WRITE_INNER = ((4, "ssl_write_inner"), (5, "ssl_write_inner5"))
_READ_EX_INNER = ((4, "ssl_read_ex"),)
_WRITE_EX_INNER = ((4, "ssl_write_inner"), (5, "ssl_write_inner5"))

OPENSSL = LibraryProbes(
    TlsLibrary.OPENSSL,
    "openssl.bpf.o",
    (
        # The ends of sessions first: a pointer used again must never meet an old session.
        Probe("SSL_free", "ssl_free", None, needed=True, reads=(1,)),
        Probe("SSL_clear", "ssl_clear", None, needed=False, reads=(1,)),
        Probe("SSL_new", None, "ssl_new_return", needed=True),
        Probe("SSL_read", "ssl_read", "ssl_return", True, (1, 2), 0, _READ_INNER),
        Probe("SSL_write", "ssl_write", "ssl_return", True, (1, 2), 0, _WRITE_INNER),
        Probe("SSL_read_ex", "ssl_read_ex", "ssl_return", False, (1, 2, 4), 4, _READ_EX_INNER),
        Probe("SSL_write_ex", "ssl_write_ex", "ssl_return", False, (1, 2, 4), 4, _WRITE_EX_INNER),
        # Since 3.3: flags before the pointer.
        Probe(
            "SSL_write_ex2", "ssl_write_inner5", "ssl_return", False, (1, 2, 5), 5, _WRITE_EX_INNER
        ),
    ),
)

# Which socket a session writes to when it does not write to one itself.
OPENSSL_BIO = LibraryProbes(
    TlsLibrary.OPENSSL,
    "openssl.bpf.o",
    (Probe("BIO_write", "bio_write", None, needed=True, reads=(2, 3)),),
)

LIBRARIES = (OPENSSL, OPENSSL_BIO)
"""A file may hold the functions of several of them."""

KERNEL_OBJECTS = ("process.bpf.o", "tcp_state.bpf.o")
"""Objects whose programs attach to the kernel itself; the first one creates the shared maps."""

SOCKET_OBJECTS = (
    ("socket_length.bpf.o", ("sock_send_length", "sock_recv_length")),
    ("socket_syscall.bpf.o", ("sys_exit",)),
)
"""Ways to see bytes at sockets, the cheapest first, and the tracepoints that each needs."""
