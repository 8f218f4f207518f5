"""One attempt over HTTP, against a real server on this host."""

import gzip
import socket
import time
from email.utils import formatdate

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_tap.delivery.otlp_http import OtlpHttpSender
from otel_tap.delivery.otlp_settings import OtlpSettings
from otel_tap.delivery.outcome import Accepted, Outcome, Refused, RetryLater, TooLarge
from otel_tap.telemetry.chunk import Chunk, Signal
from tests.unit.otlp_requests import Reply, http_collector, log_chunk, trace_chunk

PROTOBUF = "application/x-protobuf"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def sender(endpoint: str, signal: Signal = Signal.TRACES, **short: str) -> OtlpHttpSender:
    environ = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in short.items()}
    environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    settings = OtlpSettings.from_environment(environ)
    exporter = settings.traces if signal is Signal.TRACES else settings.logs
    assert exporter is not None
    return OtlpHttpSender(exporter)


def send(endpoint: str, chunk: Chunk, at_most_s: float = 30, /, **short: str) -> Outcome:
    return sender(endpoint, chunk.signal, **short).send(chunk, at_most_s)


def outcome_of(reply: Reply, **short: str) -> Outcome:
    with http_collector(reply) as collector:
        outcome = send(collector.endpoint, trace_chunk(3), **short)
        assert len(collector.requests) == 1
    return outcome


def test_payloads_go_out_as_they_are_to_the_path_of_their_signal() -> None:
    traces, logs = trace_chunk(7), log_chunk(5)
    with http_collector() as collector:
        assert send(collector.endpoint, traces, HEADERS="X-Key=a%20b") == Accepted()
        assert send(collector.endpoint, logs) == Accepted()
        first, second = collector.requests
    assert (first[0], first[2]) == ("/v1/traces", traces.payload)
    assert (second[0], second[2]) == ("/v1/logs", logs.payload)
    assert first[1]["content-type"] == PROTOBUF
    assert first[1]["x-key"] == "a b"
    assert first[1]["user-agent"].startswith("otel-tap/")
    assert "content-encoding" not in first[1]


def test_gzip_is_sent_and_said() -> None:
    chunk = trace_chunk(100)
    with http_collector() as collector:
        send(collector.endpoint, chunk, COMPRESSION="gzip")
        ((_, headers, body),) = collector.requests
    assert headers["content-encoding"] == "gzip"
    assert len(body) < len(chunk.payload)
    assert gzip.decompress(body) == chunk.payload


def test_configured_headers_cannot_change_what_the_body_is() -> None:
    with http_collector() as collector:
        send(collector.endpoint, trace_chunk(1), HEADERS="content-type=text/plain,user-agent=me")
        ((_, headers, _body),) = collector.requests
    assert headers["content-type"] == PROTOBUF
    assert headers["user-agent"] == "me"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_statuses_that_the_specification_calls_retryable_are_retried(status: int) -> None:
    outcome = outcome_of(Reply(status))
    assert isinstance(outcome, RetryLater)
    assert outcome.after_s is None
    assert str(status) in outcome.reason


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 415, 418, 500, 501, 505, 599])
def test_every_other_error_is_final(status: int) -> None:
    outcome = outcome_of(Reply(status))
    assert isinstance(outcome, Refused)
    assert str(status) in outcome.reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_neither_followed_nor_a_success(status: int) -> None:
    with http_collector() as other:
        outcome = outcome_of(Reply(status, location=f"{other.endpoint}/v1/traces"))
        assert other.requests == []
    assert isinstance(outcome, Refused)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in outcome.remedy


def test_content_too_large_is_too_large() -> None:
    assert isinstance(outcome_of(Reply(413)), TooLarge)


def test_retry_after_in_seconds_is_taken() -> None:
    outcome = outcome_of(Reply(503, retry_after="17"))
    assert isinstance(outcome, RetryLater)
    assert outcome.after_s == 17


def test_retry_after_as_a_date_is_taken() -> None:
    date = formatdate(time.time() + 1000, usegmt=True)
    outcome = outcome_of(Reply(429, retry_after=date))
    assert isinstance(outcome, RetryLater)
    assert outcome.after_s is not None
    assert 0 < outcome.after_s <= 1000
    past = outcome_of(Reply(429, retry_after=formatdate(0, usegmt=True)))
    assert isinstance(past, RetryLater)
    assert past.after_s == 0


@pytest.mark.parametrize("value", ["soon", "-3", "1.5", "Wed, 99 Foo 2026", "", "٣"])
def test_a_retry_after_that_says_nothing_is_ignored(value: str) -> None:
    reply = Reply(503)
    if value.isascii():
        reply.headers["retry-after"] = value
    outcome = outcome_of(reply)
    assert isinstance(outcome, RetryLater)
    assert outcome.after_s is None


def test_partial_success_is_accepted_and_says_what_was_rejected() -> None:
    traces = ExportTraceServiceResponse()
    traces.partial_success.rejected_spans = 2
    traces.partial_success.error_message = "old"
    logs = ExportLogsServiceResponse()
    logs.partial_success.rejected_log_records = 3
    replies = [Reply(200, each.SerializeToString(), PROTOBUF) for each in (traces, logs)]
    with http_collector(*replies) as collector:
        assert send(collector.endpoint, trace_chunk(5)) == Accepted(2, "old")
        assert send(collector.endpoint, log_chunk(5)) == Accepted(3, "")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b'{"partialSuccess":{}}', "application/json"),
        Reply(202, b"ok", "text/plain"),
        Reply(200, b"\xff\xff\xff", PROTOBUF),
        Reply(200, b"\x00" * 300_000, PROTOBUF),
    ],
)
def test_a_success_with_another_body_is_a_success(reply: Reply) -> None:
    assert outcome_of(reply) == Accepted()


def test_a_web_page_is_no_success() -> None:
    outcome = outcome_of(Reply(200, b"<html>welcome", "text/html; charset=utf-8"))
    assert isinstance(outcome, Refused)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in outcome.remedy


def test_what_the_collector_says_about_an_error_is_told_without_credentials() -> None:
    status = Status(code=3, message="bad \x1b token hunter2").SerializeToString()
    for reply in (Reply(400, status, PROTOBUF), Reply(400, b"bad token hunter2", "text/plain")):
        outcome = outcome_of(reply, HEADERS="x-key=hunter2")
        assert isinstance(outcome, Refused)
        assert outcome.reason == "HTTP 400 Bad Request: bad token REDACTED"


def test_one_connection_is_kept_for_all_requests() -> None:
    with http_collector(Reply(200), Reply(503), Reply(400, b"x" * 99)) as collector:
        to = sender(collector.endpoint)
        for _ in range(5):
            to.send(trace_chunk(1), 30)
        to.close()
        assert len(collector.requests) == 5
        assert len(collector.connections) == 1


def test_a_connection_that_the_server_ended_is_replaced() -> None:
    with http_collector(Reply(200, connection="close")) as collector:
        to = sender(collector.endpoint)
        assert [to.send(trace_chunk(1), 30) for _ in range(2)] == [Accepted(), Accepted()]
        to.close()
        assert len(collector.connections) == 2


def test_a_dead_port_is_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = send(f"http://127.0.0.1:{port}", trace_chunk(1))
    assert outcome == RetryLater("Connection refused")


def test_a_server_that_hangs_ends_the_attempt_at_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        expected = RetryLater("no answer within the time limit")
        assert send(endpoint, trace_chunk(1), TIMEOUT="200") == expected
        assert send(endpoint, trace_chunk(1), 0.2) == expected


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_collector() as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        monkeypatch.setenv("no_proxy", "direct.invalid")
        assert send("http://collector.invalid:4318", trace_chunk(1)) == Accepted()
        assert proxy.requests[0][0] == "http://collector.invalid:4318/v1/traces"
        assert isinstance(send("http://direct.invalid:4318", trace_chunk(1)), RetryLater)
