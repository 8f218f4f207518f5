"""Connections: events in, exchanges out.

Owns the table of connections: what is known of each, its two streams with their gaps, and when
it is over. Promises that every captured byte is given to a protocol once and in order, and that
nothing grows without a bound. Pure: time is that of the events. It must not know what the bytes
mean; `otel_tap.protocols` does.

Bounds: a connection without an open exchange is forgotten after `FORGET_NS`, and a response that
runs without a known end is ended when it is silent for so long; at
`CONNECTION_LIMIT` the oldest is. What a protocol keeps per connection is bounded there.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from otel_tap.capture.wire import DATA, DATA_SIZE, DataFields, data_event, unpack_data
from otel_tap.events import (
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Direction,
    Event,
    PeerEvidence,
    ProcessExited,
    TlsLibrary,
)
from otel_tap.exchange import Connection, Exchange, ExchangeError
from otel_tap.protocols import Carrier, Opaque, Protocol, Spare
from otel_tap.protocols.content import ContentRules
from otel_tap.protocols.counters import Counters
from otel_tap.protocols.detection import Detection
from otel_tap.protocols.http1.head import HeadParser
from otel_tap.turn import Turn

__all__ = ["Connections", "Counters"]

CONNECTION_LIMIT = 262_144
FORGET_NS: Final = 3_600 * 1_000_000_000
# After CLOSED or RESET, reads of what the kernel had buffered may follow.
LINGER_NS: Final = 1_000_000_000
_SCAN_NS: Final = 1_000_000_000
BINDING_NS: Final = 500_000_000  # for how long an exchange waits to learn the socket of its session

_UNSEEN: Final = -1

# A member of an enumeration is looked up slowly on its class.
_EGRESS: Final = Direction.EGRESS


class ConnectionState:
    """One connection: facts, stream offsets, and who reads it."""

    __slots__ = (
        "begins",
        "carrier",
        "closed_ktime_ns",
        "closing_error",
        "ingress_ended",
        "last_ktime_ns",
        "next_egress",
        "next_ingress",
        "opened",
        "pending",
        "protocol",
        "socket_id",
    )

    def __init__(self, carrier: Carrier, protocol: Protocol, ktime_ns: int) -> None:
        self.carrier = carrier
        self.protocol = protocol
        self.socket_id = 0
        self.opened = False  # whether a ConnectionOpened told its facts
        self.begins: tuple[int, int] | None = None  # from which offsets on events tell of it
        self.next_ingress = _UNSEEN
        self.next_egress = _UNSEEN
        self.last_ktime_ns = ktime_ns
        self.closed_ktime_ns = 0
        self.closing_error: ExchangeError | None = None  # of what is left open, once closed
        self.ingress_ended = False
        self.pending: list[Exchange] | None = []  # until the socket is known; None: given up


class Connections:
    """The table of connections; not thread-safe, belongs to the thread that drains the ring.

    `emit` gets every exchange once. `on_opaque` gets the id of a connection whose bytes are not
    read any more, so that the kernel can stop copying them; `spare` gets ranges of streams of which
    it can leave out the bytes; `content_rules` choose exchanges whose contents are read.
    `emit_turn` gets those that are turns instead of `emit`, where contents are not kept.
    """

    __slots__ = (
        "_body_limit",
        "_by_socket",
        "_by_tgid",
        "_closing",
        "_content_rules",
        "_detects",
        "_emit",
        "_emit_turn",
        "_heads",
        "_idle_timeout_ns",
        "_on_opaque",
        "_opaque",
        "_pending",
        "_scanned_ns",
        "_spare",
        "_states",
        "_stream_timeout_ns",
        "counters",
        "taken_ktime_ns",
    )

    def __init__(
        self,
        *,
        body_limit: int,
        idle_timeout_ns: int,
        emit: Callable[[Exchange], None],
        on_opaque: Callable[[int], None] | None = None,
        spare: Spare | None = None,
        content_rules: ContentRules | None = None,
        emit_turn: Callable[[Turn], None] | None = None,
    ) -> None:
        self.counters = Counters()
        self._body_limit = body_limit
        self._idle_timeout_ns = idle_timeout_ns
        self._stream_timeout_ns = max(idle_timeout_ns, FORGET_NS)
        self._emit = emit
        self._emit_turn = emit_turn
        self._on_opaque = on_opaque
        self._spare = spare
        self._content_rules = content_rules
        self._heads = HeadParser()
        self._detects = self._detect  # bound once, for every connection has it
        self._opaque = Opaque(self.counters)
        self._states: dict[int, ConnectionState] = {}
        self._by_socket: dict[int, set[int]] = {}
        self._by_tgid: dict[int, set[int]] = {}
        self._closing: deque[tuple[int, int]] = deque()  # (ktime_ns, connection_id)
        self._pending: deque[tuple[int, int]] = deque()  # (due ktime_ns, connection_id)
        self._scanned_ns = 0
        self.taken_ktime_ns = 0  # the time of the record that was taken last

    @property
    def open_connections(self) -> int:
        """Connections in the table."""
        return len(self._states)

    def handle(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, DataEvent):
            self.handle_all((event,), self.handle)
        elif isinstance(event, ConnectionOpened):
            self._opened(event)
        elif isinstance(event, ConnectionClosed):
            self._closed(event)
        elif isinstance(event, ProcessExited):
            self._exited(event)

    def tick(self, ktime_ns: int) -> None:
        """Time has passed: time-outs and connections whose last reads were waited for."""
        pending = self._pending
        while pending and ktime_ns >= pending[0][0]:
            _, connection_id = pending.popleft()
            state = self._states.get(connection_id)
            if state is not None and state.pending:
                self._give_up_binding(state)
        closing = self._closing
        while closing and ktime_ns - closing[0][0] >= LINGER_NS:
            _, connection_id = closing.popleft()
            state = self._states.get(connection_id)
            if state is not None:
                self._finish(state, ktime_ns)
        if ktime_ns - self._scanned_ns < _SCAN_NS:
            return
        self._scanned_ns = ktime_ns
        self._heads.refresh()
        forgotten: list[ConnectionState] = []
        for state in self._states.values():
            protocol = state.protocol
            silent_ns = ktime_ns - state.last_ktime_ns
            if protocol.busy:
                protocol.tick(ktime_ns)
                if silent_ns >= self._idle_timeout_ns:
                    protocol.time_out(ktime_ns, streams=silent_ns >= self._stream_timeout_ns)
            elif silent_ns >= FORGET_NS:
                forgotten.append(state)
        for state in forgotten:
            self.counters.connections_expired += 1
            # What is not an open exchange may be a session that is told at its end.
            state.protocol.abort(ktime_ns, ExchangeError.TRUNCATED)
            self._remove(state)

    def under_way(self, ktime_ns: int, older_than_ns: int) -> list[Exchange]:
        """The exchanges that have been open for that long, as they are at `ktime_ns`.

        For somebody who looks: it goes through the whole table, and changes nothing.
        """
        begun_ns = ktime_ns - older_than_ns
        return [
            exchange
            for state in self._states.values()
            for exchange in state.protocol.under_way(ktime_ns)
            if exchange.start_ktime_ns <= begun_ns
        ]

    def flush(self, ktime_ns: int) -> None:
        """The agent stops: emit everything that is open and forget all connections."""
        for state in list(self._states.values()):
            state.protocol.abort(ktime_ns, ExchangeError.AGENT_STOPPED)
            self._remove(state)
        self._closing.clear()

    # Records of the ring, and events.

    def take(self, memory: mmap.mmap | bytes, at: int, size: int) -> bool:
        """Take the ring record at `memory[at : at + size]` if it is data; False: it is not.

        Bytes that follow what came before, of a connection that takes turns, are read where they
        lie.
        """
        if size < DATA_SIZE:
            return False
        fields: DataFields = unpack_data(memory, at)
        (
            kind,
            _,
            ktime_ns,
            begin_ktime_ns,
            connection_id,
            offset,
            tcp_position,
            tid,
            length,
            captured,
            direction,
            _,
        ) = fields
        if kind != DATA:
            return False
        self.taken_ktime_ns = ktime_ns
        state = self._states.get(connection_id)
        if state is not None and captured == length and size - DATA_SIZE >= length:
            begin = at + DATA_SIZE
            if direction == 1:
                if offset == state.next_egress and state.protocol.take(
                    memory, begin, begin + length, direction, ktime_ns, begin_ktime_ns,
                    offset, tcp_position, tid,
                ):  # fmt: skip
                    state.next_egress = offset + length
                    state.last_ktime_ns = ktime_ns
                    self.counters.stream_bytes += length
                    return True
            elif direction == 0 and offset == state.next_ingress and state.protocol.take(
                memory, begin, begin + length, direction, ktime_ns, begin_ktime_ns,
                offset, tcp_position, tid,
            ):  # fmt: skip
                state.next_ingress = offset + length
                state.last_ktime_ns = ktime_ns
                self.counters.stream_bytes += length
                return True
        self.handle(data_event(fields, memory, at, size))
        return True

    def handle_all(self, events: Sequence[Event], fact: Callable[[Event], None]) -> None:
        """Take the next events; `fact` gets those that are not data.

        A loop with the commonest case in it: nearly all events are data that follows what came
        before.
        """
        states = self._states
        counters = self.counters
        for event in events:
            if type(event) is not DataEvent:
                fact(event)
                continue
            state = states.get(event.connection_id)
            if state is None:
                state = self._create(event.connection_id, event.tgid, event.ktime_ns)
            begin = event.offset
            length = event.length
            end = begin + length
            if event.direction is _EGRESS:
                expected = state.next_egress
                if end > expected:
                    state.next_egress = end
            else:
                expected = state.next_ingress
                if end > expected:
                    state.next_ingress = end
            state.last_ktime_ns = event.ktime_ns
            if begin != expected or len(event.payload) != length:
                self._uneven(state, event, expected)
                continue
            counters.stream_bytes += length
            protocol = state.protocol
            protocol.data(event)
            if protocol.successor is not None:
                self._succeed(state)

    def _uneven(self, state: ConnectionState, event: DataEvent, expected: int) -> None:
        """Data that begins a stream, leaves a gap before it or in it, or comes again."""
        payload = event.payload
        captured = len(payload)
        begin = event.offset
        counters = self.counters
        if begin != expected:
            if expected == _UNSEEN:
                self._begin_stream(state, event)
            elif begin > expected:
                self._gap(state, event, begin - expected)
            else:
                counters.events_out_of_order += 1
                known = expected - begin
                counters.overlap_bytes += min(known, captured)
                if known >= event.length:
                    return
                payload = payload[known:]
                # Where its record began says nothing of what is left of it.
                event = replace(
                    event,
                    offset=expected,
                    length=event.length - known,
                    payload=payload,
                    tcp_position=-1,
                )
                captured = len(payload)
        if captured:
            counters.stream_bytes += captured
            state.protocol.data(event)
            if state.protocol.successor is not None:
                self._succeed(state)
        if event.length > captured:
            self._gap(state, event, event.length - captured)

    def _opened(self, event: ConnectionOpened) -> None:
        state = self._states.get(event.connection_id)
        if state is None:
            state = self._create(event.connection_id, event.tgid, event.ktime_ns)
            state.begins = event.begins
        before = state.carrier.connection
        same_socket = event.socket_id in (0, state.socket_id)
        # A later fact adds to what is known; silence about a fact does not take it back.
        keep = before if same_socket or state.socket_id == 0 else None
        state.opened = True
        self._move(state, event.tgid, event.socket_id or state.socket_id)
        better = event.evidence != PeerEvidence.NONE
        state.carrier.connection = Connection(
            event.connection_id,
            event.tgid,
            event.tls if event.tls != TlsLibrary.NONE else before.tls,
            event.evidence if better or keep is None else keep.evidence,
            event.local if event.local is not None or keep is None else keep.local,
            event.peer if event.peer is not None or keep is None else keep.peer,
            event.iss or (keep.iss if keep is not None else 0),
            event.irs or (keep.irs if keep is not None else 0),
            event.from_start or before.from_start,
        )
        if better and state.pending:
            self._emit_pending(state)
        connection = state.carrier.connection
        unbound = connection.tls != TlsLibrary.NONE and connection.evidence == PeerEvidence.NONE
        state.carrier.deliver = self._hold if unbound else self._emit
        if self._emit_turn is not None:
            state.carrier.deliver_turn = self._hold_turn if unbound else self._emit_turn

    def _closed(self, event: ConnectionClosed) -> None:
        if event.connection_id:
            state = self._states.get(event.connection_id)
            if state is not None:
                self._close(state, event.ktime_ns, event.reason)
            return
        for connection_id in tuple(self._by_socket.get(event.socket_id, ())):
            self._close(self._states[connection_id], event.ktime_ns, event.reason)

    def _exited(self, event: ProcessExited) -> None:
        for connection_id in tuple(self._by_tgid.get(event.tgid, ())):
            state = self._states[connection_id]
            if state.closing_error is None:
                state.closing_error = ExchangeError.PROCESS_EXITED
            self._finish(state, event.ktime_ns)

    # Streams.

    def _begin_stream(self, state: ConnectionState, event: DataEvent) -> None:
        connection = state.carrier.connection
        begin = event.offset
        tls = connection.tls != TlsLibrary.NONE
        # The side that opened a TCP connection has its SYN before what it sends.
        first = 1 if event.direction == Direction.EGRESS and not tls else 0
        if connection.from_start:
            if begin > first:
                if not state.protocol.egress_begins_at_one:
                    first = 0
                self._gap(state, event, begin - first)
        elif begin > first or tls:
            # TCP numbers are absolute. A TLS session met midway is numbered from where it was
            # met, so there its small first number proves nothing.
            state.protocol.gap(event.direction, event.ktime_ns, 0)
            if state.begins is not None and begin > state.begins[event.direction]:
                self._gap(state, event, begin - state.begins[event.direction])
            elif not state.opened:
                # What told of its beginning was lost, and who knows how much more.
                state.protocol.gap(event.direction, event.ktime_ns, 1)

    def _gap(self, state: ConnectionState, event: DataEvent, length: int) -> None:
        self.counters.gap_bytes += length
        state.protocol.gap(event.direction, event.ktime_ns, length)
        if state.protocol.successor is not None:
            self._succeed(state)

    def _succeed(self, state: ConnectionState) -> None:
        successor = state.protocol.successor
        if successor is None:
            return
        state.protocol = successor
        if successor is self._opaque and self._on_opaque is not None:
            self._on_opaque(state.carrier.connection.connection_id)

    # Exchanges of sessions whose socket is not known yet: it shows at the session's next send.

    def _hold(self, exchange: Exchange) -> None:
        connection_id = exchange.connection.connection_id
        state = self._states.get(connection_id)
        if state is None or state.pending is None:
            self._emit(exchange)
            return
        if not state.pending:
            self._pending.append((exchange.observed_ktime_ns + BINDING_NS, connection_id))
        state.pending.append(exchange)

    def _hold_turn(self, turn: Turn) -> None:
        self._hold(turn.exchange())

    def _emit_pending(self, state: ConnectionState) -> None:
        pending, state.pending = state.pending, []
        for exchange in pending or ():
            self._emit(replace(exchange, connection=state.carrier.connection))

    def _give_up_binding(self, state: ConnectionState) -> None:
        self._emit_pending(state)
        state.pending = None

    # The life of a connection.

    def _create(self, connection_id: int, tgid: int, ktime_ns: int) -> ConnectionState:
        if len(self._states) >= CONNECTION_LIMIT:
            self._evict(ktime_ns)
        connection = Connection(
            connection_id, tgid, TlsLibrary.NONE, PeerEvidence.NONE, None, None, 0, 0, False
        )
        carrier = Carrier(
            connection,
            self.counters,
            self._body_limit,
            self._emit,
            self._opaque,
            self._spare,
            self._detects,
            self._content_rules,
            self._emit_turn,
        )
        state = ConnectionState(carrier, Detection(carrier, self._heads), ktime_ns)
        self._states[connection_id] = state
        self._by_tgid.setdefault(tgid, set()).add(connection_id)
        self.counters.connections_opened += 1
        return state

    def _detect(self, carrier: Carrier) -> Protocol:
        return Detection(carrier, self._heads)

    def _evict(self, ktime_ns: int) -> None:
        state = next(iter(self._states.values()))
        state.protocol.abort(ktime_ns, ExchangeError.TRUNCATED)
        self.counters.connections_evicted += 1
        self._remove(state)

    def _move(self, state: ConnectionState, tgid: int, socket_id: int) -> None:
        connection = state.carrier.connection
        connection_id = connection.connection_id
        if connection.tgid != tgid:
            _discard(self._by_tgid, connection.tgid, connection_id)
            self._by_tgid.setdefault(tgid, set()).add(connection_id)
        if state.socket_id != socket_id:
            _discard(self._by_socket, state.socket_id, connection_id)
            self._by_socket.setdefault(socket_id, set()).add(connection_id)
            state.socket_id = socket_id

    def _close(self, state: ConnectionState, ktime_ns: int, reason: CloseReason) -> None:
        if reason == CloseReason.SHED:
            self._shed(state, ktime_ns)
        elif reason == CloseReason.EGRESS_END:
            state.protocol.end(Direction.EGRESS, ktime_ns)
        elif reason == CloseReason.INGRESS_END:
            state.ingress_ended = True
            if state.closing_error is not None:
                self._finish(state, ktime_ns)
            else:
                state.protocol.end(Direction.INGRESS, ktime_ns)
        else:
            # A TLS session is over twice: when it is freed and when its socket closes. Only then
            # is it known both that no more bytes come and whether a reset was the reason.
            again = state.closing_error is not None
            if reason == CloseReason.RESET:
                state.closing_error = ExchangeError.CONNECTION_RESET
            elif state.closing_error is None:
                state.closing_error = ExchangeError.CONNECTION_CLOSED
            if state.ingress_ended or again:
                self._finish(state, ktime_ns)
            elif not state.closed_ktime_ns:
                state.closed_ktime_ns = ktime_ns
                self._closing.append((ktime_ns, state.carrier.connection.connection_id))

    def _shed(self, state: ConnectionState, ktime_ns: int) -> None:
        """What follows is left out; when it is taken back, it is met as if midway."""
        self.counters.connections_shed += 1
        if state.protocol is not self._opaque:
            state.protocol.abort(ktime_ns, ExchangeError.TRUNCATED)
            state.protocol = Detection(state.carrier, self._heads)

    def _finish(self, state: ConnectionState, ktime_ns: int) -> None:
        error = state.closing_error or ExchangeError.CONNECTION_CLOSED
        if error == ExchangeError.CONNECTION_RESET:
            state.protocol.abort(ktime_ns, error)
        else:
            state.protocol.finish(ktime_ns, error)
        self.counters.connections_closed += 1
        self._remove(state)

    def _remove(self, state: ConnectionState) -> None:
        if state.pending:
            self._emit_pending(state)
        connection = state.carrier.connection
        connection_id = connection.connection_id
        del self._states[connection_id]
        _discard(self._by_tgid, connection.tgid, connection_id)
        _discard(self._by_socket, state.socket_id, connection_id)


def _discard(index: dict[int, set[int]], key: int, connection_id: int) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(connection_id)
        if not members:
            del index[key]
