"""What is told of one WebSocket session, whichever protocol carries it.

Owns the exchanges that hang on the one of the handshake, which was told when it was granted: each
whole message where contents are wanted and, once, at the end, the session itself. It must not know
connections, nor streams.
"""

from __future__ import annotations

from otel_tap.exchange import Exchange, ExchangeError, Role
from otel_tap.messages import EMPTY_BODY, Body, Request
from otel_tap.protocols import Carrier
from otel_tap.protocols.websocket.handshake import agreed
from otel_tap.protocols.websocket.session import WebSocketReader
from otel_tap.websocket import Message, Session

# How a session ends in order when close frames were seen.
_IN_ORDER = (ExchangeError.CONNECTION_CLOSED, ExchangeError.PROCESS_EXITED)
# What ends is the look at it: more may be said than was counted.
_GOES_ON = (ExchangeError.TRUNCATED, ExchangeError.AGENT_STOPPED)


class Telling:
    """One session; `handshake` is the exchange that granted it, its response is known.

    `over`: it was told, and takes nothing more.
    """

    __slots__ = (
        "_agreed",
        "_carrier",
        "_client",
        "_end_ns",
        "_handshake",
        "_reader",
        "_request",
        "_response",
        "over",
    )

    def __init__(self, carrier: Carrier, handshake: Exchange) -> None:
        self._carrier = carrier
        self._handshake = handshake
        self._client = handshake.role == Role.CLIENT
        self._end_ns = handshake.end_ktime_ns
        self.over = False
        # Contents of the handshake were told with it; here they would only take room.
        self._request = _without_content(handshake.request)
        self._response = handshake.response
        response = handshake.response
        if response is None:
            self._agreed = agreed((), incomplete=True)
        else:
            self._agreed = agreed(response.fields, incomplete=response.headers_incomplete)
        limit = carrier.body_limit
        self._reader = WebSocketReader(self._agreed, limit, self._message if limit else None)

    def moved(self, payload: bytes, ktime_ns: int, *, client: bool) -> bool:
        """The next bytes that one end sent; returns whether the session goes on."""
        if self.over:
            return False
        reader = self._reader
        self._end_ns = ktime_ns
        reader.data(payload, ktime_ns, client=client)
        if reader.malformed:
            self._carrier.counters.messages_malformed += 1
            self._carrier.counters.websocket_malformed += 1
            self._finish(ktime_ns, ExchangeError.MALFORMED)
        elif reader.frames.closed:
            self._finish(ktime_ns, None)
        else:
            return True
        return False

    @property
    def malformed(self) -> bool:
        """Whether it is over because bytes cannot be frames."""
        return self._reader.malformed

    @property
    def is_closing(self) -> bool:
        """Whether an end sent its close frame."""
        return self._reader.frames.closed_by_client is not None

    def spare(self, *, client: bool) -> int:
        """How many of the next bytes of one end nobody needs; they may then be missing."""
        return 0 if self.over else self._reader.spare(client=client)

    def lost(self, length: int, ktime_ns: int, *, client: bool) -> int:
        """The next `length` bytes of one end are unknown; 0: so is how many.

        Returns how many of them nobody wanted.
        """
        return 0 if self.over else self._reader.gap(length, ktime_ns, client=client)

    def ends(self, ktime_ns: int, error: ExchangeError) -> None:
        """What carries it ended so."""
        if self.over:
            return
        if error in _GOES_ON:
            self._reader.frames.doubt()
        if self.is_closing and error in _IN_ORDER:
            self._finish(ktime_ns, None)
        else:
            self._finish(ktime_ns, error)

    def so_far(self, ktime_ns: int) -> list[Exchange]:
        """The session as it is now, if it is not over."""
        return [] if self.over else [self._exchange(self._session(), ktime_ns, ktime_ns, None)]

    def _finish(self, ktime_ns: int, error: ExchangeError | None) -> None:
        self.over = True
        self._carrier.counters.websocket_sessions += 1
        self._carrier.counters.skipped_bytes += self._reader.skipped_bytes
        self._carrier.deliver(self._exchange(self._session(), self._end_ns, ktime_ns, error))

    def _session(self) -> Session:
        frames = self._reader.frames
        closed_by_client = frames.closed_by_client
        code, reason = frames.close()
        return Session(
            frames.flow(client=self._client),
            frames.flow(client=not self._client),
            self._agreed.subprotocol,
            self._agreed.deflate,
            code,
            reason,
            None if closed_by_client is None else closed_by_client == self._client,
        )

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
        self._carrier.deliver(self._exchange(message, now_ns, now_ns, None))

    def _exchange(
        self,
        what: Session | Message,
        end_ns: int,
        now_ns: int,
        error: ExchangeError | None,
    ) -> Exchange:
        handshake = self._handshake
        return Exchange(
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
