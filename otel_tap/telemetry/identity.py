"""Trace and span ids, on which agents agree that see two ends of one exchange.

Without a trace context in the request, ids are a hash of what both ends of a TCP connection know
alike (its initial sequence numbers) and of the request's place in the stream. Where that is not
known, they are a hash of what is unique here, and the exchange stands alone.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from hashlib import blake2b

from otel_tap.exchange import Connection, Exchange, Role
from otel_tap.messages import field_values

_TRACE_PARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.DOTALL,
)
_TRACE_STATE = re.compile(rb"[\x20-\x7e]{0,512}")
_SHARED = struct.Struct(">II4sQ")
_LONE = struct.Struct(">QQIQ")
_MAX_CLIENT_ENDS = 65536

SAMPLED = 1
_FLAGS_OF_W3C = 0x03  # sampled, random
HAS_IS_REMOTE = 0x100
IS_REMOTE = 0x200


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A valid W3C traceparent and its tracestate."""

    trace_id: bytes
    parent_id: bytes
    flags: int
    trace_state: bytes


@dataclass(frozen=True, slots=True)
class SpanIdentity:
    """Where a span stands. `parent_id` is empty for a root; `flags` are OTLP's."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    flags: int
    trace_state: bytes


def trace_context(exchange: Exchange) -> TraceContext | None:
    """The request's trace context by W3C Trace Context level 2, None when it has no valid one."""
    request = exchange.request
    if request is None:
        return None
    # More than one traceparent is invalid, whatever they say.
    parents = field_values(request.fields, b"traceparent")
    if len(parents) != 1:
        return None
    match = _TRACE_PARENT.fullmatch(parents[0])
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == b"00" and more:
        return None
    state = b",".join(field_values(request.fields, b"tracestate"))
    return TraceContext(
        bytes.fromhex(trace_id.decode()),
        bytes.fromhex(parent_id.decode()),
        int(flags, 16) & _FLAGS_OF_W3C,
        state if _TRACE_STATE.fullmatch(state) else b"",
    )


def _client_pair(connection: Connection, role: Role) -> tuple[int, int]:
    """The connection as its client end names it, that end's own SYN left out."""
    if role is Role.CLIENT:
        return (connection.iss + 1) & 0xFFFFFFFF, connection.irs
    return connection.irs, connection.iss


class ClientEnds:
    """Connections whose client end is tapped on this host: their server spans have a parent."""

    __slots__ = ("_pairs",)

    def __init__(self) -> None:
        self._pairs: dict[tuple[int, int], None] = {}

    def add(self, iss: int, irs: int) -> None:
        """An end was met; whether it is the client need not be known, the pairs differ."""
        if iss == 0 and irs == 0:
            return
        self._pairs[(iss + 1) & 0xFFFFFFFF, irs] = None
        if len(self._pairs) > _MAX_CLIENT_ENDS:
            del self._pairs[next(iter(self._pairs))]

    def has_client_of(self, connection: Connection) -> bool:
        """Whether the other end of this server connection is tapped here."""
        return (connection.irs, connection.iss) in self._pairs


class Identities:
    """Gives every exchange its ids. `boot_id` makes those of lone exchanges unique."""

    __slots__ = ("_boot", "_lone_count", "client_ends")

    def __init__(self, boot_id: str) -> None:
        self._boot = boot_id.encode()
        self._lone_count = 0
        self.client_ends = ClientEnds()

    def of(self, exchange: Exchange) -> SpanIdentity:
        """Trace id, span id and parent of the exchange's span."""
        connection = exchange.connection
        role = exchange.role
        shared = exchange.position.offset is not None and (connection.iss or connection.irs)
        if shared and exchange.position.offset is not None:
            first, second = _client_pair(connection, role)
            digest = blake2b(
                _SHARED.pack(
                    first,
                    second,
                    exchange.position.kind.encode()[:4],
                    exchange.position.offset & 0xFFFFFFFFFFFFFFFF,
                ),
                digest_size=32,
                person=b"otel-tap shared",
            ).digest()
        else:
            self._lone_count += 1
            digest = blake2b(
                _LONE.pack(
                    connection.connection_id & 0xFFFFFFFFFFFFFFFF,
                    exchange.start_ktime_ns & 0xFFFFFFFFFFFFFFFF,
                    connection.tgid,
                    # Pipelined requests can arrive, and be answered, in one and the same call.
                    self._lone_count,
                ),
                digest_size=32,
                key=self._boot[:64],
                person=b"otel-tap lone",
            ).digest()
        trace_id, client_id, server_id = digest[:16], digest[16:24], digest[24:]
        context = trace_context(exchange)
        if role is Role.CLIENT:
            if context is None:
                return SpanIdentity(trace_id, client_id, b"", SAMPLED, b"")
            # The header names the span of the application's own SDK, in this very process.
            return SpanIdentity(
                context.trace_id,
                client_id,
                context.parent_id,
                context.flags | HAS_IS_REMOTE,
                context.trace_state,
            )
        flags = SAMPLED if context is None else context.flags
        parent_id = b"" if context is None else context.parent_id
        if shared and self.client_ends.has_client_of(connection):
            parent_id = client_id
        if parent_id:
            flags |= HAS_IS_REMOTE | IS_REMOTE
        return SpanIdentity(
            trace_id if context is None else context.trace_id,
            server_id,
            parent_id,
            flags,
            b"" if context is None else context.trace_state,
        )
