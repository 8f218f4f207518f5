"""Bodies of real programs: codings, event streams, calls of models, over TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_tap.receiver import ReceivedSpan
from tests.e2e.conftest import PROGRAMS, Tap

SERVER, CLIENT = 2, 3
LIMIT = 32 * 1024
CODINGS = ["identity", "gzip", "deflate", "br", "zstd"]
PROMPT = "a prompt nobody may see"

pytestmark = pytest.mark.ebpf


class ContentServer:
    """tests/e2e/programs/content_server.py in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        self._log = folder / "content.log"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", folder / "key.pem", "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, PROGRAMS / "content_server.py", self.certificate,
             folder / "key.pem", self._log],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port, self.plain_port = map(int, self.process.stdout.readline().split())

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def get(self, target: str, port: int | None = None) -> None:
        scheme = "https" if port is None else "http"
        subprocess.run(
            ["curl", "--silent", "--fail", "--http1.1", "--cacert", self.certificate,
             "--output", "/dev/null", f"{scheme}://127.0.0.1:{port or self.port}{target}"],
            check=True, timeout=60,
        )  # fmt: skip

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture
def server() -> Iterator[ContentServer]:
    with tempfile.TemporaryDirectory(prefix="otel-tap-test-") as folder:
        one = ContentServer(Path(folder))
        yield one
        one.close()


def content(size: int) -> str:
    return "".join(f"{number:07d} " for number in range(size // 8 + 1))[:size]


def path_of(span: ReceivedSpan, port: int) -> str:
    path = span.attributes.get("url.path")
    if path is None:
        path = str(span.attributes["url.full"]).partition(f":{port}")[2]
    return str(path)


@pytest.mark.parametrize("plain", [False, True], ids=["tls", "plain"])
def test_coded_bodies_arrive_to_the_byte_up_to_the_limit_and_without_secrets(server, plain):
    port = server.plain_port if plain else None
    sizes = [100, 20_000, LIMIT, LIMIT + 1, 200_000]
    targets = [f"/coded/{coding}/{size}" for coding in CODINGS for size in sizes]
    secrets = [f"/secret/{coding}" for coding in CODINGS]
    with Tap("--bodies", "--body-limit", str(LIMIT)) as tap:
        for target in targets + secrets:
            server.get(target, port)
        expected = 2 * len(targets + secrets)
        number = port or server.port
        tap.wait_for(lambda: len(tap.spans(number)), expected)
        spans = tap.spans(number)
        records = {record.span_id: record for record in tap.receiver.log_records}
        tap.wait_for(lambda: len(tap.receiver.log_records), expected)
        records = {record.span_id: record for record in tap.receiver.log_records}
    assert len(spans) == expected
    wire_sizes = {one["target"]: one["size"] for one in server.logged()}
    for span in spans:
        target = path_of(span, number)
        record = records[span.span_id].attributes
        body = record["http.response.body.content"]
        assert isinstance(body, str)
        cut = record.get("otel_tap.capture.truncated", False)
        if target in secrets:
            assert json.loads(body) == {"user": "bob", "password": "REDACTED", "note": "x" * 500}
            continue
        size = int(target.rpartition("/")[2])
        if wire_sizes[target] <= LIMIT:  # the whole of it was kept
            assert body == content(min(size, LIMIT)), target
            assert cut == (size > LIMIT), target
        else:
            assert body == content(len(body)), target
            assert len(body) >= LIMIT // 4
            assert cut
    everything = repr([records[span.span_id] for span in spans]) + repr(spans)
    assert "planted" not in everything


@pytest.mark.parametrize("coding", CODINGS)
def test_events_over_tls_are_those_that_the_server_counted(server, coding):
    count = 523
    with Tap() as tap:
        server.get(f"/events/{coding}/{count}")
        tap.wait_for(lambda: len(tap.spans(server.port)), 2)
        spans = tap.spans(server.port)
    (logged,) = server.logged()
    assert logged["events"] == count
    assert sorted(span.kind for span in spans) == [SERVER, CLIENT]
    pace = (logged["last"][1] - logged["first"][0]) / 1e9
    for span in spans:
        attributes = span.attributes
        assert attributes["otel_tap.sse.event_count"] == count
        assert "otel_tap.sse.unknown" not in attributes
        first = attributes["otel_tap.sse.time_to_first_event"]
        last = attributes["otel_tap.sse.time_to_last_event"]
        assert isinstance(first, float)
        assert isinstance(last, float)
        assert 0 < first < last
        # The same two writes on the server's clock; the client reads them a little later.
        assert last - first == pytest.approx(pace, abs=0.2)
        duration = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        assert last <= duration


def test_calls_by_the_real_clients_of_models_are_described_and_no_message_leaves(server):
    with Tap("--genai") as tap:
        subprocess.run(
            [sys.executable, PROGRAMS / "model_client.py",
             f"https://127.0.0.1:{server.port}", PROMPT],
            check=True, timeout=60, env=os.environ | {"SSL_CERT_FILE": str(server.certificate)},
        )  # fmt: skip
        tap.wait_for(lambda: len(tap.spans(server.port)), 8)
        spans = tap.spans(server.port)
        everything = repr((spans, tap.receiver.log_records))
    openai = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-e2e",
        "gen_ai.response.model": "gpt-e2e-2026",
        "gen_ai.response.id": "chatcmpl-e2e",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 22,
    }
    anthropic = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-e2e",
        "gen_ai.request.max_tokens": 128,
        "gen_ai.response.model": "claude-e2e-2026",
        "gen_ai.response.id": "msg_e2e",
        "gen_ai.response.finish_reasons": ["end_turn"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.output_tokens": 9,
    }
    streamed = {"gen_ai.request.stream": True}
    expected = [
        openai
        | {
            "gen_ai.request.temperature": 0.25,
            "gen_ai.request.max_tokens": 64,
            "gen_ai.request.choice.count": 2,
            "gen_ai.response.finish_reasons": ["stop", "stop"],
        },
        openai | streamed | {"gen_ai.response.finish_reasons": ["stop"]},
        anthropic,
        anthropic | streamed,
    ]
    for kind in (SERVER, CLIENT):
        calls = sorted(
            (span for span in spans if span.kind == kind), key=lambda one: one.start_time_unix_nano
        )
        described = [
            {name: value for name, value in span.attributes.items() if name.startswith("gen_ai.")}
            for span in calls
        ]
        for call in described:
            first = call.pop("gen_ai.response.time_to_first_chunk", None)
            streams = kind == CLIENT and call.get("gen_ai.request.stream", False)
            assert (first is not None) == streams
        assert described == expected
        assert [span.name for span in calls] == ["chat gpt-e2e"] * 2 + ["chat claude-e2e"] * 2
    for secret in ("planted", "nobody may see"):
        assert secret not in everything
