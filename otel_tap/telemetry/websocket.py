"""A WebSocket session as an OTLP span and log record, and a message as a log record.

The handshake is an exchange of its own, told when it was granted. The session's span is its child,
of the same trace, and lasts from the handshake to the close. Its kind is INTERNAL: the handshake is
the CLIENT or SERVER span, and whatever counts those, or takes their duration for a latency, shall
meet each request once and no session of an hour. Log records of messages carry the id of the
session's span, which is known from the handshake on; so they can be told while it lasts.

Every captured value passes the redactor here.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from otel_tap.exchange import Exchange, ExchangeError, Role
from otel_tap.messages import UNKNOWN
from otel_tap.privacy import Redactor
from otel_tap.telemetry import names
from otel_tap.telemetry.attributes import AttributeEncoder
from otel_tap.telemetry.content import content_attribute
from otel_tap.telemetry.identity import HAS_IS_REMOTE, Identities, SpanIdentity
from otel_tap.telemetry.otlp import (
    LOG_ATTRIBUTE,
    SPAN_ATTRIBUTE,
    bool_attribute,
    field,
    fixed32,
    fixed64,
    int_attribute,
    string_attribute,
    utf8,
)
from otel_tap.telemetry.settings import TelemetrySettings
from otel_tap.websocket import Flow, Message, Session

_NAME: Final = field(b"\x2a", b"websocket")
_KIND_INTERNAL: Final = b"\x30\x01"
_STATUS_ERROR: Final = b"\x7a\x02\x18\x02"
_SESSION_EVENT: Final = field(b"\x62", names.WEBSOCKET_SESSION_EVENT.encode())
_MESSAGE_EVENT: Final = field(b"\x62", names.WEBSOCKET_MESSAGE_EVENT.encode())
_INFO: Final = b"\x10\x09\x1a\x04INFO"
_ERROR: Final = b"\x10\x11\x1a\x05ERROR"

_FLAGS_OF_W3C: Final = 0xFF
_MAX_DISPLAYED: Final = 512  # bytes of a target in the display line
_MAX_CONTENT: Final = 550_000  # bytes, as of bodies: at worst tripled by their way to UTF-8

# Codes of RFC 6455 7.4.1 (and 1014, a gateway's) by which an end says that something went wrong.
_ERRORS: Final = frozenset((1002, 1003, 1007, 1008, 1009, 1010, 1011, 1014))
# What says nothing of the session itself, only of what the agent could see of it.
_NOT_ITS_ERRORS = (ExchangeError.TRUNCATED, ExchangeError.AGENT_STOPPED)

_TEXT_FIELDS = ((b"content-type", b"text/plain"),)


class WebSocketEncoder:
    """Encodes what followed a handshake. One instance serves one thread."""

    def __init__(
        self,
        settings: TelemetrySettings,
        identities: Identities,
        attributes: AttributeEncoder,
        redactor: Redactor,
    ) -> None:
        self._traces = settings.traces
        self._logs = settings.logs
        self._bodies = settings.bodies
        self._limit = min(settings.body_limit, _MAX_CONTENT)
        self._identities = identities
        self._attributes = attributes
        self._redactor = redactor

    def encode(self, exchange: Exchange, unix_offset_ns: int) -> tuple[bytes, bytes]:
        """A span and a log record as fields of their scope; empty where not asked for."""
        what = exchange.websocket
        if isinstance(what, Session):
            return self._session(exchange, what, unix_offset_ns)
        if isinstance(what, Message) and self._logs and self._bodies:
            return b"", self._message(exchange, what, unix_offset_ns)
        return b"", b""

    def _session(self, exchange: Exchange, session: Session, offset: int) -> tuple[bytes, bytes]:
        broken_as = error_type(exchange.error, session.close_code)
        shown, attributes = self._of_handshake(exchange)
        self._append_session(attributes, session, exchange.error, broken_as)
        identity = self._identity(exchange)
        span = log = b""
        if self._traces:
            span = self._span(exchange, identity, attributes, offset, broken_as)
        if self._logs:
            if session.close_reason and self._bodies:
                reason = self._redactor.redact_content(session.close_reason, b"text/plain")
                attributes.append(string_attribute(names.WEBSOCKET_CLOSE_REASON, reason))
            line = b"websocket %s sent %d received %d close %s %d ms" % (
                shown,
                session.sent.messages,
                session.received.messages,
                b"-" if session.close_code is None else b"%d" % session.close_code,
                exchange.duration_ns // 1_000_000,
            )
            log = _log_record(
                exchange.end_ktime_ns + offset,
                exchange.observed_ktime_ns + offset,
                identity,
                _INFO if broken_as is None else _ERROR,
                line,
                attributes,
                _SESSION_EVENT,
            )
        return span, log

    def _span(
        self,
        exchange: Exchange,
        identity: SpanIdentity,
        attributes: list[bytes],
        offset: int,
        broken_as: str | None,
    ) -> bytes:
        trace_id, span_id, parent_id, flags, trace_state = identity
        start = exchange.start_ktime_ns + offset
        span = b"".join(
            (
                field(b"\x0a", trace_id),
                field(b"\x12", span_id),
                field(b"\x1a", trace_state) if trace_state else b"",
                field(b"\x22", parent_id),
                _NAME,
                _KIND_INTERNAL,
                b"\x39" + fixed64(start),
                b"\x41" + fixed64(start + exchange.duration_ns),
                SPAN_ATTRIBUTE + SPAN_ATTRIBUTE.join(attributes),
                b"" if broken_as is None else _STATUS_ERROR,
                b"\x85\x01" + fixed32(flags),
            )
        )
        return field(b"\x12", span)

    def _message(self, exchange: Exchange, message: Message, offset: int) -> bytes:
        shown, attributes = self._of_handshake(exchange)
        direction = b"sent" if message.sent else b"received"
        kind = b"text" if message.text else b"binary"
        attributes.append(string_attribute(names.WEBSOCKET_MESSAGE_DIRECTION, direction))
        attributes.append(string_attribute(names.WEBSOCKET_MESSAGE_TYPE, kind))
        attributes.append(int_attribute(names.WEBSOCKET_MESSAGE_SIZE, message.body.size))
        if message.number is not None:
            attributes.append(int_attribute(names.WEBSOCKET_MESSAGE_NUMBER, message.number))
        if message.compressed:
            attributes.append(bool_attribute(names.WEBSOCKET_MESSAGE_COMPRESSED, value=True))
        cut = message.body.truncated
        body = message.body
        if body.content:
            fields = _TEXT_FIELDS if message.text else ()
            readable = self._redactor.readable(body, fields, self._limit)
            cut = cut or readable.cut
            if readable.content:
                attributes.append(content_attribute(names.WEBSOCKET_MESSAGE_CONTENT, readable))
        if cut:
            attributes.append(self._attributes.truncated)
        line = b"message %s %s %s %d bytes" % (shown, direction, kind, body.size)
        end = exchange.end_ktime_ns + offset
        observed = exchange.observed_ktime_ns + offset
        identity = self._identity(exchange)
        return _log_record(end, observed, identity, _INFO, line, attributes, _MESSAGE_EVENT)

    def _of_handshake(self, exchange: Exchange) -> tuple[bytes, list[bytes]]:
        """What the handshake says of all that followed: the target for display, attributes."""
        attributes = self._attributes.of_connection(exchange.connection)
        attributes.append(string_attribute(names.NETWORK_PROTOCOL_NAME, b"websocket"))
        request = exchange.request
        if request is None:
            return b"?", attributes
        target = self._redactor.target(request.target)
        if request.method == UNKNOWN or target == UNKNOWN:
            return b"?", attributes
        first = dict(reversed(request.fields))
        location = self._attributes.locate(attributes, exchange, request, target, first)
        if location.authority is not None:
            host, port = location.authority
            attributes.append(string_attribute(names.SERVER_ADDRESS, host))
            if port is not None:
                attributes.append(int_attribute(names.SERVER_PORT, port))
        if exchange.role is Role.SERVER:
            attributes.append(string_attribute(names.URL_SCHEME, location.scheme.encode()))
        return (location.full or target)[:_MAX_DISPLAYED], attributes

    def _append_session(
        self,
        attributes: list[bytes],
        session: Session,
        error: ExchangeError | None,
        broken_as: str | None,
    ) -> None:
        _append_flow(attributes, names.WEBSOCKET_SENT, session.sent)
        _append_flow(attributes, names.WEBSOCKET_RECEIVED, session.received)
        if session.deflate is not None:
            attributes.append(bool_attribute(names.WEBSOCKET_DEFLATE, value=session.deflate))
        if session.subprotocol:
            # The server's choice of what the client offered: a name, though any bytes may stand
            # there, and some clients pass a token this way.
            chosen = self._redactor.field(b"sec-websocket-protocol", session.subprotocol)
            attributes.append(string_attribute(names.WEBSOCKET_SUBPROTOCOL, chosen))
        if session.close_code is not None:
            attributes.append(int_attribute(names.WEBSOCKET_CLOSE_CODE, session.close_code))
        if session.closed_here is not None:
            by = b"local" if session.closed_here else b"remote"
            attributes.append(string_attribute(names.WEBSOCKET_CLOSE_BY, by))
        if broken_as is not None:
            attributes.append(string_attribute(names.ERROR_TYPE, broken_as.encode()))
        lost = session.sent.lost_bytes + session.received.lost_bytes
        if lost:
            attributes.append(int_attribute(names.LOST_BYTES, lost))
        exact = session.sent.exact and session.received.exact
        if lost or not exact or error in _NOT_ITS_ERRORS:
            attributes.append(self._attributes.truncated)

    def _identity(self, exchange: Exchange) -> SpanIdentity:
        """Ids of the session's span, a child of the handshake's, on which both agree."""
        request = exchange.request
        first = {}
        if request is not None and self._redactor.keeps(b"traceparent"):
            first = dict(reversed(request.fields))
        trace_id, parent_id, _, flags, trace_state = self._identities.of(exchange, first)
        span_id = blake2b(trace_id + parent_id, digest_size=8, person=b"otel-tap socket").digest()
        return trace_id, span_id, parent_id, flags & _FLAGS_OF_W3C | HAS_IS_REMOTE, trace_state


def error_type(error: ExchangeError | None, close_code: int | None) -> str | None:
    """`error.type` of a session: how it broke, else a code by which an end says that it did."""
    if error is not None and error not in _NOT_ITS_ERRORS:
        return error.value
    return str(close_code) if close_code in _ERRORS else None


def _append_flow(attributes: list[bytes], prefix: str, flow: Flow) -> None:
    if not flow.exact:
        # Lower bounds, under names of their own: a sum of counts shall not take them for counts.
        attributes.append(int_attribute(prefix + names.WEBSOCKET_MESSAGES_SEEN, flow.messages))
        attributes.append(int_attribute(prefix + names.WEBSOCKET_BYTES_SEEN, flow.message_bytes))
        return
    attributes.append(int_attribute(prefix + names.WEBSOCKET_MESSAGES, flow.messages))
    attributes.append(int_attribute(prefix + names.WEBSOCKET_TEXT_MESSAGES, flow.text_messages))
    attributes.append(int_attribute(prefix + names.WEBSOCKET_BYTES, flow.message_bytes))
    attributes.append(int_attribute(prefix + names.WEBSOCKET_FRAMES, flow.frames))
    attributes.append(int_attribute(prefix + names.WEBSOCKET_PINGS, flow.pings))
    attributes.append(int_attribute(prefix + names.WEBSOCKET_PONGS, flow.pongs))
    if flow.compressed_messages:
        attributes.append(
            int_attribute(prefix + names.WEBSOCKET_COMPRESSED, flow.compressed_messages)
        )


def _log_record(
    time_ns: int,
    observed_ns: int,
    identity: SpanIdentity,
    severity: bytes,
    line: bytes,
    attributes: list[bytes],
    event_name: bytes,
) -> bytes:
    record = b"".join(
        (
            b"\x09" + fixed64(time_ns),
            b"\x59" + fixed64(observed_ns),
            severity,
            field(b"\x2a", field(b"\x0a", utf8(line))),
            LOG_ATTRIBUTE + LOG_ATTRIBUTE.join(attributes),
            b"\x45" + fixed32(identity[3] & _FLAGS_OF_W3C),
            field(b"\x4a", identity[0]),
            field(b"\x52", identity[1]),
            event_name,
        )
    )
    return field(b"\x12", record)
