"""What a connection speaks, and at which end of it we are.

Owns the decision, from first bytes only: never from ports, never from the middle of a payload.
At the real beginning of a stream a start line may arrive in pieces, and anything else than HTTP
ends the search. Midway a whole start line at the beginning of one event is wanted, and bytes are
skipped until there is one.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

from otel_tap.events import DataEvent, Direction
from otel_tap.exchange import ExchangeError
from otel_tap.protocols import Carrier, Protocol
from otel_tap.protocols.http1.head import (
    HeadParser,
    begins_request,
    begins_response,
    is_request_line,
)
from otel_tap.protocols.http1.turns import Turns
from otel_tap.protocols.http2 import Http2
from otel_tap.protocols.http2.recognition import (
    PREFACE,
    REQUESTS,
    begins_server,
    may_begin_server,
    side_of,
)

HTTP2_PREFACE: Final = PREFACE[
    :16
]  # RFC 9113 3.4: reads as a request line that no HTTP/1 server takes

_REQUEST_LINE_BEGUN: Final = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}"
    rb"(?: (?:[^\x00-\x20\x7f]+(?: (?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01]\r?)?)?)?)?)?)?)?)?)?)?)?"
)
_STATUS_LINE_BEGUN: Final = re.compile(
    rb"H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01](?: (?:[1-9](?:[0-9][0-9]?)?)?)?)?)?)?)?)?)?)?"
)

_START_LINE_LIMIT: Final = 64 * 1024
_SERVER_HEADER: Final = 9  # bytes of the frame header with which an HTTP/2 server begins
_PENDING_LIMIT: Final = 1024  # events kept while a start line arrives in pieces
# A connection met midway that is not HTTP: both sides spoke this many times in turn (a long
# transfer does not), or this much went by. Then copying its bytes is not worth its cost.
_TURN_LIMIT: Final = 16
_SKIP_LIMIT: Final = 64 * 1024 * 1024


class Verdict(IntEnum):
    """What the first bytes of a stream are."""

    OTHER = 0
    UNDECIDED = 1
    REQUEST = 2
    RESPONSE = 3
    HTTP2 = 4  # as a client begins
    HTTP2_SERVER = 5


def classify(data: bytes) -> Verdict:
    """What the first bytes of a stream are; UNDECIDED while more could make it HTTP."""
    if begins_response(data):
        return Verdict.RESPONSE
    if data.startswith(HTTP2_PREFACE):
        return Verdict.HTTP2
    if begins_server(data):
        return Verdict.HTTP2_SERVER
    if data and may_begin_server(data) and len(data) < _SERVER_HEADER:
        return Verdict.UNDECIDED
    data = data.lstrip(b"\r\n")  # RFC 9112 2.2: empty lines before a request line
    if is_request_line(data):
        return Verdict.REQUEST
    if len(data) > _START_LINE_LIMIT:
        return Verdict.OTHER
    if (
        not data
        or HTTP2_PREFACE.startswith(data)
        or _REQUEST_LINE_BEGUN.fullmatch(data)
        or _STATUS_LINE_BEGUN.fullmatch(data)
    ):
        return Verdict.UNDECIDED
    return Verdict.OTHER


class Detection(Protocol):
    """Holds a connection until its protocol is known."""

    __slots__ = ("_carrier", "_heads", "_last", "_midway", "_pending", "_skipped", "_turns")

    def __init__(self, carrier: Carrier, heads: HeadParser) -> None:
        super().__init__()
        self._carrier = carrier
        self._heads = heads
        self._midway = [False, False]
        self._pending: list[DataEvent] = []
        self._skipped = 0
        self._turns = 0
        self._last = -1

    def data(self, event: DataEvent) -> None:
        """Decide, or keep the event until it can be decided."""
        payload = event.payload
        if not payload:
            return
        direction = event.direction
        if self._midway[direction]:
            if payload.startswith(HTTP2_PREFACE):
                self._midway[direction] = False
                self._pending.append(event)
                self._begin_http2(direction, event.ktime_ns)
            elif begins_request(payload):
                self._pending.append(event)
                self._begin_http1(direction, event.ktime_ns)
            elif begins_response(payload):
                self._pending.append(event)
                self._begin_http1(_other(direction), event.ktime_ns)
            elif (side := side_of(payload)) is not None:
                self._pending.append(event)
                requests = direction if side == REQUESTS else _other(direction)
                self._begin_http2(requests, event.ktime_ns)
            else:
                self._skip(event)
            return
        self._pending.append(event)
        own = [kept.payload for kept in self._pending if kept.direction == direction]
        verdict = classify(own[0] if len(own) == 1 else b"".join(own))
        if verdict == Verdict.REQUEST:
            self._begin_http1(direction, event.ktime_ns)
        elif verdict == Verdict.RESPONSE:
            self._begin_http1(_other(direction), event.ktime_ns)
        elif verdict == Verdict.HTTP2:
            self._begin_http2(direction, event.ktime_ns)
        elif verdict == Verdict.HTTP2_SERVER:
            self._begin_http2(_other(direction), event.ktime_ns)
        elif verdict == Verdict.OTHER or len(self._pending) >= _PENDING_LIMIT:
            self._give_up_other()

    def gap(self, direction: Direction, ktime_ns: int, length: int) -> None:  # noqa: ARG002 - the contract's
        """From here on this stream is met midway."""
        self._midway[direction] = True
        kept = []
        for event in self._pending:
            if event.direction == direction:
                self._carrier.counters.skipped_bytes += len(event.payload)
            else:
                kept.append(event)
        self._pending = kept

    def end(self, direction: Direction, ktime_ns: int) -> None:
        """Nothing is open."""

    def abort(self, ktime_ns: int, error: ExchangeError) -> None:  # noqa: ARG002 - the contract's
        """What was kept will not be identified any more."""
        for event in self._pending:
            self._carrier.counters.skipped_bytes += len(event.payload)
        self._pending = []

    def _begin_http1(self, request_direction: Direction, ktime_ns: int) -> None:
        self._begin(Turns(self._carrier, self._heads, request_direction), ktime_ns)

    def _begin_http2(self, request_direction: Direction, ktime_ns: int) -> None:
        self._begin(Http2(self._carrier, request_direction), ktime_ns)

    def _begin(self, reader: Protocol, ktime_ns: int) -> None:
        for direction in (Direction.INGRESS, Direction.EGRESS):
            if self._midway[direction]:
                reader.gap(direction, ktime_ns, 0)
        pending = self._pending
        self._pending = []
        for event in pending:
            reader.data(event)
            if reader.successor is not None:
                reader = reader.successor
        self.successor = reader

    def _give_up_other(self) -> None:
        counters = self._carrier.counters
        if self._carrier.tunnels:
            counters.opaque_tunnel += 1
        else:
            counters.opaque_not_http += 1
        self._drop_pending()

    def _drop_pending(self) -> None:
        for event in self._pending:
            self._carrier.counters.opaque_bytes += len(event.payload)
        self._pending = []
        self.successor = self._carrier.opaque

    def _skip(self, event: DataEvent) -> None:
        size = len(event.payload)
        self._carrier.counters.skipped_bytes += size
        self._skipped += size
        if event.direction != self._last:
            self._last = event.direction
            self._turns += 1
        if self._turns >= _TURN_LIMIT or self._skipped >= _SKIP_LIMIT:
            self._give_up_other()


def _other(direction: Direction) -> Direction:
    return Direction.EGRESS if direction == Direction.INGRESS else Direction.INGRESS
