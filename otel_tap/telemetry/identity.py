"""Trace and span ids, on which agents agree that see two ends of one exchange.

Without a trace context in the request, ids begin with a hash of what both ends of a TCP connection
know alike (its initial sequence numbers), and go on from there by the request's place in the
stream: in steps that come near to no id again, which costs a third of a hash for each. Where that
is not known, they are a hash of what is unique here, and the exchange stands alone.
"""

from __future__ import annotations

import re
import struct
from binascii import unhexlify
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from otel_tap.exchange import Connection, Exchange, Role
from otel_tap.messages import Field, field_values

_TRACE_PARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})(-.*)?", re.DOTALL
).fullmatch
_TRACE_PARENT_SIZE: Final = 55
_DASH: Final = 45
_DASHES: Final = 3
_NO_TRACE_ID: Final = bytes(16)
_NO_SPAN_ID: Final = bytes(8)
_TRACE_STATE: Final = re.compile(rb"[\x20-\x7e]{0,512}")
_SHARED: Final = struct.Struct(">II4s")
# Of 2**128 and 2**64, by the golden ratio, and odd: no place in a stream of that length has the id
# of another, and the ids of any few places lie far from each other.
_TRACE_STEP: Final = 0x9E3779B97F4A7C15F39CC0605CEDC835
_SPAN_STEP: Final = 0x9E3779B97F4A7C15
_MAX_TRACE_ID: Final = (1 << 128) - 1
_MAX_SPAN_ID: Final = (1 << 64) - 1
_LONE: Final = struct.Struct(">QQIQ")
_KINDS: Final = {"tcp": b"tcp", "tls": b"tls", "h2": b"h2"}  # of positions, as they are hashed
_MAX_CLIENT_ENDS: Final = 65536
_MAX_SEEDS: Final = 4096
_STREAMS: Final = 1 << 63  # sets numbers of streams apart from counts
_SWITCHED: Final = 101

SAMPLED: Final = 1
_FLAGS_OF_W3C: Final = 0x03  # sampled, random
HAS_IS_REMOTE: Final = 0x100
IS_REMOTE: Final = 0x200
_REMOTE: Final = HAS_IS_REMOTE | IS_REMOTE

# Members of an enumeration are looked up slowly on its class.
_CLIENT: Final = Role.CLIENT


SpanIdentity = tuple[bytes, bytes, bytes, int, bytes]
"""Trace id, span id, parent id (empty for a root), OTLP's flags, tracestate.

A plain tuple, for one is made per exchange.
"""

Context = tuple[bytes, bytes, int, bytes]
"""Trace id, parent id, flags and tracestate of a request."""


def trace_context(fields: tuple[Field, ...], first: Mapping[bytes, bytes]) -> Context | None:
    """Trace id, parent id, flags and tracestate by W3C Trace Context level 2, None if not valid.

    `first` has the first value of each name in `fields`.
    """
    parent = first.get(b"traceparent")
    if parent is None:
        return None
    # More than one traceparent is invalid, whatever they say.
    if len(first) != len(fields) and len(field_values(fields, b"traceparent")) != 1:
        return None
    state = b""
    if b"tracestate" in first:
        state = b",".join(field_values(fields, b"tracestate"))
    return context_of(parent, state)


def context_of(parent: bytes, state: bytes) -> Context | None:
    """The same of the one traceparent, and the tracestates joined by commas."""
    # What nearly all send is read without the expression, which takes three times as long.
    plain = None
    if (
        len(parent) == _TRACE_PARENT_SIZE
        and parent.startswith(b"00-")
        and parent[35] == _DASH == parent[52]
        and parent.islower()
    ):
        digits = parent.replace(b"-", b"")
        if len(digits) == _TRACE_PARENT_SIZE - _DASHES:
            try:
                plain = unhexlify(digits)
            except ValueError:
                return None
    if plain is None:
        match = _TRACE_PARENT(parent)
        if match is None or (match[2] and parent.startswith(b"00")):
            return None
        plain = unhexlify(match[1].replace(b"-", b""))
    trace_id, parent_id = plain[1:17], plain[17:25]
    if trace_id == _NO_TRACE_ID or parent_id == _NO_SPAN_ID:
        return None
    if state and not _TRACE_STATE.fullmatch(state):
        state = b""
    return trace_id, parent_id, plain[25] & _FLAGS_OF_W3C, state


class ClientEnds:
    """Connections whose client end is tapped on this host: their server spans have a parent."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: dict[tuple[int, int], None] = {}  # what servers know as (irs, iss)

    def add(self, iss: int, irs: int) -> None:
        """An end was met; whether it is the client need not be known, the pairs differ."""
        if iss == 0 and irs == 0:
            return
        self.pairs[(iss + 1) & 0xFFFFFFFF, irs] = None
        if len(self.pairs) > _MAX_CLIENT_ENDS:
            del self.pairs[next(iter(self.pairs))]

    def has_client_of(self, connection: Connection) -> bool:
        """Whether the other end of this server connection is tapped here."""
        return (connection.irs, connection.iss) in self.pairs


class Seed:
    """With what the ids of a connection's exchanges begin: of traces, and of spans at both ends."""

    __slots__ = ("client", "server", "trace")

    def __init__(self, digest: bytes) -> None:
        self.trace = int.from_bytes(digest[:16], "big")
        self.client = int.from_bytes(digest[16:24], "big")
        self.server = int.from_bytes(digest[24:], "big")


class Identities:
    """Gives every exchange its ids. `boot_id` makes those of lone exchanges unique."""

    __slots__ = ("_clients", "_lone", "_lone_count", "_seeds", "_shared", "client_ends")

    def __init__(self, boot_id: str) -> None:
        # A copy of a hash that was set up is made in a third of the time of a new one.
        self._shared = blake2b(digest_size=32, person=b"otel-tap shared")
        self._lone = blake2b(digest_size=32, key=boot_id.encode()[:64], person=b"otel-tap lone")
        self._lone_count = 0
        self._seeds: dict[tuple[int, int, str, bool], Seed] = {}  # each takes about 0.4 KB
        self.client_ends = ClientEnds()
        self._clients = self.client_ends.pairs

    def of(self, exchange: Exchange, first: Mapping[bytes, bytes]) -> SpanIdentity:
        """Trace id, span id and parent of the exchange's span.

        `first` has the first value of each field of the request.
        """
        connection = exchange.connection
        at_client = exchange.role is _CLIENT
        position = exchange.position
        seed = None
        offset = 0
        if position.offset is not None:
            offset = position.offset
            seed = self.seed_of(connection, position.kind, at_client=at_client)
        shared = seed is not None
        if seed is None:
            seed = self._lone_seed(exchange)
            offset = 0
        request = exchange.request
        context = None
        if request is not None and b"traceparent" in first:
            context = trace_context(request.fields, first)
        return self.identity(seed, offset, context, connection if shared else None, at_client)

    def identity(
        self,
        seed: Seed,
        offset: int,
        context: Context | None,
        connection: Connection | None,
        at_client: bool,  # noqa: FBT001 - once per exchange
    ) -> SpanIdentity:
        """The ids of one exchange; `connection` is None where the other end has another seed."""
        if context is None:
            trace_id = ((seed.trace + offset * _TRACE_STEP) & _MAX_TRACE_ID).to_bytes(16, "big")
            flags, parent_id, trace_state = SAMPLED, b"", b""
        else:
            trace_id, parent_id, flags, trace_state = context
        steps = offset * _SPAN_STEP
        if at_client:
            # The header names the span of the application's own SDK, in this very process.
            if parent_id:
                flags |= HAS_IS_REMOTE
            span_id = ((seed.client + steps) & _MAX_SPAN_ID).to_bytes(8, "big")
            return trace_id, span_id, parent_id, flags, trace_state
        if connection is not None and (connection.irs, connection.iss) in self._clients:
            parent_id = ((seed.client + steps) & _MAX_SPAN_ID).to_bytes(8, "big")
        if parent_id:
            flags |= _REMOTE
        span_id = ((seed.server + steps) & _MAX_SPAN_ID).to_bytes(8, "big")
        return trace_id, span_id, parent_id, flags, trace_state

    def seed_of(self, connection: Connection, kind: str, *, at_client: bool) -> Seed | None:
        """The seed of exchanges whose places are numbered so; None if both ends know nothing."""
        if not (connection.iss or connection.irs):
            return None
        key = (connection.irs, connection.iss, kind, at_client)
        seed = self._seeds.get(key)
        if seed is not None:
            return seed
        # The connection as its client end names it, that end's own SYN left out.
        if at_client:
            opener, acceptor = (connection.iss + 1) & 0xFFFFFFFF, connection.irs
        else:
            opener, acceptor = connection.irs, connection.iss
        state = self._shared.copy()
        state.update(_SHARED.pack(opener, acceptor, _KINDS[kind]))
        seed = Seed(state.digest())
        if len(self._seeds) >= _MAX_SEEDS:
            self._seeds.clear()
        self._seeds[key] = seed
        return seed

    def _lone_seed(self, exchange: Exchange) -> Seed:
        connection, position = exchange.connection, exchange.position
        if position.kind == "h2" and position.offset is not None:
            count = _STREAMS | position.offset
        elif exchange.websocket is not None or (
            exchange.response is not None and exchange.response.status == _SWITCHED
        ):
            count = 0  # one at most for a connection: what follows it finds its ids again
        else:
            self._lone_count += 1
            # Pipelined requests can arrive, and be answered, in one and the same call.
            count = self._lone_count
        state = self._lone.copy()
        state.update(
            _LONE.pack(
                connection.connection_id & 0xFFFFFFFFFFFFFFFF,
                exchange.start_ktime_ns & 0xFFFFFFFFFFFFFFFF,
                connection.tgid,
                count,
            )
        )
        return Seed(state.digest())
