"""The commonest talk: a request, then its response, each moved whole or with a second call.

Owns the short way for such turns, and only for them; the second call brings the rest of the
content. It keeps at most one request that waits and the bytes of one call. All else goes to
`Http1`, which reads any HTTP/1: messages in other pieces, pipelines, gaps, upgrades, broken heads,
ends. Promises that nobody can tell which of the two read a message; a property test holds them
against each other.

It steps in while `Http1` is at rest: between messages in both directions, and with no loss that
the next pair would have to be judged by.
"""

from __future__ import annotations

from typing import Final

from otel_tap.events import DataEvent, Direction
from otel_tap.exchange import Exchange, ExchangeError, Role
from otel_tap.messages import EMPTY_BODY, Body, Field, Request, Response
from otel_tap.protocols import Carrier, Protocol
from otel_tap.protocols.http1 import Http1
from otel_tap.protocols.http1.head import (
    BROKEN,
    HEAD_LIMIT,
    NOT_CODED,
    HeadParser,
    Malformed,
)
from otel_tap.protocols.http1.open_exchange import position
from otel_tap.protocols.http1.responses import EVENT_STREAM

_HEAD_END: Final = b"\r\n\r\n"
_LAST_LINE_END: Final = b"\n\r\n"  # what stands before it keeps its CR, like all other lines
_CALL: Final = b"application/grpc"
_WITHOUT_CONTENT: Final = frozenset((204, 304))

_QUIET: Final = 0  # between messages
_ASKING: Final = 1  # the head of a request is here, and not all of its content
_ASKED: Final = 2  # a whole request waits
_ANSWERING: Final = 3  # the head of its response is here, and not all of its content
_AWAY: Final = 4  # the long way has the connection

_Head = tuple[bytes, bytes, str, tuple[Field, ...], int, bytes]
"""Method and target, or nothing and a reason; version, fields, status, content so far."""


class Turns(Protocol):
    """One HTTP/1 connection; `request_direction` is the direction that carries requests."""

    __slots__ = (
        "_asked",
        "_begun",
        "_body_limit",
        "_carrier",
        "_client",
        "_head",
        "_heads",
        "_http1",
        "_missing",
        "_request",
        "_request_direction",
        "_request_end_ns",
        "_role",
        "_rules",
        "_state",
    )

    def __init__(self, carrier: Carrier, heads: HeadParser, request_direction: Direction) -> None:
        super().__init__()
        self._carrier = carrier
        self._heads = heads
        self._http1 = Http1(carrier, heads, request_direction)
        self._state = _QUIET
        self._body_limit = carrier.body_limit
        self._rules = carrier.content_rules
        self._request_direction = request_direction
        self._client = request_direction == Direction.EGRESS
        self._role = Role.CLIENT if self._client else Role.SERVER
        self._request: Request | None = None  # while ASKED or ANSWERING
        self._asked: DataEvent | None = None  # what moved the beginning of that request
        self._request_end_ns = 0
        # While ASKING or ANSWERING: what moved the head, what it said, and how much is due.
        self._begun: DataEvent | None = None
        self._head: _Head = (b"", b"", "", (), 0, b"")
        self._missing = 0

    @property
    def busy(self) -> bool:
        """Whether an exchange is open that was not emitted."""
        return _ASKING <= self._state <= _ANSWERING or self._http1.busy

    @property
    def egress_begins_at_one(self) -> bool:
        """A client opened the connection."""
        return self._client

    def data(self, event: DataEvent) -> None:
        """The next captured bytes of one stream."""
        state = self._state
        if state == _ASKED:
            if event.direction is not self._request_direction and self._response(event):
                return
        elif state == _QUIET:
            if event.direction is self._request_direction and self._ask(event):
                return
        elif state != _AWAY and self._rest(event):
            return
        self._hand_over()
        self._http1.data(event)
        self._look()

    def gap(self, direction: Direction, ktime_ns: int, length: int) -> None:
        """The next `length` bytes of one stream are unknown."""
        self._hand_over()
        self._http1.gap(direction, ktime_ns, length)
        self._look()

    def end(self, direction: Direction, ktime_ns: int) -> None:
        """A stream ended in order."""
        self._hand_over()
        self._http1.end(direction, ktime_ns)

    def finish(self, ktime_ns: int, error: ExchangeError) -> None:
        """Both streams ended."""
        self._hand_over()
        self._http1.finish(ktime_ns, error)

    def abort(self, ktime_ns: int, error: ExchangeError) -> None:
        """Everything open ends."""
        self._hand_over()
        self._http1.abort(ktime_ns, error)

    def time_out(self, ktime_ns: int, *, streams: bool) -> None:
        """Nothing moved for long."""
        self._hand_over()
        self._http1.time_out(ktime_ns, streams=streams)

    def under_way(self, ktime_ns: int) -> list[Exchange]:
        """The open exchanges."""
        if self._state in (_QUIET, _AWAY):
            return self._http1.under_way(ktime_ns)
        asked = self._asked or self._begun
        if asked is None:
            return []
        request, response = self._request, None
        response_start_ns = 0
        begun = self._begun
        if begun is not None:
            first, second, version, fields, status, content = self._head
            body = self._body(content, len(content)) if content else EMPTY_BODY
            wire = len(begun.payload)
            if request is None:
                request = Request(first, second, version, fields, (), body, wire, 0, False)
            else:
                response_start_ns = begun.ktime_ns if self._client else begun.begin_ktime_ns
                response = Response(status, second, version, fields, (), body, wire, 0, False)
        carrier = self._carrier
        connection = carrier.connection
        return [
            Exchange(
                self._role,
                connection,
                asked.tid,
                request,
                response,
                asked.begin_ktime_ns if self._client else asked.ktime_ns,
                self._request_end_ns if self._request is not None else 0,
                response_start_ns,
                ktime_ns,
                ktime_ns,
                carrier.exchange_count > 0 or not connection.from_start,
                position(connection, self._role, asked.offset, asked.tcp_position, 0),
                None,
            )
        ]

    def tick(self, ktime_ns: int) -> None:
        """Time has passed."""
        if self._state == _AWAY:
            self._http1.tick(ktime_ns)
            self._look()

    # The long way takes over, and gives back.

    def _hand_over(self) -> None:
        request, asked, begun = self._request, self._asked, self._begun
        self._state = _AWAY
        self._request = self._asked = self._begun = None
        if request is not None and asked is not None:
            self._http1.adopt(asked, request, self._request_end_ns)
        if begun is not None:
            self._http1.data(begun)

    def _look(self) -> None:
        http1 = self._http1
        self.successor = http1.successor
        if http1.at_rest:
            self._state = _QUIET

    # The short way. False: the long way must read this event.

    def _ask(self, event: DataEvent) -> bool:
        payload = event.payload
        size = len(payload)
        if payload.endswith(_HEAD_END):
            # An empty line before that one is no field, and the long way is taken.
            lines = payload.split(b"\n")
            end = len(lines) - 2
            content = b""
        else:
            head, found, content = payload.partition(_LAST_LINE_END)
            if not found:
                return False
            lines = head.split(b"\n")
            end = len(lines)
        content_size = len(content)
        if size - content_size > HEAD_LIMIT:
            return False
        heads = self._heads
        try:
            method, target, version = heads.request_line(lines[0])
        except Malformed:
            return False
        fields, length, coding, upgrade = heads.section(lines, 1, end)
        if coding != NOT_CODED or upgrade or heads.doubts or method == b"CONNECT":
            return False
        if self._rules is not None and self._rules.matches(method, target):
            return False
        if length > 0 and payload.find(_CALL, 0, size - content_size) >= 0:
            return False  # gRPC-Web: the long way counts its messages
        if content_size != length and (content_size or length > 0):
            if content_size > length:
                return False
            self._begin(event, (method, target, version, fields, 0, content), length - content_size)
            self._state = _ASKING
            return True
        self._request = Request(
            method,
            target,
            version,
            fields,
            (),
            self._body(content, content_size) if content_size else EMPTY_BODY,
            size,
            0,
            True,
        )
        self._asked = event
        self._request_end_ns = event.ktime_ns
        self._state = _ASKED
        return True

    def _response(self, event: DataEvent) -> bool:
        request, asked = self._request, self._asked
        if request is None or asked is None:
            return False
        ktime_ns = event.ktime_ns
        # A write began when it was entered, a read when it returned.
        begin_ns = ktime_ns if self._client else event.begin_ktime_ns
        if begin_ns < self._request_end_ns:
            return False
        payload = event.payload
        size = len(payload)
        head, found, content = payload.partition(_LAST_LINE_END)
        content_size = len(content)
        if not found or size - content_size > HEAD_LIMIT:
            return False
        lines = head.split(b"\n")
        heads = self._heads
        try:
            status, reason, version = heads.status_line(lines[0])
        except Malformed:
            return False
        fields, length, coding, _ = heads.section(lines, 1, len(lines))
        if status < 200 or coding == BROKEN or heads.doubts or head.find(EVENT_STREAM) >= 0:
            return False
        if status in _WITHOUT_CONTENT or request.method == b"HEAD":
            if content_size:
                return False
        elif coding != NOT_CODED or content_size > length:
            return False
        elif content_size < length:
            self._begin(
                event, (b"", reason, version, fields, status, content), length - content_size
            )
            self._state = _ANSWERING
            return True
        body = self._body(content, content_size) if content_size else EMPTY_BODY
        response = Response(status, reason, version, fields, (), body, size, 0, True, ())
        self._emit(request, asked, response, begin_ns, ktime_ns)
        return True

    def _begin(self, event: DataEvent, head: _Head, missing: int) -> None:
        self._begun = event
        self._head = head
        self._missing = missing

    def _rest(self, event: DataEvent) -> bool:
        """The second and last call of a message."""
        begun = self._begun
        payload = event.payload
        more = len(payload)
        if begun is None or event.direction is not begun.direction or more != self._missing:
            return False
        first, second, version, fields, status, content = self._head
        content_size = len(content) + more
        if len(content) < self._body_limit:
            content += payload
        body = self._body(content, content_size)
        wire_size = len(begun.payload) + more
        self._begun = None
        if self._state == _ASKING:
            self._request = Request(first, second, version, fields, (), body, wire_size, 0, True)
            self._asked = begun
            self._request_end_ns = event.ktime_ns
            self._state = _ASKED
            return True
        request, asked = self._request, self._asked
        if request is not None and asked is not None:
            response = Response(status, second, version, fields, (), body, wire_size, 0, True, ())
            begin_ns = begun.ktime_ns if self._client else begun.begin_ktime_ns
            self._emit(request, asked, response, begin_ns, event.ktime_ns)
        return True

    def _emit(
        self,
        request: Request,
        asked: DataEvent,
        response: Response,
        begin_ns: int,
        end_ns: int,
    ) -> None:
        self._request = self._asked = None
        self._state = _QUIET
        carrier = self._carrier
        connection = carrier.connection
        reused = carrier.exchange_count > 0 or not connection.from_start
        carrier.exchange_count += 1
        carrier.counters.exchanges_complete += 1
        carrier.deliver(
            Exchange(
                self._role,
                connection,
                asked.tid,
                request,
                response,
                asked.begin_ktime_ns if self._client else asked.ktime_ns,
                self._request_end_ns,
                begin_ns,
                end_ns,
                end_ns,
                reused,
                position(connection, self._role, asked.offset, asked.tcp_position, 0),
                None,
            )
        )

    def _body(self, content: bytes, size: int) -> Body:
        limit = self._body_limit
        if limit >= size:
            return Body(content, size, False)
        return Body(content[:limit], size, True)
