"""The direction of an HTTP/1 connection that carries requests.

Owns how a request head decides the framing (RFC 9112 6.3) and what a request is made of. After a
request to switch protocols it reads no further until the response has decided, and keeps what
comes meanwhile.
"""

from __future__ import annotations

from typing import Final

from otel_tap.events import DataEvent
from otel_tap.exchange import ExchangeError
from otel_tap.messages import Request
from otel_tap.protocols.content import ContentRules
from otel_tap.protocols.counters import Counters
from otel_tap.protocols.http1.ambiguity import BAD_CODING, BARE_LF, CODING_IN_1_0
from otel_tap.protocols.http1.head import (
    CHUNKED,
    NOT_CODED,
    OTHER_CODING,
    HeadParser,
    Malformed,
    begins_request,
)
from otel_tap.protocols.http1.listener import Listener
from otel_tap.protocols.http1.reader import CHUNK_SIZE, FIXED, HOLD, START, MessageReader
from otel_tap.protocols.http1.switching import behind
from otel_tap.protocols.http2 import grpc
from otel_tap.protocols.reading import ContentReader

_HELD_LIMIT: Final = 64 * 1024  # bytes kept behind a request to switch protocols


class RequestReader(MessageReader):
    """The direction that carries requests."""

    __slots__ = ("_held", "_held_size", "_method", "_rules", "_switches", "_target", "_version")

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
        self._held: list[DataEvent] = []
        self._held_size = 0

    @property
    def holds(self) -> bool:
        """Whether the last request asks to switch, and nothing that came behind it was lost."""
        return self._state == HOLD

    @property
    def refused(self) -> bool:
        """Whether reading ended with a request that is known, but not where it ends."""
        return self.failed and self._method != b""

    def release(self) -> list[DataEvent]:
        """The response to a CONNECT or Upgrade decided: HTTP/1 goes on, or another reader.

        Returns what came meanwhile.
        """
        if self._state == HOLD:
            self._state = START
        held, self._held = self._held, []
        self._held_size = 0
        return held

    def gap(self, ktime_ns: int, length: int) -> None:
        """The next `length` bytes are unknown; 0: the stream is met midway."""
        if self._held:
            self._drop_held()
        super().gap(ktime_ns, length)

    def end(self, error: ExchangeError) -> None:
        """The stream ended in order; `error` is that of a message that needed more."""
        if self._held:
            self._drop_held()
        super().end(error)

    def _leave(self, event: DataEvent, at: int) -> None:
        size = len(event.payload) - at
        if self._state != HOLD:
            self._skip(size)
        elif self._held_size + size > _HELD_LIMIT:
            self._drop_held()
            self._skip(size)
            self._lose(lost=True)
        else:
            self._held.append(behind(event, at))
            self._held_size += size

    def _drop_held(self) -> None:
        for event in self._held:
            self._skip(len(event.payload))
        self._held = []
        self._held_size = 0

    def _begins(self, payload: bytes, at: int) -> bool:
        return not self._held and begins_request(payload, at)

    def _first_byte(self, event: DataEvent, at: int) -> None:
        self._method = b""
        self._switches = False
        self._listener.request_began(event, at, self.begin_ktime_ns)

    def _take_head(self, head: bytes) -> None:
        lines = head.split(b"\n")
        heads = self._heads
        self._method, self._target, self._version = heads.request_line(lines[0])
        self._fields, length, coding, upgrade = heads.section(lines, 1, len(lines) - 2)
        self._take_doubts()
        if not lines[-2]:
            self._doubt(BARE_LF)
        connect = self._method == b"CONNECT"
        self._switches = (connect or upgrade) and coding < OTHER_CODING
        self._listener.request_head(self._method, switches=self._switches)
        if coding != NOT_CODED:
            if self._version == "1.0":
                self._doubt(CODING_IN_1_0)
            if coding == OTHER_CODING:
                self._doubt(BAD_CODING)
            if coding >= OTHER_CODING:
                raise Malformed  # RFC 9112 6.3: where such a request ends cannot be known
        if self._rules is not None and self._rules.matches(self._method, self._target):
            self._read_along(self._rules)
        if self._method == b"POST" and (kind := grpc.form(self._fields)) is not None:
            self._messages = grpc.messages_of(kind, self._fields)
            self._listener.request_call(kind, self._messages)
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
            self._method, self._target, self._version = self._heads.request_line(lines[0])
        except Malformed:
            self._method = b""
            return
        self._fields = self._heads.section(lines, 1, len(lines) - 1)[0]
        self._take_doubts()
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
            self._head_is_cut,
            self._ambiguity,
        )

    def _hidden(self, *, whole: bool, lost: bool, skipped: bool = False) -> None:
        self._listener.requests_hidden(whole=whole, lost=lost, skipped=skipped)
