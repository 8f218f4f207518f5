"""Heads of known outlines, told into the turn that they belong to.

Owns which outlines a connection's heads had last, and a turn with the heads that it was told from,
which can still be made into messages. Promises: a head that is told here is one that the general
way reads as the same. It must not know what came before on the connection: `turns` does.
"""

from __future__ import annotations

import mmap
from typing import Final

from otel_tap.exchange import Connection, Exchange, Position, Role
from otel_tap.messages import EMPTY_BODY, Body, Request, Response
from otel_tap.protocols.content import ContentRules
from otel_tap.protocols.http1.head import HEAD_LIMIT, HeadParser
from otel_tap.protocols.http1.outline import NO_OUTLINE
from otel_tap.turn import Turn

CALL: Final = b"application/grpc"


class HeldTurn(Turn):
    """A turn with what it was read from; of a request that was read line by line its place only."""

    __slots__ = (
        "_heads",
        "asked_ktime_ns",
        "first_offset",
        "request_head",
        "request_size",
        "response_head",
        "response_size",
        "tcp_position",
    )

    def __init__(self, connection: Connection, role: Role, heads: HeadParser) -> None:
        super().__init__(connection, role)
        self._heads = heads
        # Of the call that moved the beginning of the request.
        self.asked_ktime_ns = 0
        self.first_offset = 0
        self.tcp_position = -1
        self.request_head = b""
        self.request_size = 0  # of its content
        self.response_head = b""
        self.response_size = 0

    def request(self, size: int, *, complete: bool) -> Request:
        """The request with that much content, of which nothing is kept."""
        head = self.request_head
        lines = head.split(b"\n")
        method, target, version = self._heads.request_line(lines[0])
        fields = self._heads.section(lines, 1, len(lines) - 2)[0]
        body = Body(b"", size, True) if size else EMPTY_BODY
        return Request(method, target, version, fields, (), body, len(head) + size, 0, complete)

    def response(self, size: int, *, complete: bool) -> Response:
        """The same of the response."""
        head = self.response_head
        lines = head.split(b"\n")
        status, reason, version = self._heads.status_line(lines[0])
        fields = self._heads.section(lines, 1, len(lines) - 2)[0]
        body = Body(b"", size, True) if size else EMPTY_BODY
        return Response(status, reason, version, fields, (), body, len(head) + size, 0, complete)

    def exchange(self) -> Exchange:
        """The same in full, to keep."""
        return Exchange(
            self.role,
            self.connection,
            self.tid,
            self.request(self.request_size, complete=True),
            self.response(self.response_size, complete=True),
            self.start_ktime_ns,
            self.request_end_ktime_ns,
            self.response_start_ktime_ns,
            self.end_ktime_ns,
            self.end_ktime_ns,
            self.reused,
            Position(self.kind, self.offset),
            None,
        )


class Teller:
    """Of one connection. Outlines are those that heads of any connection were learned from."""

    __slots__ = ("_heads", "_request", "_response", "_rules")

    def __init__(self, heads: HeadParser, rules: ContentRules | None) -> None:
        self._heads = heads
        self._rules = rules
        self._request = NO_OUTLINE  # of those that were met last
        self._response = NO_OUTLINE

    def request(self, turn: HeldTurn, memory: mmap.mmap | bytes, begin: int, end: int) -> int:
        """How much of the request's content is due; -1 if its head is not told."""
        outline = self._request
        found = outline.match(memory, begin, end)
        if found is None:
            recent = self._heads.requests.recent(memory, begin, end)
            if recent is None:
                return -1
            outline, found = recent
            self._request = outline
        values = found.groups()
        head: bytes = values[0]
        size = len(head)
        if size > HEAD_LIMIT or size - len(head.replace(b"\n", b"")) != outline.lines:
            return -1
        digits: bytes | None = values[outline.length]
        length = 0
        if digits is not None:
            length = int(digits)
            if length and head.find(CALL) >= 0:
                return -1  # gRPC-Web: the long way counts its messages
        target: bytes = values[1]
        if self._rules is not None and self._rules.matches(outline.method, target):
            return -1
        turn.method = outline.method
        turn.target = target
        turn.host = values[outline.host]
        turn.agent = values[outline.agent]
        turn.trace_parent = values[outline.parent]
        turn.trace_state = values[outline.state]
        turn.hops = None
        hops = outline.forwarded
        if hops is not None:
            turn.hops = (values[hops[0]], values[hops[1]], values[hops[2]])
        turn.request_head = head
        turn.request_size = length
        return begin + size + length - end

    def response(self, turn: HeldTurn, memory: mmap.mmap | bytes, begin: int, end: int) -> int:
        """The same of a response to the request in `turn`."""
        outline = self._response
        found = outline.match(memory, begin, end)
        if found is None:
            recent = self._heads.responses.recent(memory, begin, end)
            if recent is None:
                return -1
            outline, found = recent
            self._response = outline
        values = found.groups()
        head: bytes = values[0]
        size = len(head)
        if size > HEAD_LIMIT or size - len(head.replace(b"\n", b"")) != outline.lines:
            return -1
        length = 0
        if not outline.bodiless and turn.method != b"HEAD":
            digits: bytes | None = values[outline.length]
            if digits is None:
                return -1
            length = int(digits)
        turn.status = outline.status
        turn.version = outline.version
        turn.response_head = head
        turn.response_size = length
        return begin + size + length - end

    def turn_to_request(self, payload: bytes, lines: int) -> bool:
        """Whether a request with so many lines has another known outline, which comes first now."""
        outline = self._heads.requests.like(payload, lines)
        if outline is None or outline is self._request:
            return False
        self._request = outline
        return True

    def turn_to_response(self, payload: bytes, lines: int) -> bool:
        """The same of a response."""
        outline = self._heads.responses.like(payload, lines)
        if outline is None or outline is self._response:
            return False
        self._response = outline
        return True
