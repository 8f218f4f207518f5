"""gRPC calls as spans and log records, read back with opentelemetry-proto."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from otel_tap.exchange import Exchange, ExchangeError, Role, Rpc
from otel_tap.messages import UNKNOWN
from otel_tap.telemetry import Identities, RecordEncoder, TelemetrySettings
from otel_tap.telemetry.rpc import status_name
from tests.unit.http2_talk import Talk, play
from tests.unit.test_http2_grpc import ANSWER, CALL, message
from tests.unit.test_telemetry_records import (
    UNIX_OFFSET_NS,
    at_server,
    attributes_of,
    exchange,
    read,
    records,
    request,
    response,
)
from tests.unit.wire import Wire

CLIENT, SERVER = Role.CLIENT, Role.SERVER
INFO, WARN, ERROR = "INFO", "WARN", "ERROR"

METHOD = b"pkg.Greeter/Hello"
OK = Rpc(METHOD, False, 0, 250_000_000, 1, 3, 2, 9)


def call(rpc: Rpc = OK, *, status: int = 200, **facts: Any) -> Exchange:
    asked = request(b"/" + rpc.method, method=b"POST")
    answer = replace(response(status), version="2")
    return replace(exchange(replace(asked, version="2"), answer, **facts), rpc=rpc)


def own(observed: Exchange) -> dict[str, Any]:
    told = attributes_of(observed)
    return {name: value for name, value in told.items() if "rpc." in name or "error" in name}


@pytest.mark.parametrize("at", [lambda one: one, at_server])
def test_a_call_has_the_name_of_its_method_and_what_moved(at):
    observed = at(call())
    span, log = records(observed)
    assert span.name == "pkg.Greeter/Hello"
    assert own(observed) == {
        "rpc.system.name": "grpc",
        "rpc.method": "pkg.Greeter/Hello",
        "rpc.response.status_code": "OK",
        "otel_tap.rpc.request.messages": 1,
        "otel_tap.rpc.request.message_bytes": 3,
        "otel_tap.rpc.response.messages": 2,
        "otel_tap.rpc.response.message_bytes": 9,
        "otel_tap.rpc.timeout": 0.25,
    }
    told = read(span.attributes)
    assert told["network.protocol.version"] == "2"
    assert (told["http.request.method"], told["http.response.status_code"]) == ("POST", 200)
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert log.severity_text == INFO
    assert log.body.string_value == "pkg.Greeter/Hello OK 12 ms"


@pytest.mark.parametrize(
    ("code", "name", "at_client", "at_its_server"),
    [
        (0, "OK", INFO, INFO),
        (1, "CANCELLED", WARN, INFO),
        (2, "UNKNOWN", ERROR, ERROR),
        (3, "INVALID_ARGUMENT", WARN, INFO),
        (4, "DEADLINE_EXCEEDED", ERROR, ERROR),
        (5, "NOT_FOUND", WARN, INFO),
        (6, "ALREADY_EXISTS", WARN, INFO),
        (7, "PERMISSION_DENIED", WARN, INFO),
        (8, "RESOURCE_EXHAUSTED", WARN, INFO),
        (9, "FAILED_PRECONDITION", WARN, INFO),
        (10, "ABORTED", WARN, INFO),
        (11, "OUT_OF_RANGE", WARN, INFO),
        (12, "UNIMPLEMENTED", ERROR, ERROR),
        (13, "INTERNAL", ERROR, ERROR),
        (14, "UNAVAILABLE", ERROR, ERROR),
        (15, "DATA_LOSS", ERROR, ERROR),
        (16, "UNAUTHENTICATED", WARN, INFO),
        (17, "17", ERROR, ERROR),
        (99, "99", ERROR, ERROR),
    ],
)
def test_a_status_decides_error_type_span_status_and_severity(code, name, at_client, at_its_server):
    for role, severity in ((CLIENT, at_client), (SERVER, at_its_server)):
        span, log = records(call(replace(OK, status=code), role=role))
        told = read(span.attributes)
        assert told["rpc.response.status_code"] == name
        assert told.get("error.type") == (None if severity == INFO else name)
        wanted = Status.STATUS_CODE_UNSET if severity == INFO else Status.STATUS_CODE_ERROR
        assert (span.status.code, span.status.message) == (wanted, "")
        assert log.severity_text == severity
        assert log.body.string_value == f"pkg.Greeter/Hello {name} 12 ms"


def test_status_names_are_those_of_a_grpc_implementation():
    grpc = pytest.importorskip("grpc")
    for code in grpc.StatusCode:
        assert status_name(code.value[0]) == code.name


def test_a_status_is_the_outcome_whatever_becomes_of_the_stream_behind_it():
    told = own(call(error=ExchangeError.CANCELLED))
    assert told["rpc.response.status_code"] == "OK"
    assert "error.type" not in told
    failed = own(call(replace(OK, status=13), error=ExchangeError.STREAM_RESET))
    assert failed["error.type"] == "INTERNAL"


def test_a_call_without_a_status_is_judged_as_the_exchange_that_carried_it():
    unanswered = replace(OK, status=None)
    for observed, error, line in (
        (call(unanswered, error=ExchangeError.CANCELLED), "cancelled", "- 12 ms cancelled"),
        (call(unanswered, status=503), "503", "HTTP 503 12 ms"),
        (call(unanswered), None, "- 12 ms"),
        (call(unanswered, error=ExchangeError.TRUNCATED), None, "- 12 ms truncated"),
    ):
        told = own(observed)
        assert "rpc.response.status_code" not in told
        assert told.get("error.type") == error
        assert records(observed)[1].body.string_value == f"pkg.Greeter/Hello {line}"


def test_counts_that_a_loss_made_unknown_are_not_sent():
    told = own(call(Rpc(METHOD, True, None, None, None, None, 1, 4)))
    assert told == {
        "rpc.system.name": "grpc",
        "rpc.method": "pkg.Greeter/Hello",
        "otel_tap.rpc.web": True,
        "otel_tap.rpc.response.messages": 1,
        "otel_tap.rpc.response.message_bytes": 4,
    }


@pytest.mark.parametrize(
    ("method", "original"),
    [
        (b"a", "a"),
        (b"a/b/c", "a/b/c"),
        (b"pkg.S/M;x", "pkg.S/M;x"),
        (b"\xff/M", "\ufffd/M"),
        (b"pkg.S/" + b"m" * 300, "pkg.S/" + "m" * 300),
    ],
)
def test_what_is_no_method_makes_no_span_name(method, original):
    observed = call(replace(OK, method=method), role=SERVER)
    span, log = records(observed)
    assert span.name == "grpc"
    told = own(observed)
    assert (told["rpc.method"], told["rpc.method_original"]) == ("_OTHER", original)
    assert log.body.string_value.endswith(" OK 12 ms")


def test_a_method_that_is_not_known_is_no_value():
    asked = replace(request(UNKNOWN, method=UNKNOWN), headers_incomplete=True)
    observed = replace(exchange(asked, response()), rpc=replace(OK, method=UNKNOWN))
    span, log = records(observed)
    assert span.name == "grpc"
    told = read(span.attributes)
    for name in ("rpc.method", "rpc.method_original", "http.request.method", "url.full"):
        assert name not in told
    assert "?" not in told.values()
    assert log.body.string_value == "? OK 12 ms"


def test_secrets_in_the_place_of_a_method_are_redacted():
    observed = call(replace(OK, method=b"user:pass@h/x"), role=SERVER)
    observed = replace(observed, request=request(b"//user:pass@h/x", method=b"POST"))
    span, log = records(observed)
    assert b"pass" not in span.SerializeToString() + log.SerializeToString()


def test_calls_of_one_connection_do_not_share_what_differs():
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), UNIX_OFFSET_NS)
    calls = [
        call(replace(OK, method=method, status=status, web=web), error=error)
        for method in (METHOD, b"pkg.Greeter/Bye", b"odd")
        for status in (0, 4, None)
        for web in (False, True)
        for error in (None, ExchangeError.CANCELLED)
    ]
    calls.append(replace(call(), rpc=None))
    first = [encoder.encode(one) for one in calls]
    assert [encoder.encode(one) for one in calls] == first
    for one, encoded in zip(calls, first, strict=True):
        alone = RecordEncoder(TelemetrySettings(), Identities("boot"), UNIX_OFFSET_NS)
        # Their ids differ by place in the stream alone, and that is one here.
        assert alone.encode(one) == encoded
    assert len(set(first)) == len(first)


def test_fields_that_are_missing_are_said_at_either_message():
    for observed in (
        exchange(replace(request(), headers_incomplete=True), response()),
        exchange(request(), replace(response(), headers_incomplete=True)),
    ):
        assert attributes_of(observed)["otel_tap.capture.headers_incomplete"] is True
    assert "otel_tap.capture.headers_incomplete" not in attributes_of(
        exchange(request(), response())
    )


def test_no_address_stands_for_a_name_that_may_be_missing():
    unsure = replace(request(host=None), headers_incomplete=True)
    at_client = attributes_of(exchange(unsure, response()))
    for name in ("server.address", "server.port", "url.full"):
        assert name not in at_client
    assert at_client["network.peer.address"] == "198.51.100.7"
    told = attributes_of(at_server(exchange(unsure, response())))
    assert "client.address" not in told
    assert told["url.path"] == "/a"


def test_a_call_is_told_from_its_frames():
    talk = Talk().begun().request(1, CALL, message(b"ask"))
    talk.response(1, ANSWER, message(b"answer"), [(b"grpc-status", b"4")])
    (observed,) = play(talk, Wire().opened()).exchanges
    span, log = records(observed)
    assert span.name == "pkg.Greeter/Hello"
    told = read(span.attributes)
    assert told["error.type"] == told["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert told["otel_tap.rpc.response.message_bytes"] == 6
    assert told["url.full"] == "http://h/pkg.Greeter/Hello"
    assert log.body.string_value.startswith("pkg.Greeter/Hello DEADLINE_EXCEEDED ")
