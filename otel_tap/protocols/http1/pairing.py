"""Which response answers which request on one HTTP/1 connection, and when each moved.

Owns the open exchanges, oldest first. Each is emitted once. It must not know framing. A response
never answers a request that began after it.

Responses come in the order of their requests (RFC 9112 9.3.2), so while nothing was lost pairing
is a queue. What loss makes of it:

1. Requests may have passed unseen (a gap, or met midway). The next request is paired with the
   next response, as a client that does not pipeline sends it only when nothing is outstanding;
   unless the response stream is whole and shows that nothing was answered in between: then the
   response belongs to a request that was not seen. Such a pair is doubtful: behind a loss it waits
   for what follows, and a response that nobody waits for, or content where the method has none,
   refutes it. Behind the beginning of a connection that was met midway it waits a second.
2. Responses may have passed unseen. Then requests that began before this was noticed are given
   up: each may have been answered unseen, and the response that is found may answer one that
   was lost as well. A single request that began since is paired.
3. A connection that is known to pipeline and has lost messages is not paired any more: its
   requests and responses are emitted apart.

A client's write can be reported after the response to it was read (another thread reads). Such
a response waits, at most about a second, for a request whose call was entered before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from otel_tap.events import DataEvent
from otel_tap.exchange import Exchange, ExchangeError, Role
from otel_tap.messages import Field, Request, Response
from otel_tap.protocols import Carrier
from otel_tap.protocols.content import ReadExchange
from otel_tap.protocols.http1.listener import Listener
from otel_tap.protocols.http1.open_exchange import (
    ABSENT,
    OVER,
    UNDER_WAY,
    OpenExchange,
    position,
    rpc_of,
)
from otel_tap.protocols.http1.switching import goes_on_as_http2
from otel_tap.protocols.http1.under_way import seen_now
from otel_tap.protocols.http2 import grpc
from otel_tap.protocols.http2.grpc import Messages

OPEN_LIMIT: Final = 1024  # requests without response on one connection

_HELD_NS: Final = 1_000_000_000

UNDECIDED: Final = 0
SWITCHED: Final = 1
DECLINED: Final = 2


class Pairing(Listener):
    """The exchanges of one connection.

    `switch` tells what the response to a CONNECT or Upgrade decided, `granted` the exchange, once
    told, that ends HTTP/1, `broken` that a reader met malformed bytes; whoever reads them resets
    them.
    """

    __slots__ = (
        "_answers",
        "_answers_from_ns",
        "_carrier",
        "_confirming",
        "_hidden",
        "_midway",
        "_open",
        "_orphan",
        "_pipelined",
        "_request",
        "_request_doubt",
        "_requests_lost",
        "_response",
        "_responses_lost_ns",
        "_whole_hidden",
        "broken",
        "granted",
        "now_ns",
        "role",
        "switch",
    )

    def __init__(self, carrier: Carrier, role: Role) -> None:
        self._carrier = carrier
        self.role = role
        self.now_ns = 0  # the event being handled
        self.switch = UNDECIDED
        self.granted: Exchange | None = None
        self.broken = False
        self._open: list[OpenExchange] = []
        self._request: OpenExchange | None = None
        self._response: OpenExchange | None = None
        self._orphan: OpenExchange | None = None  # a response whose request may yet be reported
        self._hidden = False  # messages were lost at some time
        self._pipelined = False
        self._confirming: OpenExchange | None = None  # a doubtful pair, until the next message
        self._request_doubt = False
        self._requests_lost = False  # and that is why
        self._midway = False  # the response stream was met midway, nothing of it was read yet
        self._responses_lost_ns = 0  # when it was noticed that responses may have been lost
        self._whole_hidden = False
        # Responses without a request, of which it is known that what they answer is behind the
        # last request that began: all since then, or since bytes of requests were last skipped.
        self._answers = 0
        self._answers_from_ns = 0

    @property
    def busy(self) -> bool:
        """Whether an exchange is open that was not emitted."""
        return any(not exchange.emitted for exchange in self._open)

    @property
    def asks(self) -> bool:
        """Whether a request is open whose response is not over."""
        return any(
            one.request_state != ABSENT and one.response_state != OVER and not one.emitted
            for one in self._open
        )

    @property
    def at_rest(self) -> bool:
        """Whether nothing is open, and nothing that was lost bears on the next pair."""
        return not (
            self._open
            or self._request is not None
            or self._response is not None
            or self._orphan is not None
            or self._confirming is not None
            or self._request_doubt
            or self._midway
            or self._responses_lost_ns
            or self._answers
            or self._apart
        )

    # What the readers tell.

    def request_began(self, event: DataEvent, at: int, begin_ktime_ns: int) -> None:
        """Opens an exchange, or gives a response that was read early its request."""
        if not self._content_due():
            self._confirm()
        exchange = self._early_response(begin_ktime_ns)
        if exchange is None:
            waiting = self._open
            if len(waiting) >= OPEN_LIMIT:
                self._pipelined = True
                self._unpair()
            exchange = self._new(event.tid, begin_ktime_ns)
            if self._request_doubt:
                self._judge_order(exchange)
            waiting.append(exchange)
        self._answers = 0
        exchange.request_state = UNDER_WAY
        exchange.start_ns = begin_ktime_ns
        exchange.tid = event.tid
        exchange.offset = event.offset + at
        exchange.tcp_position = event.tcp_position
        exchange.into_event = at
        self._request = exchange

    def request_head(self, method: bytes, *, switches: bool) -> None:
        """From now on a response can be framed by the method."""
        exchange = self._request
        if exchange is not None:
            exchange.method = method
            exchange.switches = switches

    def request_is_read(self, read: ReadExchange) -> None:
        """Remembers it for the response."""
        if self._request is not None:
            self._request.read = read

    def response_is_read(self) -> ReadExchange | None:
        """The reader of the exchange that was chosen; not while that is in doubt."""
        exchange = self._response
        return None if exchange is None or exchange.doubtful else exchange.read

    def request_call(self, kind: int, messages: Messages | None) -> None:
        """The request is a call."""
        exchange = self._request
        if exchange is not None:
            exchange.call = kind
            exchange.counted[0] = messages

    def response_call(self, kind: int, messages: Messages | None) -> None:
        """The response answers a call."""
        exchange = self._response
        if exchange is not None:
            if exchange.call is None:
                exchange.call = kind
            exchange.counted[1] = messages

    def request_ended(
        self, request: Request | None, error: ExchangeError | None, ktime_ns: int
    ) -> None:
        """Emits the exchange if its response came first."""
        exchange = self._request
        if exchange is None:
            return
        self._request = None
        exchange.request = request
        exchange.request_state = OVER
        exchange.request_end_ns = ktime_ns
        exchange.end_ns = max(exchange.end_ns, ktime_ns)
        if error is not None:
            exchange.error = error
        if exchange.response_state == OVER:
            if exchange is not self._confirming:
                self._settle(exchange)
        elif self._apart and exchange is not self._response:
            exchange.error = error or ExchangeError.TRUNCATED
            self._settle(exchange)

    def response_begins(self, tid: int, begin_ktime_ns: int) -> bytes:
        """Chooses the exchange that this response belongs to."""
        waiting = self._open
        if (
            len(waiting) == 1
            and not self._hidden
            and waiting[0].response_state == ABSENT
            and waiting[0].start_ns <= begin_ktime_ns
        ):
            exchange: OpenExchange | None = waiting[0]
        else:
            exchange = self._choose(begin_ktime_ns)
            if exchange is not None:
                self._confirm()
        if exchange is None:
            self._refute()
            self._release_orphan()
            exchange = self._new(tid, begin_ktime_ns)
            waiting.append(exchange)
            if self.role == Role.CLIENT and not self._apart:
                self._orphan = exchange
        exchange.response_state = UNDER_WAY
        exchange.response_start_ns = begin_ktime_ns
        self._response = exchange
        if exchange.doubtful and exchange.method not in (b"HEAD", b"CONNECT"):
            return b""  # it may answer another request, one whose answer has no body
        return exchange.method

    def response_ended(
        self, response: Response, error: ExchangeError | None, ktime_ns: int, begin_ktime_ns: int
    ) -> None:
        """Emits the exchange unless its request is still under way, or may yet be reported."""
        exchange = self._response
        if exchange is None:
            return
        self._response = None
        exchange.response = response
        exchange.response_state = OVER
        exchange.end_ns = max(exchange.end_ns, ktime_ns)
        if error is not None:
            exchange.error = error
        if len(self._open) > 1:
            self._judge_pipelining(exchange, begin_ktime_ns)
        if exchange.switches and response.complete:
            self._decide_switch(exchange, response.status, response.fields)
        elif response.status == 101:
            exchange.grants = True
            self.switch = SWITCHED
        if exchange.request_state == ABSENT:
            if exchange.response_start_ns >= self._answers_from_ns:
                self._answers += 1
            if self._orphan is exchange:
                return
        if exchange.doubtful and exchange.request_state != ABSENT and not exchange.emitted:
            self._confirm()
            self._confirming = exchange
        elif exchange.request_state != UNDER_WAY:
            self._settle(exchange)

    def requests_hidden(self, *, whole: bool, lost: bool, skipped: bool) -> None:
        """The next request is not surely the next in the queue."""
        if lost and not skipped:
            self._requests_lost = True
        if skipped:
            self._answers = 0  # those came before
            self._answers_from_ns = self.now_ns
        self._hidden = True
        self._request_doubt = True
        self._whole_hidden = whole or self._whole_hidden

    def responses_hidden(self, *, lost: bool) -> None:
        """The next response is not surely that of the oldest request."""
        self._hidden = True
        if lost:
            self._responses_lost_ns = self.now_ns
            self._part()  # what would refute a doubtful pair may be among them
        else:
            self._midway = True

    def malformed(self) -> None:
        """The connection is given up by whoever drives the readers."""
        self.broken = True

    # What the connection tells.

    def mark_moved(self, request_ns: int, response_ns: int) -> None:
        """When the last bytes of the messages under way moved."""
        exchange = self._request
        if exchange is not None:
            exchange.request_end_ns = request_ns
            exchange.end_ns = max(exchange.end_ns, request_ns)
        exchange = self._response
        if exchange is not None:
            exchange.end_ns = max(exchange.end_ns, response_ns)

    def no_more_responses(self, ktime_ns: int) -> None:
        """The response stream ended: what waits for one is over."""
        self.finish_all(ktime_ns, ExchangeError.CONNECTION_CLOSED, None, None, held=False)

    def tick(self, ktime_ns: int) -> None:
        """A response does not wait for its request's report any longer.

        Nor does the first pair of a connection that was met midway wait to be refuted.
        """
        confirming = self._confirming
        if (
            confirming is not None
            and not confirming.behind_loss
            and confirming.request_state == OVER
            and ktime_ns - confirming.end_ns >= _HELD_NS
            and not self._content_due()
        ):
            self.now_ns = ktime_ns
            self._confirm()
        orphan = self._orphan
        if orphan is not None and ktime_ns - orphan.response_start_ns >= _HELD_NS:
            self.now_ns = ktime_ns
            self._release_orphan()

    def finish_all(
        self,
        ktime_ns: int,
        error: ExchangeError,
        request: Request | None,
        response: Response | None,
        *,
        held: bool = True,
    ) -> None:
        """Emits every open exchange; `request`, `response` are the ones under way, so far.

        They stay in the queue, for after a time-out their late messages may still come.
        `held`: also a response that still waits for its request to be reported.
        """
        self.now_ns = ktime_ns
        if error == ExchangeError.MALFORMED:
            self._part()  # the wrong method would make content of a response, or none
        self._confirm()
        for exchange in list(self._open):
            if exchange.emitted:
                continue
            if exchange is self._orphan and exchange.response_state == OVER:
                if held:
                    self._release_orphan()
                continue
            if exchange is self._orphan:
                self._orphan = None
            if exchange is self._request:
                exchange.request = request
            if exchange is self._response:
                exchange.response = response
            if exchange.error is None:
                exchange.error = error
            self._emit(exchange)

    def under_way(
        self, now_ns: int, request: Request | None, response: Response | None
    ) -> list[Exchange]:
        """The open exchanges as they are; the messages are the ones under way, so far."""
        connection = self._carrier.connection
        seen = [
            seen_now(
                one,
                connection,
                self.role,
                now_ns,
                request if one is self._request else None,
                response if one is self._response else None,
            )
            for one in self._open
            if not one.emitted and one is not self._orphan
        ]
        return [exchange for exchange in seen if exchange is not None]

    # Decisions.

    @property
    def _apart(self) -> bool:
        return self._pipelined and self._hidden

    def _new(self, tid: int, start_ns: int) -> OpenExchange:
        carrier = self._carrier
        first = carrier.exchange_count == 0
        carrier.exchange_count += 1
        return OpenExchange(tid, start_ns, first=first)

    def _early_response(self, begin_ktime_ns: int) -> OpenExchange | None:
        orphan = self._orphan
        if orphan is None:
            return None
        if orphan.response_start_ns >= begin_ktime_ns:
            self._orphan = None
            return orphan
        self._release_orphan()
        return None

    def _release_orphan(self) -> None:
        orphan = self._orphan
        self._orphan = None
        if orphan is not None and orphan.response_state == OVER:
            self._settle(orphan)

    def _confirm(self) -> None:
        """What followed a doubtful pair, or that nothing did, agrees with taking turns."""
        confirming = self._confirming
        self._confirming = None
        if confirming is not None and confirming.request_state == OVER:
            self._settle(confirming)

    def _content_due(self) -> bool:
        """Whether only the next response can tell that a doubtful pair is one.

        To another method than HEAD the response would have had content, and that may follow yet.
        """
        confirming = self._confirming
        if confirming is None or confirming.method != b"HEAD":
            return False
        response = confirming.response
        return response is not None and response.status not in (204, 304)

    def _refute(self) -> None:
        """A response that nobody waits for follows a doubtful pair: more had been asked before."""
        if self._confirming is not None:
            self._pipelined = True
            self._part()

    def _part(self) -> None:
        """A doubtful pair is none."""
        confirming = self._confirming
        self._confirming = None
        if confirming is not None:
            self._split(confirming)
            if confirming.request_state == OVER:
                self._settle(confirming)

    def _judge_order(self, exchange: OpenExchange) -> None:
        exchange.doubtful = True
        exchange.behind_loss = self._requests_lost
        self._requests_lost = False
        if self._whole_hidden:
            exchange.answered = self._answers > 0
        else:
            exchange.answered = not any(waiting.response_state == ABSENT for waiting in self._open)
        self._request_doubt = False
        self._whole_hidden = False

    def _choose(self, begin_ktime_ns: int) -> OpenExchange | None:
        lost_ns = self._responses_lost_ns
        midway = self._midway
        self._responses_lost_ns = 0
        self._midway = False
        waiting = [
            one
            for one in self._open
            # No response begins before its request.
            if one.response_state == ABSENT and one.start_ns <= begin_ktime_ns
        ]
        if not waiting:
            return None
        if lost_ns:
            # What began before the loss was noticed may have been answered in it.
            since = [one for one in waiting if one.start_ns > lost_ns]
            if len(since) != 1 or self._pipelined or not _is_next(since[0]):
                self._unpair()
                return None
            for missed in waiting:
                if missed is not since[0]:
                    self._give_up(missed)
            return since[0]
        chosen = waiting[0]
        if not midway and not _is_next(chosen):
            self._pipelined = True
        if self._apart or (midway and len(waiting) > 1):
            self._unpair()
            return None
        return chosen

    def _judge_pipelining(self, ended: OpenExchange, begin_ktime_ns: int) -> None:
        for other in self._open:
            if (
                other is not ended
                and other.request_state != ABSENT
                and other.response_state == ABSENT
                and other.start_ns < begin_ktime_ns
            ):
                self._pipelined = True
                if ended.doubtful and ended.request_state != ABSENT:
                    self._split(ended)
                return

    def _split(self, exchange: OpenExchange) -> None:
        """The pairing rested on turns that are not taken here: make it two again."""
        exchange.doubtful = False
        response = self._new(exchange.tid, exchange.response_start_ns)
        response.first = exchange.first
        response.response = exchange.response
        response.response_state = OVER
        response.response_start_ns = exchange.response_start_ns
        response.end_ns = exchange.end_ns
        response.error = exchange.error
        if exchange.response is not None:
            response.call = grpc.form(exchange.response.fields)
        response.counted = [None, exchange.counted[1]]
        exchange.counted[1] = None
        response.grants = exchange.grants
        exchange.grants = False
        exchange.response = None
        exchange.response_start_ns = 0
        exchange.end_ns = exchange.request_end_ns
        exchange.error = ExchangeError.TRUNCATED
        self._open.insert(0, response)
        self._settle(response)

    def _unpair(self) -> None:
        """Every request that waits is given up; what answers them is emitted alone."""
        self._hidden = True
        for exchange in list(self._open):
            if exchange.response_state == ABSENT:
                self._give_up(exchange)

    def _give_up(self, exchange: OpenExchange) -> None:
        exchange.error = exchange.error or ExchangeError.TRUNCATED
        # Nothing is expected for it any more; a request under way ends it.
        exchange.response_state = OVER
        if exchange.request_state != UNDER_WAY:
            self._settle(exchange)

    def _decide_switch(self, exchange: OpenExchange, status: int, fields: Iterable[Field]) -> None:
        if exchange.method == b"CONNECT":
            exchange.grants = 200 <= status < 300
            if (
                exchange.grants
                and exchange.doubtful
                and any(name in (b"content-length", b"transfer-encoding") for name, _ in fields)
            ):
                # RFC 9110 9.3.6: no answer to CONNECT has them. It was taken for one, so that
                # nobody knows what the bytes behind it are.
                exchange.grants = False
                self.broken = True
                return
        else:
            exchange.grants = status == 101
        self.switch = SWITCHED if exchange.grants else DECLINED

    # Emission.

    def _settle(self, exchange: OpenExchange) -> None:
        self._open.remove(exchange)
        if exchange.emitted:
            self._carrier.counters.messages_late += 1
        else:
            self._emit(exchange)

    def _emit(self, exchange: OpenExchange) -> None:
        exchange.emitted = True
        carrier = self._carrier
        counters = carrier.counters
        request = exchange.request
        response = exchange.response
        told = self._told(exchange)
        if exchange.grants:
            self.granted = told
            if goes_on_as_http2(request, response):
                return
        if request is None:
            if response is None:
                counters.exchanges_unknown += 1
                return
            counters.exchanges_without_request += 1
        elif response is None:
            counters.exchanges_without_response += 1
        elif request.complete and response.complete:
            counters.exchanges_complete += 1
        else:
            counters.exchanges_incomplete += 1
        carrier.deliver(told)

    def _told(self, exchange: OpenExchange) -> Exchange:
        connection = self._carrier.connection
        request, response = exchange.request, exchange.response
        genai = None
        if exchange.read is not None:
            genai = exchange.read.said(
                request_complete=request is not None and request.complete,
                response_complete=response is not None and response.complete,
            )
        return Exchange(
            self.role,
            connection,
            exchange.tid,
            request,
            response,
            exchange.start_ns,
            exchange.request_end_ns,
            exchange.response_start_ns,
            max(exchange.end_ns, exchange.start_ns),
            self.now_ns,
            not exchange.first or not connection.from_start,
            position(
                connection,
                self.role,
                exchange.offset,
                exchange.tcp_position,
                exchange.into_event,
            ),
            exchange.error,
            rpc_of(exchange),
            genai=genai,
        )


def _is_next(exchange: OpenExchange) -> bool:
    """Whether nothing that was asked before it waits, as far as anybody can tell."""
    return exchange.answered or not exchange.doubtful
