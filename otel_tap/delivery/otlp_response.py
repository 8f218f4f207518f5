"""What the body of a successful OTLP answer says.

Owns: partial success, the same for both protocols. Must not know: how the answer came.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_tap.delivery.outcome import Accepted, shown
from otel_tap.telemetry.chunk import Signal


def accepted(signal: Signal, body: bytes, headers: tuple[tuple[str, str], ...]) -> Accepted:
    """The outcome of an export that succeeded with this body.

    A body that is no OTLP changes nothing: some services answer a success with text or nothing.
    """
    if not body:
        return Accepted()
    try:
        if signal is Signal.TRACES:
            traces = ExportTraceServiceResponse.FromString(body).partial_success
            rejected, message = traces.rejected_spans, traces.error_message
        else:
            logs = ExportLogsServiceResponse.FromString(body).partial_success
            rejected, message = logs.rejected_log_records, logs.error_message
    except DecodeError:
        return Accepted()
    return Accepted(max(0, rejected), shown(message, headers))
