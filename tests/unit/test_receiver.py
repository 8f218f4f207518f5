"""The embedded collector, asked by grpcio and by OpenTelemetry's own exporter."""

import threading

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_tap.receiver import Delay, OtlpReceiver, PartialSuccess, ReceivedSpan, Refusal
from tests.unit.otlp_requests import log_chunk, trace_chunk

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def export(receiver: OtlpReceiver, method: str, payload: bytes, **arguments: object) -> bytes:
    arguments.setdefault("timeout", 20)
    with grpc.insecure_channel(receiver.endpoint.removeprefix("http://")) as channel:
        answer: bytes = channel.unary_unary(method)(payload, **arguments)
    return answer


def test_every_span_of_a_request_is_kept_in_order() -> None:
    chunk = trace_chunk(40)
    with OtlpReceiver() as receiver:
        export(receiver, TRACES, chunk.payload)
        spans = receiver.spans
    sent = [
        span
        for group in ExportTraceServiceRequest.FromString(chunk.payload).resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]
    assert [span.name for span in spans] == [str(number) for number in range(40)]
    assert [(span.trace_id, span.span_id, span.parent_span_id) for span in spans] == [
        (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) for span in sent
    ]
    assert [(span.start_time_unix_nano, span.flags, span.kind) for span in spans] == [
        (span.start_time_unix_nano, span.flags, span.kind) for span in sent
    ]
    assert [len(span.attributes) for span in spans] == [len(span.attributes) for span in sent]


def test_every_log_record_of_a_request_is_kept_in_order() -> None:
    chunk = log_chunk(40)
    with OtlpReceiver() as receiver:
        export(receiver, LOGS, chunk.payload)
        records = receiver.log_records
    sent = [
        record
        for group in ExportLogsServiceRequest.FromString(chunk.payload).resource_logs
        for scoped in group.scope_logs
        for record in scoped.log_records
    ]
    assert [record.event_name for record in records] == [str(number) for number in range(40)]
    assert [(record.body, record.severity_number, record.time_unix_nano) for record in records] == [
        (record.body.string_value, record.severity_number, record.time_unix_nano) for record in sent
    ]


def test_values_arrive_as_plain_python() -> None:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="process.pid").value.int_value = 7
    span = group.scope_spans.add().spans.add(name="x")
    span.attributes.add(key="text").value.string_value = "ü"
    span.attributes.add(key="flag").value.bool_value = True
    span.attributes.add(key="real").value.double_value = 0.5
    span.attributes.add(key="bytes").value.bytes_value = b"\xff\x00"
    items = span.attributes.add(key="list").value.array_value.values
    items.add(string_value="a")
    items.add(int_value=1)
    span.attributes.add(key="map").value.kvlist_value.values.add(key="k").value.int_value = 2
    span.attributes.add(key="nothing")
    with OtlpReceiver() as receiver:
        export(receiver, TRACES, request.SerializeToString())
        (received,) = receiver.spans
    assert received.resource == {"process.pid": 7}
    assert received.attributes == {
        "text": "ü", "flag": True, "real": 0.5, "bytes": b"\xff\x00", "list": ["a", 1],
        "map": {"k": 2}, "nothing": None,
    }  # fmt: skip


def test_the_exporter_of_opentelemetry_is_understood() -> None:
    with OtlpReceiver() as receiver:
        provider = TracerProvider(resource=Resource({"service.name": "shop"}))
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(receiver.endpoint)))
        tracer = provider.get_tracer("scope", "2")
        with (
            tracer.start_as_current_span("GET", kind=SpanKind.CLIENT),
            tracer.start_as_current_span("inner") as inner,
        ):
            inner.set_status(Status(StatusCode.ERROR, "why"))
        provider.shutdown()
        inner_span, outer_span = receiver.spans
    assert (outer_span.name, outer_span.kind, outer_span.resource["service.name"]) == (
        "GET", 3, "shop",
    )  # fmt: skip
    assert inner_span.parent_span_id == outer_span.span_id
    assert inner_span.trace_id == outer_span.trace_id
    assert (inner_span.status_code, inner_span.status_message) == (2, "why")
    assert (inner_span.scope_name, inner_span.scope_version) == ("scope", "2")


def test_drain_gives_each_span_once_and_in_the_thread_of_the_caller() -> None:
    taken: list[tuple[str, int]] = []

    def take(span: ReceivedSpan) -> None:
        taken.append((span.name, threading.get_ident()))

    with OtlpReceiver() as receiver:
        receiver.drain(take)
        export(receiver, TRACES, trace_chunk(2).payload)
        receiver.drain(take)
        export(receiver, TRACES, trace_chunk(3).payload)
        receiver.drain(take)
        receiver.drain(take)
    here = threading.get_ident()
    assert taken == [("0", here), ("1", here), ("0", here), ("1", here), ("2", here)]


def test_lists_handed_out_are_copies() -> None:
    with OtlpReceiver() as receiver:
        export(receiver, TRACES, trace_chunk(1).payload)
        receiver.spans.clear()
        assert len(receiver.spans) == 1


def test_a_refusal_keeps_nothing_and_is_followed_by_acceptance() -> None:
    with OtlpReceiver(answers=[Refusal("UNAVAILABLE", "gone", 0.25)]) as receiver:
        with pytest.raises(grpc.RpcError) as refused:
            export(receiver, TRACES, trace_chunk(2).payload)
        assert receiver.spans == []
        export(receiver, TRACES, trace_chunk(2).payload)
        assert len(receiver.spans) == 2
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refused.value.details() == "gone"
    assert "grpc-status-details-bin" in dict(refused.value.trailing_metadata())


def test_partial_success_keeps_the_others_and_says_how_many_not() -> None:
    with OtlpReceiver(answers=[PartialSuccess(2, "too old")]) as receiver:
        answer = export(receiver, TRACES, trace_chunk(5).payload)
        assert len(receiver.spans) == 3
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (partial.rejected_spans, partial.error_message) == (2, "too old")


def test_a_delay_lets_the_sender_wait_and_ends_with_the_receiver() -> None:
    with (
        OtlpReceiver(answers=[Delay(3600)]) as receiver,
        pytest.raises(grpc.RpcError) as refused,
    ):
        export(receiver, TRACES, trace_chunk(1).payload, timeout=0.2)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_headers_of_exports_can_be_read() -> None:
    with OtlpReceiver() as receiver:
        export(receiver, TRACES, b"", metadata=(("x-key", "v"),))
        assert receiver.metadata[0]["x-key"] == "v"


def test_a_larger_message_than_allowed_is_refused_by_grpc_itself() -> None:
    with OtlpReceiver(max_message_bytes=100) as receiver:
        with pytest.raises(grpc.RpcError) as refused:
            export(receiver, TRACES, trace_chunk(20).payload)
        assert receiver.spans == []
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_method_is_unimplemented() -> None:
    with OtlpReceiver() as receiver, pytest.raises(grpc.RpcError) as refused:
        export(receiver, "/opentelemetry.proto.collector.trace.v1.TraceService/Import", b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_two_receivers_cannot_share_a_port() -> None:
    with OtlpReceiver() as receiver:
        port = int(receiver.endpoint.rpartition(":")[2])
        with pytest.raises(RuntimeError), OtlpReceiver(port=port):
            pass
