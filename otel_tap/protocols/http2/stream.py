"""One HTTP/2 stream: an exchange that is not over.

Owns what is known of its two messages, and which field section is a head, an interim response or
trailers (RFC 9113 8.1). Promises that a section whose place cannot be known gives no field to
either. It must not know frames, nor when a stream is over.
"""

from __future__ import annotations

import re
from typing import Final

from otel_tap.exchange import ExchangeError, Rpc
from otel_tap.messages import (
    EMPTY_BODY,
    UNKNOWN,
    UNKNOWN_STATUS,
    Body,
    Field,
    Request,
    Response,
    field_value,
)
from otel_tap.protocols.content import ContentRules, ReadExchange
from otel_tap.protocols.http2 import grpc
from otel_tap.protocols.http2.section import HEAD, TRAILERS, UNCERTAIN, Section
from otel_tap.protocols.http2.sockets import PROTOCOL, Asked
from otel_tap.protocols.reading import ContentReader, response_reader

ABSENT: Final = 0
UNDER_WAY: Final = 1
OVER: Final = 2

VERSION: Final = "2"

_SWITCHED: Final = 101
_INTERIM_LIMIT: Final = 16  # interim statuses that are kept

_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


class Half:
    """One message of a stream."""

    __slots__ = (
        "_body_limit",
        "_parts",
        "_room",
        "begin_ns",
        "content_moved",
        "end_ns",
        "fields",
        "hidden",
        "incomplete",
        "known",
        "lost",
        "messages",
        "reading",
        "size",
        "state",
        "trailers",
        "wire",
    )

    def __init__(self, body_limit: int) -> None:
        self.state = ABSENT
        self.known = False  # a head was read, be it with placeholders
        self.fields: tuple[Field, ...] = ()
        self.trailers: tuple[Field, ...] = ()
        self.incomplete = False  # fields or trailers
        self.hidden = False  # frames of it may have passed unseen
        self.begin_ns = 0
        self.end_ns = 0
        self.size = 0
        self.wire = 0
        self.lost = 0
        self.content_moved = False
        self.messages: grpc.Messages | None = None
        self.reading: ContentReader | None = None
        self._body_limit = body_limit
        self._room = body_limit
        self._parts: list[bytes] = []

    def begin(self) -> None:
        """Its head is here: whatever passed unseen before was no part of it."""
        self.known = True
        if self.hidden and not self.content_moved:
            self.hidden = False
            self.messages = None
            self._room = self._body_limit

    def moved(self, begin_ns: int, end_ns: int, wire: int) -> None:
        """A frame of it moved."""
        if self.state == ABSENT:
            self.state = UNDER_WAY
            self.begin_ns = begin_ns
        self.end_ns = end_ns
        self.wire += wire

    def content(self, payload: bytes, at: int, stop: int) -> None:
        """The next content is `payload[at:stop]`."""
        count = stop - at
        self.size += count
        self.content_moved = True
        room = self._room
        if room > 0 and count:
            kept = min(count, room)
            self._parts.append(payload[at : at + kept])
            self._room = room - kept
        if self.messages is not None:
            self.messages.moved(payload, at, stop)

    def content_lost(self, count: int) -> None:
        """The next `count` bytes of content are unknown."""
        self.size += count
        self.lost += count
        self.content_moved = True
        self._room = 0
        if self.messages is not None:
            self.messages.lost(count)
        if self.reading is not None:
            self.reading.lost()

    def end_at_head(self) -> None:
        """What moved, or moves, behind its head is no content of it."""
        self.state = OVER
        self.hidden = False
        self.size = self.lost = 0
        self._parts.clear()
        self.reading = None

    def hide(self) -> None:
        """Frames of it may pass, or have passed, unseen."""
        if self.state == OVER:
            return
        self.hidden = True
        self._room = 0
        if self.messages is not None:
            self.messages.cut()
        if self.reading is not None:
            self.reading.lost()

    @property
    def complete(self) -> bool:
        """Whether it is known to be whole."""
        if self.state != OVER:
            return False
        if not self.hidden:
            return True
        length = field_value(self.fields, b"content-length")
        return (
            length is not None
            and _LENGTH.fullmatch(length) is not None
            and int(length) == self.size
        )

    def body(self) -> Body:
        """The content so far."""
        if not self.size:
            return EMPTY_BODY
        content = b"".join(self._parts)
        return Body(content, self.size, len(content) < self.size)


class Stream:
    """What is known of an open stream."""

    __slots__ = (
        "_adopted",
        "asked",
        "ended_ns",
        "error",
        "first",
        "grpc",
        "interim",
        "method",
        "number",
        "read",
        "released",
        "request",
        "response",
        "start_ns",
        "status",
        "target",
        "tid",
        "touched_ns",
    )

    def __init__(
        self, number: int, tid: int, start_ns: int, body_limit: int, *, first: bool
    ) -> None:
        self.number = number
        self.tid = tid
        self.start_ns = start_ns
        self.first = first
        self.request = Half(body_limit)
        self.response = Half(body_limit)
        self.method = UNKNOWN
        self.target = UNKNOWN
        self.status = UNKNOWN_STATUS
        self.interim: tuple[int, ...] = ()
        self.error: ExchangeError | None = None
        self.ended_ns = 0  # when a frame took it back, which is the last of it then
        self.grpc: int | None = None
        self.asked: Asked | None = None  # its request asks for a WebSocket
        self.read: ReadExchange | None = None  # who reads its contents
        self.released = False  # whole responded; no more than the frame under way will be sent
        self._adopted: Request | None = None
        self.touched_ns = start_ns

    def adopt(self, request: Request, begin_ns: int, end_ns: int) -> None:
        """Its request moved as HTTP/1.1."""
        half = self.request
        half.moved(begin_ns, end_ns, request.wire_size)
        half.state = OVER
        half.known = True
        half.fields = request.fields
        half.content_moved = True  # and was not read here: no message of it is counted
        self.method = request.method
        self.target = request.target
        self.interim = (_SWITCHED,)
        self._adopted = request
        self._look_for_grpc(half, grpc.form(request.fields))

    # Field sections.

    def request_section(self, section: Section) -> None:
        """The next section of the request."""
        half = self.request
        place = section.place
        if place == UNCERTAIN and not half.hidden:
            place = TRAILERS if half.known else HEAD
        half.incomplete = half.incomplete or section.incomplete
        if place == HEAD and not half.known:
            half.begin()
            method, target, half.fields, protocol = section.request_head
            if method is not None:
                self.method = method
            if target is not None:
                self.target = target
            if protocol is not None and method == b"CONNECT" and protocol.lower() == PROTOCOL:
                self.asked = Asked(half.wire, half.end_ns)
                half.reading = ContentReader((), self.asked)
            self._look_for_grpc(half, section.form)
        elif place == TRAILERS:
            half.trailers += section.trailers
        else:
            half.incomplete = True

    def response_section(self, section: Section, begin_ns: int, wire: int, *, ends: bool) -> None:
        """The next section of the response, `wire` bytes; `ends`: its last one."""
        half = self.response
        place = section.place
        half.incomplete = half.incomplete or section.incomplete
        tentative = half.known and self.status == UNKNOWN_STATUS and not half.content_moved
        if place == UNCERTAIN:
            if half.content_moved or (half.known and not tentative):
                place = TRAILERS
            elif half.hidden or (tentative and ends):
                # Head or trailers: in either place its fields might be wrong.
                half.known = True
                half.incomplete = True
                half.fields = ()
                return
            else:
                place = HEAD
        if place == TRAILERS:
            half.trailers += section.trailers
            return
        status, fields = section.response_head
        if 100 <= status < 200 and not ends:
            if len(self.interim) < _INTERIM_LIMIT:
                self.interim += (status,)
            return
        if half.known and not tentative:
            half.incomplete = True  # a second final head: nobody can tell which one is true
            return
        half.begin()
        half.begin_ns = begin_ns
        half.wire = wire  # interim responses are not part of it
        half.fields = fields
        self.status = status
        self._look_for_grpc(half, section.form)
        if self.grpc is None:
            self._read_response()

    @property
    def granted(self) -> bool:
        """Whether its response grants what was asked for, and nothing moved behind that yet."""
        half = self.response
        return (
            half.state == UNDER_WAY
            and half.known
            and 200 <= self.status < 300
            and not half.content_moved
        )

    def leave(self, asked: Asked) -> None:
        """Both messages are whole with their heads; what follows is a WebSocket's."""
        self.request.end_at_head()
        self.request.wire = asked.wire
        self.request.end_ns = asked.end_ns
        self.response.end_at_head()

    def read_request(self, rules: ContentRules) -> None:
        """Has the contents read, if the rules choose this exchange by its head."""
        half = self.request
        if self.read is not None or not half.known or half.content_moved:
            return
        if not rules.matches(self.method, self.target):
            return
        self.read = rules.begin(self.target, half.fields)
        if self.read is not None:
            half.reading = ContentReader(half.fields, self.read.request_sink())
            if half.hidden:
                half.reading.lost()

    def _read_response(self) -> None:
        half = self.response
        half.reading = response_reader(half.fields, self.read)
        if half.reading is not None and (half.hidden or half.content_moved):
            half.reading.lost()

    def _look_for_grpc(self, told: Half, form: int | None) -> None:
        """The head of that message is known now; `form` is what its content type says."""
        if self.grpc is None:
            self.grpc = form
        if self.grpc is None:
            return
        if self.grpc != grpc.PLAIN:
            # Each message has a form of its own, binary or text.
            if not told.content_moved and not told.hidden:
                told.messages = grpc.messages_of(form, told.fields)
            return
        for half in (self.request, self.response):
            # What moved before the content type was known was not counted.
            if half.messages is None and not half.content_moved and not half.hidden:
                half.messages = grpc.Messages()
            if half.messages is not None and grpc.is_coded(half.fields):
                half.messages.cut()

    # Messages.

    def request_message(self) -> Request | None:
        """The request as known now; None without its head."""
        half = self.request
        if self._adopted is not None:
            return self._adopted
        if not half.known:
            return None
        return Request(
            self.method,
            self.target,
            VERSION,
            half.fields,
            half.trailers,
            half.body(),
            half.wire,
            half.lost,
            half.complete,
            half.incomplete,
        )

    def response_message(self) -> Response | None:
        """The final response as known now; None without its head."""
        half = self.response
        if not half.known:
            return None
        return Response(
            self.status,
            b"",
            VERSION,
            half.fields,
            half.trailers,
            half.body(),
            half.wire,
            half.lost,
            half.complete,
            self.interim,
            half.incomplete,
            events=None if half.reading is None else half.reading.events(),
        )

    def rpc(self) -> Rpc | None:
        """The call that it carries, if it is one."""
        if self.grpc is None:
            return None
        cancelled_after_ns = None
        response = self.response
        # What passed unseen could have been a status.
        in_sight = response.state != OVER and not response.hidden
        if self.error is ExchangeError.CANCELLED and self.ended_ns and in_sight:
            cancelled_after_ns = self.ended_ns - self.start_ns
        return grpc.call(
            self.grpc,
            self.target if self.request.known else None,
            self.request.fields,
            response.fields,
            response.trailers,
            self.request.messages,
            response.messages,
            cancelled_after_ns,
        )
