"""Spans and log records, read back with opentelemetry-proto and compared with what is due."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from otel_tap.events import Address, PeerEvidence, TlsLibrary
from otel_tap.exchange import Connection, Exchange, ExchangeError, Position, Role
from otel_tap.messages import EMPTY_BODY, Body, Field, Request, Response
from otel_tap.origin import Host, Origin
from otel_tap.telemetry import Batcher, Chunk, Identities, RecordEncoder, Signal, TelemetrySettings

MS = 1_000_000
UNIX_OFFSET_NS = 1_700_000_000_000_000_000

CLIENT_SIDE = Address("192.0.2.1", 50000)
SERVER_SIDE = Address("198.51.100.7", 8443)
PLAIN = Connection(
    1, 100, TlsLibrary.NONE, PeerEvidence.SOCKET, CLIENT_SIDE, SERVER_SIDE, 999, 5000, True
)
HOST = Host("web-1", "0123456789abcdef", "boot-id", "amd64", "linux", "6.12.0")
ORIGIN = Origin(
    pid=100,
    start_boottime_ns=77,
    start_unix_ns=1_700_000_000_123_999_999,
    parent_pid=1,
    executable_name="curl",
    executable_path="/usr/bin/curl",
    command="curl",
    command_line=None,
    user="alice",
    container=None,
    service_name="unknown_service:curl",
    service_attributes=(),
    host=HOST,
)


def request(
    target: bytes = b"/a",
    *fields: Field,
    method: bytes = b"GET",
    host: bytes | None = b"example.com",
    body: Body = EMPTY_BODY,
    lost_bytes: int = 0,
) -> Request:
    sent = ((b"host", host), *fields) if host is not None else fields
    return Request(method, target, "1.1", sent, (), body, 300, lost_bytes, complete=True)


def response(
    status: int = 200, *fields: Field, body: Body = EMPTY_BODY, lost_bytes: int = 0
) -> Response:
    return Response(status, b"", "1.1", fields, (), body, 1000, lost_bytes, complete=True)


def exchange(
    sent: Request | None = None,
    answer: Response | None = None,
    *,
    role: Role = Role.CLIENT,
    connection: Connection = PLAIN,
    error: ExchangeError | None = None,
    offset: int | None = 0,
) -> Exchange:
    """What one end saw, without an answer only where `answer` is not given."""
    position = Position("tcp", offset)
    return Exchange(
        role, connection, 7, sent, answer, 1000 * MS, 1001 * MS, 1010 * MS, 1012 * MS + 999_999,
        1013 * MS, False, position, error,
    )  # fmt: skip


def at_server(observed: Exchange) -> Exchange:
    """The same exchange as the other end of the connection saw it."""
    there = observed.connection
    here = replace(
        there, connection_id=there.connection_id + 1, tgid=200, local=there.peer, peer=there.local,
        iss=there.irs, irs=(there.iss + 1) & 0xFFFFFFFF,
    )  # fmt: skip
    return replace(observed, role=Role.SERVER, connection=here)


def value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    return getattr(value, str(kind))


def read(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """As a dictionary; every key may stand once."""
    found: dict[str, Any] = {}
    for attribute in attributes:
        assert attribute.key not in found
        found[attribute.key] = value_of(attribute.value)
    return found


def records(
    observed: Exchange,
    settings: TelemetrySettings | None = None,
    identities: Identities | None = None,
) -> tuple[Span, LogRecord]:
    """Both records of one exchange, decoded."""
    encoder = RecordEncoder(
        settings or TelemetrySettings(), identities or Identities("boot"), UNIX_OFFSET_NS
    )
    encoded_span, encoded_log = encoder.encode(observed)
    (span,) = ScopeSpans.FromString(encoded_span).spans
    (log,) = ScopeLogs.FromString(encoded_log).log_records
    return span, log


def attributes_of(observed: Exchange, **choices: Any) -> dict[str, Any]:
    """The attributes that span and log record share."""
    span, log = records(observed, TelemetrySettings(**choices))
    found = read(span.attributes)
    assert read(log.attributes) == found
    return found


def sent_in_chunks(
    observed: Sequence[tuple[Exchange, Origin]], **bounds: int
) -> list[tuple[Chunk, ExportTraceServiceRequest | ExportLogsServiceRequest]]:
    """All chunks that a batcher hands over, with their decoded requests."""
    chunks: list[Chunk] = []
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), UNIX_OFFSET_NS)
    batcher = Batcher(encoder, chunks.append, **bounds)
    for one, origin in observed:
        batcher.add(one, origin)
    batcher.flush()
    return [(chunk, decoded(chunk)) for chunk in chunks]


def decoded(chunk: Chunk) -> ExportTraceServiceRequest | ExportLogsServiceRequest:
    if chunk.signal is Signal.TRACES:
        return ExportTraceServiceRequest.FromString(chunk.payload)
    return ExportLogsServiceRequest.FromString(chunk.payload)


def all_records(chunk: Chunk) -> list[Any]:
    """The spans or log records of a chunk, of all resources."""
    message = decoded(chunk)
    if isinstance(message, ExportTraceServiceRequest):
        scoped = [scope for group in message.resource_spans for scope in group.scope_spans]
        return [span for scope in scoped for span in scope.spans]
    return [
        log
        for group in message.resource_logs
        for scope in group.scope_logs
        for log in scope.log_records
    ]


WHOLE = exchange(
    request(b"/items/1?b=2", (b"user-agent", b"curl/8"), (b"x-tag", b"one"), (b"x-tag", b"two")),
    response(200, (b"server", b"nginx")),
)


def test_a_whole_exchange_at_its_client():
    span, log = records(WHOLE)
    expected = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.full": "http://example.com/items/1?b=2",
        "server.address": "example.com",
        "server.port": 80,
        "network.peer.address": "198.51.100.7",
        "network.peer.port": 8443,
        "network.protocol.version": "1.1",
        "otel_tap.connection.reused": False,
        "otel_tap.peer.evidence": "socket",
    }
    assert read(span.attributes) == expected
    assert read(log.attributes) == expected
    assert (span.name, span.kind) == ("GET", Span.SPAN_KIND_CLIENT)
    assert span.start_time_unix_nano == UNIX_OFFSET_NS + 1000 * MS
    assert span.end_time_unix_nano == UNIX_OFFSET_NS + 1012 * MS + 999_999
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_UNSET, "")
    assert (span.parent_span_id, span.trace_state, span.flags) == (b"", "", 1)
    assert log.time_unix_nano == UNIX_OFFSET_NS + 1012 * MS + 999_999
    assert log.observed_time_unix_nano == UNIX_OFFSET_NS + 1013 * MS
    assert log.event_name == "otel_tap.http.exchange"
    assert (log.severity_number, log.severity_text) == (9, "INFO")
    assert log.body.string_value == "GET http://example.com/items/1?b=2 200 12 ms"
    assert (log.trace_id, log.span_id, log.flags) == (span.trace_id, span.span_id, 1)


def test_a_whole_exchange_at_its_server():
    span, log = records(at_server(WHOLE))
    expected = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/items/1",
        "url.query": "b=2",
        "server.address": "example.com",
        "server.port": 80,
        "client.address": "192.0.2.1",
        "network.peer.address": "192.0.2.1",
        "network.peer.port": 50000,
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "otel_tap.connection.reused": False,
        "otel_tap.peer.evidence": "socket",
    }
    assert read(span.attributes) == expected
    assert read(log.attributes) == expected
    assert (span.name, span.kind) == ("GET", Span.SPAN_KIND_SERVER)
    assert log.body.string_value == "GET /items/1?b=2 200 12 ms"


def test_unknown_fields_of_a_message_are_no_fields_of_otlp():
    encoder = RecordEncoder(TelemetrySettings(bodies=True), Identities("boot"), UNIX_OFFSET_NS)
    span, log = encoder.encode(WHOLE)
    for scoped, piece in ((ScopeSpans(), span), (ScopeLogs(), log)):
        scoped.MergeFromString(piece)
        whole = scoped.SerializeToString()
        scoped.DiscardUnknownFields()
        assert scoped.SerializeToString() == whole


def test_an_end_before_the_start_is_the_start():
    span, log = records(replace(WHOLE, end_ktime_ns=WHOLE.start_ktime_ns - 5))
    assert span.end_time_unix_nano == span.start_time_unix_nano == log.time_unix_nano
    assert log.body.string_value.endswith(" 0 ms")


def test_the_unix_offset_can_change_between_exchanges():
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
    encoder.set_clock(5)
    (span,) = ScopeSpans.FromString(encoder.encode(WHOLE)[0]).spans
    assert span.start_time_unix_nano == 1000 * MS + 5


CLIENT, SERVER = Role.CLIENT, Role.SERVER
INFO, WARN, ERROR = (9, "INFO"), (13, "WARN"), (17, "ERROR")


@pytest.mark.parametrize(
    ("status", "role", "error_type", "severity"),
    [
        (101, CLIENT, None, INFO),
        (204, SERVER, None, INFO),
        (304, CLIENT, None, INFO),
        (399, CLIENT, None, INFO),
        (400, CLIENT, "400", WARN),
        (404, CLIENT, "404", WARN),
        (499, CLIENT, "499", WARN),
        (400, SERVER, None, INFO),
        (499, SERVER, None, INFO),
        (500, CLIENT, "500", ERROR),
        (500, SERVER, "500", ERROR),
        (599, SERVER, "599", ERROR),
        (999, CLIENT, "999", ERROR),
    ],
)
def test_a_status_decides_error_type_span_status_and_severity(status, role, error_type, severity):
    span, log = records(exchange(request(), response(status), role=role))
    found = read(span.attributes)
    assert found.get("error.type") == error_type
    assert found["http.response.status_code"] == status
    expected = Status.STATUS_CODE_UNSET if error_type is None else Status.STATUS_CODE_ERROR
    assert (span.status.code, span.status.message) == (expected, "")
    assert (log.severity_number, log.severity_text) == severity


@pytest.mark.parametrize("role", [CLIENT, SERVER])
@pytest.mark.parametrize(
    "word",
    ["connection_reset", "connection_closed", "timeout", "process_exited", "malformed"],
)
def test_a_broken_exchange_is_an_error_at_both_ends(word, role):
    span, log = records(exchange(request(), error=ExchangeError(word), role=role))
    assert read(span.attributes)["error.type"] == word
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert log.severity_text == "ERROR"
    assert log.body.string_value.endswith(f" - 12 ms {word}")
    assert "http.response.status_code" not in read(log.attributes)


def test_how_an_exchange_broke_says_more_than_its_status():
    observed = exchange(request(), response(404), error=ExchangeError.CONNECTION_RESET)
    span, log = records(observed)
    assert read(span.attributes)["error.type"] == "connection_reset"
    assert read(span.attributes)["http.response.status_code"] == 404
    assert log.severity_text == "ERROR"


@pytest.mark.parametrize("error", [ExchangeError.TRUNCATED, ExchangeError.AGENT_STOPPED])
def test_what_the_capture_lacks_is_no_error_of_the_exchange(error):
    span, log = records(exchange(request(), response(200), error=error))
    found = read(span.attributes)
    assert "error.type" not in found
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert log.severity_text == "INFO"
    assert found.get("otel_tap.capture.truncated", False) is (error is ExchangeError.TRUNCATED)


@pytest.mark.parametrize("error", [ExchangeError.TRUNCATED, ExchangeError.AGENT_STOPPED])
def test_a_status_is_an_error_whatever_the_capture_lacks(error):
    span, log = records(exchange(request(), response(503), error=error))
    assert read(span.attributes)["error.type"] == "503"
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert log.severity_text == "ERROR"


def test_every_error_is_either_of_the_exchange_or_of_the_capture():
    of_the_capture = {"truncated", "agent_stopped"}
    for error in ExchangeError:
        found = attributes_of(exchange(request(), error=error))
        assert ("error.type" in found) is (error.value not in of_the_capture)


@pytest.mark.parametrize(
    "method",
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"],
)
def test_a_known_method_names_the_span(method):
    span, _ = records(exchange(request(method=method.encode()), response()))
    found = read(span.attributes)
    assert (span.name, found["http.request.method"]) == (method, method)
    assert "http.request.method_original" not in found


@pytest.mark.parametrize("method", [b"get", b"PROPFIND", b"_OTHER", b"G\xffT", b""])
def test_a_method_that_is_not_known_is_other_and_named_http(method):
    span, log = records(exchange(request(method=method), response()))
    found = read(span.attributes)
    assert (span.name, found["http.request.method"]) == ("HTTP", "_OTHER")
    assert found["http.request.method_original"] == method.decode("utf-8", "replace")
    assert log.body.string_value.startswith(method.decode("utf-8", "replace") + " ")


def test_known_methods_can_be_chosen():
    settings = TelemetrySettings(known_methods=("PROPFIND",))
    span, _ = records(exchange(request(method=b"PROPFIND")), settings)
    assert (span.name, read(span.attributes)["http.request.method"]) == ("PROPFIND", "PROPFIND")
    span, _ = records(exchange(request(method=b"GET")), settings)
    assert (span.name, read(span.attributes)["http.request.method"]) == ("HTTP", "_OTHER")


def test_an_answer_without_its_request_says_only_what_it_knows():
    span, log = records(exchange(None, response(200)))
    assert read(span.attributes) == {
        "http.response.status_code": 200,
        "network.peer.address": "198.51.100.7",
        "network.peer.port": 8443,
        "network.protocol.version": "1.1",
        "otel_tap.connection.reused": False,
        "otel_tap.peer.evidence": "socket",
    }
    assert span.name == "HTTP"
    assert log.body.string_value == "? ? 200 12 ms"


def test_neither_message_known_is_still_a_record():
    span, log = records(exchange(error=ExchangeError.MALFORMED))
    assert read(span.attributes)["error.type"] == "malformed"
    assert log.body.string_value == "? ? - 12 ms malformed"


def test_the_version_is_that_of_the_answer():
    old = replace(response(), version="1.0")
    assert attributes_of(exchange(request(), old))["network.protocol.version"] == "1.0"
    assert attributes_of(exchange(request()))["network.protocol.version"] == "1.1"


def test_lost_bytes_of_both_messages_are_summed_and_the_capture_truncated():
    found = attributes_of(exchange(request(lost_bytes=3), response(lost_bytes=40)))
    assert found["otel_tap.capture.lost_bytes"] == 43
    assert found["otel_tap.capture.truncated"] is True


def test_nothing_lost_is_not_said():
    found = attributes_of(WHOLE)
    assert not [name for name in found if name.startswith("otel_tap.capture")]


def test_either_signal_can_be_left_out():
    for settings in (TelemetrySettings(traces=False), TelemetrySettings(logs=False)):
        encoder = RecordEncoder(settings, Identities("boot"), UNIX_OFFSET_NS)
        span, log = encoder.encode(WHOLE)
        assert bool(span) is settings.traces
        assert bool(log) is settings.logs


def test_the_display_line_is_bounded():
    target = b"/" + b"a" * 5000
    _, log = records(at_server(exchange(request(target, method=b"M" * 99), response())))
    assert log.body.string_value == f"{'M' * 32} /{'a' * 511} 200 12 ms"
    assert read(log.attributes)["url.path"] == target.decode()
