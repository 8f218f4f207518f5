"""A turn: one whole request and its whole response on an HTTP/1 connection, as compact as it moved.

Most exchanges are turns. Owns what telemetry tells of one, as plain attributes of an object that
serves its connection for one turn after another: making the objects of an `Exchange` takes longer
than all the rest. Promises: what a turn says, the exchange that it can be made into says too. Who
wants more than stands here, or to keep any of it, takes the exchange.
"""

from __future__ import annotations

from otel_tap.exchange import Connection, Exchange, Role
from otel_tap.messages import UNKNOWN_STATUS

Hops = tuple[bytes | None, bytes | None, bytes | None]
"""X-Forwarded-For, -Host and -Proto of a request that has any of them."""


class Turn:
    """Both messages are complete, nothing of them was lost, and no reader can differ about them.

    The target is in origin form, and each header below stands once at most; no proxy spoke by
    `Forwarded`. It holds until the connection's next turn. Times are ktime_ns.
    """

    __slots__ = (
        "agent",
        "connection",
        "end_ktime_ns",
        "hops",
        "host",
        "kind",
        "method",
        "offset",
        "request_end_ktime_ns",
        "response_start_ktime_ns",
        "reused",
        "role",
        "start_ktime_ns",
        "status",
        "target",
        "tid",
        "trace_parent",
        "trace_state",
        "version",
    )

    def __init__(self, connection: Connection, role: Role) -> None:
        self.connection = connection
        self.role = role
        self.tid = 0
        self.method = b""
        self.target = b""
        self.host: bytes | None = None
        self.agent: bytes | None = None
        self.hops: Hops | None = None
        self.trace_parent: bytes | None = None
        self.trace_state: bytes | None = None
        self.status = UNKNOWN_STATUS
        self.version = ""  # of the response
        self.start_ktime_ns = 0  # first request byte
        self.request_end_ktime_ns = 0
        self.response_start_ktime_ns = 0
        self.end_ktime_ns = 0  # last byte, which the agent observed then
        self.reused = False  # not the first exchange of its connection
        self.kind = "tcp"  # as of an exchange's position
        self.offset: int | None = None

    def exchange(self) -> Exchange:
        """The same in full, to keep."""
        raise NotImplementedError
