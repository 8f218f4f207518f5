"""One exchange as an OTLP span and as the log record that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

from otel_tap.exchange import Connection, Exchange, ExchangeError, Role
from otel_tap.messages import Request, Response
from otel_tap.telemetry import names
from otel_tap.telemetry.attributes import AttributeEncoder, error_type
from otel_tap.telemetry.content import content_attribute
from otel_tap.telemetry.identity import Identities, SpanIdentity
from otel_tap.telemetry.location import Location
from otel_tap.telemetry.otlp import field, fixed32, fixed64, utf8, varint
from otel_tap.telemetry.settings import TelemetrySettings

_KIND_SERVER = b"\x30\x02"
_KIND_CLIENT = b"\x30\x03"
_STATUS_ERROR = b"\x7a\x02\x18\x02"  # no description: the code or error.type says it
_SPAN_ATTRIBUTE = b"\x4a"
_LOG_ATTRIBUTE = b"\x32"
_EVENT_NAME = field(b"\x62", names.EVENT_NAME.encode())
_SEVERITIES = {
    "INFO": b"\x10\x09\x1a\x04INFO",
    "WARN": b"\x10\x0d\x1a\x04WARN",
    "ERROR": b"\x10\x11\x1a\x05ERROR",
}
# Two bodies of one record, at worst doubled by their way to UTF-8, must fit into one message.
_MAX_BODY = 800_000
_MAX_DISPLAYED = 512  # bytes of a target in the display line

_BROKEN = frozenset(ExchangeError) - {ExchangeError.TRUNCATED, ExchangeError.AGENT_STOPPED}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A span and a log record as fields of their scope; empty where not asked for."""

    span: bytes
    log: bytes


class RecordEncoder:
    """Encodes exchanges. `unix_offset_ns` is what makes Unix time of ktime_ns.

    One instance serves one thread.
    """

    def __init__(
        self, settings: TelemetrySettings, identities: Identities, unix_offset_ns: int
    ) -> None:
        self._settings = settings
        self._identities = identities
        self._attributes = AttributeEncoder(settings)
        self._names = {method: field(b"\x2a", method.encode()) for method in settings.known_methods}
        self._no_name = field(b"\x2a", b"HTTP")
        self.unix_offset_ns = unix_offset_ns

    def knows_client_of(self, connection: Connection) -> bool:
        """Whether the client's end of this server connection is known to be tapped here."""
        return self._identities.client_ends.has_client_of(connection)

    def encode(self, exchange: Exchange) -> Encoded:
        """Both records of one exchange."""
        identity = self._identities.of(exchange)
        attributes, location = self._attributes.of(exchange)
        span = log = b""
        if self._settings.traces:
            span = self._span(exchange, identity, attributes)
        if self._settings.logs:
            log = self._log(exchange, identity, attributes, location)
        return Encoded(span, log)

    def _span(self, exchange: Exchange, identity: SpanIdentity, attributes: list[bytes]) -> bytes:
        offset = self.unix_offset_ns
        start = exchange.start_ktime_ns
        end = max(start, exchange.end_ktime_ns)
        parts = [b"\x0a\x10", identity.trace_id, b"\x12\x08", identity.span_id]
        if identity.trace_state:
            parts.append(field(b"\x1a", identity.trace_state))
        if identity.parent_id:
            parts.append(b"\x22\x08" + identity.parent_id)
        request = exchange.request
        name = self._no_name
        if request is not None:
            name = self._names.get(self._attributes.method_of(request), self._no_name)
        parts += [
            name,
            _KIND_CLIENT if exchange.role is Role.CLIENT else _KIND_SERVER,
            b"\x39" + fixed64(start + offset),
            b"\x41" + fixed64(end + offset),
            _SPAN_ATTRIBUTE,
            _SPAN_ATTRIBUTE.join(attributes),
        ]
        if error_type(exchange) is not None:
            parts.append(_STATUS_ERROR)
        parts.append(b"\x85\x01" + fixed32(identity.flags))
        content = b"".join(parts)
        return b"\x12" + varint(len(content)) + content

    def _log(
        self,
        exchange: Exchange,
        identity: SpanIdentity,
        attributes: list[bytes],
        location: Location | None,
    ) -> bytes:
        offset = self.unix_offset_ns
        if self._settings.bodies:
            attributes = attributes + self._bodies(exchange)
        content = b"".join(
            [
                b"\x09" + fixed64(max(exchange.start_ktime_ns, exchange.end_ktime_ns) + offset),
                _SEVERITIES[_severity(exchange)],
                field(b"\x2a", field(b"\x0a", utf8(_display_line(exchange, location)))),
                _LOG_ATTRIBUTE,
                _LOG_ATTRIBUTE.join(attributes),
                b"\x45" + fixed32(identity.flags & 0xFF),
                b"\x4a\x10",
                identity.trace_id,
                b"\x52\x08",
                identity.span_id,
                b"\x59" + fixed64(exchange.observed_ktime_ns + offset),
                _EVENT_NAME,
            ]
        )
        return b"\x12" + varint(len(content)) + content

    def _bodies(self, exchange: Exchange) -> list[bytes]:
        limit = min(self._settings.body_limit, _MAX_BODY)
        messages: list[tuple[str, Request | Response | None]] = [
            (names.HTTP_REQUEST_BODY_CONTENT, exchange.request),
            (names.HTTP_RESPONSE_BODY_CONTENT, exchange.response),
        ]
        encoded: list[bytes] = []
        cut = False
        for name, message in messages:
            if message is None:
                continue
            cut = cut or message.body.truncated
            if message.body.content:
                attribute, content_cut = content_attribute(name, message, limit)
                encoded.append(attribute)
                cut = cut or content_cut
        if cut and not exchange.lost_bytes and exchange.error is not ExchangeError.TRUNCATED:
            encoded.append(self._attributes.truncated)
        return encoded


def _severity(exchange: Exchange) -> str:
    if exchange.error in _BROKEN:
        return "ERROR"
    status = 0 if exchange.response is None else exchange.response.status
    if status >= 500:
        return "ERROR"
    return "WARN" if status >= 400 and exchange.role is Role.CLIENT else "INFO"


def _display_line(exchange: Exchange, location: Location | None) -> bytes:
    """`GET /x 200 12 ms`: for people; everything in it stands in attributes too."""
    request, response = exchange.request, exchange.response
    method = b"?" if request is None else request.method[:32]
    target = b"?" if request is None else request.target
    if location is not None and location.full is not None:
        target = location.full
    status = b"-" if response is None else b"%d" % response.status
    line = b"%s %s %s %d ms" % (
        method,
        target[:_MAX_DISPLAYED],
        status,
        exchange.duration_ns // 1_000_000,
    )
    if exchange.error is not None:
        line += b" " + exchange.error.value.encode()
    return line
