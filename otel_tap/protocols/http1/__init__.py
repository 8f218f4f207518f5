"""HTTP/1.0 and 1.1 as an observer reads it: two readers and the pairing between them.

Owns the protocol of one connection; `head` reads heads, `reader` frames, `pairing` pairs, and
`turns` takes the short way for whole messages that take turns.

Why an own parser, tried with httptools 0.9 (llhttp) and h11 0.16 on one 226-byte request head:
httptools takes 1.7 us, h11 26 (with a new connection each). httptools has no way to say that a
response answers HEAD (it read the next status line as body), refused obs-fold and bare LF, gives
no wire sizes and no places, and stops at a payload that begins amid a body. Neither takes "n bytes
are missing". h11 does read a response without its request; speed and gaps speak against it.
"""

from __future__ import annotations

from otel_tap.events import DataEvent, Direction
from otel_tap.exchange import Exchange, ExchangeError, Role
from otel_tap.messages import Request
from otel_tap.protocols import Carrier, Protocol
from otel_tap.protocols.http1.head import HeadParser
from otel_tap.protocols.http1.pairing import DECLINED, SWITCHED, UNDECIDED, Pairing
from otel_tap.protocols.http1.reader import MessageReader
from otel_tap.protocols.http1.requests import RequestReader
from otel_tap.protocols.http1.responses import ResponseReader
from otel_tap.protocols.http1.switching import hand_over, switched

__all__ = ["HeadParser", "Http1"]


class Http1(Protocol):
    """One HTTP/1 connection; `request_direction` is the direction that carries requests."""

    __slots__ = ("_carrier", "_pairing", "_request_direction", "_requests", "_responses")

    def __init__(self, carrier: Carrier, heads: HeadParser, request_direction: Direction) -> None:
        super().__init__()
        client = request_direction == Direction.EGRESS
        pairing = Pairing(carrier, Role.CLIENT if client else Role.SERVER)
        self._carrier = carrier
        self._pairing = pairing
        self._request_direction = int(request_direction)
        self._requests = RequestReader(
            pairing, heads, carrier.counters, carrier.body_limit, carrier.content_rules
        )
        self._responses = ResponseReader(pairing, heads, carrier.counters, carrier.body_limit)

    @property
    def busy(self) -> bool:
        """Whether an exchange is open that was not emitted."""
        return self._pairing.busy

    @property
    def egress_begins_at_one(self) -> bool:
        """A client opened the connection."""
        return self._pairing.role == Role.CLIENT

    @property
    def at_rest(self) -> bool:
        """Whether the next message can be read without regard to what came before."""
        return self._pairing.at_rest and self._requests.at_rest and self._responses.at_rest

    def adopt(self, request: Request, event: DataEvent, begin_ns: int, end_ns: int) -> None:
        """A whole request, moved by `event` and what came behind it, was read elsewhere at rest."""
        pairing = self._pairing
        pairing.now_ns = event.ktime_ns
        pairing.request_began(event, 0, begin_ns)
        pairing.request_head(request.method, switches=False)
        pairing.request_ended(request, None, end_ns)

    def data(self, event: DataEvent) -> None:
        """The next captured bytes of one stream."""
        pairing = self._pairing
        pairing.now_ns = event.ktime_ns
        direction = event.direction
        # A write began when it was entered, a read when it returned.
        begin_ns = event.begin_ktime_ns if direction == 1 else event.ktime_ns
        reader: MessageReader = self._responses
        if direction == self._request_direction:
            reader = self._requests
        reader.data(event, begin_ns)
        if (length := reader.spare()) and self._carrier.spare is not None:
            begin = event.offset + len(event.payload)
            connection_id = self._carrier.connection.connection_id
            self._carrier.spare(connection_id, direction, begin, begin + length)
        if pairing.broken or pairing.switch != UNDECIDED:
            self._turn(event.ktime_ns)

    def gap(self, direction: Direction, ktime_ns: int, length: int) -> None:
        """The next `length` bytes of one stream are unknown."""
        self._pairing.now_ns = ktime_ns
        if direction == self._request_direction:
            self._requests.gap(ktime_ns, length)
        else:
            self._responses.gap(ktime_ns, length)
        if self._pairing.switch != UNDECIDED:
            self._turn(ktime_ns)

    def end(self, direction: Direction, ktime_ns: int) -> None:
        """A stream ended in order."""
        self._pairing.now_ns = ktime_ns
        if direction == self._request_direction:
            self._requests.end(ExchangeError.CONNECTION_CLOSED)
        else:
            self._responses.end(ExchangeError.CONNECTION_CLOSED)
            if self._requests.amid_message:
                self._requests.cut(ExchangeError.CONNECTION_CLOSED)
                self._requests.stop()
            self._pairing.no_more_responses(ktime_ns)

    def finish(self, ktime_ns: int, error: ExchangeError) -> None:
        """Both streams ended: what is delimited by the end is complete."""
        self._pairing.now_ns = ktime_ns
        self._responses.end(error)
        self._requests.end(error)
        self.abort(ktime_ns, error)

    def abort(self, ktime_ns: int, error: ExchangeError) -> None:
        """Everything open ends; after a time-out the readers go on with their framing."""
        if error != ExchangeError.TIMEOUT:
            self._requests.reveal()
            self._responses.reveal()
        request = self._requests.so_far() if self._requests.amid_message else None
        response = self._responses.so_far() if self._responses.amid_message else None
        self._pairing.mark_moved(self._requests.ktime_ns, self._responses.ktime_ns)
        self._pairing.finish_all(ktime_ns, error, request, response)

    def time_out(self, ktime_ns: int, *, streams: bool) -> None:
        """A stream of events may be silent for long."""
        if streams or not self._responses.open_ended:
            self.abort(ktime_ns, ExchangeError.TIMEOUT)

    def under_way(self, ktime_ns: int) -> list[Exchange]:
        """The open exchanges, oldest first."""
        request = self._requests.so_far() if self._requests.amid_message else None
        response = self._responses.so_far() if self._responses.amid_message else None
        return self._pairing.under_way(ktime_ns, request, response)

    def tick(self, ktime_ns: int) -> None:
        """A response waits for the report of its request a second at most."""
        self._pairing.tick(ktime_ns)

    def _turn(self, ktime_ns: int) -> None:
        pairing = self._pairing
        counters = self._carrier.counters
        switch = pairing.switch
        pairing.switch = UNDECIDED
        if pairing.broken:
            if self._requests.refused and not self._responses.failed and pairing.asks:
                return  # what the peer made of that request is in its response
            counters.opaque_malformed += 1
            self.abort(ktime_ns, ExchangeError.MALFORMED)
            self.successor = self._carrier.opaque
        elif switch == SWITCHED:
            self._switch(ktime_ns)
        elif switch == DECLINED:
            for event in self._requests.release():
                begin_ns = event.begin_ktime_ns if event.direction == 1 else event.ktime_ns
                self._requests.data(event, begin_ns)

    def _switch(self, ktime_ns: int) -> None:
        requests, responses = self._requests, self._responses
        self.abort(ktime_ns, ExchangeError.TRUNCATED)
        reader = switched(self._carrier, self._pairing.granted, Direction(self._request_direction))
        # A stream that was not read to the very end of HTTP/1 is met midway.
        if not requests.holds:
            reader.gap(Direction(self._request_direction), ktime_ns, 0)
        if not responses.switched:
            reader.gap(Direction(1 - self._request_direction), ktime_ns, 0)
        came = requests.release()
        if responses.rest is not None:
            came.append(responses.rest)
        self.successor = hand_over(reader, came)
