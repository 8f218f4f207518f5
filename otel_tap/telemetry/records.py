"""One exchange as an OTLP span and as the log record that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from otel_tap.exchange import Connection, Exchange, ExchangeError, Role
from otel_tap.messages import UNKNOWN, Request, Response
from otel_tap.privacy import Redactor
from otel_tap.protocols.http1.ambiguity import repeats_host
from otel_tap.telemetry import names
from otel_tap.telemetry.assembly import Assembly, Encoded
from otel_tap.telemetry.attributes import FORWARDED, AttributeEncoder
from otel_tap.telemetry.blocks import Blocks, Common, Fragment, display
from otel_tap.telemetry.content import content_attribute
from otel_tap.telemetry.identity import Identities
from otel_tap.telemetry.location import Location
from otel_tap.telemetry.otlp import LOG_ATTRIBUTE, SPAN_ATTRIBUTE
from otel_tap.telemetry.readings import reading_attributes
from otel_tap.telemetry.rpc import RpcEncoder, is_method
from otel_tap.telemetry.settings import TelemetrySettings
from otel_tap.telemetry.shapes import Shapes
from otel_tap.telemetry.turns import TurnEncoder
from otel_tap.telemetry.websocket import WebSocketEncoder
from otel_tap.turn import Turn

# Two bodies of one record, at worst tripled by their way to UTF-8, must fit into one message.
_MAX_BODY: Final = 550_000

_EQUALS, _AT, _PERCENT = b"=@%"

_NO_FIELDS: dict[bytes, bytes] = {}

# Members of an enumeration are looked up slowly on its class.
_CLIENT: Final = Role.CLIENT
_TRUNCATED: Final = ExchangeError.TRUNCATED


class RecordEncoder:
    """Encodes exchanges. `unix_offset_ns` is what makes Unix time of ktime_ns.

    What of an exchange goes into its records passes `redactor` first, so that nobody needs to
    redact the whole of it before. One instance serves one thread.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        identities: Identities,
        unix_offset_ns: int,
        redactor: Redactor | None = None,
    ) -> None:
        self._bodies_asked = settings.bodies
        self._body_limit = min(settings.body_limit, _MAX_BODY)
        self._identities = identities
        self._redactor = redactor or Redactor()
        self._attributes = AttributeEncoder(settings, self._redactor)
        self._asks_more = self._attributes.asks_more
        self._shapes = Shapes(always_scheme=names.URL_SCHEME in settings.attributes)
        self._blocks = Blocks(self._attributes, self._shapes, self._redactor)
        self._websocket = WebSocketEncoder(settings, identities, self._attributes, self._redactor)
        self._rpc = RpcEncoder()
        self._methods = {method.encode(): method for method in settings.known_methods}
        self._reads_context = self._redactor.keeps(b"traceparent")
        self._assembly = Assembly(unix_offset_ns, traces=settings.traces, logs=settings.logs)
        # Both records of a turn.
        self.encode_turn: Callable[[Turn], Encoded] = self._encode_whole
        if not (self._asks_more or self._bodies_asked or self._attributes.asks_more_of_clients):
            self.encode_turn = TurnEncoder(
                self._attributes,
                self._blocks,
                identities,
                self._redactor,
                self._assembly,
                self._methods,
                self.encode,
            ).encode

    def set_clock(self, unix_offset_ns: int) -> None:
        """The host's clock was set."""
        self._assembly.unix_offset_ns = unix_offset_ns

    def knows_client_of(self, connection: Connection) -> bool:
        """Whether the client's end of this server connection is known to be tapped here."""
        return self._identities.client_ends.has_client_of(connection)

    def encode(self, exchange: Exchange) -> Encoded:
        """Both records of one exchange."""
        if exchange.websocket is not None:
            return self._websocket.encode(exchange, self._assembly.unix_offset_ns)
        request = exchange.request
        attributes = [b""]  # the tag that joins them goes before each
        first = _NO_FIELDS
        doubtful = False
        if request is not None:
            first = dict(request.fields)
            doubtful = request.ambiguity != ()
            if len(first) != len(request.fields):
                first = dict(reversed(request.fields))  # of equal names, the first one stays
                doubtful = doubtful or repeats_host(request)
            ends, common, shown = self._of_request(attributes, exchange, request, first)
        else:
            ends, common, shown = self._of_any(attributes, exchange, None, b"?", first)
        response = exchange.response
        lost = 0
        incomplete = False
        if request is not None:
            lost = request.lost_bytes
            incomplete = request.headers_incomplete
        if response is not None:
            lost += response.lost_bytes
            doubtful = doubtful or response.ambiguity != ()
            incomplete = incomplete or response.headers_incomplete
        if lost or doubtful or incomplete or self._asks_more or exchange.error is _TRUNCATED:
            self._attributes.more(attributes, exchange, lost, incomplete=incomplete)
        if (
            exchange.genai is not None
            or exchange.rpc is not None
            or (response is not None and response.events is not None)
        ):
            self._append_carried(attributes, exchange)
        identity = self._identities.of(exchange, first if self._reads_context else _NO_FIELDS)
        span_attributes = SPAN_ATTRIBUTE.join(attributes)
        if self._bodies_asked:
            attributes += self._bodies(exchange)
        return self._assembly.records(
            ends,
            common,
            identity,
            exchange.start_ktime_ns,
            exchange.end_ktime_ns,
            exchange.observed_ktime_ns,
            shown,
            (span_attributes, b"", b"", b"", b""),
            (LOG_ATTRIBUTE.join(attributes), b"", b"", b"", b""),
        )

    def _encode_whole(self, turn: Turn) -> Encoded:
        return self.encode(turn.exchange())

    def _append_carried(self, attributes: list[bytes], exchange: Exchange) -> None:
        """What the contents say: an event stream, the call of a model, a procedure call."""
        attributes += reading_attributes(exchange)
        if exchange.rpc is not None:
            self._rpc.append(attributes, exchange.rpc)

    def _of_request(
        self,
        attributes: list[bytes],
        exchange: Exchange,
        request: Request,
        first: dict[bytes, bytes],
    ) -> tuple[Fragment, Common, bytes]:
        """What is said of an exchange whose request is known; and where it went, for display."""
        target = request.target
        # The commonest targets of all are decided without a call.
        if _EQUALS in target or _AT in target or _PERCENT in target:
            target = self._redactor.target(target)
        name = request.method
        method = self._methods.get(name)
        if (
            method is None
            or name == b"CONNECT"
            or not target.startswith(b"/")
            or exchange.genai is not None
            or request.headers_incomplete
        ):
            return self._of_any(attributes, exchange, request, target, first)
        at_client = exchange.role is _CLIENT
        if not at_client:
            for header in FORWARDED:
                if header in first:
                    return self._of_any(attributes, exchange, request, target, first)
        block = self._blocks.of(exchange.connection, exchange.role, first.get(b"host"))
        if block is None:
            return self._of_any(attributes, exchange, request, target, first)

        response = exchange.response
        outcome: object = exchange.error
        rpc = exchange.rpc
        if rpc is not None:
            outcome = (exchange.error, rpc.method, rpc.status, rpc.web)
        if response is None:
            key = (name, -1, request.version, exchange.reused, outcome)
        else:  # 000 is sent, too
            key = (name, response.status, response.version, exchange.reused, outcome)
        common = block.shaped.get(key)
        if common is None:
            if rpc is not None and not is_method(rpc.method):
                return self._of_any(attributes, exchange, request, target, first)
            common = self._blocks.shaped(block, key, exchange, method)
        shown = target
        if at_client:
            if block.base is not None:
                shown = block.base + target
            self._attributes.at_client(attributes, block.base, target, first.get(b"user-agent"))
        else:
            self._attributes.at_server(attributes, target, first.get(b"user-agent"))
        return block.ends, common, shown if rpc is None else rpc.method

    def _of_any(
        self,
        attributes: list[bytes],
        exchange: Exchange,
        request: Request | None,
        target: bytes,
        first: Mapping[bytes, bytes],
    ) -> tuple[Fragment, Common, bytes]:
        """The same of any exchange. `target` is redacted."""
        if exchange.rpc is not None:
            self._rpc.append_original(attributes, exchange.rpc, target)
        method: str | None = None
        location: Location | None = None
        block = None
        if request is not None:
            block = self._blocks.of(exchange.connection, exchange.role, first.get(b"host"))
            method = self._methods.get(request.method)
            if method is None and request.method != UNKNOWN:
                self._attributes.method_original(attributes, request)
            location = self._attributes.locate(attributes, exchange, request, target, first)
            if location.full is not None:
                target = location.full
        ends = (
            self._blocks.of_connection(exchange.connection) if block is None else block.attributes
        )
        if exchange.rpc is not None and is_method(exchange.rpc.method):
            target = exchange.rpc.method
        shape = self._shapes.of(exchange, method, location)
        before, after, last = display(exchange)
        return ends, (shape.span, shape.log, before, after, last), target

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
            if not message.body.content:
                cut = cut or message.body.truncated
                continue
            body = self._redactor.readable(message.body, message.fields, self._body_limit)
            cut = cut or body.cut
            if body.content:
                encoded.append(content_attribute(name, body))
        if cut and not exchange.lost_bytes and exchange.error is not _TRUNCATED:
            encoded.append(self._attributes.truncated)
        return encoded
