"""The commonest talk: a request, then its response, each moved whole or with a second call.

Owns the short way for such turns, and only for them; the second call brings the rest of the
content. It keeps at most one request that waits and the bytes of one call. All else goes to
`Http1`, which reads any HTTP/1: messages in other pieces, pipelines, gaps, upgrades, broken heads,
ends. Promises that nobody can tell which of the two read a message; a property test holds them
against each other.

It steps in while `Http1` is at rest: between messages in both directions, and with no loss that
the next pair would have to be judged by.

Where turns are wanted, heads of a known outline are told where their bytes lie (`take`), and a
request and a response that are both told so make a `Turn`. Other heads are taken into lines, and
the two messages make an exchange.
"""

from __future__ import annotations

import mmap
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
from otel_tap.protocols.http1.open_exchange import place, position
from otel_tap.protocols.http1.outline import WITHOUT_CONTENT
from otel_tap.protocols.http1.responses import EVENT_STREAM
from otel_tap.protocols.http1.told import CALL, HeldTurn, Teller

_HEAD_END: Final = b"\r\n\r\n"
_LAST_LINE_END: Final = b"\n\r\n"  # what stands before it keeps its CR, like all other lines

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
        "_begun",
        "_body_limit",
        "_carrier",
        "_client",
        "_head",
        "_heads",
        "_http1",
        "_missing",
        "_opener",
        "_request",
        "_requests",
        "_role",
        "_rules",
        "_state",
        "_takes",
        "_teller",
        "_turn",
    )

    def __init__(self, carrier: Carrier, heads: HeadParser, request_direction: Direction) -> None:
        super().__init__()
        self._carrier = carrier
        self._heads = heads
        self._http1 = Http1(carrier, heads, request_direction)
        self._state = _QUIET
        self._body_limit = carrier.body_limit
        self._rules = carrier.content_rules
        self._requests = int(request_direction)
        self._client = request_direction == Direction.EGRESS
        self._role = Role.CLIENT if self._client else Role.SERVER
        # The side that opened a TCP connection has its SYN in the numbers it sends.
        self._opener = 1 if self._client else 0
        # Of the request that is under way.
        self._turn = HeldTurn(carrier.connection, self._role, heads)
        # While ASKED or ANSWERING: the request, or None while it is in `_turn`.
        self._request: Request | None = None
        # While ASKING or ANSWERING: what moved the head, what it said, or None while that is in
        # `_turn`, and how much is due.
        self._begun: DataEvent | None = None
        self._head: _Head | None = None
        self._missing = 0
        self._takes = carrier.deliver_turn is not None  # whether anybody takes turns
        self._teller = Teller(heads, carrier.content_rules)

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
            if event.direction != self._requests and self._response(event):
                return
        elif state == _QUIET:
            if event.direction == self._requests and self._ask(event):
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
        request, response = self._asked(), None
        request_end_ns = 0 if request is None else self._turn.request_end_ktime_ns
        response_start_ns = 0
        begun = self._begun
        if begun is not None:
            if request is None:
                request = self._request_so_far(begun)
            else:
                response_start_ns = begun.ktime_ns if self._client else begun.begin_ktime_ns
                response = self._response_so_far(begun)
        return [self._exchange(request, request_end_ns, response, response_start_ns, ktime_ns)]

    def tick(self, ktime_ns: int) -> None:
        """Time has passed."""
        if self._state == _AWAY:
            self._http1.tick(ktime_ns)
            self._look()

    # What is known of messages that wait, in full.

    def _asked(self) -> Request | None:
        """The whole request that waits; None if there is none."""
        turn = self._turn
        if self._request is not None or self._state not in (_ASKED, _ANSWERING):
            return self._request
        return turn.request(turn.request_size, complete=True)

    def _request_so_far(self, begun: DataEvent) -> Request:
        turn, head = self._turn, self._head
        if head is not None:
            method, target, version, fields, _, content = head
            body = self._body(content, len(content)) if content else EMPTY_BODY
            size = len(begun.payload)
            return Request(method, target, version, fields, (), body, size, 0, False)
        return turn.request(turn.request_size - self._missing, complete=False)

    def _response_so_far(self, begun: DataEvent) -> Response:
        turn, head = self._turn, self._head
        if head is not None:
            _, reason, version, fields, status, content = head
            body = self._body(content, len(content)) if content else EMPTY_BODY
            size = len(begun.payload)
            return Response(status, reason, version, fields, (), body, size, 0, False)
        return turn.response(turn.response_size - self._missing, complete=False)

    # The long way takes over, and gives back.

    def _hand_over(self) -> None:
        request, begun = self._asked(), self._begun
        self._state = _AWAY
        self._request = self._begun = None
        if request is not None:
            turn = self._turn
            asked = DataEvent(
                turn.asked_ktime_ns, turn.start_ktime_ns, 0, 0, turn.tid,
                Direction(self._requests), turn.first_offset, request.wire_size, b"",
                turn.tcp_position,
            )  # fmt: skip
            self._http1.adopt(request, asked, turn.start_ktime_ns, turn.request_end_ktime_ns)
        if begun is not None:
            self._http1.data(begun)

    def _look(self) -> None:
        http1 = self._http1
        self.successor = http1.successor
        if http1.at_rest:
            self._state = _QUIET

    # The short way by outlines.

    def take(
        self,
        memory: mmap.mmap | bytes,
        begin: int,
        end: int,
        direction: int,
        ktime_ns: int,
        begin_ktime_ns: int,
        offset: int,
        tcp_position: int,
        tid: int,
    ) -> bool:
        """The call that moved `memory[begin:end]`, if outlines tell it."""
        if not self._takes:
            return False
        turn = self._turn
        state = self._state
        if state == _QUIET:
            if direction != self._requests:
                return False
            missing = self._teller.request(turn, memory, begin, end)
            if missing < 0:
                return False
            turn.tid = tid
            turn.asked_ktime_ns = turn.request_end_ktime_ns = ktime_ns
            # A write began when it was entered, a read when it returned.
            turn.start_ktime_ns = begin_ktime_ns if self._client else ktime_ns
            turn.first_offset = offset
            turn.tcp_position = tcp_position
            self._state = _ASKED
        elif state == _ASKED:
            response_start_ns = ktime_ns if self._client else begin_ktime_ns
            if (
                direction == self._requests
                or self._request is not None
                or response_start_ns < turn.request_end_ktime_ns
            ):
                return False
            missing = self._teller.response(turn, memory, begin, end)
            if missing < 0:
                return False
            turn.response_start_ktime_ns = response_start_ns
            if not missing:
                self._tell(turn, ktime_ns)
        else:
            return self._take_rest(turn, direction, end - begin, ktime_ns)
        if missing:
            # Kept for the long way, which takes over if anything but the rest follows.
            self._begun = DataEvent(
                ktime_ns, begin_ktime_ns, 0, 0, tid, Direction(direction), offset, end - begin,
                memory[begin:end], tcp_position,
            )  # fmt: skip
            self._head = None
            self._missing = missing
            self._state = _ASKING if state == _QUIET else _ANSWERING
        return True

    def _take_rest(self, turn: HeldTurn, direction: int, size: int, ktime_ns: int) -> bool:
        """The second and last call of a message that is in `turn`."""
        begun = self._begun
        if (
            begun is None
            or self._head is not None
            or direction != begun.direction
            or size != self._missing
        ):
            return False
        self._begun = None
        if self._state == _ASKING:
            turn.request_end_ktime_ns = ktime_ns
            self._state = _ASKED
        else:
            self._tell(turn, ktime_ns)
        return True

    def _tell(self, turn: HeldTurn, end_ns: int) -> None:
        """Both messages of `turn` are whole."""
        self._state = _QUIET
        carrier = self._carrier
        connection = carrier.connection
        turn.connection = connection
        turn.end_ktime_ns = end_ns
        turn.reused = carrier.exchange_count > 0 or not connection.from_start
        if connection.tls:
            turn.kind, turn.offset = place(
                connection, turn.role, turn.first_offset, turn.tcp_position, 0
            )
        else:  # as `place` says
            turn.kind, turn.offset = "tcp", turn.first_offset - self._opener
        carrier.exchange_count += 1
        carrier.counters.exchanges_complete += 1
        deliver = carrier.deliver_turn
        if deliver is not None:
            deliver(turn)

    # The short way line by line. False: the long way must read this event.

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
        if self._takes and self._teller.turn_to_request(payload, end) and self._take_again(event):
            return True
        try:
            method, target, version = heads.request_line(lines[0])
        except Malformed:
            return False
        fields, length, coding, upgrade = heads.section(lines, 1, end)
        if coding != NOT_CODED or upgrade or heads.doubts or method == b"CONNECT":
            return False
        if self._rules is not None and self._rules.matches(method, target):
            return False
        if length > 0 and payload.find(CALL, 0, size - content_size) >= 0:
            return False  # gRPC-Web: the long way counts its messages
        if content_size and content_size > length:
            return False
        if self._takes and heads.requests.looking > 0:
            heads.requests.meet_request(lines, end, method, target, version)
        turn = self._turn
        turn.tid = event.tid
        turn.asked_ktime_ns = turn.request_end_ktime_ns = event.ktime_ns
        turn.start_ktime_ns = event.begin_ktime_ns if self._client else event.ktime_ns
        turn.first_offset = event.offset
        turn.tcp_position = event.tcp_position
        if content_size < length:
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
        self._state = _ASKED
        return True

    def _response(self, event: DataEvent) -> bool:
        # A write began when it was entered, a read when it returned.
        begin_ns = event.ktime_ns if self._client else event.begin_ktime_ns
        if begin_ns < self._turn.request_end_ktime_ns:
            return False
        payload = event.payload
        size = len(payload)
        head, found, content = payload.partition(_LAST_LINE_END)
        content_size = len(content)
        if not found or size - content_size > HEAD_LIMIT:
            return False
        lines = head.split(b"\n")
        heads = self._heads
        if (
            self._request is None
            and self._teller.turn_to_response(payload, len(lines))
            and self._take_again(event)
        ):
            return True
        request = self._asked()
        if request is None:
            return False
        try:
            status, reason, version = heads.status_line(lines[0])
        except Malformed:
            return False
        fields, length, coding, _ = heads.section(lines, 1, len(lines))
        if status < 200 or coding == BROKEN or heads.doubts or head.find(EVENT_STREAM) >= 0:
            return False
        missing = 0
        if status in WITHOUT_CONTENT or request.method == b"HEAD":
            if content_size:
                return False
        elif coding != NOT_CODED or content_size > length:
            return False
        else:
            missing = length - content_size
        if self._takes and coding == NOT_CODED and heads.responses.looking > 0:
            heads.responses.meet_response(lines, status, version)
        self._request = request
        if missing:
            self._begin(event, (b"", reason, version, fields, status, content), missing)
            self._state = _ANSWERING
            return True
        body = self._body(content, content_size) if content_size else EMPTY_BODY
        response = Response(status, reason, version, fields, (), body, size, 0, True, ())
        self._emit(response, begin_ns, event.ktime_ns)
        return True

    def _take_again(self, event: DataEvent) -> bool:
        """Now that another outline is tried first."""
        payload = event.payload
        return self.take(
            payload,
            0,
            len(payload),
            int(event.direction),
            event.ktime_ns,
            event.begin_ktime_ns,
            event.offset,
            event.tcp_position,
            event.tid,
        )

    def _begin(self, event: DataEvent, head: _Head, missing: int) -> None:
        self._begun = event
        self._head = head
        self._missing = missing

    def _rest(self, event: DataEvent) -> bool:
        """The second and last call of a message."""
        begun, head = self._begun, self._head
        payload = event.payload
        if begun is None or event.direction != begun.direction or len(payload) != self._missing:
            return False
        if head is None:
            return self._take_again(event)
        first, second, version, fields, status, content = head
        size = len(begun.payload) + len(payload)
        content_size = len(content) + len(payload)
        if len(content) < self._body_limit:
            content += payload
        body = self._body(content, content_size)
        self._begun = None
        if self._state == _ASKING:
            self._request = Request(first, second, version, fields, (), body, size, 0, True)
            self._turn.request_end_ktime_ns = event.ktime_ns
            self._state = _ASKED
            return True
        response = Response(status, second, version, fields, (), body, size, 0, True, ())
        begin_ns = begun.ktime_ns if self._client else begun.begin_ktime_ns
        self._emit(response, begin_ns, event.ktime_ns)
        return True

    def _emit(self, response: Response, begin_ns: int, end_ns: int) -> None:
        request = self._request
        self._request = None
        self._state = _QUIET
        carrier = self._carrier
        end = self._turn.request_end_ktime_ns
        exchange = self._exchange(request, end, response, begin_ns, end_ns)
        carrier.exchange_count += 1
        carrier.counters.exchanges_complete += 1
        carrier.deliver(exchange)

    def _exchange(
        self,
        request: Request | None,
        request_end_ns: int,
        response: Response | None,
        response_start_ns: int,
        end_ns: int,
    ) -> Exchange:
        """The exchange of the request that is under way."""
        turn = self._turn
        carrier = self._carrier
        connection = carrier.connection
        return Exchange(
            self._role,
            connection,
            turn.tid,
            request,
            response,
            turn.start_ktime_ns,
            request_end_ns,
            response_start_ns,
            end_ns,
            end_ns,
            carrier.exchange_count > 0 or not connection.from_start,
            position(connection, self._role, turn.first_offset, turn.tcp_position, 0),
            None,
        )

    def _body(self, content: bytes, size: int) -> Body:
        limit = self._body_limit
        if limit >= size:
            return Body(content, size, False)
        return Body(content[:limit], size, True)
