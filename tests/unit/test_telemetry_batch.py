"""Chunks: what is in them, when they go, and how large they may be."""

from dataclasses import replace

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_tap import __version__
from otel_tap.exchange import Role
from otel_tap.telemetry import Batcher, Chunk, Identities, RecordEncoder, Signal, TelemetrySettings
from tests.unit.test_telemetry_records import (
    MS,
    ORIGIN,
    PLAIN,
    WHOLE,
    all_records,
    at_server,
    exchange,
    read,
    records,
    request,
    response,
    sent_in_chunks,
)

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
OTHER = replace(ORIGIN, pid=101, service_name="other")
SETTLE_NS = 100 * MS


class Collecting:
    """A batcher and what it handed over."""

    def __init__(self, settings: TelemetrySettings | None = None, **bounds: int) -> None:
        self.chunks: list[Chunk] = []
        self.identities = Identities("boot")
        self.encoder = RecordEncoder(settings or TelemetrySettings(), self.identities, 0)
        self.batcher = Batcher(self.encoder, self.chunks.append, **bounds)

    def taken(self) -> list[tuple[Signal, int]]:
        """Signal and number of records of the chunks since the last call."""
        found = [(chunk.signal, len(all_records(chunk))) for chunk in self.chunks]
        assert [chunk.record_count for chunk in self.chunks] == [number for _, number in found]
        self.chunks.clear()
        return found


def numbered(count: int, size: int = 1) -> list:
    return [exchange(request(b"/%d/" % n + b"p" * size), response()) for n in range(count)]


def resources(message: ExportTraceServiceRequest | ExportLogsServiceRequest):
    if isinstance(message, ExportTraceServiceRequest):
        return message.resource_spans
    return message.resource_logs


def scopes(group):
    return group.scope_spans if hasattr(group, "scope_spans") else group.scope_logs


def items(scope):
    return scope.spans if hasattr(scope, "spans") else scope.log_records


def url_of(record):
    return read(record.attributes)["url.full"]


def test_a_chunk_is_a_whole_request_with_resource_scope_and_schema():
    chunks = sent_in_chunks([(WHOLE, ORIGIN)])
    assert [chunk.signal for chunk, _ in chunks] == [Signal.TRACES, Signal.LOGS]
    for (chunk, message), expected in zip(chunks, records(WHOLE), strict=True):
        assert chunk.record_count == 1
        (group,) = resources(message)
        assert group.schema_url == SCHEMA
        assert read(group.resource.attributes)["service.name"] == "unknown_service:curl"
        (scope,) = scopes(group)
        assert (scope.scope.name, scope.scope.version) == ("otel_tap", __version__)
        assert scope.schema_url == SCHEMA
        assert list(items(scope)) == [expected]


def test_records_are_grouped_by_process_and_keep_their_order():
    observed = list(zip(numbered(6), [ORIGIN, OTHER] * 3, strict=True))
    for chunk, message in sent_in_chunks(observed):
        assert chunk.record_count == 6
        groups = resources(message)
        assert [read(group.resource.attributes)["service.name"] for group in groups] == [
            "unknown_service:curl",
            "other",
        ]
        for first, group in enumerate(groups):
            (scope,) = scopes(group)
            assert [url_of(record) for record in items(scope)] == [
                f"http://example.com/{n}/p" for n in range(first, 6, 2)
            ]


def test_nothing_is_handed_over_when_there_is_nothing():
    assert sent_in_chunks([]) == []
    collecting = Collecting()
    collecting.batcher.tick(10**15)
    assert collecting.chunks == []


@pytest.mark.parametrize(("number", "limit"), [(10, 4), (8, 4), (3, 4), (5, 1)])
def test_a_full_chunk_goes_at_once(number, limit):
    collecting = Collecting(max_records=limit)
    for one in numbered(number):
        collecting.batcher.add(one, ORIGIN)
    assert collecting.taken() == [(Signal.TRACES, limit), (Signal.LOGS, limit)] * (number // limit)
    collecting.batcher.flush()
    rest = number % limit
    assert collecting.taken() == ([(Signal.TRACES, rest), (Signal.LOGS, rest)] if rest else [])


def test_chunks_stay_below_the_byte_limit_and_lose_nothing():
    observed = [(one, ORIGIN if n % 3 else OTHER) for n, one in enumerate(numbered(60, 200_000))]
    chunks = sent_in_chunks(observed)
    urls: dict[Signal, list[str]] = {Signal.TRACES: [], Signal.LOGS: []}
    for chunk, _ in chunks:
        assert len(chunk.payload) <= 3_500_000
        assert chunk.record_count == len(all_records(chunk))
        urls[chunk.signal] += map(url_of, all_records(chunk))
    assert len(chunks) > 6
    for found in urls.values():
        assert sorted(found) == sorted(
            f"http://example.com/{n}/" + "p" * 200_000 for n in range(60)
        )


def test_many_small_resources_stay_below_the_byte_limit():
    origins = [replace(ORIGIN, pid=n, service_name="s" * 3000) for n in range(2000)]
    one = exchange(request(b"/"), response())
    for chunk, _ in sent_in_chunks([(one, origin) for origin in origins]):
        assert len(chunk.payload) <= 3_500_000


def test_a_record_that_is_too_large_goes_alone():
    small, large = exchange(request(b"/")), exchange(request(b"/" + b"p" * 4_000_000))
    chunks = sent_in_chunks([(small, ORIGIN), (large, ORIGIN), (small, ORIGIN)])
    spans = [chunk for chunk, _ in chunks if chunk.signal is Signal.TRACES]
    assert [chunk.record_count for chunk in spans] == [1, 1, 1]
    assert [len(chunk.payload) > 4_000_000 for chunk in spans] == [False, True, False]


def test_records_wait_no_longer_than_the_delay():
    collecting = Collecting(delay_ns=50 * MS)
    collecting.batcher.add(WHOLE, ORIGIN)
    due = WHOLE.observed_ktime_ns + 50 * MS
    collecting.batcher.tick(due - 1)
    assert collecting.taken() == []
    later = replace(WHOLE, observed_ktime_ns=due - 1)
    collecting.batcher.add(later, ORIGIN)
    collecting.batcher.tick(due)
    assert collecting.taken() == [(Signal.TRACES, 2), (Signal.LOGS, 2)]
    collecting.batcher.tick(due + 1000 * MS)
    assert collecting.taken() == []
    collecting.batcher.add(replace(WHOLE, observed_ktime_ns=due + 1000 * MS), ORIGIN)
    collecting.batcher.tick(due + 1049 * MS)
    assert collecting.taken() == []
    collecting.batcher.tick(due + 1050 * MS)
    assert collecting.taken() == [(Signal.TRACES, 1), (Signal.LOGS, 1)]


@pytest.mark.parametrize("signal", [Signal.TRACES, Signal.LOGS])
def test_one_signal_alone(signal):
    settings = TelemetrySettings(traces=signal is Signal.TRACES, logs=signal is Signal.LOGS)
    collecting = Collecting(settings)
    collecting.batcher.add(WHOLE, ORIGIN)
    collecting.batcher.flush()
    assert collecting.taken() == [(signal, 1)]


def test_the_first_exchange_of_a_server_waits_for_the_end_of_its_client():
    here = at_server(WHOLE)
    collecting = Collecting(delay_ns=0)
    collecting.batcher.add(here, ORIGIN)
    due = here.observed_ktime_ns + SETTLE_NS
    collecting.batcher.tick(due - 1)
    assert collecting.chunks == []
    collecting.identities.client_ends.add(PLAIN.iss, PLAIN.irs)
    collecting.batcher.tick(due)
    (span,) = all_records(collecting.chunks[0])
    assert span.parent_span_id == records(WHOLE)[0].span_id


def test_a_server_whose_client_is_known_does_not_wait():
    collecting = Collecting(delay_ns=0)
    collecting.identities.client_ends.add(PLAIN.iss, PLAIN.irs)
    here = at_server(WHOLE)
    collecting.batcher.add(here, ORIGIN)
    collecting.batcher.tick(here.observed_ktime_ns)
    assert collecting.taken() == [(Signal.TRACES, 1), (Signal.LOGS, 1)]


def test_exchanges_beside_the_first_one_of_a_server_wait_with_it():
    collecting = Collecting(delay_ns=0)
    here = at_server(WHOLE)
    for _ in range(3):  # streams side by side
        collecting.batcher.add(here, ORIGIN)
    due = here.observed_ktime_ns + SETTLE_NS
    collecting.batcher.tick(due - 1)
    assert collecting.chunks == []
    collecting.identities.client_ends.add(PLAIN.iss, PLAIN.irs)
    collecting.batcher.tick(due)
    spans = all_records(collecting.chunks[0])
    assert [span.parent_span_id for span in spans] == [records(WHOLE)[0].span_id] * 3


def test_exchanges_of_a_server_do_not_wait_once_the_first_one_has():
    collecting = Collecting(delay_ns=0)
    here = at_server(WHOLE)
    collecting.batcher.add(here, ORIGIN)
    collecting.batcher.tick(here.observed_ktime_ns + SETTLE_NS)
    assert collecting.taken() == [(Signal.TRACES, 1), (Signal.LOGS, 1)]
    collecting.batcher.add(here, ORIGIN)
    collecting.batcher.tick(here.observed_ktime_ns + SETTLE_NS)
    assert collecting.taken() == [(Signal.TRACES, 1), (Signal.LOGS, 1)]


def test_a_client_does_not_wait():
    collecting = Collecting(delay_ns=0)
    assert WHOLE.role is Role.CLIENT
    collecting.batcher.add(WHOLE, ORIGIN)
    collecting.batcher.tick(WHOLE.observed_ktime_ns)
    assert collecting.taken() == [(Signal.TRACES, 1), (Signal.LOGS, 1)]


def test_flush_waits_for_nothing():
    collecting = Collecting()
    collecting.batcher.add(at_server(WHOLE), ORIGIN)
    collecting.batcher.flush()
    assert collecting.taken() == [(Signal.TRACES, 1), (Signal.LOGS, 1)]


def test_an_exchange_that_cannot_be_encoded_is_counted_and_the_rest_goes_on():
    collecting = Collecting()
    broken = replace(WHOLE, response=response(-2))
    for one in (WHOLE, broken, WHOLE):
        collecting.batcher.add(one, ORIGIN)
    collecting.batcher.flush()
    assert collecting.batcher.failures == 1
    assert collecting.taken() == [(Signal.TRACES, 2), (Signal.LOGS, 2)]
