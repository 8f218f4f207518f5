"""Sends requests of every shape over TLS and plain; prints what it saw, one JSON line each.

usage: shapes_client.py CERTIFICATE TLS_PORT PLAIN_PORT ROUNDS
"""

import json
import socket
import ssl
import sys

from shapes_server import content

LARGE = 5_000_000


class Client:
    """One connection; opened again when the server closed it."""

    def __init__(self, scheme: str, port: int, context: ssl.SSLContext) -> None:
        self.scheme, self.port, self.context = scheme, port, context
        self.socket = None

    def connect(self):
        if self.socket is None:
            raw = socket.create_connection(("127.0.0.1", self.port), timeout=60)
            self.socket = (
                self.context.wrap_socket(raw, server_hostname="127.0.0.1")
                if self.scheme == "https"
                else raw
            )
            self.file = self.socket.makefile("rb")

    def close(self):
        if self.socket is not None:
            self.file.close()
            self.socket.close()
            self.socket = None

    def send(self, data: bytes):
        self.connect()
        self.socket.sendall(data)

    def read(self, method: str):
        """(status, body bytes received, whether the connection goes on)."""
        while True:
            status = int(self.file.readline().split()[1])
            headers = {}
            while line := self.file.readline().strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            if status >= 200:
                break
        goes_on = headers.get("connection") != "close"
        if method == "HEAD" or status in (204, 304):
            return status, 0, goes_on
        if headers.get("transfer-encoding") == "chunked":
            total = 0
            while size := int(self.file.readline().split(b";")[0], 16):
                total += len(self.file.read(size))
                self.file.readline()
            while self.file.readline().strip():
                pass
            return status, total, goes_on
        if "content-length" in headers:
            length = int(headers["content-length"])
            total = 0
            try:
                while total < length and (piece := self.file.read1(min(65536, length - total))):
                    total += len(piece)
            except OSError:
                return status, total, False
            return status, total, goes_on and total == length
        return status, len(self.file.read()), False


def head(client, method: str, target: str, *fields: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{client.port}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def simple(client, method, target, body=b"", fields=()):
    fields = list(fields)
    if body or method in ("POST", "PUT", "PATCH"):
        fields.append(f"Content-Length: {len(body)}")
    client.send(head(client, method, target, *fields) + body)
    return done(client, method, target, len(body))


def done(client, method, target, sent):
    status, received, goes_on = client.read(method)
    print(json.dumps([client.scheme, method, target, status, sent, received]))
    if not goes_on:
        client.close()


def chunked(client, target, size):
    body = content(size)
    client.send(head(client, "POST", target, "Transfer-Encoding: chunked"))
    step = max(1, size // 5)
    for start in range(0, size, step):
        piece = body[start : start + step]
        client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    client.send(b"0\r\n\r\n")
    done(client, "POST", target, size)


def expect_continue(client, target, size):
    client.send(head(client, "POST", target, "Expect: 100-continue", f"Content-Length: {size}"))
    # The interim answer is read together with the final one; it is small, so nobody waits.
    client.send(content(size))
    done(client, "POST", target, size)


def pipelined(client, targets):
    client.send(b"".join(head(client, "GET", target) for target in targets))
    for target in targets:
        done(client, "GET", target, 0)


def slowly(client, target):
    request = head(client, "GET", target, "X-Slow: yes")
    for start in range(0, len(request), 9):
        client.send(request[start : start + 9])
    done(client, "GET", target, 0)


def round_of_shapes(client, n, *, large):
    get = lambda target: simple(client, "GET", f"{target}?n={n}")  # noqa: E731
    get("/ok/0")
    get("/ok/10")
    get("/ok/1024")
    get("/ok/100000")
    get("/empty")
    get("/notmodified/500")
    get("/hints/20")
    get("/missing/30")
    get("/broken/40")
    get("/chunked/5000")
    get("/chunked/300000")
    get("/trailers/700")
    simple(client, "HEAD", f"/ok/1000?n={n}")
    simple(client, "POST", f"/created/5?n={n}", content(100))
    simple(client, "POST", f"/ok/0?n={n}", content(120_000))
    simple(client, "PUT", f"/ok/2?n={n}", content(17))
    simple(client, "PATCH", f"/conflict/9?n={n}", content(33))
    simple(client, "DELETE", f"/empty/0?n={n}")
    simple(client, "PROPFIND", f"/ok/60?n={n}")
    simple(client, "OPTIONS", "*")
    simple(client, "GET", f"http://127.0.0.1:{client.port}/ok/11?absolute&n={n}")
    chunked(client, f"/ok/4?chunked&n={n}", 50_000)
    expect_continue(client, f"/created/6?continue&n={n}", 2000)
    pipelined(client, [f"/ok/{size}?pipelined&n={n}" for size in (1, 20_000, 300)])
    slowly(client, f"/ok/7?slowly&n={n}")
    get("/redirect/0")
    simple(client, "GET", "/ok/3?redirected")
    get("/untilclose/12345")
    get("/reset/100000")
    if large:
        get(f"/ok/{LARGE}")
        simple(client, "POST", f"/ok/1?large&n={n}", content(LARGE))


if __name__ == "__main__":
    certificate, tls_port, plain_port, rounds = sys.argv[1:]
    context = ssl.create_default_context(cafile=certificate)
    for scheme, port in (("https", int(tls_port)), ("http", int(plain_port))):
        client = Client(scheme, port, context)
        for n in range(int(rounds)):
            round_of_shapes(client, n, large=n % 4 == 0)
        client.close()
