"""WebSockets on streams of an HTTP/2 connection (RFC 8441).

Owns the sessions under way, each by the number of its stream, and what a client sent of one before
its grant was reported. `streams` hands a stream over once its handshake is told, and from then on
what moves on it. It must not know frames of HTTP/2.

A session is over when both ends sent a close frame, when its stream ended both ways or was reset,
or when the connection ends. As on HTTP/1.1, no time-out ends one.
"""

from __future__ import annotations

from typing import Final

from otel_tap.exchange import Exchange, ExchangeError
from otel_tap.protocols import Carrier
from otel_tap.protocols.content import ContentSink
from otel_tap.protocols.websocket.telling import Telling

PROTOCOL: Final = b"websocket"  # the value of `:protocol`
OPEN_LIMIT: Final = 256  # sessions of one connection; then the oldest is told as it is

_EARLY_LIMIT: Final = 16 * 1024  # bytes of frames that wait for the grant
_EARLY_PIECES: Final = 256
_REQUESTS: Final = 0


class Asked(ContentSink):
    """What a client sent behind its request for a WebSocket; `wire` and `end_ns` are of its head.

    No client may send frames before the grant (RFC 6455 4.1), but the two can be captured on
    different processors.
    """

    __slots__ = ("_size", "end_ns", "pieces", "whole", "wire")

    def __init__(self, wire: int, end_ns: int) -> None:
        self.wire = wire
        self.end_ns = end_ns
        self.pieces: list[tuple[bytes, int]] = []
        self.whole = True
        self._size = 0

    def text(self, data: bytes, ktime_ns: int) -> None:
        """The next bytes, which moved at `ktime_ns`."""
        if not self.whole or not data:
            return
        self._size += len(data)
        if self._size > _EARLY_LIMIT or len(self.pieces) >= _EARLY_PIECES:
            self.whole = False
        else:
            self.pieces.append((data, ktime_ns))

    def document_ends(self) -> None:
        """What follows is the session's as well."""

    def cut(self) -> None:
        """Frames may have passed unseen."""
        self.whole = False


class _Socket:
    """A session, and which ends of its stream are over."""

    __slots__ = ("ended", "telling")

    def __init__(self, telling: Telling) -> None:
        self.telling = telling
        self.ended = [False, False]


class Sockets:
    """The sessions under way. A `side` is that of `frames`."""

    __slots__ = ("_carrier", "_open")

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._open: dict[int, _Socket] = {}

    def is_open(self, number: int) -> bool:
        """Whether a session is under way on this stream."""
        return number in self._open

    def begin(self, number: int, handshake: Exchange, asked: Asked, now_ns: int) -> None:
        """The session that `handshake` granted, on the stream of that number."""
        if len(self._open) >= OPEN_LIMIT:
            oldest = next(iter(self._open))
            self._end(oldest, self._open[oldest], now_ns, ExchangeError.TRUNCATED)
        socket = self._open[number] = _Socket(Telling(self._carrier, handshake))
        for piece, ktime_ns in asked.pieces:
            self._moved(number, socket, piece, ktime_ns, client=True)
        if not asked.whole:
            socket.telling.lost(0, now_ns, client=True)

    def moved(
        self, side: int, number: int, payload: bytes, at: int, stop: int, now_ns: int
    ) -> None:
        """The next bytes of one end are `payload[at:stop]`."""
        socket = self._open.get(number)
        if socket is None or at == stop or socket.ended[side]:
            return
        self._moved(number, socket, payload[at:stop], now_ns, client=side == _REQUESTS)

    def lost(self, side: int, number: int, count: int, now_ns: int) -> None:
        """The next `count` bytes of one end are unknown; 0: so is how many."""
        socket = self._open.get(number)
        if socket is not None and not socket.ended[side]:
            socket.telling.lost(count, now_ns, client=side == _REQUESTS)

    def hide(self, side: int, now_ns: int) -> None:
        """Any bytes of this side may have passed unseen, of any session."""
        for number in self._open:
            self.lost(side, number, 0, now_ns)

    def end(self, side: int, number: int, now_ns: int) -> None:
        """One end said that it sends no more on this stream."""
        socket = self._open.get(number)
        if socket is None:
            return
        socket.ended[side] = True
        if socket.ended[1 - side]:
            self._end(number, socket, now_ns, ExchangeError.CONNECTION_CLOSED)

    def reset(self, number: int, error: ExchangeError, now_ns: int) -> None:
        """One end gave the stream up. Behind a close frame that is how it is left (RFC 8441 5)."""
        socket = self._open.get(number)
        if socket is not None:
            if socket.telling.is_closing and error == ExchangeError.CANCELLED:
                error = ExchangeError.CONNECTION_CLOSED
            self._end(number, socket, now_ns, error)

    def under_way(self, now_ns: int) -> list[Exchange]:
        """The sessions as they are."""
        return [one for socket in self._open.values() for one in socket.telling.so_far(now_ns)]

    def end_all(self, now_ns: int, error: ExchangeError) -> None:
        """The connection is over."""
        for number, socket in list(self._open.items()):
            self._end(number, socket, now_ns, error)

    def _end(self, number: int, socket: _Socket, now_ns: int, error: ExchangeError) -> None:
        del self._open[number]
        socket.telling.ends(now_ns, error)

    def _moved(
        self, number: int, socket: _Socket, piece: bytes, now_ns: int, *, client: bool
    ) -> None:
        # Told by its frames alone, it is over, and once only.
        if not socket.telling.moved(piece, now_ns, client=client):
            self._open.pop(number, None)
