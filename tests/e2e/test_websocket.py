"""WebSocket sessions of real programs, byte for byte what both of them logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PROGRAMS, Tap, running_node

INTERNAL = 1
NODE_MODULES = "/usr/share/nodejs"
CONFIG = "bodies:\n  enabled: true\n  limit: 1MiB\n"


class WebSocketServer:
    """tests/e2e/programs/websocket_server.py in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        self._log = folder / "sessions.log"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", folder / "key.pem", "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, PROGRAMS / "websocket_server.py", self.certificate,
             folder / "key.pem", self._log],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.tls_port, self.plain_port = map(int, self.process.stdout.readline().split())

    def logged(self) -> dict[str, dict[str, Any]]:
        """What each session received and sent, by its path."""
        rows = [json.loads(line) for line in self._log.read_text().splitlines()]
        return {row["path"][1:]: row for row in rows}

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture
def websocket_server(tmp_path: Path) -> Iterator[WebSocketServer]:
    server = WebSocketServer(tmp_path)
    yield server
    server.close()


def path_of(attributes: dict[str, Any]) -> str:
    if "url.path" in attributes:
        return str(attributes["url.path"])[1:]
    return str(attributes["url.full"]).split("/", 3)[3]


def told(records: list[Any], direction: str) -> list[list[str]]:
    """What the log records of a session's messages say, in the words of the programs."""
    rows = []
    for record in records:
        attributes = record.attributes
        if attributes["otel_tap.websocket.message.direction"] == direction:
            kind = attributes["otel_tap.websocket.message.type"]
            content = attributes.get("otel_tap.websocket.message.content", "")
            rows.append([kind, content.hex() if isinstance(content, bytes) else content])
            assert attributes["otel_tap.websocket.message.number"] == len(rows) - 1
    return rows


def check(tap: Tap, by_path: dict[str, dict[str, Any]], pid: int) -> None:
    """Every session of the process is one handshake, one session and its messages, all true."""
    spans = [one for one in tap.receiver.spans if one.resource["process.pid"] == pid]
    sessions = [span for span in spans if span.name == "websocket"]
    handshakes = {span.span_id: span for span in spans if span.name == "GET"}
    logs = tap.receiver.log_records
    assert sorted(path_of(span.attributes) for span in sessions) == sorted(by_path)
    for span in sessions:
        attributes = span.attributes
        row = by_path[path_of(attributes)]
        handshake = handshakes[span.parent_span_id]
        assert span.kind == INTERNAL
        assert span.trace_id == handshake.trace_id
        assert handshake.attributes["http.response.status_code"] == 101
        assert span.start_time_unix_nano == handshake.start_time_unix_nano
        assert span.end_time_unix_nano > handshake.end_time_unix_nano
        assert attributes["network.peer.address"] == "127.0.0.1"
        assert attributes["otel_tap.websocket.close.code"] == row["close"]
        assert attributes["otel_tap.websocket.subprotocol"] == "chat"
        assert "otel_tap.capture.truncated" not in attributes
        assert "error.type" not in attributes
        records = [log for log in logs if log.span_id == span.span_id]
        messages = [log for log in records if log.event_name == "otel_tap.websocket.message"]
        (end,) = [log for log in records if log.event_name == "otel_tap.websocket.session"]
        assert end.trace_id == span.trace_id
        for direction in ("sent", "received"):
            prefix = f"otel_tap.websocket.{direction}."
            assert told(messages, direction) == row[direction]
            assert attributes[prefix + "messages"] == len(row[direction])
            texts = sum(kind == "text" for kind, _ in row[direction])
            assert attributes[prefix + "text_messages"] == texts
            sizes: list[Any] = [
                log.attributes["otel_tap.websocket.message.size"]
                for log in messages
                if log.attributes["otel_tap.websocket.message.direction"] == direction
            ]
            assert attributes[prefix + "bytes"] == sum(sizes)
            if not attributes["otel_tap.websocket.permessage_deflate"]:
                assert sizes == [
                    len(bytes.fromhex(content) if kind == "binary" else content.encode())
                    for kind, content in row[direction]
                ]


def run_client(
    tap: Tap, server: WebSocketServer, *command: str | Path
) -> tuple[int, dict[str, Any]]:
    """Process id, and what each session sent and received, by its path."""
    client = subprocess.Popen(
        [*command, server.certificate, str(server.tls_port), str(server.plain_port)],
        env=os.environ | {"NODE_PATH": NODE_MODULES}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    output, errors = client.communicate(timeout=60)
    assert client.returncode == 0, errors
    answered = {row["path"]: row for row in map(json.loads, output.splitlines())}

    def sessions() -> int:
        return sum(span.name == "websocket" for span in tap.receiver.spans)

    tap.wait_for(sessions, 2 * len(answered))
    return client.pid, answered


def test_python_sessions_are_told_as_both_programs_logged_them(websocket_server, tmp_path):
    config = tmp_path / "tap.yaml"
    config.write_text(CONFIG)
    with Tap("--config", str(config)) as tap:
        pid, answered = run_client(
            tap, websocket_server, sys.executable, PROGRAMS / "websocket_client.py"
        )
        logged = websocket_server.logged()
        assert len(answered) == len(logged) == 8
        for path, row in answered.items():
            assert row["close"] == (4001 if path.endswith("server-closes") else 1000)
        check(tap, answered, pid)
        check(tap, logged, websocket_server.process.pid)
        closed_by = {
            path_of(span.attributes): span.attributes["otel_tap.websocket.close.by"]
            for span in tap.receiver.spans
            if span.name == "websocket" and span.resource["process.pid"] == pid
        }
        pings = [
            (span.attributes["otel_tap.websocket.sent.pings"],
             span.attributes["otel_tap.websocket.received.pongs"])
            for span in tap.receiver.spans
            if span.name == "websocket" and span.resource["process.pid"] == pid
        ]  # fmt: skip
    assert closed_by == {
        path: "remote" if path.endswith("server-closes") else "local" for path in answered
    }
    assert pings == [(1, 1)] * 8
    assert tap.stop() == 0


@pytest.mark.skipif(
    not Path(NODE_MODULES, "ws").exists(), reason="the Debian package node-ws is missing"
)
def test_node_sessions_are_told_as_both_programs_logged_them(websocket_server, tmp_path):
    config = tmp_path / "tap.yaml"
    config.write_text(CONFIG)
    with Tap("--config", str(config)) as tap, running_node():
        pid, answered = run_client(tap, websocket_server, "node", PROGRAMS / "websocket_client.js")
        assert len(answered) == 4
        check(tap, answered, pid)
        check(tap, websocket_server.logged(), websocket_server.process.pid)


def test_without_bodies_sessions_are_counted_and_nothing_is_told_of_contents(websocket_server):
    with Tap() as tap:
        pid, answered = run_client(
            tap, websocket_server, sys.executable, PROGRAMS / "websocket_client.py"
        )
        rows = {
            path_of(span.attributes): (
                span.attributes["otel_tap.websocket.sent.messages"],
                span.attributes["otel_tap.websocket.received.messages"],
            )
            for span in tap.receiver.spans
            if span.name == "websocket" and span.resource["process.pid"] == pid
        }
        events = {log.event_name for log in tap.receiver.log_records}
    assert rows == {
        path: (len(row["sent"]), len(row["received"])) for path, row in answered.items()
    }
    assert events == {"otel_tap.http.exchange", "otel_tap.websocket.session"}
