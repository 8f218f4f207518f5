"""One exchange: a request with its response, or what is known of them, seen at one end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from otel_tap.events import Address, PeerEvidence, TlsLibrary
from otel_tap.messages import Request, Response


class Role(StrEnum):
    """The end at which the exchange was seen: who sent the request, or who received it."""

    CLIENT = "client"
    SERVER = "server"


class ExchangeError(StrEnum):
    """Why an exchange is not whole: the low-cardinality words of `error.type`."""

    CONNECTION_RESET = "connection_reset"
    CONNECTION_CLOSED = "connection_closed"
    TIMEOUT = "timeout"  # silence: nothing moved for the idle limit
    PROCESS_EXITED = "process_exited"
    MALFORMED = "malformed"  # bytes that are not HTTP where HTTP was due
    TRUNCATED = "truncated"  # a gap hid where a message ends
    AGENT_STOPPED = "agent_stopped"  # not an error of the exchange: the agent ended first


@dataclass(frozen=True, slots=True)
class Connection:
    """What is known of the connection that carried an exchange."""

    connection_id: int
    tgid: int
    tls: TlsLibrary
    evidence: PeerEvidence
    local: Address | None
    peer: Address | None
    iss: int  # TCP initial sequence numbers as this end computes them, 0 unknown
    irs: int
    from_start: bool


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the request stream an exchange began; the same at both ends.

    `kind` names the numbering: "tcp" counts TCP stream bytes, "tls" plaintext bytes since the
    handshake. `offset` is None when it cannot be known the same way at both ends.
    """

    kind: str
    offset: int | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """At least one of `request` and `response` is known. Times are ktime_ns."""

    role: Role
    connection: Connection
    tid: int
    request: Request | None
    response: Response | None
    start_ktime_ns: int  # first request byte (first response byte when the request is unknown)
    request_end_ktime_ns: int  # last request byte seen; 0 none
    response_start_ktime_ns: int  # first byte of the final response; 0 none
    end_ktime_ns: int  # last byte of the exchange
    observed_ktime_ns: int  # when the agent finished it: time of the event that ended it
    reused: bool  # not the first exchange of its connection
    position: Position
    error: ExchangeError | None

    @property
    def lost_bytes(self) -> int:
        """Bytes of either message that fell into gaps."""
        lost = 0
        if self.request is not None:
            lost += self.request.lost_bytes
        if self.response is not None:
            lost += self.response.lost_bytes
        return lost

    @property
    def duration_ns(self) -> int:
        """End minus start, never negative, nanoseconds."""
        return max(0, self.end_ktime_ns - self.start_ktime_ns)
