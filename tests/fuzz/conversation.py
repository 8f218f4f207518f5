"""A conversation of one connection, out of any bytes.

The first byte chooses the end that is seen, whether from the start, and the body limit. The rest
is steps with `STEP` between them: a byte that says what happens, a count, and the bytes that move.
A step can be found and moved by a mutation, for nothing before it says where it stands.

Invariant of every conversation: no exception; every exchange once, and counted; no content beyond
the limit; each exchange can be redacted, shown, and encoded to what OTLP's own library reads.
"""

from __future__ import annotations

from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from otel_tap.cli.exchange_view import ExchangeView
from otel_tap.events import CloseReason, Direction, TlsLibrary
from otel_tap.exchange import Exchange
from otel_tap.privacy import Redactor
from otel_tap.telemetry import Identities, RecordEncoder, TelemetrySettings
from otel_tap.telemetry.names import OPT_IN_ATTRIBUTES
from otel_tap.websocket import Message
from tests.unit.test_cli_exchange_view import ORIGIN
from tests.unit.wire import SECOND, Wire

STEP = b"\xfe\xff"
_LIMITS = (1 << 20, 0, 5, 300)
_STEPS = 200

# The first byte.
CLIENT = 1
MIDWAY = 2
TLS = 4
LIMIT_SHIFT = 3

# The first byte of a step: the direction, what is lost, and what happens behind it.
REQUESTS = 1
LOST_BEHIND = 2
LOST_BEFORE = 4
AGAIN = 6
SECONDS = 8
CLOSES = 16
_FATES = 6

_SETTINGS = TelemetrySettings(
    request_headers=("host", "x-any"),
    response_headers=("x-any",),
    attributes=frozenset(OPT_IN_ATTRIBUTES),
    bodies=True,
)
_CLOSES = tuple(CloseReason)
# Like the agent's own, these serve all conversations, one after another.
_ENCODER = RecordEncoder(_SETTINGS, Identities("boot"), 0)
_REDACTOR = Redactor()


def script(first: int, *steps: tuple[int, int, bytes]) -> bytes:
    """The bytes of a conversation, for seeds."""
    return bytes([first]) + STEP.join(bytes([what, count]) + data for what, count, data in steps)


def play(data: bytes) -> Wire:
    """The conversation, up to its end; its exchanges are in the wire that is returned."""
    first = data[0] if data else CLIENT
    limit = _LIMITS[first >> LIMIT_SHIFT & 3]
    wire = Wire(client=bool(first & CLIENT), body_limit=limit, idle_timeout_ns=30 * SECOND)
    wire.opened(
        from_start=not first & MIDWAY, tls=TlsLibrary.OPENSSL if first & TLS else TlsLibrary.NONE
    )
    for step in data[1:].split(STEP, _STEPS):
        if len(step) >= 2:
            _take(wire, step[0], step[1], step[2:])
    wire.closed().later(2 * SECOND)
    wire.connections.flush(wire.now)
    return wire


def _take(wire: Wire, what: int, count: int, payload: bytes) -> None:
    upwards = bool(what & REQUESTS) == wire.client
    direction = Direction.EGRESS if upwards else Direction.INGRESS
    fate = what & _FATES
    if fate == LOST_BEFORE:
        wire.missed(direction, count)
    at = wire.offsets[direction]
    if fate == AGAIN:
        at = max(0, at - count)
    if payload or fate == LOST_BEHIND:
        wire.moved(direction, payload, lost=count if fate == LOST_BEHIND else 0, at=at)
    if what & SECONDS:
        wire.later(count * SECOND)
    if what & CLOSES:
        wire.closed(_CLOSES[count % len(_CLOSES)])


def check(data: bytes) -> None:
    """Plays the conversation and holds it against the invariant above."""
    wire = play(data)
    assert wire.connections.open_connections == 0
    counted = wire.counters
    sockets = [one.websocket for one in wire.exchanges if one.websocket is not None]
    assert len(wire.exchanges) - len(sockets) == (
        counted.exchanges_complete
        + counted.exchanges_incomplete
        + counted.exchanges_without_request
        + counted.exchanges_without_response
    )
    assert len(sockets) == counted.websocket_sessions + counted.websocket_messages
    limit = _LIMITS[(data[0] if data else 0) >> LIMIT_SHIFT & 3]
    for exchange in wire.exchanges:
        _check_exchange(exchange, limit)
        _check_records(exchange)


def _check_exchange(exchange: Exchange, limit: int) -> None:
    assert exchange.request is not None or exchange.response is not None
    assert exchange.duration_ns >= 0
    for message in (exchange.request, exchange.response):
        if message is None:
            continue
        body = message.body
        assert len(body.content) <= min(limit, body.size)
        assert body.truncated == (len(body.content) < body.size)
        assert 0 <= message.lost_bytes <= message.wire_size
        for name, _ in message.fields + message.trailers:
            assert name == name.lower()
    if isinstance(exchange.websocket, Message):
        assert len(exchange.websocket.body.content) <= limit


def _check_records(exchange: Exchange) -> None:
    span, log = _ENCODER.encode(exchange)
    # A message has no span: that of its session stands for all of them.
    spans = 0 if isinstance(exchange.websocket, Message) else 1
    assert len(ScopeSpans.FromString(span).spans) == spans
    assert len(ScopeLogs.FromString(log).log_records) == 1
    view = ExchangeView(_REDACTOR.redact(exchange), ORIGIN, 0)
    assert _REDACTOR.counters.failures == 0
    assert view.line().isprintable()
    assert view.json_line().isascii()
    for name, value in view.details():
        assert name.isprintable()
        assert value.isprintable()
