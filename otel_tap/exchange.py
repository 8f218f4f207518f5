"""One exchange: a request with its response, or what is known of them, seen at one end.

As with messages, mypy keeps exchanges from being changed (`Final`), for they are made too often
to be frozen dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from otel_tap.events import Address, PeerEvidence, TlsLibrary
from otel_tap.messages import Request, Response
from otel_tap.websocket import Message, Session


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
    CANCELLED = "cancelled"  # one end gave the stream up (HTTP/2 CANCEL)
    REFUSED = "refused"  # the server did not begin with it (REFUSED_STREAM, GOAWAY)
    STREAM_RESET = "stream_reset"  # one end ended the stream for any other reason
    AGENT_STOPPED = "agent_stopped"  # not an error of the exchange: the agent ended first


@dataclass(init=False, slots=True)
class Connection:
    """What is known of the connection that carried an exchange."""

    connection_id: Final[int]
    tgid: Final[int]
    tls: Final[TlsLibrary]
    evidence: Final[PeerEvidence]
    local: Final[Address | None]
    peer: Final[Address | None]
    iss: Final[int]  # TCP initial sequence numbers as this end computes them, 0 unknown
    irs: Final[int]
    from_start: Final[bool]

    def __init__(
        self,
        connection_id: int,
        tgid: int,
        tls: TlsLibrary,
        evidence: PeerEvidence,
        local: Address | None,
        peer: Address | None,
        iss: int,
        irs: int,
        from_start: bool,
    ) -> None:
        self.connection_id = connection_id
        self.tgid = tgid
        self.tls = tls
        self.evidence = evidence
        self.local = local
        self.peer = peer
        self.iss = iss
        self.irs = irs
        self.from_start = from_start


@dataclass(init=False, slots=True)
class Position:
    """Where in the request stream an exchange began; the same at both ends.

    `kind` names the numbering: "tcp" counts TCP stream bytes, "tls" plaintext bytes since the
    handshake, "h2" is the number of an HTTP/2 stream. `offset` is None when it cannot be known the
    same way at both ends.
    """

    kind: Final[str]
    offset: Final[int | None]

    def __init__(
        self,
        kind: str,
        offset: int | None,
    ) -> None:
        self.kind = kind
        self.offset = offset


@dataclass(init=False, slots=True)
class Rpc:
    """What an exchange says as a gRPC call. Counts are None where a loss makes them unknown.

    How many messages may flow each way is in no header: the kind of the call is not known, only
    what moved.
    """

    method: Final[bytes]  # "package.Service/Method"; UNKNOWN when it cannot be known
    web: Final[bool]  # gRPC-Web
    status: Final[int | None]  # grpc-status, or what a reset proves; None: not known
    timeout_ns: Final[int | None]  # the caller's deadline, as it was sent
    request_messages: Final[int | None]  # whole ones
    request_message_bytes: Final[int | None]  # without their prefixes, as compressed
    response_messages: Final[int | None]
    response_message_bytes: Final[int | None]

    def __init__(
        self,
        method: bytes,
        web: bool,
        status: int | None,
        timeout_ns: int | None,
        request_messages: int | None,
        request_message_bytes: int | None,
        response_messages: int | None,
        response_message_bytes: int | None,
    ) -> None:
        self.method = method
        self.web = web
        self.status = status
        self.timeout_ns = timeout_ns
        self.request_messages = request_messages
        self.request_message_bytes = request_message_bytes
        self.response_messages = response_messages
        self.response_message_bytes = response_message_bytes


@dataclass(init=False, slots=True)
class GenAi:
    """What an exchange says as a call of a generative model. None where it says nothing.

    Read while the contents flowed; of these nothing but this is kept. Texts are short and of few
    characters, so that they are names and ids.
    """

    operation: Final[str]  # "chat", "text_completion", "embeddings"
    provider: Final[str]  # whose interface it is, e.g. "openai"
    request_model: Final[str | None]
    stream: Final[bool]  # asked for in pieces
    parameters: Final[tuple[tuple[str, int | float], ...]]  # of the request, by their convention
    response_model: Final[str | None]
    response_id: Final[str | None]
    finish_reasons: Final[tuple[str, ...]]
    usage: Final[tuple[tuple[str, int], ...]]  # tokens, by their convention

    def __init__(
        self,
        operation: str,
        provider: str,
        request_model: str | None,
        stream: bool,
        parameters: tuple[tuple[str, int | float], ...],
        response_model: str | None,
        response_id: str | None,
        finish_reasons: tuple[str, ...],
        usage: tuple[tuple[str, int], ...],
    ) -> None:
        self.operation = operation
        self.provider = provider
        self.request_model = request_model
        self.stream = stream
        self.parameters = parameters
        self.response_model = response_model
        self.response_id = response_id
        self.finish_reasons = finish_reasons
        self.usage = usage


@dataclass(init=False, slots=True)
class Exchange:
    """At least one of `request` and `response` is known. Times are ktime_ns."""

    role: Final[Role]
    connection: Final[Connection]
    tid: Final[int]
    request: Final[Request | None]
    response: Final[Response | None]
    start_ktime_ns: Final[int]  # first request byte (of the response when the request is unknown)
    request_end_ktime_ns: Final[int]  # last request byte seen; 0 none
    response_start_ktime_ns: Final[int]  # first byte of the final response; 0 none
    end_ktime_ns: Final[int]  # last byte of the exchange
    observed_ktime_ns: Final[int]  # when the agent finished it: time of the event that ended it
    reused: Final[bool]  # not the first exchange of its connection
    position: Final[Position]
    error: Final[ExchangeError | None]
    rpc: Final[Rpc | None]
    # Not an exchange of its own, but what followed this one: it is the handshake, told before. It
    # began when the handshake did; the end is that of the session or the message.
    websocket: Final[Session | Message | None]
    genai: Final[GenAi | None]

    def __init__(
        self,
        role: Role,
        connection: Connection,
        tid: int,
        request: Request | None,
        response: Response | None,
        start_ktime_ns: int,
        request_end_ktime_ns: int,
        response_start_ktime_ns: int,
        end_ktime_ns: int,
        observed_ktime_ns: int,
        reused: bool,
        position: Position,
        error: ExchangeError | None,
        rpc: Rpc | None = None,
        websocket: Session | Message | None = None,
        genai: GenAi | None = None,
    ) -> None:
        self.role = role
        self.connection = connection
        self.tid = tid
        self.request = request
        self.response = response
        self.start_ktime_ns = start_ktime_ns
        self.request_end_ktime_ns = request_end_ktime_ns
        self.response_start_ktime_ns = response_start_ktime_ns
        self.end_ktime_ns = end_ktime_ns
        self.observed_ktime_ns = observed_ktime_ns
        self.reused = reused
        self.position = position
        self.error = error
        self.rpc = rpc
        self.websocket = websocket
        self.genai = genai

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
