"""The direction of an HTTP/1 connection that carries requests.

Owns how a request head decides the framing (RFC 9112 6.3) and what a request is made of. After a
request to switch protocols it reads no further until the response has decided.
"""

from __future__ import annotations

from otel_tap.events import DataEvent
from otel_tap.exchange import ExchangeError
from otel_tap.messages import Request
from otel_tap.protocols.content import ContentRules
from otel_tap.protocols.counters import Counters
from otel_tap.protocols.http1.head import (
    CHUNKED,
    OTHER_CODING,
    HeadParser,
    Malformed,
    begins_request,
    split_request_line,
)
from otel_tap.protocols.http1.listener import Listener
from otel_tap.protocols.http1.reader import CHUNK_SIZE, FIXED, HOLD, START, MessageReader
from otel_tap.protocols.reading import ContentReader


class RequestReader(MessageReader):
    """The direction that carries requests."""

    __slots__ = ("_method", "_rules", "_switches", "_target", "_version")

    def __init__(
        self,
        listener: Listener,
        heads: HeadParser,
        counters: Counters,
        body_limit: int,
        rules: ContentRules | None = None,
    ) -> None:
        super().__init__(listener, heads, counters, body_limit)
        self._rules = rules
        self._method = b""
        self._target = b""
        self._version = ""
        self._switches = False

    def release(self) -> None:
        """The response to a CONNECT or Upgrade declined: HTTP/1 goes on."""
        if self._state == HOLD:
            self._state = START

    def _begins(self, payload: bytes, at: int) -> bool:
        return begins_request(payload, at)

    def _first_byte(self, event: DataEvent, at: int) -> None:
        self._method = b""
        self._switches = False
        self._listener.request_began(event, at, self.begin_ktime_ns)

    def _take_head(self, head: bytes) -> None:
        lines = head.split(b"\n")
        self._method, self._target, self._version = split_request_line(lines[0])
        self._fields, length, coding, upgrade = self._heads.section(lines, 1, len(lines) - 2)
        connect = self._method == b"CONNECT"
        self._switches = connect or upgrade
        if coding == OTHER_CODING:
            raise Malformed  # RFC 9112 6.3: where such a request ends cannot be known
        self._listener.request_head(self._method, switches=self._switches)
        if self._rules is not None and self._rules.matches(self._method, self._target):
            self._read_along(self._rules)
        if coding == CHUNKED:
            self._state = CHUNK_SIZE
        elif length > 0 and not connect:
            self._remaining = length
            self._state = FIXED
        else:
            self._finish(None)

    def _read_along(self, rules: ContentRules) -> None:
        read = rules.begin(self._target, self._fields)
        if read is not None:
            self._listener.request_is_read(read)
            self._reading = ContentReader(self._fields, read.request_sink())

    def _take_partial_head(self, head: bytes) -> None:
        lines = head.split(b"\n")
        if len(lines) < 2:
            return
        try:
            self._method, self._target, self._version = split_request_line(lines[0])
        except Malformed:
            self._method = b""
            return
        self._fields = self._partial_section(lines)[0]
        self._listener.request_head(self._method, switches=False)

    def _deliver(self, error: ExchangeError | None) -> None:
        if self._switches and error is None:
            self._state = HOLD
        request = self.so_far(complete=error is None)
        self._listener.request_ended(request, error, self.ktime_ns)

    def so_far(self, *, complete: bool = False) -> Request | None:
        """The request under way as known now; None without its request line."""
        if not self._method:
            return None
        return Request(
            self._method,
            self._target,
            self._version,
            self._fields,
            self._trailers,
            self._body(),
            self._wire,
            self._lost,
            complete,
        )

    def _hidden(self, *, whole: bool, lost: bool) -> None:  # noqa: ARG002 - the contract's
        self._listener.requests_hidden(whole=whole)
