"""One exchange while it is open on an HTTP/1 connection.

Owns what is known of it so far, and how its place in the streams is told. It decides nothing.
"""

from __future__ import annotations

from typing import Final

from otel_tap.exchange import Connection, ExchangeError, Position, Role, Rpc
from otel_tap.messages import Request, Response
from otel_tap.protocols.content import ReadExchange
from otel_tap.protocols.http2 import grpc
from otel_tap.protocols.http2.grpc import Messages

ABSENT: Final = 0  # not begun, or unknown for good
UNDER_WAY: Final = 1
OVER: Final = 2

# A record holds less than 2**20 bytes of plaintext: one number for record and place within.
_POSITION_SHIFT: Final = 20

_CLIENT: Final = Role.CLIENT  # a member is looked up slowly on its class


def place(
    connection: Connection, role: Role, offset: int, tcp_position: int, into_event: int
) -> tuple[str, int | None]:
    """Kind and offset of the first request byte's position, numbered alike at both ends.

    `offset` is -1 when there is no request.
    """
    # The side that opened a TCP connection has its SYN in the numbers it sends.
    opener = 1 if role is _CLIENT else 0
    if not connection.tls:
        return "tcp", offset - opener if offset >= 0 else None
    if connection.from_start:
        return "tls", offset if offset >= 0 else None
    if tcp_position < 0:
        return "tcp", None
    return "tcp", ((tcp_position - opener) << _POSITION_SHIFT) + into_event


def position(
    connection: Connection, role: Role, offset: int, tcp_position: int, into_event: int
) -> Position:
    """The same as a position."""
    kind, number = place(connection, role, offset, tcp_position, into_event)
    return Position(kind, number)


def rpc_of(exchange: OpenExchange) -> Rpc | None:
    """The call that an exchange is, if it is one."""
    if exchange.call is None:
        return None
    request, response = exchange.request, exchange.response
    return grpc.call(
        exchange.call,
        None if request is None else request.target,
        () if request is None else request.fields,
        () if response is None else response.fields,
        () if response is None else response.trailers,
        exchange.counted[0],
        exchange.counted[1],
    )


class OpenExchange:
    """An exchange that is not over, or whose late bytes are still due."""

    __slots__ = (
        "answered",
        "behind_loss",
        "call",
        "counted",
        "doubtful",
        "emitted",
        "end_ns",
        "error",
        "first",
        "grants",
        "into_event",
        "method",
        "offset",
        "read",
        "request",
        "request_end_ns",
        "request_state",
        "response",
        "response_start_ns",
        "response_state",
        "start_ns",
        "switches",
        "tcp_position",
        "tid",
    )

    def __init__(self, tid: int, start_ns: int, *, first: bool) -> None:
        self.tid = tid
        self.start_ns = start_ns
        self.first = first
        self.method = b""
        self.request: Request | None = None
        self.request_state = ABSENT
        self.request_end_ns = 0
        self.response: Response | None = None
        self.response_state = ABSENT
        self.response_start_ns = 0
        self.end_ns = 0
        self.error: ExchangeError | None = None
        self.offset = -1
        self.tcp_position = -1
        self.into_event = 0
        self.switches = False
        self.grants = False  # its response ends HTTP/1 on this connection
        self.read: ReadExchange | None = None  # who reads its contents
        self.doubtful = False  # requests may have passed unseen just before it
        self.behind_loss = False  # ... because bytes were lost, not for having been met midway
        self.answered = False  # ... and a response seen since answers them
        self.call: int | None = None  # the form of gRPC, if it is a call
        self.counted: list[Messages | None] = [None, None]  # its messages, of either direction
        self.emitted = False
