"""Recorded traffic for tests of the connections stage: one connection, told event by event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_tap.capture.wire import DATA, DATA_RECORD
from otel_tap.connections import Connections, Counters
from otel_tap.events import (
    CloseReason,
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Direction,
    PeerEvidence,
    TlsLibrary,
)
from otel_tap.protocols.content import ContentRules
from otel_tap.turn import Turn

SECOND = 1_000_000_000


class Wire:
    """Speaks for one connection; every event is one millisecond after the one before.

    With `on_turn` everything moves as records of a ring, and turns go to it before they stand
    among the exchanges.
    """

    def __init__(
        self,
        *,
        client: bool = True,
        body_limit: int = 1 << 20,
        idle_timeout_ns: int = 60 * SECOND,
        content_rules: ContentRules | None = None,
        on_turn: Callable[[Turn], object] | None = None,
    ) -> None:
        # Any, so that a test may look into a message without saying first that it is there.
        self.exchanges: list[Any] = []
        self.opaque: list[int] = []
        self.spared: list[tuple[Any, ...]] = []
        self.connections = Connections(
            body_limit=body_limit,
            idle_timeout_ns=idle_timeout_ns,
            emit=self.exchanges.append,
            on_opaque=self.opaque.append,
            spare=lambda *facts: self.spared.append(facts),
            content_rules=content_rules,
            emit_turn=None if on_turn is None else self._turn,
        )
        self._on_turn = on_turn
        self.now = SECOND
        self.client = client
        first = 1 if client else 0
        self.offsets = {Direction.EGRESS: first, Direction.INGRESS: 0}

    def _turn(self, turn: Turn) -> None:
        assert self._on_turn is not None
        self._on_turn(turn)
        self.exchanges.append(turn.exchange())

    @property
    def counters(self) -> Counters:
        return self.connections.counters

    def opened(
        self,
        *,
        from_start: bool = True,
        tls: TlsLibrary = TlsLibrary.NONE,
        socket_id: int = 0,
        **facts: Any,
    ) -> Wire:
        if tls != TlsLibrary.NONE:
            self.offsets = dict.fromkeys(self.offsets, 0)
        known: dict[str, Any] = {
            "evidence": PeerEvidence.NESTED_CALL if tls else PeerEvidence.SOCKET,
            "local": None,
            "peer": None,
            "iss": 0,
            "irs": 0,
            "begins": None
            if from_start
            else tuple(self.offsets[direction] for direction in sorted(self.offsets)),
        }
        known |= facts
        self.connections.handle(
            ConnectionOpened(
                ktime_ns=self.now,
                connection_id=1,
                socket_id=socket_id,
                tgid=10,
                fd=3,
                tls=tls,
                from_start=from_start,
                **known,
            )
        )
        return self

    def moved(
        self,
        direction: Direction,
        payload: bytes,
        *,
        lost: int = 0,
        took: int = 0,
        tcp_position: int = -1,
        at: int | None = None,
    ) -> Wire:
        """A call that moved `payload` and `lost` more bytes behind it."""
        self.now += 1_000_000
        offset = self.offsets[direction] if at is None else at
        length = len(payload) + lost
        self.offsets[direction] = max(self.offsets[direction], offset + length)
        if self._on_turn is not None:
            captured = len(payload)
            record = DATA_RECORD.pack(
                DATA, 10, self.now, self.now - took, 1, offset, tcp_position, 11, length, captured,
                direction, 0,
            )  # fmt: skip
            # Not at the beginning of its memory, and not at the end.
            assert self.connections.take(
                b"..." + record + payload + b"...", 3, len(record) + captured
            )
            return self
        self.connections.handle(
            DataEvent(
                ktime_ns=self.now,
                begin_ktime_ns=self.now - took,
                connection_id=1,
                tgid=10,
                tid=11,
                direction=direction,
                offset=offset,
                length=length,
                payload=payload,
                tcp_position=tcp_position,
            )
        )
        return self

    def request(self, payload: bytes, **facts: int) -> Wire:
        return self.moved(Direction.EGRESS if self.client else Direction.INGRESS, payload, **facts)

    def response(self, payload: bytes, **facts: int) -> Wire:
        return self.moved(Direction.INGRESS if self.client else Direction.EGRESS, payload, **facts)

    def missed(self, direction: Direction, count: int) -> Wire:
        """Bytes of which not even an event arrives."""
        self.offsets[direction] += count
        return self

    def closed(
        self,
        reason: CloseReason = CloseReason.CLOSED,
        *,
        connection_id: int = 1,
        socket_id: int = 0,
    ) -> Wire:
        self.now += 1_000_000
        self.connections.handle(ConnectionClosed(self.now, connection_id, socket_id, 10, reason))
        return self

    def later(self, nanoseconds: int) -> Wire:
        self.now += nanoseconds
        self.connections.tick(self.now)
        return self
