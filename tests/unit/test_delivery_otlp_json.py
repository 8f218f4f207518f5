"""Chunks as lines of OTLP-JSON."""

import base64
import json
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_tap.delivery.otlp_json import json_line
from otel_tap.telemetry.chunk import Chunk, Signal
from tests.unit.otlp_requests import log_chunk, trace_chunk


def one_span() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(
        name="GET", trace_id=bytes(range(16)), span_id=bytes(range(8)), kind=3,
        parent_span_id=b"\xff" * 8, start_time_unix_nano=2**62,
    )  # fmt: skip
    span.links.add(trace_id=b"\xaa" * 16, span_id=b"\xbb" * 8)
    span.status.code = span.status.STATUS_CODE_ERROR
    span.attributes.add(key="traceId").value.bytes_value = b"\x00\xff"
    span.attributes.add(key="n").value.int_value = -5
    return request


def document(request: ExportTraceServiceRequest) -> dict[str, Any]:
    line = json_line(Chunk(Signal.TRACES, request.SerializeToString(), 1))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_ids_are_hexadecimal_enums_numbers_and_long_integers_strings() -> None:
    (span,) = document(one_span())["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span["traceId"] == "000102030405060708090a0b0c0d0e0f"
    assert span["spanId"] == "0001020304050607"
    assert span["parentSpanId"] == "ffffffffffffffff"
    assert span["links"] == [{"traceId": "aa" * 16, "spanId": "bb" * 8}]
    assert span["kind"] == 3
    assert span["status"] == {"code": 2}
    assert span["startTimeUnixNano"] == str(2**62)
    assert span["attributes"] == [
        {"key": "traceId", "value": {"bytesValue": "AP8="}},
        {"key": "n", "value": {"intValue": "-5"}},
    ]


def back_to_protobuf(text: bytes) -> str:
    """The line with protobuf's own form of ids, for its parser."""

    def restored(value: Any) -> Any:
        if isinstance(value, list):
            return [restored(item) for item in value]
        if isinstance(value, dict):
            return {
                key: base64.b64encode(bytes.fromhex(item)).decode()
                if key in ("traceId", "spanId", "parentSpanId")
                else restored(item)
                for key, item in value.items()
            }
        return value

    return json.dumps(restored(json.loads(text)))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_on_the_way_to_json(seed: int) -> None:
    traces, logs = trace_chunk(9, seed), log_chunk(9, seed)
    assert Parse(
        back_to_protobuf(json_line(traces)), ExportTraceServiceRequest()
    ) == ExportTraceServiceRequest.FromString(traces.payload)
    assert Parse(
        back_to_protobuf(json_line(logs)), ExportLogsServiceRequest()
    ) == ExportLogsServiceRequest.FromString(logs.payload)


def test_what_is_no_request_is_an_error() -> None:
    with pytest.raises(DecodeError):
        json_line(Chunk(Signal.TRACES, b"\xff\xff", 1))
