"""WebSocket sessions on streams of HTTP/2 (RFC 8441), as real programs logged them.

The server is Hypercorn; the client, of h2 and wsproto, holds four sessions at once on a connection.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PROGRAMS, Tap
from tests.e2e.test_websocket import CONFIG, INTERNAL, path_of, told

SESSIONS = 8


class Server:
    """tests/e2e/programs/websocket_http2_server.py in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        self._log = folder / "sessions.log"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", folder / "key.pem", "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        self.ports = [str(port) for port in _free_ports(2)]
        self.process = subprocess.Popen(
            [sys.executable, PROGRAMS / "websocket_http2_server.py", self.certificate,
             folder / "key.pem", *self.ports, self._log],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"
        for port in self.ports:
            _wait_for(int(port))

    def logged(self) -> dict[str, dict[str, Any]]:
        """What each session received and sent, by its path."""
        rows = [json.loads(line) for line in self._log.read_text().splitlines()]
        return {row["path"][1:]: row for row in rows}

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(15)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"nothing listens on port {port}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


def check(tap: Tap, rows: dict[str, dict[str, Any]], pid: int, *, client: bool) -> None:
    """Every session of the process is one handshake, one session and its messages, all true."""
    spans = [one for one in tap.receiver.spans if one.resource["process.pid"] == pid]
    sessions = [span for span in spans if span.name == "websocket"]
    handshakes = {span.span_id: span for span in spans if span.name == "CONNECT"}
    codes = Counter(one.attributes["http.response.status_code"] for one in handshakes.values())
    assert codes == {200: SESSIONS, 403: 2}
    assert sum(span.name == "GET" for span in spans) == 2
    assert sorted(path_of(span.attributes) for span in sessions) == sorted(rows)
    for span in sessions:
        attributes = span.attributes
        path = path_of(attributes)
        row = rows[path]
        handshake = handshakes[span.parent_span_id]
        assert (span.kind, span.trace_id) == (INTERNAL, handshake.trace_id)
        assert path_of(handshake.attributes) == path
        assert handshake.attributes["network.protocol.version"] == "2"
        assert handshake.attributes["http.response.status_code"] == 200
        assert "error.type" not in handshake.attributes
        assert span.start_time_unix_nano == handshake.start_time_unix_nano
        assert span.end_time_unix_nano > handshake.end_time_unix_nano
        by_server = path.endswith("server-closes")
        assert attributes["otel_tap.websocket.close.code"] == (4001 if by_server else 1000)
        by = "local" if client != by_server else "remote"
        assert attributes["otel_tap.websocket.close.by"] == by
        assert attributes["otel_tap.websocket.permessage_deflate"] == ("deflate" in path)
        assert attributes["otel_tap.websocket.subprotocol"] == "chat"
        assert attributes["network.protocol.name"] == "websocket"
        assert "otel_tap.capture.truncated" not in attributes
        assert "error.type" not in attributes
        logs = [log for log in tap.receiver.log_records if log.span_id == span.span_id]
        messages = [log for log in logs if log.event_name == "otel_tap.websocket.message"]
        for direction in ("sent", "received"):
            prefix = f"otel_tap.websocket.{direction}."
            assert told(messages, direction) == row[direction]
            assert attributes[prefix + "messages"] == len(row[direction])
            if "deflate" not in path:
                assert attributes[prefix + "bytes"] == sum(
                    len(bytes.fromhex(content) if kind == "binary" else content.encode())
                    for kind, content in row[direction]
                )
        pings = "sent.pings" if client else "received.pings"
        assert attributes[f"otel_tap.websocket.{pings}"] == 1


def test_sessions_on_streams_are_told_as_both_programs_logged_them(server, tmp_path):
    config = tmp_path / "tap.yaml"
    config.write_text(CONFIG)
    with Tap("--config", str(config)) as tap:
        client = subprocess.Popen(
            [sys.executable, PROGRAMS / "websocket_http2_client.py", server.certificate,
             *server.ports],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        output, errors = client.communicate(timeout=60)
        assert client.returncode == 0, errors
        answered = {row["path"]: row for row in map(json.loads, output.splitlines())}
        assert len(answered) == SESSIONS

        def seen() -> int:
            # A session, its handshake; on each of two connections a request and a refusal.
            return len(tap.receiver.spans)

        tap.wait_for(seen, 2 * (2 * SESSIONS + 4))
        logged = server.logged()
        assert {row["http"] for row in logged.values()} == {"2"}
        check(tap, answered, client.pid, client=True)
        check(tap, logged, server.process.pid, client=False)
    assert tap.stop() == 0
