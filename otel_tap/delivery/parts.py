"""A chunk in two halves, for receivers that find it too large.

Owns: where an OTLP request can be cut. Promises: together the halves hold every record of the
chunk once, in order, each with its Resource and scope. Must not know: why it is cut.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_tap.telemetry.chunk import Chunk, Signal


def halves(chunk: Chunk) -> tuple[Chunk, Chunk] | None:
    """Two chunks of fewer records each; None for a chunk that cannot be divided.

    The records are counted anew, so that dividing ends even if `record_count` should be wrong.
    """
    cut = _cut_traces if chunk.signal is Signal.TRACES else _cut_logs
    try:
        _, count = cut(chunk.payload, 0, -1)
        if count < 2:
            return None
        middle = count // 2
        first, _ = cut(chunk.payload, 0, middle)
        second, _ = cut(chunk.payload, middle, count)
    except DecodeError:
        return None
    # Should the stated count differ, the sum of the parts still is what was stated.
    stated = min(middle, chunk.record_count)
    return (
        Chunk(chunk.signal, first, stated),
        Chunk(chunk.signal, second, chunk.record_count - stated),
    )


def _cut_traces(payload: bytes, start: int, stop: int) -> tuple[bytes, int]:
    """A request with the records [start, stop) only, and how many there are in all."""
    request = ExportTraceServiceRequest.FromString(payload)
    kept = ExportTraceServiceRequest()
    position = 0
    for group in request.resource_spans:
        kept_group = kept.resource_spans.add(schema_url=group.schema_url)
        if group.HasField("resource"):
            kept_group.resource.CopyFrom(group.resource)
        for scoped in group.scope_spans:
            records = scoped.spans[max(0, start - position) : max(0, stop - position)]
            position += len(scoped.spans)
            if records:
                kept_scope = kept_group.scope_spans.add(schema_url=scoped.schema_url, spans=records)
                if scoped.HasField("scope"):
                    kept_scope.scope.CopyFrom(scoped.scope)
        if not kept_group.scope_spans:
            del kept.resource_spans[-1]
    return kept.SerializeToString(), position


def _cut_logs(payload: bytes, start: int, stop: int) -> tuple[bytes, int]:
    """The same for log records; the two requests share no type to write it once for."""
    request = ExportLogsServiceRequest.FromString(payload)
    kept = ExportLogsServiceRequest()
    position = 0
    for group in request.resource_logs:
        kept_group = kept.resource_logs.add(schema_url=group.schema_url)
        if group.HasField("resource"):
            kept_group.resource.CopyFrom(group.resource)
        for scoped in group.scope_logs:
            records = scoped.log_records[max(0, start - position) : max(0, stop - position)]
            position += len(scoped.log_records)
            if records:
                kept_scope = kept_group.scope_logs.add(
                    schema_url=scoped.schema_url, log_records=records
                )
                if scoped.HasField("scope"):
                    kept_scope.scope.CopyFrom(scoped.scope)
        if not kept_group.scope_logs:
            del kept.resource_logs[-1]
    return kept.SerializeToString(), position
