"""One TLS session in a process of its own, through the very library that is to be checked.

A program, run by path without site packages: when its input ends, it loads the library named by
its argument, lets two ends talk over memory BIOs and a loopback TCP connection, and prints what its
calls returned as one JSON object. Must not import anything of the agent. Gives up its rights before
it loads anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import sys
from typing import Any

_NOBODY = 65534
_PR_SET_NO_NEW_PRIVS = 38
_TLS_1_2 = 0x0303
_SET_MIN_VERSION, _SET_MAX_VERSION, _SET_DH_AUTO = 123, 124, 118  # SSL_CTRL_*
_CIPHERS = (b"AECDH:ADH:@SECLEVEL=0", b"AECDH:ADH")  # no certificate; 1.0.2 knows no levels
_MAX_ROUNDS = 12
_BUFFER = 4096

_POINTER = ctypes.c_void_p
_RESULTS = {
    "TLS_method": _POINTER,
    "SSL_CTX_new": _POINTER,
    "SSL_new": _POINTER,
    "BIO_s_mem": _POINTER,
    "BIO_new": _POINTER,
}


class CannotCheck(Exception):  # noqa: N818 - an outcome
    """The library does not offer what a session here needs."""


class Library:
    """The functions of libssl and of the libcrypto that it brings."""

    def __init__(self, path: str) -> None:
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise CannotCheck(f"it cannot be loaded: {error}") from error

    def function(self, name: str) -> Any:  # noqa: ANN401 - a foreign function
        """The function of that name; pointers as numbers."""
        try:
            function = getattr(self._library, name)
        except AttributeError as error:
            raise CannotCheck(f"it has no {name}") from error
        function.restype = _RESULTS.get(name, ctypes.c_int)
        return function


class End:
    """One end of the session: its calls are noted with what they moved."""

    def __init__(self, library: Library, connection: socket.socket, *, server: bool) -> None:
        call = library.function
        self._call = call
        self._socket = connection
        context = _POINTER(call("SSL_CTX_new")(_POINTER(call("TLS_method")())))
        control = call("SSL_CTX_ctrl")
        control(context, _SET_MIN_VERSION, ctypes.c_long(_TLS_1_2), None)
        control(context, _SET_MAX_VERSION, ctypes.c_long(_TLS_1_2), None)
        control(context, _SET_DH_AUTO, ctypes.c_long(1), None)
        if not any(call("SSL_CTX_set_cipher_list")(context, ciphers) == 1 for ciphers in _CIPHERS):
            raise CannotCheck("it offers no cipher without certificates")
        self._ssl = _POINTER(call("SSL_new")(context))
        self._incoming, self._outgoing = (
            _POINTER(call("BIO_new")(_POINTER(call("BIO_s_mem")()))) for _ in range(2)
        )
        call("SSL_set_bio")(self._ssl, self._incoming, self._outgoing)
        call("SSL_set_accept_state" if server else "SSL_set_connect_state")(self._ssl)
        self.moved: list[tuple[str, str]] = []

    def shake_hands(self) -> bool:
        """One more step; whether it is complete."""
        return bool(self._call("SSL_do_handshake")(self._ssl) == 1)

    def write(self, data: bytes) -> None:
        """SSL_write."""
        self._note("egress", data, self._call("SSL_write")(self._ssl, data, len(data)))

    def write_ex(self, data: bytes) -> None:
        """SSL_write_ex."""
        written = ctypes.c_size_t()
        call = self._call("SSL_write_ex")
        done = call(self._ssl, data, ctypes.c_size_t(len(data)), ctypes.byref(written))
        self._note("egress", data, written.value if done == 1 else 0)

    def read(self, size: int) -> int:
        """SSL_read; returns its result."""
        buffer = ctypes.create_string_buffer(_BUFFER)
        result: int = self._call("SSL_read")(self._ssl, buffer, size)
        self._note("ingress", buffer.raw, result)
        return result

    def read_ex(self, size: int) -> int:
        """SSL_read_ex; returns the number of bytes."""
        buffer = ctypes.create_string_buffer(_BUFFER)
        count = ctypes.c_size_t()
        call = self._call("SSL_read_ex")
        done = call(self._ssl, buffer, ctypes.c_size_t(size), ctypes.byref(count))
        taken = count.value if done == 1 else 0
        self._note("ingress", buffer.raw, taken)
        return taken

    def peek(self, size: int) -> None:
        """SSL_peek, which moves nothing."""
        self._call("SSL_peek")(self._ssl, ctypes.create_string_buffer(_BUFFER), size)

    def _note(self, direction: str, data: bytes, count: int) -> None:
        if count > 0:
            self.moved.append((direction, data[:count].hex()))

    def send_to(self, other: End) -> None:
        """What this end has encrypted, over TCP to the other one."""
        buffer = ctypes.create_string_buffer(1 << 16)
        while (size := self._call("BIO_read")(self._outgoing, buffer, len(buffer))) > 0:
            self._socket.sendall(buffer.raw[:size])
            while size > 0:
                data = other._socket.recv(size)
                if not data:
                    raise CannotCheck("its connection broke")
                self._call("BIO_write")(other._incoming, data, len(data))
                size -= len(data)

    def shut_down(self) -> None:
        """SSL_shutdown: the other end reads the end of the stream."""
        self._call("SSL_shutdown")(self._ssl)

    def free(self) -> None:
        """SSL_free."""
        self._call("SSL_free")(self._ssl)


def _talk(client: End, server: End) -> None:
    for _ in range(_MAX_ROUNDS):
        done = client.shake_hands()
        client.send_to(server)
        done = server.shake_hands() and done
        server.send_to(client)
        if done:
            break
    else:
        raise CannotCheck("it makes no session without certificates")
    request = b"GET /self-check/%d HTTP/1.1\r\nhost: otel-tap-self-check\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\n"
    server.read(_BUFFER)  # nothing there yet: tried again below
    client.write(request % 1)
    client.send_to(server)
    server.peek(5)
    server.read(-1)
    server.read(10)
    server.read(_BUFFER)
    server.read_ex(_BUFFER)
    server.write_ex(answer)
    server.write(b"a" * 200)
    server.write_ex(b"b" * 100)
    client.read_ex(_BUFFER)
    server.send_to(client)
    client.read_ex(17)
    client.read(_BUFFER)
    client.read_ex(150)
    client.read(_BUFFER)
    client.read(_BUFFER)
    client.write_ex(request % 2)
    client.send_to(server)
    server.read_ex(_BUFFER)
    client.shut_down()
    client.send_to(server)
    if server.read(_BUFFER) != 0:
        raise CannotCheck("the end of its session was not read")


def _mapped_files() -> list[tuple[int, int]]:
    """Device and inode of the libraries of OpenSSL that this process maps."""
    keys = set()
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123
        for line in maps:
            columns = line.split(maxsplit=5)
            name = columns[5].strip() if len(columns) == 6 else ""
            if "x" in columns[1] and ("libssl" in name or "libcrypto" in name):
                with contextlib.suppress(OSError):
                    status = os.stat(name)  # noqa: PTH116
                    keys.add((status.st_dev, status.st_ino))
    return sorted(keys)


def _give_up_rights() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _check(path: str) -> dict[str, Any]:
    listener = socket.create_server(("127.0.0.1", 0))
    outgoing = socket.create_connection(listener.getsockname(), timeout=2)
    incoming = listener.accept()[0]
    for connection in (outgoing, incoming):  # no waiting for acknowledgements
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    incoming.settimeout(2)
    _give_up_rights()
    library = Library(path)
    client = End(library, outgoing, server=False)
    server = End(library, incoming, server=True)
    _talk(client, server)
    client.free()
    server.free()
    for connection in (outgoing, incoming, listener):
        connection.close()
    return {"moved": [client.moved, server.moved], "files": _mapped_files()}


if __name__ == "__main__":
    sys.stdin.read()  # until the probes are there
    try:
        outcome = _check(sys.argv[1])
    except (CannotCheck, OSError) as error:
        outcome = {"cannot": str(error)}
    print(json.dumps(outcome))
