"""Requests in two halves."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_tap.delivery.parts import halves
from otel_tap.telemetry.chunk import Chunk, Signal
from tests.unit.otlp_requests import log_chunk, trace_chunk


def records(chunk: Chunk) -> list[tuple[bytes, ...]]:
    """Every record with its surroundings, as bytes."""
    found: list[tuple[bytes, ...]] = []
    if chunk.signal is Signal.TRACES:
        for group in ExportTraceServiceRequest.FromString(chunk.payload).resource_spans:
            for scoped in group.scope_spans:
                around = (
                    group.resource.SerializeToString(), group.schema_url.encode(),
                    scoped.scope.SerializeToString(), scoped.schema_url.encode(),
                )  # fmt: skip
                found += [(span.SerializeToString(), *around) for span in scoped.spans]
        return found
    for logs in ExportLogsServiceRequest.FromString(chunk.payload).resource_logs:
        for in_scope in logs.scope_logs:
            around = (
                logs.resource.SerializeToString(), logs.schema_url.encode(),
                in_scope.scope.SerializeToString(), in_scope.schema_url.encode(),
            )  # fmt: skip
            found += [(record.SerializeToString(), *around) for record in in_scope.log_records]
    return found


@given(st.sampled_from([trace_chunk, log_chunk]), st.integers(2, 40), st.integers())
def test_the_halves_hold_every_record_once_in_order_with_its_surroundings(
    make: object, count: int, seed: int
) -> None:
    chunk = trace_chunk(count, seed) if make is trace_chunk else log_chunk(count, seed)
    parts = halves(chunk)
    assert parts is not None
    first, second = parts
    assert records(first) + records(second) == records(chunk)
    assert len(records(first)) == first.record_count == count // 2
    assert len(records(second)) == second.record_count == count - count // 2
    assert first.signal is second.signal is chunk.signal


@given(st.integers())
def test_one_record_cannot_be_divided(seed: int) -> None:
    assert halves(trace_chunk(1, seed)) is None
    assert halves(log_chunk(1, seed)) is None
    assert halves(trace_chunk(0, seed)) is None


def test_what_is_no_request_cannot_be_divided() -> None:
    assert halves(Chunk(Signal.TRACES, b"\xff\xff", 5)) is None
    assert halves(Chunk(Signal.LOGS, b"\xff\xff", 5)) is None


def test_a_wrong_count_stays_the_same_in_sum() -> None:
    for stated in (0, 1, 3, 99):
        parts = halves(Chunk(Signal.TRACES, trace_chunk(4).payload, stated))
        assert parts is not None
        assert sum(part.record_count for part in parts) == stated
