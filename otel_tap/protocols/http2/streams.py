"""The open streams of one HTTP/2 connection, and when each becomes an exchange.

Owns their table, its bound, and the emission: each stream is emitted once. It must not know frames
or HPACK.

A stream is over when both messages ended, or when it was reset or refused. What loss makes of it:
a message of which frames may have passed unseen is not waited for, neither its end nor, for
longer than `HELD_NS`, its beginning. A request can also be reported after its response was read
(another thread reads): that is waited for as long.
"""

from __future__ import annotations

from typing import Final

from otel_tap.exchange import Exchange, ExchangeError, Position, Role
from otel_tap.messages import Request, field_value
from otel_tap.protocols import Carrier
from otel_tap.protocols.http2.frames import REQUESTS, RESPONSES
from otel_tap.protocols.http2.section import Section
from otel_tap.protocols.http2.sockets import Asked, Sockets
from otel_tap.protocols.http2.stream import ABSENT, OVER, UNDER_WAY, Half, Stream

OPEN_LIMIT: Final = 1024  # streams of one connection; then the oldest is emitted as it is
HELD_NS: Final = 1_000_000_000
# A response whose end may have passed unseen, and of which nothing was seen for so long.
SILENT_NS: Final = 60_000_000_000
_CLOSED_LIMIT: Final = 1024

# Error codes of RFC 9113 7.
_NO_ERROR: Final = 0
_REFUSED_STREAM: Final = 7
_CANCEL: Final = 8
_ERRORS: Final = {_REFUSED_STREAM: ExchangeError.REFUSED, _CANCEL: ExchangeError.CANCELLED}

_CLIENT: Final = Role.CLIENT  # a member is looked up slowly on its class


class Streams:
    """The open streams. `now_ns` and `tid` are those of the frame being handled."""

    __slots__ = (
        "_carrier",
        "_closed",
        "_ended",
        "_hidden",
        "_open",
        "_sockets",
        "highest",
        "now_ns",
        "responses_pass",
        "role",
        "tid",
    )

    def __init__(self, carrier: Carrier, role: Role) -> None:
        self._carrier = carrier
        self.role = role
        self.now_ns = 0
        self.tid = 0
        self.highest = 0  # number of a stream that was seen
        self.responses_pass = False  # unseen, now
        self._hidden = [False, False]  # sides of which frames passed unseen at any time
        self._ended = [False, False]
        self._open: dict[int, Stream] = {}
        self._closed: dict[int, None] = {}  # emitted ones, newest last
        self._sockets = Sockets(carrier)  # emitted ones that go on

    @property
    def busy(self) -> bool:
        """Whether a stream is open."""
        return bool(self._open)

    def is_open(self, number: int) -> bool:
        """Whether this stream is open."""
        return number in self._open or self._sockets.is_open(number)

    # What the frames tell.

    def section(
        self, side: int, number: int, section: Section, begin_ns: int, wire: int, *, ends: bool
    ) -> None:
        """A field section of a stream."""
        stream = self._open.get(number)
        if stream is None:
            if self._sockets.is_open(number):
                if ends:
                    self._sockets.end(side, number, self.now_ns)
                return
            stream = self._begin(side, number, begin_ns)
            if stream is None:
                return
        stream.touched_ns = self.now_ns
        if side == REQUESTS:
            half = stream.request
            if half.state == OVER:
                return
            if half.state == ABSENT:
                stream.tid = self.tid
                stream.start_ns = begin_ns
            half.moved(begin_ns, self.now_ns, wire)
            stream.request_section(section)
            if self._carrier.content_rules is not None:
                stream.read_request(self._carrier.content_rules)
        else:
            half = stream.response
            if half.state == OVER:
                return
            half.moved(begin_ns, self.now_ns, wire)
            stream.response_section(section, begin_ns, wire, ends=ends)
        if ends:
            half.state = OVER
        asked = stream.asked
        if asked is not None and stream.granted:
            self._hand_over(stream, asked)
        elif ends:
            self._settle(stream)

    def promised(self, number: int, section: Section, begin_ns: int, wire: int) -> None:
        """The server announces a stream: the request that it will answer unasked."""
        if number in self._open or number in self._closed:
            return
        self.section(REQUESTS, number, section, begin_ns, wire, ends=True)

    def content(
        self, side: int, number: int, payload: bytes, at: int, stop: int, wire: int, *, ends: bool
    ) -> None:
        """Content of a stream; of one that was never seen to begin it is not kept."""
        stream = self._open.get(number)
        if stream is None:
            self._sockets.moved(side, number, payload, at, stop, self.now_ns)
            if ends:
                self._sockets.end(side, number, self.now_ns)
            return
        half = stream.response if side else stream.request
        if half.state == OVER:
            return
        stream.touched_ns = self.now_ns
        half.moved(self.now_ns, self.now_ns, wire)
        half.content(payload, at, stop)
        if half.reading is not None:
            half.reading.moved(payload, at, stop, self.now_ns)
        if ends:
            half.state = OVER
            self._settle(stream)

    def content_lost(
        self, side: int, number: int, count: int, wire: int, *, ends: bool, unsure: bool
    ) -> None:
        """Content of a stream that fell into a gap."""
        stream = self._open.get(number)
        if stream is None:
            if unsure or count:
                self._sockets.lost(side, number, 0 if unsure else count, self.now_ns)
            if ends:
                self._sockets.end(side, number, self.now_ns)
            return
        half = stream.response if side else stream.request
        if half.state == OVER:
            return
        stream.touched_ns = self.now_ns
        half.moved(self.now_ns, self.now_ns, wire)
        if unsure:
            half.hide()
            half.lost += count
        else:
            half.content_lost(count)
        if ends:
            half.state = OVER
            self._settle(stream)

    def reset(self, number: int, code: int | None, *, due: bool) -> None:
        """One end gave up a stream; None: for an unknown reason.

        After a whole response NO_ERROR asks to send no more of the request than what is `due`, the
        rest of a frame. That is waited for, as it is content that moved.
        """
        stream = self._open.get(number)
        if stream is None:
            if self._sockets.is_open(number):
                error = ExchangeError.CONNECTION_CLOSED
                if code not in (_NO_ERROR, None):
                    error = _ERRORS.get(code or _NO_ERROR, ExchangeError.STREAM_RESET)
                self._sockets.reset(number, error, self.now_ns)
            return
        if code not in (_NO_ERROR, None) or stream.response.state != OVER:
            stream.error = _ERRORS.get(code or _NO_ERROR, ExchangeError.STREAM_RESET)
        elif due:
            stream.released = True
            stream.touched_ns = self.now_ns
            return
        stream.ended_ns = self.now_ns
        self._emit(stream)

    def refuse_beyond(self, last: int) -> None:
        """The server went away, and begins with no stream of the client beyond `last`."""
        for stream in list(self._open.values()):
            if stream.number > last and stream.number & 1:
                stream.error = ExchangeError.REFUSED
                stream.ended_ns = self.now_ns
                self._emit(stream)

    def hide(self, side: int) -> None:
        """Any frame of this side may have passed unseen."""
        self._hidden[side] = True
        self._sockets.hide(side, self.now_ns)
        for stream in list(self._open.values()):
            (stream.response if side else stream.request).hide()
            if side == REQUESTS and stream.response.state == OVER:
                self._settle(stream)

    # What the connection tells.

    def end(self, side: int) -> None:
        """No byte follows on this side."""
        self._ended[side] = True
        if side == RESPONSES:
            self.finish_all(ExchangeError.CONNECTION_CLOSED)
            return
        for stream in list(self._open.values()):
            if stream.request.state == UNDER_WAY:
                if not stream.released:
                    stream.error = stream.error or ExchangeError.CONNECTION_CLOSED
                if stream.response.state == OVER:
                    self._emit(stream)

    def finish_all(self, error: ExchangeError) -> None:
        """Emits every open stream."""
        self._sockets.end_all(self.now_ns, error)
        for stream in list(self._open.values()):
            # One whose both messages ended, or may have, only waited for news.
            if _is_broken_off(stream):
                stream.error = stream.error or error
            self._emit(stream)

    def time_out(self, *, streams: bool) -> None:
        """Emits every open stream; not `streams`: but for those that answer without a known end."""
        for stream in list(self._open.values()):
            if not streams and stream.response.state == UNDER_WAY and _is_open_ended(stream):
                continue
            if _is_broken_off(stream):
                stream.error = stream.error or ExchangeError.TIMEOUT
            self._emit(stream)

    def under_way(self, now_ns: int) -> list[Exchange]:
        """The open streams, and the sessions on streams, as they are."""
        connection = self._carrier.connection
        seen = []
        for stream in self._open.values():
            request, response = stream.request_message(), stream.response_message()
            if request is None and response is None:
                continue
            seen.append(
                Exchange(
                    self.role,
                    connection,
                    stream.tid,
                    request,
                    response,
                    stream.start_ns,
                    stream.request.end_ns if request is not None else 0,
                    stream.response.begin_ns if response is not None else 0,
                    now_ns,
                    now_ns,
                    not stream.first or not connection.from_start,
                    Position("h2", stream.number),
                    None,
                    stream.rpc(),
                )
            )
        return seen + self._sockets.under_way(now_ns)

    def tick(self, now_ns: int) -> None:
        """Emits what waited long enough."""
        self.now_ns = now_ns
        for stream in list(self._open.values()):
            if stream.response.state == OVER:
                waits = stream.released or stream.request.state == ABSENT
                if waits and now_ns - stream.touched_ns >= HELD_NS:
                    self._emit(stream)
            elif stream.response.hidden and now_ns - stream.touched_ns >= SILENT_NS:
                self._emit(stream)

    def adopt(self, request: Request, start_ns: int, end_ns: int, *, reused: bool) -> None:
        """Stream 1 of a connection that was upgraded: its request moved before, as HTTP/1.1.

        It began, and was counted, as an exchange there.
        """
        stream = Stream(1, self.tid, start_ns, self._carrier.body_limit, first=not reused)
        stream.touched_ns = self.now_ns
        stream.adopt(request, start_ns, end_ns)
        self._open[1] = stream
        self.highest = 1

    # Decisions.

    def _new(self, number: int, begin_ns: int) -> Stream:
        """A stream that is not in the table yet."""
        carrier = self._carrier
        first = carrier.exchange_count == 0
        carrier.exchange_count += 1
        return Stream(number, self.tid, begin_ns, carrier.body_limit, first=first)

    def _begin(self, side: int, number: int, begin_ns: int) -> Stream | None:
        if number in self._closed:
            self._carrier.counters.messages_late += 1
            return None
        if len(self._open) >= OPEN_LIMIT:
            oldest = next(iter(self._open.values()))
            oldest.error = oldest.error or ExchangeError.TRUNCATED
            self._emit(oldest)
        stream = self._new(number, begin_ns)
        # A response begins after its request: only what passes unseen from now on can hide it.
        # A stream that is met at its response, or below one that was seen, may have begun before.
        early = side == RESPONSES or number < self.highest
        if self.responses_pass or (early and self._hidden[RESPONSES]):
            stream.response.hide()
        if self._hidden[REQUESTS]:
            stream.request.hide()
        self._open[number] = stream
        self.highest = max(self.highest, number)
        return stream

    def _settle(self, stream: Stream) -> None:
        """Emits a stream that is over; it has just been told something."""
        request = stream.request
        if stream.response.state != OVER or request.state == ABSENT:
            return
        if request.state == OVER or request.hidden or self._ended[REQUESTS]:
            self._emit(stream)

    def _hand_over(self, stream: Stream, asked: Asked) -> None:
        """What follows on a stream is a WebSocket; its handshake is emitted."""
        ended = stream.request.state == OVER
        hidden = stream.request.hidden, stream.response.hidden
        stream.leave(asked)
        handshake = self._emit(stream)
        if handshake is None:
            return
        number = stream.number
        self._sockets.begin(number, handshake, asked, self.now_ns)
        for side in (REQUESTS, RESPONSES):
            if hidden[side]:
                self._sockets.lost(side, number, 0, self.now_ns)
        if ended:
            self._sockets.end(REQUESTS, number, self.now_ns)

    # Emission.

    def _emit(self, stream: Stream) -> Exchange | None:
        del self._open[stream.number]
        self._closed[stream.number] = None
        if len(self._closed) > _CLOSED_LIMIT:
            del self._closed[next(iter(self._closed))]
        carrier = self._carrier
        counters = carrier.counters
        request = stream.request_message()
        response = stream.response_message()
        if request is None:
            if response is None:
                counters.exchanges_unknown += 1
                return None
            counters.exchanges_without_request += 1
        elif response is None:
            counters.exchanges_without_response += 1
        elif request.complete and response.complete:
            counters.exchanges_complete += 1
        else:
            counters.exchanges_incomplete += 1
        error = stream.error
        sent, got = stream.request, stream.response
        if error is None and (request is None or _lacks(sent) or response is None or _lacks(got)):
            error = ExchangeError.TRUNCATED
        genai = None
        if stream.read is not None:
            genai = stream.read.said(
                request_complete=request is not None and request.complete,
                response_complete=response is not None and response.complete,
            )
        start_ns = stream.start_ns
        connection = carrier.connection
        exchange = Exchange(
            self.role,
            connection,
            stream.tid,
            request,
            response,
            start_ns,
            sent.end_ns if request is not None else 0,
            got.begin_ns if response is not None else 0,
            max(start_ns, sent.end_ns, got.end_ns, stream.ended_ns),
            self.now_ns,
            not stream.first or not connection.from_start,
            Position("h2", stream.number),
            error,
            stream.rpc(),
            genai=genai,
        )
        carrier.deliver(exchange)
        return exchange


def _is_broken_off(stream: Stream) -> bool:
    """Whether the end of the connection is felt by this stream."""
    if stream.response.state != OVER:
        return True
    return stream.request.state == UNDER_WAY and not stream.released


def _is_open_ended(stream: Stream) -> bool:
    """Whether the response does not say how long it is."""
    half = stream.response
    return half.known and field_value(half.fields, b"content-length") is None


def _lacks(half: Half) -> bool:
    """Whether losses may have hidden a part of this message."""
    return half.hidden and not half.complete
