"""Whatever programs do to their connections, nobody else's traffic is lost and nothing breaks."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.e2e.conftest import Tap

CLIENT, SERVER = 3, 2


def fetch(port: int, count: int, path: str = "/") -> None:
    """`count` well-behaved requests by curl."""
    for number in range(count):
        subprocess.run(
            ["curl", "--silent", "--output", "/dev/null", f"http://127.0.0.1:{port}{path}?{number}"],
            check=True, timeout=20,
        )  # fmt: skip


class Responder:
    """Answers every connection with the same bytes; a thread of the test."""

    def __init__(self, answer: bytes, *, close: bool = True) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._answer = answer
        self._close = close
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(self._answer)
            if self._close:
                connection.close()
            else:
                self._kept.append(connection)

    def close(self) -> None:
        self._listener.close()
        for connection in self._kept:
            connection.close()


def send(port: int, *pieces: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.settimeout(0.2)
        try:
            while connection.recv(65536):
                pass
        except OSError:
            pass


def test_noise_and_malformed_http_harm_nothing_else(nginx):
    noise = random.Random(7)
    responders = [
        Responder(answer)
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello",
            b"HTTP/1.1 9999 Whatever\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
            b"\x16\x03\x03\x00\x10" + noise.randbytes(16),
            noise.randbytes(5000),
        )
    ]
    with Tap() as tap:
        fetch(nginx.plain_port, 3)
        for responder in responders:
            send(responder.port, b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(40):
            send(nginx.plain_port, noise.randbytes(noise.randrange(1, 3000)))
        send(nginx.plain_port, b"GET /\x00\xff HTTP/1.1\r\nHost: \xff\r\n\xc3\x28: \x80\r\n\r\n")
        send(nginx.plain_port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise.randbytes(100))
        fetch(nginx.plain_port, 3)
        tap.wait_for(
            lambda: len(
                [
                    span
                    for span in tap.spans(nginx.plain_port, CLIENT)
                    if span.resource["process.executable.name"] == "curl"
                ]
            ),
            6,
        )
        curls = [
            span
            for span in tap.spans(nginx.plain_port, CLIENT)
            if span.resource["process.executable.name"] == "curl"
        ]
        assert [span.attributes["http.response.status_code"] for span in curls] == [200] * 6
        code = tap.stop()
        assert code == 0
        assert not any("Traceback" in line for line in tap.stderr), "".join(tap.stderr)
    for responder in responders:
        responder.close()


def test_a_client_that_is_killed_in_mid_request_leaves_a_broken_exchange(nginx):
    script = (
        "import socket, sys, time\n"
        f"s = socket.create_connection(('127.0.0.1', {nginx.plain_port}))\n"
        "s.sendall(b'POST /half HTTP/1.1\\r\\nHost: a\\r\\n'\n"
        "          b'Content-Length: 1000\\r\\n\\r\\nfirst')\n"
        "print('sent', flush=True)\n"
        "time.sleep(60)\n"
    )
    with Tap() as tap:
        client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert client.stdout is not None
        client.stdout.readline()
        client.send_signal(signal.SIGKILL)
        client.wait()
        tap.wait_for(lambda: len(halves(tap)), 1)
        (half,) = [span for span in halves(tap) if span.kind == CLIENT]
        logs = [log for log in tap.receiver.log_records if log.span_id == half.span_id]
    assert half.attributes["error.type"] in ("process_exited", "connection_closed")
    assert half.status_code == 2
    assert half.resource["process.pid"] == client.pid
    assert "http.response.status_code" not in half.attributes
    assert [log.severity_text for log in logs] == ["ERROR"]


def halves(tap: Tap) -> list:
    return [
        span
        for span in tap.receiver.spans
        if "/half" in str(span.attributes.get("url.full", span.attributes.get("url.path")))
    ]


def test_processes_that_vanish_while_they_are_looked_at_are_survived(nginx):
    with Tap() as tap:
        # Each lives for about a millisecond: /proc is gone before anyone can have read it.
        for _ in range(200):
            subprocess.run(["/bin/true"], check=True)
        fetch(nginx.plain_port, 2)
        tap.wait_for(lambda: len(tap.spans(nginx.plain_port)), 4)
        assert len(tap.spans(nginx.plain_port)) == 4
        assert tap.stop() == 0
        assert not any("Traceback" in line for line in tap.stderr)


def test_hostile_library_files_are_refused_and_the_rest_goes_on(nginx, tmp_path):
    library = next(Path("/usr/lib").glob("*-linux-gnu/libssl.so.3"))
    content = bytearray(library.read_bytes())
    hostile = [content[:70], content[: len(content) // 2], b"\x7fELF" + os.urandom(4000)]
    damaged = bytearray(content)
    damaged[32:64] = os.urandom(32)
    hostile.append(damaged)
    script = (
        "import mmap, sys, time\n"
        "files = [open(path, 'rb') for path in sys.argv[1:]]\n"
        "maps = [mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC) for f in files]\n"
        "print('mapped', flush=True); time.sleep(60)\n"
    )
    paths = []
    for number, data in enumerate(hostile):
        path = tmp_path / f"libssl.so.{number}"
        path.write_bytes(data)
        paths.append(str(path))
    holder = subprocess.Popen(
        [sys.executable, "-c", script, *paths], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mapped\n"
    try:
        with Tap() as tap:
            fetch(nginx.plain_port, 2)
            tap.wait_for(lambda: len(tap.spans(nginx.plain_port)), 4)
            assert len(tap.spans(nginx.plain_port)) == 4
            said = "".join(tap.stderr)
            assert said.count("is not tapped") == len(hostile), said
            assert "Traceback" not in said
    finally:
        holder.kill()
        holder.wait()


def test_a_dead_collector_never_stops_capture_and_what_is_dropped_is_counted(nginx):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Tap(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}) as tap:
            fetch(nginx.plain_port, 5)
            time.sleep(1.5)
            begin = time.monotonic()
            assert tap.stop() == 0
            assert time.monotonic() - begin < 15
            said = "".join(tap.stderr)
    assert "10 exchanges" in said
    assert "20 dropped" in said, said
    assert endpoint.removeprefix("http://") in said or "unreachable" in said
