"""A real HTTP/1.1 server whose answers have every shape HTTP allows; logs what it did.

usage: shapes_server.py CERTIFICATE KEY LOG   (prints "TLS_PORT PLAIN_PORT" when it listens)

The log has one JSON line per request: method, target, status, request and response body bytes.
"""

import json
import socket
import ssl
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LOG_LOCK = threading.Lock()


def content(size: int) -> bytes:
    """Deterministic bytes that both ends and the test can make for themselves."""
    return (b"%07d " * (size // 8 + 1) % tuple(range(size // 8 + 1)))[:size]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def log_message(self, *_arguments):
        pass

    def handle_expect_100(self):
        # Sent when the body is read, as servers that mean it do.
        self.expects = True
        return True

    def read_body(self) -> int:
        if getattr(self, "expects", False):
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
            self.expects = False
        if self.headers.get("Transfer-Encoding") == "chunked":
            total = 0
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                if size == 0:
                    while self.rfile.readline().strip():
                        pass
                    return total
                total += len(self.rfile.read(size))
                self.rfile.readline()
        return len(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self):
        received = self.read_body()
        parts = urlsplit(self.path).path.split("/")
        shape = parts[1] if len(parts) > 1 else "asterisk"
        size = int(parts[2]) if len(parts) > 2 else 0
        status, sent = self.respond(shape, size)
        with LOG_LOCK:
            scheme = SCHEMES[self.connection.getsockname()[1]]
            line = [scheme, self.command, self.path, status, received, sent]
            LOG.write(json.dumps(line) + "\n")
            LOG.flush()

    def respond(self, shape: str, size: int):
        name = f"shape_{shape}"
        if hasattr(self, name):
            return getattr(self, name)(size)
        status = {"created": 201, "missing": 404, "conflict": 409, "broken": 500}.get(shape, 200)
        return self.fixed(status, size)

    def fixed(self, status: int, size: int, *extra: tuple[str, str]):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(size))
        for name, value in extra:
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return status, 0
        self.wfile.write(content(size))
        return status, size

    def shape_empty(self, _size):
        self.send_response(204)
        self.end_headers()
        return 204, 0

    def shape_notmodified(self, size):
        self.send_response(304)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        return 304, 0

    def shape_redirect(self, size):
        return self.fixed(302, size, ("Location", "/ok/3?redirected"))

    def shape_hints(self, size):
        self.send_response_only(103)
        self.send_header("Link", "</style.css>; rel=preload")
        self.end_headers()
        return self.fixed(200, size)

    def chunks(self, size, trailers=()):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        body = content(size)
        step = max(1, size // 7)
        for start in range(0, size, step):
            piece = body[start : start + step]
            self.wfile.write(b"%x;note=1\r\n%s\r\n" % (len(piece), piece))
            if start % 2:
                self.wfile.flush()
        self.wfile.write(b"0\r\n")
        for name, value in trailers:
            self.wfile.write(f"{name}: {value}\r\n".encode())
        self.wfile.write(b"\r\n")
        return 200, size

    def shape_chunked(self, size):
        return self.chunks(size)

    def shape_trailers(self, size):
        return self.chunks(size, [("Digest", "none"), ("Took", "1")])

    def shape_untilclose(self, size):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content(size))
        self.close_connection = True
        return 200, size

    def shape_reset(self, size):
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(content(1000))
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        return 200, 1000


for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
    setattr(Handler, f"do_{method}", Handler.answer)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def shutdown_request(self, request):
        # A plain close: lingering was set by the handler where a reset is wanted.
        self.close_request(request)

    def handle_error(self, *_arguments):
        pass


if __name__ == "__main__":
    certificate, key, log_path = sys.argv[1:]
    LOG = open(log_path, "w")  # noqa: SIM115, PTH123
    tls, plain = (Server(("127.0.0.1", 0), Handler) for _ in range(2))
    SCHEMES = {tls.server_address[1]: "https", plain.server_address[1]: "http"}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    tls.socket = context.wrap_socket(tls.socket, server_side=True, do_handshake_on_connect=False)
    for server in (tls, plain):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(tls.server_address[1], plain.server_address[1], flush=True)
    sys.stdin.read()
