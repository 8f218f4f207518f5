"""Delivery as the agent uses it: environment variables in, real collectors out."""

import socket
from collections import Counter

import pytest

from otel_tap.delivery import Delivery, OtlpSettings
from otel_tap.receiver import Delay, OtlpReceiver, PartialSuccess, Refusal
from otel_tap.telemetry.chunk import Signal
from tests.unit.otlp_requests import (
    HttpCollector,
    Reply,
    http_collector,
    log_chunk,
    trace_chunk,
    wait_until,
)

TRACES, LOGS = Signal.TRACES, Signal.LOGS


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def delivery(endpoint: str, lines: list[str], **short: str) -> Delivery:
    environ = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in short.items()}
    environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    return Delivery(OtlpSettings.from_environment(environ), report=lines.append)


def over_http(collector: HttpCollector, lines: list[str], **short: str) -> Delivery:
    return delivery(collector.endpoint, lines, PROTOCOL="http/protobuf", **short)


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_both_signals_arrive_over_grpc() -> None:
    lines: list[str] = []
    with OtlpReceiver() as receiver:
        to = delivery(receiver.endpoint, lines)
        for seed in range(10):
            to.offer(trace_chunk(7, seed))
            to.offer(log_chunk(5, seed))
        to.close(30)
        assert (len(receiver.spans), len(receiver.log_records)) == (70, 50)
        assert Counter(span.name for span in receiver.spans)["6"] == 10
    assert (to.counters[TRACES].sent, to.counters[LOGS].sent) == (70, 50)
    assert lines == []


def test_a_collector_that_asks_for_patience_over_http_gets_it_and_then_everything() -> None:
    lines: list[str] = []
    with http_collector(Reply(503, retry_after="1")) as collector:
        to = over_http(collector, lines)
        to.offer(trace_chunk(3))
        wait_until(lambda: to.sent_spans == 3)
        to.close(30)
        assert [body for _, _, body in collector.requests] == [trace_chunk(3).payload] * 2
    assert to.counters[TRACES].retries == 1
    assert lines == []  # mended by the first retry


def test_a_collector_that_asks_for_patience_over_grpc_gets_it_and_then_everything() -> None:
    answers = [Refusal("RESOURCE_EXHAUSTED", "busy", 0.05)] * 2
    with OtlpReceiver(answers=answers) as receiver:
        to = delivery(receiver.endpoint, [])
        to.offer(trace_chunk(3))
        wait_until(lambda: to.sent_spans == 3)
        to.close(30)
        assert len(receiver.spans) == 3
    assert to.counters[TRACES].retries == 2


def test_too_large_for_http_arrives_in_parts() -> None:
    lines: list[str] = []
    with http_collector() as collector:
        collector.max_body = 4000
        to = over_http(collector, lines)
        to.offer(trace_chunk(60))
        to.close(30)
        accepted = [body for _, _, body in collector.requests if len(body) <= 4000]
        assert len(accepted) > 1
    counters = to.counters[TRACES]
    assert (counters.sent, counters.dropped, counters.queued_bytes) == (60, 0, 0)
    assert lines == []


def test_too_large_for_grpc_arrives_in_parts() -> None:
    with OtlpReceiver(max_message_bytes=4000) as receiver:
        to = delivery(receiver.endpoint, [])
        to.offer(trace_chunk(60))
        to.offer(log_chunk(60))
        to.close(30)
        assert [span.name for span in receiver.spans] == [str(number) for number in range(60)]
        assert len(receiver.log_records) == 60
    assert to.dropped_records == 0


def test_a_redirect_is_refused_and_said() -> None:
    lines: list[str] = []
    with http_collector(Reply(307, location="/elsewhere")) as collector:
        to = over_http(collector, lines)
        to.offer(trace_chunk(3))
        to.close(30)
        assert len(collector.requests) == 1
    assert to.counters[TRACES].rejected == 3
    assert len(lines) == 1
    assert "307" in lines[0]


def test_partial_success_is_counted_and_said() -> None:
    lines: list[str] = []
    with OtlpReceiver(answers=[PartialSuccess(2, "too old")]) as receiver:
        to = delivery(receiver.endpoint, lines)
        to.offer(trace_chunk(5))
        to.close(30)
        assert len(receiver.spans) == 3
    assert (to.counters[TRACES].sent, to.counters[TRACES].rejected) == (3, 2)
    assert len(lines) == 1


def test_a_dead_collector_is_one_line_and_its_return_another_and_nothing_is_lost() -> None:
    lines: list[str] = []
    port = dead_port()
    to = delivery(f"http://127.0.0.1:{port}", lines)
    for seed in range(5):
        to.offer(trace_chunk(2, seed))
        to.offer(log_chunk(3, seed))
    wait_until(lambda: min(each.retries for each in to.counters.values()) >= 2)
    with OtlpReceiver(port=port) as receiver:
        wait_until(lambda: sum(each.sent for each in to.counters.values()) == 25)
        assert (len(receiver.spans), len(receiver.log_records)) == (10, 15)
    to.close(30)
    assert len(lines) == 2
    assert f"127.0.0.1:{port}" in lines[0]
    assert "refused" in lines[0]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in lines[0]
    assert "answers again" in lines[1]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_dead_endpoint_of_traces_does_not_hold_up_logs(protocol: str) -> None:
    with OtlpReceiver() as receiver:
        to = delivery(
            f"http://127.0.0.1:{dead_port()}", [], PROTOCOL=protocol,
            LOGS_ENDPOINT=receiver.endpoint, LOGS_PROTOCOL="grpc",
        )  # fmt: skip
        for seed in range(30):
            to.offer(trace_chunk(1, seed))
            to.offer(log_chunk(1, seed))
        wait_until(lambda: len(receiver.log_records) == 30)
        to.close(0.5)
    assert to.counters[LOGS].sent == 30
    assert to.counters[TRACES].dropped == 30


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_close_ends_in_time_though_the_collector_is_dead(protocol: str) -> None:
    lines: list[str] = []
    to = delivery(f"http://127.0.0.1:{dead_port()}", lines, PROTOCOL=protocol)
    to.offer(trace_chunk(4))
    to.close(0.3)  # returns at all: that is the test
    assert to.counters[TRACES].dropped == 4
    assert to.counters[TRACES].queued_bytes == 0
    assert any("4 spans could not be delivered" in line for line in lines)


def test_close_ends_in_time_though_a_grpc_collector_hangs() -> None:
    with OtlpReceiver(answers=[Delay(3600)]) as receiver:
        to = delivery(receiver.endpoint, [], TIMEOUT="3600000")
        to.offer(trace_chunk(4))
        wait_until(lambda: len(receiver.metadata) == 1)
        to.close(0.3)
        wait_until(lambda: not to._thread.is_alive())
    assert to.counters[TRACES].dropped == 4


def test_close_ends_in_time_though_an_http_server_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        to = delivery(endpoint, [], PROTOCOL="http/protobuf", TIMEOUT="3600000")
        to.offer(trace_chunk(4))
        connection, _ = listener.accept()
        to.close(0.3)
        connection.close()
    assert to.counters[TRACES].dropped == 4


def test_a_full_queue_drops_the_oldest_and_the_rest_arrives() -> None:
    port = dead_port()
    size = len(trace_chunk(1, 3).payload)
    settings = OtlpSettings.from_environment(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_LOGS_EXPORTER": "none",
        }
    )
    lines: list[str] = []
    to = Delivery(settings, report=lines.append, max_queued_bytes=10 * size)
    for _ in range(100):
        to.offer(trace_chunk(1, 3))
    assert to.counters[TRACES].queued_bytes <= 10 * size
    assert to.counters[TRACES].dropped >= 89
    with OtlpReceiver(port=port) as receiver:
        wait_until(lambda: to.counters[TRACES].queued_bytes == 0)
        assert len(receiver.spans) == to.sent_spans
    to.close(30)
    assert to.sent_spans + to.counters[TRACES].dropped == 100
