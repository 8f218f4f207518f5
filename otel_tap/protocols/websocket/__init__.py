"""WebSocket (RFC 6455) on a connection that HTTP/1.1 was upgraded on.

Owns what is told of a session: each whole message where contents are wanted, and once, at the end,
the session itself; both hang on the exchange of the handshake, which was told when it was granted.
`frames` finds frames, `session` makes messages and counts of them, `deflate` decompresses,
`handshake` reads what was agreed.

A session may be silent for hours, so it is never `busy`: no time-out ends it. It is told when both
ends sent a close frame, or when its connection ends or is forgotten.
"""

from __future__ import annotations

from otel_tap.events import DataEvent, Direction
from otel_tap.exchange import Exchange, ExchangeError, Role
from otel_tap.messages import EMPTY_BODY, Body, Request
from otel_tap.protocols import Carrier, Protocol
from otel_tap.protocols.websocket.handshake import agreed, is_websocket
from otel_tap.protocols.websocket.session import WebSocketReader
from otel_tap.websocket import Message, Session

__all__ = ["WebSocket", "is_websocket"]

# How a session ends in order when close frames were seen.
_IN_ORDER = (ExchangeError.CONNECTION_CLOSED, ExchangeError.PROCESS_EXITED)


class WebSocket(Protocol):
    """One session; `handshake` is the exchange that granted it, its response is known."""

    __slots__ = (
        "_agreed",
        "_carrier",
        "_client",
        "_end_ns",
        "_handshake",
        "_over",
        "_reader",
        "_request",
        "_request_direction",
        "_response",
    )

    def __init__(self, carrier: Carrier, handshake: Exchange, request_direction: Direction) -> None:
        super().__init__()
        self._carrier = carrier
        self._handshake = handshake
        self._request_direction = request_direction
        self._client = handshake.role == Role.CLIENT
        self._end_ns = handshake.end_ktime_ns
        self._over = False
        # Contents of the handshake were told with it; here they would only take room.
        self._request = _without_content(handshake.request)
        self._response = handshake.response
        response = handshake.response
        self._agreed = agreed(() if response is None else response.fields)
        limit = carrier.body_limit
        self._reader = WebSocketReader(self._agreed, limit, self._message if limit else None)

    def data(self, event: DataEvent) -> None:
        """The next captured bytes of one stream."""
        if self._over:
            return
        reader = self._reader
        client = event.direction == self._request_direction
        self._end_ns = event.ktime_ns
        spare = reader.data(event.payload, event.ktime_ns, client=client)
        if spare and self._carrier.spare is not None:
            begin = event.offset + len(event.payload)
            connection_id = self._carrier.connection.connection_id
            self._carrier.spare(connection_id, event.direction, begin, begin + spare)
        if reader.malformed:
            self._carrier.counters.messages_malformed += 1
            self._carrier.counters.opaque_malformed += 1
            self._finish(event.ktime_ns, ExchangeError.MALFORMED)
        elif reader.frames.closed:
            self._finish(event.ktime_ns, None)

    def gap(self, direction: Direction, ktime_ns: int, length: int) -> None:
        """The next `length` bytes of one stream are unknown."""
        if self._over:
            return
        client = direction == self._request_direction
        spared = self._reader.gap(length, ktime_ns, client=client)
        self._carrier.counters.gap_bytes -= spared
        self._carrier.counters.spared_bytes += spared

    def end(self, direction: Direction, ktime_ns: int) -> None:
        """A stream ended in order; the session ends with its connection."""

    def abort(self, ktime_ns: int, error: ExchangeError) -> None:
        """The session is over."""
        if self._over:
            return
        if self._reader.frames.closed_by_client is not None and error in _IN_ORDER:
            self._finish(ktime_ns, None)
        else:
            self._finish(ktime_ns, error)

    def _finish(self, ktime_ns: int, error: ExchangeError | None) -> None:
        self._over = True
        self.successor = self._carrier.opaque
        frames = self._reader.frames
        closed_by_client = frames.closed_by_client
        code, reason = frames.close()
        self._carrier.counters.websocket_sessions += 1
        self._carrier.counters.skipped_bytes += self._reader.skipped_bytes
        session = Session(
            frames.flow(client=self._client),
            frames.flow(client=not self._client),
            self._agreed.subprotocol,
            self._agreed.deflate,
            code,
            reason,
            None if closed_by_client is None else closed_by_client == self._client,
        )
        self._tell(session, self._end_ns, ktime_ns, error)

    def _message(
        self,
        by_client: bool,  # noqa: FBT001 - a callback
        text: bool,  # noqa: FBT001
        compressed: bool,  # noqa: FBT001
        number: int | None,
        body: Body,
        start_ns: int,
    ) -> None:
        self._carrier.counters.websocket_messages += 1
        message = Message(by_client == self._client, text, compressed, number, body, start_ns)
        now_ns = self._reader.frames.now_ns
        self._tell(message, now_ns, now_ns, None)

    def _tell(
        self,
        what: Session | Message,
        end_ns: int,
        now_ns: int,
        error: ExchangeError | None,
    ) -> None:
        handshake = self._handshake
        self._carrier.deliver(
            Exchange(
                handshake.role,
                self._carrier.connection,
                handshake.tid,
                self._request,
                self._response,
                handshake.start_ktime_ns,
                handshake.request_end_ktime_ns,
                handshake.response_start_ktime_ns,
                max(handshake.start_ktime_ns, end_ns),
                now_ns,
                handshake.reused,
                handshake.position,
                error,
                websocket=what,
            )
        )


def _without_content(request: Request | None) -> Request | None:
    if request is None or not request.body.content:
        return request
    return Request(
        request.method,
        request.target,
        request.version,
        request.fields,
        request.trailers,
        EMPTY_BODY,
        request.wire_size,
        request.lost_bytes,
        request.complete,
        request.headers_incomplete,
    )
