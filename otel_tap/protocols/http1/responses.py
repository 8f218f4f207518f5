"""The direction of an HTTP/1 connection that carries responses.

Owns how a response head decides the framing (RFC 9112 6.3), for which it asks for the method of
its request. With the method unknown a body is expected, but a status line in its place says that
there was none.
"""

from __future__ import annotations

from typing import Final

from otel_tap.events import DataEvent
from otel_tap.exchange import ExchangeError
from otel_tap.messages import Response
from otel_tap.protocols.counters import Counters
from otel_tap.protocols.http1.ambiguity import BARE_LF, CODING_IN_1_0
from otel_tap.protocols.http1.head import (
    BROKEN,
    CHUNKED,
    NO_LENGTH,
    NOT_CODED,
    OTHER_CODING,
    HeadParser,
    Malformed,
    begins_response,
)
from otel_tap.protocols.http1.listener import Listener
from otel_tap.protocols.http1.reader import (
    CHUNK_SIZE,
    DONE,
    FIXED,
    START,
    UNTIL_CLOSE,
    MessageReader,
)
from otel_tap.protocols.http1.switching import behind
from otel_tap.protocols.http2 import grpc
from otel_tap.protocols.reading import response_reader

EVENT_STREAM: Final = b"event-stream"  # to be found by `find`: `in` takes twice as long
"""A head without these bytes is not that of an event stream; nobody writes them otherwise."""

_PROTOCOL: Final = b"HTTP/"
_INTERIM_LIMIT: Final = 16  # interim statuses that are kept


class ResponseReader(MessageReader):
    """The direction that carries responses."""

    __slots__ = ("_interim", "_reason", "_status", "_version", "rest", "switched")

    def __init__(
        self, listener: Listener, heads: HeadParser, counters: Counters, body_limit: int
    ) -> None:
        super().__init__(listener, heads, counters, body_limit)
        self._status = 0
        self._reason = b""
        self._version = ""
        self._interim: tuple[int, ...] = ()
        self.switched = False  # all of the head that ends HTTP/1 was read
        self.rest: DataEvent | None = None  # what came with it

    def _leave(self, event: DataEvent, at: int) -> None:
        if self.switched and self.rest is None:
            self.rest = behind(event, at)
        else:
            self._skip(len(event.payload) - at)

    @property
    def at_rest(self) -> bool:
        """Whether the next byte begins a message, and no interim response came before it."""
        return self._state == START and not self._interim

    def _begins(self, payload: bytes, at: int) -> bool:
        return begins_response(payload, at)

    def _first_byte(self, event: DataEvent, at: int) -> None:  # noqa: ARG002 - the contract's
        self._status = 0

    def _may_begin_head(self, head: bytearray) -> bool:
        # At once: pairing must not take a doubtful pair for one meanwhile.
        return head.startswith(_PROTOCOL[: len(head)])

    def _take_head(self, head: bytes) -> None:
        lines = head.split(b"\n")
        status, reason, version = self._heads.status_line(lines[0])
        fields, length, coding, _ = self._heads.section(lines, 1, len(lines) - 2)
        self._take_doubts()
        if not lines[-2]:
            self._doubt(BARE_LF)
        if status < 200 and status != 101:
            if coding == BROKEN:
                raise Malformed
            if len(self._interim) < _INTERIM_LIMIT:
                self._interim = (*self._interim, status)
            self._state = START
            self._clear()
            return
        self._status = status
        self._reason = reason
        self._version = version
        self._fields = fields
        method = self._listener.response_begins(self._tid, self._first_begin_ns)
        if coding != NOT_CODED:
            if version == "1.0":
                self._doubt(CODING_IN_1_0)
            if coding == BROKEN:
                raise Malformed
        read = self._listener.response_is_read()
        if read is not None or head.find(EVENT_STREAM) >= 0:
            self._reading = response_reader(fields, read)
        if method in (b"POST", b"") and (kind := grpc.form(fields)) is not None:
            self._messages = grpc.messages_of(kind, fields)
            self._listener.response_call(kind, self._messages)
        if (
            method == b"HEAD"
            or status in (101, 204, 304)
            or (method == b"CONNECT" and 200 <= status < 300)
        ):
            self._finish(None)
            if status == 101 or (method == b"CONNECT" and status < 300):
                self._state = DONE  # what follows is another protocol
                self.switched = True
        elif coding == CHUNKED:
            self._state = CHUNK_SIZE
            self._unsure = not method
        elif coding == OTHER_CODING or length == NO_LENGTH:
            self._state = UNTIL_CLOSE
            self._unsure = not method
        elif length == 0:
            self._finish(None)
        else:
            self._remaining = length
            self._state = FIXED
            self._unsure = not method

    def _take_partial_head(self, head: bytes) -> None:
        lines = head.split(b"\n")
        if len(lines) < 2:
            return
        try:
            status, self._reason, self._version = self._heads.status_line(lines[0])
        except Malformed:
            return
        if status < 200 and status != 101:
            return
        self._status = status
        self._fields = self._heads.section(lines, 1, len(lines) - 1)[0]
        self._take_doubts()
        self._listener.response_begins(self._tid, self._first_begin_ns)

    def _deliver(self, error: ExchangeError | None) -> None:
        response = self.so_far(complete=error is None)
        if response is not None:
            self._interim = ()
            self._listener.response_ended(response, error, self.ktime_ns, self.begin_ktime_ns)

    def so_far(self, *, complete: bool = False) -> Response | None:
        """The response under way as known now; None without its status line."""
        if not self._status:
            return None
        return Response(
            self._status,
            self._reason,
            self._version,
            self._fields,
            self._trailers,
            self._body(),
            self._wire,
            self._lost,
            complete,
            self._interim,
            self._head_is_cut,
            self._ambiguity,
            None if self._reading is None else self._reading.events(),
        )

    def _hidden(self, *, whole: bool, lost: bool, skipped: bool = False) -> None:  # noqa: ARG002 - the contract's
        self._listener.responses_hidden(lost=lost)
