"""WebSocket (RFC 6455) on a connection that HTTP/1.1 was upgraded on.

`frames` finds frames, `session` makes messages and counts of them, `deflate` decompresses,
`handshake` reads what was agreed, `telling` tells what followed. HTTP/2 carries sessions as streams
(RFC 8441): `http2.sockets` reads those.

A session may be silent for hours, so it is never `busy`: no time-out ends it. It is told when both
ends sent a close frame, or when its connection ends or is forgotten.
"""

from __future__ import annotations

from otel_tap.events import DataEvent, Direction
from otel_tap.exchange import Exchange, ExchangeError
from otel_tap.protocols import Carrier, Protocol
from otel_tap.protocols.websocket.handshake import is_websocket
from otel_tap.protocols.websocket.telling import Telling

__all__ = ["WebSocket", "is_websocket"]


class WebSocket(Protocol):
    """One session; `handshake` is the exchange that granted it, its response is known."""

    __slots__ = ("_carrier", "_request_direction", "_telling")

    def __init__(self, carrier: Carrier, handshake: Exchange, request_direction: Direction) -> None:
        super().__init__()
        self._carrier = carrier
        self._request_direction = request_direction
        self._telling = Telling(carrier, handshake)

    def data(self, event: DataEvent) -> None:
        """The next captured bytes of one stream."""
        telling = self._telling
        if telling.over:
            return
        client = event.direction == self._request_direction
        if not telling.moved(event.payload, event.ktime_ns, client=client):
            if telling.malformed:
                self._carrier.counters.opaque_malformed += 1
            self.successor = self._carrier.opaque
            return
        spare = telling.spare(client=client)
        if spare and self._carrier.spare is not None:
            begin = event.offset + len(event.payload)
            connection_id = self._carrier.connection.connection_id
            self._carrier.spare(connection_id, event.direction, begin, begin + spare)

    def gap(self, direction: Direction, ktime_ns: int, length: int) -> None:
        """The next `length` bytes of one stream are unknown."""
        client = direction == self._request_direction
        spared = self._telling.lost(length, ktime_ns, client=client)
        self._carrier.counters.gap_bytes -= spared
        self._carrier.counters.spared_bytes += spared

    def under_way(self, ktime_ns: int) -> list[Exchange]:
        """The session, unless it is over."""
        return self._telling.so_far(ktime_ns)

    def end(self, direction: Direction, ktime_ns: int) -> None:
        """A stream ended in order; the session ends with its connection."""

    def abort(self, ktime_ns: int, error: ExchangeError) -> None:
        """The session is over."""
        if not self._telling.over:
            self._telling.ends(ktime_ns, error)
            self.successor = self._carrier.opaque
