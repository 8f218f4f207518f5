"""One exchange as an OTLP span and as the log record that goes with it."""

from __future__ import annotations

import struct
from typing import NamedTuple

from otel_tap.exchange import Connection, Exchange, ExchangeError
from otel_tap.messages import Request, Response
from otel_tap.telemetry import names
from otel_tap.telemetry.attributes import AttributeEncoder
from otel_tap.telemetry.content import content_attribute
from otel_tap.telemetry.identity import Identities
from otel_tap.telemetry.location import Location
from otel_tap.telemetry.otlp import (
    LOG_ATTRIBUTE,
    SPAN_ATTRIBUTE,
    field,
    utf8,
    varint,
)
from otel_tap.telemetry.settings import TelemetrySettings
from otel_tap.telemetry.shapes import Shapes

# Fields of one length, with their tags: start, end and flags of a span; time, observed time and
# flags of a log record.
_SPAN_NUMBERS = struct.Struct("<BQBQHI")
_LOG_NUMBERS = struct.Struct("<BQBQBI")
_U64 = 0xFFFFFFFFFFFFFFFF

# Two bodies of one record, at worst tripled by their way to UTF-8, must fit into one message.
_MAX_BODY = 550_000
_MAX_DISPLAYED = 512  # bytes of a target in the display line

_NO_FIELDS: dict[bytes, bytes] = {}


class Encoded(NamedTuple):
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
        self._traces = settings.traces
        self._logs = settings.logs
        self._bodies_asked = settings.bodies
        self._body_limit = min(settings.body_limit, _MAX_BODY)
        self._identities = identities
        self._attributes = AttributeEncoder(settings)
        self._shapes = Shapes(always_scheme=names.URL_SCHEME in settings.attributes)
        self._methods = {method.encode(): method for method in settings.known_methods}
        self.unix_offset_ns = unix_offset_ns

    def knows_client_of(self, connection: Connection) -> bool:
        """Whether the client's end of this server connection is known to be tapped here."""
        return self._identities.client_ends.has_client_of(connection)

    def encode(self, exchange: Exchange) -> Encoded:
        """Both records of one exchange."""
        request = exchange.request
        common = self._attributes.of_connection(exchange.connection)
        attributes = [b""]  # the tag that joins them goes before each
        first = _NO_FIELDS
        method: str | None = None
        location: Location | None = None
        if request is not None:
            first = dict(reversed(request.fields))  # of equal names, the first one stays
            method = self._methods.get(request.method)
            if method is None:
                self._attributes.method_original(attributes, request)
            location = self._attributes.locate(attributes, exchange, request, first, common)
        self._attributes.append(attributes, exchange, first)
        shape = self._shapes.of(exchange, method, location)
        identity = self._identities.of(exchange, first)

        offset = self.unix_offset_ns
        duration_ns = exchange.duration_ns
        start = (exchange.start_ktime_ns + offset) & _U64
        end = (start + duration_ns) & _U64
        flags = identity.flags
        span = log = b""
        if self._traces:
            parts = [
                b"\x0a\x10",
                identity.trace_id,
                b"\x12\x08",
                identity.span_id,
                _SPAN_NUMBERS.pack(0x39, start, 0x41, end, 0x0185, flags),
                common.span,
                shape.span,
                SPAN_ATTRIBUTE.join(attributes),
            ]
            if identity.parent_id:
                parts += (b"\x22\x08", identity.parent_id)
            if identity.trace_state:
                parts.append(field(b"\x1a", identity.trace_state))
            content = b"".join(parts)
            span = b"\x12" + varint(len(content)) + content
        if self._logs:
            if self._bodies_asked:
                attributes += self._bodies(exchange)
            content = b"".join(
                (
                    _LOG_NUMBERS.pack(
                        0x09,
                        end,
                        0x59,
                        (exchange.observed_ktime_ns + offset) & _U64,
                        0x45,
                        flags & 0xFF,
                    ),
                    field(
                        b"\x2a",
                        field(b"\x0a", utf8(_display_line(exchange, location, duration_ns))),
                    ),
                    b"\x4a\x10",
                    identity.trace_id,
                    b"\x52\x08",
                    identity.span_id,
                    common.log,
                    shape.log,
                    LOG_ATTRIBUTE.join(attributes),
                )
            )
            log = b"\x12" + varint(len(content)) + content
        return Encoded(span, log)

    def _bodies(self, exchange: Exchange) -> list[bytes]:
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
                attribute, content_cut = content_attribute(name, message, self._body_limit)
                encoded.append(attribute)
                cut = cut or content_cut
        if cut and not exchange.lost_bytes and exchange.error is not ExchangeError.TRUNCATED:
            encoded.append(self._attributes.truncated)
        return encoded


def _display_line(exchange: Exchange, location: Location | None, duration_ns: int) -> bytes:
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
        duration_ns // 1_000_000,
    )
    if exchange.error is not None:
        line += b" " + exchange.error.value.encode()
    return line
