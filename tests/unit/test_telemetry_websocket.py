"""WebSocket sessions and messages as OTLP, read back with opentelemetry-proto."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from otel_tap.exchange import Exchange, ExchangeError, Position, Role
from otel_tap.messages import Body
from otel_tap.privacy import Redactor
from otel_tap.telemetry import Identities, RecordEncoder, TelemetrySettings, names
from otel_tap.websocket import Flow, Message, Session
from tests.unit.test_telemetry_records import (
    MS,
    UNIX_OFFSET_NS,
    at_server,
    exchange,
    read,
    request,
    response,
)

HANDSHAKE = exchange(request(b"/chat?token=abc", (b"user-agent", b"ws/1")), response(101))
SENT = Flow(3, 2, 40, 4, 1, 1, 2, 0, exact=True)
RECEIVED = Flow(5, 5, 70, 5, 0, 0, 0, 0, exact=True)
SESSION = Session(SENT, RECEIVED, b"chat", True, 1000, b"", closed_here=True)
MESSAGE = Message(True, True, False, 0, Body(b"hello", 5, False), 1500 * MS)
ALL = TelemetrySettings(bodies=True)


def following(what: Session | Message, handshake: Exchange = HANDSHAKE, **facts: Any) -> Exchange:
    return replace(
        handshake, websocket=what, end_ktime_ns=9000 * MS, observed_ktime_ns=9001 * MS, **facts
    )


def encoded(
    observed: Exchange, settings: TelemetrySettings = ALL, identities: Identities | None = None
) -> tuple[list[Span], list[LogRecord]]:
    encoder = RecordEncoder(settings, identities or Identities("boot"), UNIX_OFFSET_NS)
    span, log = encoder.encode(observed)
    return list(ScopeSpans.FromString(span).spans), list(ScopeLogs.FromString(log).log_records)


def session_of(observed: Exchange) -> tuple[Span, LogRecord]:
    (span,), (log,) = encoded(observed)
    return span, log


def test_a_session_is_a_child_of_its_handshake_that_lasts_to_the_close():
    (handshake,), _ = encoded(HANDSHAKE)
    span, log = session_of(following(SESSION))
    assert (span.trace_id, span.parent_span_id) == (handshake.trace_id, handshake.span_id)
    assert span.span_id not in (b"", handshake.span_id)
    assert (span.name, span.kind, span.flags) == ("websocket", Span.SPAN_KIND_INTERNAL, 0x101)
    assert span.start_time_unix_nano == handshake.start_time_unix_nano
    assert span.end_time_unix_nano == UNIX_OFFSET_NS + 9000 * MS
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert read(span.attributes) == {
        "url.full": "http://example.com/chat?token=REDACTED",
        "server.address": "example.com",
        "server.port": 80,
        "network.peer.address": "198.51.100.7",
        "network.peer.port": 8443,
        "network.protocol.name": "websocket",
        "otel_tap.peer.evidence": "socket",
        "otel_tap.websocket.sent.messages": 3,
        "otel_tap.websocket.sent.text_messages": 2,
        "otel_tap.websocket.sent.bytes": 40,
        "otel_tap.websocket.sent.frames": 4,
        "otel_tap.websocket.sent.pings": 1,
        "otel_tap.websocket.sent.pongs": 2,
        "otel_tap.websocket.sent.compressed_messages": 1,
        "otel_tap.websocket.received.messages": 5,
        "otel_tap.websocket.received.text_messages": 5,
        "otel_tap.websocket.received.bytes": 70,
        "otel_tap.websocket.received.frames": 5,
        "otel_tap.websocket.received.pings": 0,
        "otel_tap.websocket.received.pongs": 0,
        "otel_tap.websocket.permessage_deflate": True,
        "otel_tap.websocket.subprotocol": "chat",
        "otel_tap.websocket.close.code": 1000,
        "otel_tap.websocket.close.by": "local",
    }
    assert read(log.attributes) == read(span.attributes)
    assert (log.trace_id, log.span_id, log.flags) == (span.trace_id, span.span_id, 1)
    assert log.event_name == "otel_tap.websocket.session"
    assert log.severity_text == "INFO"
    assert log.time_unix_nano == span.end_time_unix_nano
    assert log.observed_time_unix_nano == UNIX_OFFSET_NS + 9001 * MS
    assert log.body.string_value == (
        "websocket http://example.com/chat?token=REDACTED sent 3 received 5 close 1000 8000 ms"
    )


def test_both_ends_tell_sessions_of_one_trace_apart():
    client, _ = session_of(following(SESSION))
    server, _ = session_of(at_server(following(SESSION)))
    assert client.trace_id == server.trace_id
    assert client.span_id != server.span_id
    found = read(server.attributes)
    assert (found["url.scheme"], found["url.path"]) == ("http", "/chat")
    assert found["url.query"] == "token=REDACTED"
    assert found["client.address"] == "192.0.2.1"
    assert found["user_agent.original"] == "ws/1"


def test_what_follows_a_lone_handshake_finds_its_ids_again():
    identities = Identities("boot")
    lone = replace(HANDSHAKE, position=Position("tcp", None))
    encoded(replace(lone, response=response(200)), ALL, identities)
    (handshake,), _ = encoded(lone, ALL, identities)
    encoded(replace(lone, response=response(200)), ALL, identities)
    (session,), _ = encoded(following(SESSION, lone), ALL, identities)
    _, (message,) = encoded(following(MESSAGE, lone), ALL, identities)
    assert (session.trace_id, session.parent_span_id) == (handshake.trace_id, handshake.span_id)
    assert (message.trace_id, message.span_id) == (session.trace_id, session.span_id)


def test_a_session_goes_on_in_the_trace_of_its_caller():
    parent = b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"
    called = replace(
        HANDSHAKE,
        request=request(b"/chat", (b"traceparent", parent), (b"tracestate", b"v=1")),
    )
    (handshake,), _ = encoded(called)
    span, log = session_of(following(SESSION, called))
    assert span.trace_id == log.trace_id == handshake.trace_id == bytes.fromhex("ab" * 16)
    assert span.parent_span_id == handshake.span_id
    assert span.trace_state == "v=1"


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (None, 1000, None),
        (None, 1001, None),
        (None, 4000, None),
        (None, 1011, "1011"),
        (ExchangeError.CONNECTION_RESET, 1000, "connection_reset"),
        (ExchangeError.CONNECTION_CLOSED, None, "connection_closed"),
        (ExchangeError.MALFORMED, None, "malformed"),
        (ExchangeError.AGENT_STOPPED, None, None),
        (ExchangeError.TRUNCATED, None, None),
    ],
)
def test_how_a_session_ended_decides_status_and_severity(error, code, expected):
    span, log = session_of(following(replace(SESSION, close_code=code), error=error))
    assert read(span.attributes).get("error.type") == expected
    assert span.status.code == (Status.STATUS_CODE_ERROR if expected else Status.STATUS_CODE_UNSET)
    assert log.severity_text == ("ERROR" if expected else "INFO")
    truncated = error in (ExchangeError.AGENT_STOPPED, ExchangeError.TRUNCATED)
    assert read(span.attributes).get("otel_tap.capture.truncated", False) == truncated


def test_counts_that_may_lack_something_have_names_of_their_own():
    torn = replace(RECEIVED, lost_bytes=12, exact=False)
    found = read(session_of(following(replace(SESSION, received=torn)))[0].attributes)
    received = {name for name in found if name.startswith("otel_tap.websocket.received.")}
    assert received == {
        "otel_tap.websocket.received.messages_seen",
        "otel_tap.websocket.received.bytes_seen",
    }
    assert found["otel_tap.websocket.sent.messages"] == 3
    assert found["otel_tap.capture.lost_bytes"] == 12
    assert found["otel_tap.capture.truncated"] is True


def test_a_message_is_a_log_record_of_its_session():
    session, _ = session_of(following(SESSION))
    spans, (log,) = encoded(following(MESSAGE))
    assert spans == []
    assert (log.trace_id, log.span_id) == (session.trace_id, session.span_id)
    assert log.event_name == "otel_tap.websocket.message"
    found = read(log.attributes)
    message = {name.rpartition(".")[2]: found[name] for name in found if ".message." in name}
    assert message == {
        "direction": "sent", "type": "text", "size": 5, "number": 0, "content": "hello",
    }  # fmt: skip
    assert found["url.full"] == "http://example.com/chat?token=REDACTED"
    assert log.body.string_value == (
        "message http://example.com/chat?token=REDACTED sent text 5 bytes"
    )


@pytest.mark.parametrize(
    ("text", "content", "expected"),
    [
        (True, "ü€".encode(), "ü€"),
        (True, b"\xff\xfe", b"\xff\xfe"),
        (False, b"plain", b"plain"),
        (True, b'{"password": "x", "n": 1}', '{"password": "REDACTED", "n": 1}'),
        (False, b'{"token": "x"}', b'{"token": "REDACTED"}'),
        (True, b"", None),
    ],
)
def test_contents_are_text_where_they_are_text_and_hold_no_secret(text, content, expected):
    body = Body(content, len(content), False)
    _, (log,) = encoded(following(replace(MESSAGE, text=text, body=body)))
    assert read(log.attributes).get("otel_tap.websocket.message.content") == expected
    assert "otel_tap.capture.truncated" not in read(log.attributes)


def test_a_cut_message_says_so():
    _, (log,) = encoded(following(replace(MESSAGE, number=None, body=Body(b"he\xc3", 9, True))))
    found = read(log.attributes)
    assert found["otel_tap.websocket.message.content"] == "he"
    assert found["otel_tap.capture.truncated"] is True
    assert "otel_tap.websocket.message.number" not in found


def test_contents_stay_here_unless_they_are_asked_for():
    spans, logs = encoded(following(MESSAGE), TelemetrySettings())
    assert spans == logs == []
    said = following(replace(SESSION, close_reason=b"secret"))
    (span,), (log,) = encoded(said, TelemetrySettings())
    assert b"secret" not in span.SerializeToString() + log.SerializeToString()
    (span,), (log,) = encoded(said)
    assert "otel_tap.websocket.close.reason" not in read(span.attributes)
    assert read(log.attributes)["otel_tap.websocket.close.reason"] == "secret"


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
def test_every_name_is_one_that_may_leave(role):
    seen: set[str] = set()
    logged: dict[str, set[str]] = {}
    torn = replace(SENT, exact=False, lost_bytes=1)
    for what in (
        SESSION,
        replace(SESSION, sent=torn, received=torn, close_code=1011, close_reason=b"x"),
        MESSAGE,
        replace(MESSAGE, compressed=True, body=Body(b"x", 3, True)),
    ):
        spans, logs = encoded(following(what, role=role))
        for span in spans:
            seen |= set(read(span.attributes))
        for log in logs:
            logged.setdefault(log.event_name, set()).update(read(log.attributes))
    assert seen <= names.WEBSOCKET_SPAN_ATTRIBUTES
    assert {name for name in seen if ".websocket." in name} == {
        name
        for name in names.WEBSOCKET_SPAN_ATTRIBUTES
        if ".websocket." in name and name != "otel_tap.websocket.received.compressed_messages"
    }
    for event, found in logged.items():
        assert found <= names.WEBSOCKET_LOG_ATTRIBUTES[event]
        assert {name for name in found if ".message." in name} == {
            name for name in names.WEBSOCKET_LOG_ATTRIBUTES[event] if ".message." in name
        }


def test_a_session_without_a_known_request_stands_for_itself():
    unknown = replace(HANDSHAKE, request=None)
    span, log = session_of(following(SESSION, unknown))
    assert "url.full" not in read(span.attributes)
    assert log.body.string_value.startswith("websocket ? sent 3")


def test_redaction_reaches_messages_and_reasons():
    redactor = Redactor()
    secret = replace(MESSAGE, body=Body(b'{"password":"x"}', 16, False))
    redacted = redactor.redact(following(secret)).websocket
    assert isinstance(redacted, Message)
    assert redacted.body.content == b'{"password":"REDACTED"}'
    assert redacted.body.size == 16
    said = redactor.redact(following(replace(SESSION, close_reason=b'{"password":"x"}'))).websocket
    assert isinstance(said, Session)
    assert said.close_reason == b'{"password":"REDACTED"}'
    harmless = following(MESSAGE, request=request(b"/"))
    assert redactor.redact(harmless) is harmless


def test_on_a_stream_of_http2_a_session_is_a_child_of_its_own_handshake():
    asks = request(b"/chat", method=b"CONNECT")
    handshakes = [
        replace(exchange(asks, response(200)), position=Position("h2", stream)) for stream in (1, 3)
    ]
    ids = set()
    for handshake in handshakes:
        (of_handshake,), _ = encoded(handshake)
        span, log = session_of(following(SESSION, handshake))
        assert (of_handshake.name, of_handshake.kind) == ("CONNECT", Span.SPAN_KIND_CLIENT)
        assert read(of_handshake.attributes)["url.full"] == "http://example.com/chat"
        assert read(span.attributes)["url.full"] == "http://example.com/chat"
        assert (span.trace_id, span.parent_span_id) == (of_handshake.trace_id, of_handshake.span_id)
        assert (log.trace_id, log.span_id) == (span.trace_id, span.span_id)
        ids |= {of_handshake.span_id, span.span_id}
    assert len(ids) == 4


def test_extensions_that_are_not_known_are_not_told():
    span, _ = session_of(following(replace(SESSION, deflate=None)))
    assert names.WEBSOCKET_DEFLATE not in read(span.attributes)
