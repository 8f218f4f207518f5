"""The way of an event through the stages, up to whatever takes finished exchanges.

Owns the order of the stages and nothing else: connections make exchanges, the process behind each
is looked up, filters decide, redaction takes secrets out (of all that takers get; an encoder has it
done for the parts that it sends), and only then a sink sees it.
Pure but for what `origins` reads; time is that of the events.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from typing import Protocol

from otel_tap.connections import Connections
from otel_tap.events import (
    ConnectionOpened,
    Event,
    EventsLost,
    LossReason,
    ProcessExited,
    ProcessStarted,
)
from otel_tap.exchange import Exchange
from otel_tap.filters import ExchangeFilter
from otel_tap.origin import Origin
from otel_tap.privacy import Redactor
from otel_tap.protocols import Spare
from otel_tap.protocols.content import ContentRules
from otel_tap.turn import Turn


class OriginLookup(Protocol):
    """Whose process it is: live from /proc, or as a recording knew it."""

    def process_started(self, event: ProcessStarted) -> None:
        """Remember what the kernel said."""
        ...

    def met(self, tgid: int, ktime_ns: int) -> Origin:
        """A connection of this process was met: look while it is there."""
        ...

    def origin(self, tgid: int) -> Origin:
        """As well as it is known; never fails."""
        ...

    def process_exited(self, tgid: int) -> None:
        """It may be forgotten some time."""
        ...


TakeRecord = Callable[[mmap.mmap | bytes, int, int], bool]

Take = Callable[[Exchange, Origin], None]
"""What gets finished exchanges that passed the filters."""


class Pipeline:
    """Events in, finished exchanges out to every one of `takers`, redacted.

    `encoders` get them as they were captured: they need few parts of each, and redact just those.
    `want` gets processes (tgid) that the filters leave out, and those that they take back; `spare`
    ranges of streams that nobody needs. `on_opaque` gets connections of which no more bytes are
    wanted, `on_end_met` the TCP initial
    sequence numbers (own, peer's) of every connection whose process is wanted. `content_rules`
    choose exchanges whose contents are read while they flow.
    """

    def __init__(
        self,
        *,
        body_limit: int,
        idle_timeout_ns: int,
        origins: OriginLookup,
        exchange_filter: ExchangeFilter,
        redactor: Redactor,
        takers: Sequence[Take],
        encoders: Sequence[Take] = (),
        on_opaque: Callable[[int], None] | None = None,
        on_end_met: Callable[[int, int], None] | None = None,
        spare: Spare | None = None,
        want: Callable[[int, bool], None] | None = None,
        content_rules: ContentRules | None = None,
        take_turn: Callable[[Turn, Origin], None] | None = None,
    ) -> None:
        self._take_turn = take_turn
        self._origins = origins
        self._filter = exchange_filter
        self._filters = not exchange_filter.is_empty
        self._redactor = redactor
        self._takers = tuple(takers)
        self._encoders = tuple(encoders)
        self._on_end_met = on_end_met
        self._judged: Origin | None = None  # the last process of a turn, and whether it is wanted
        self._wanted = True
        turns = (
            take_turn is not None
            and body_limit == 0
            and not takers
            and not exchange_filter.asks_exchanges
        )
        self.connections = Connections(
            body_limit=body_limit,
            idle_timeout_ns=idle_timeout_ns,
            emit=self._emit,
            on_opaque=on_opaque,
            spare=spare,
            content_rules=content_rules,
            emit_turn=self._emit_turn if turns else None,
        )
        self.take: TakeRecord = self.connections.take  # a record where it lies in the ring
        self._want = want
        self._unwanted: set[int] = set()
        self.event_count = 0
        self.exchange_count = 0
        self.filtered_count = 0
        self.lost_events: dict[LossReason, int] = {}
        self.lost_bytes: dict[LossReason, int] = {}

    def count(self, taken: int) -> None:
        """So many records were taken where they lay."""
        self.event_count += taken

    @property
    def taken_ktime_ns(self) -> int:
        """The time of the record that was taken last."""
        return self.connections.taken_ktime_ns

    def handle_all(self, events: Sequence[Event]) -> None:
        """Take the next events through."""
        self.event_count += len(events)
        self.connections.handle_all(events, self._fact)

    def handle(self, event: Event) -> None:
        """Take the next event through."""
        self.handle_all((event,))

    def _fact(self, event: Event) -> None:
        if isinstance(event, ProcessStarted):
            self._origins.process_started(event)
            if event.filename:
                self._unwanted.discard(event.tgid)  # as the kernel side does
            else:
                # No exec: it was just met, and may be gone in a moment.
                self._origins.met(event.tgid, event.ktime_ns)
        elif isinstance(event, EventsLost):
            reason = event.reason
            self.lost_events[reason] = self.lost_events.get(reason, 0) + event.event_count
            self.lost_bytes[reason] = self.lost_bytes.get(reason, 0) + event.byte_count
        else:
            if isinstance(event, ConnectionOpened):
                origin = self._origins.met(event.tgid, event.ktime_ns)
                wanted = self._filter.matches_process(origin)
                if wanted and self._on_end_met is not None:
                    self._on_end_met(event.iss, event.irs)
                if wanted == (event.tgid in self._unwanted):
                    self._say_wanted(event.tgid, wanted=wanted)
            self.connections.handle(event)
            if isinstance(event, ProcessExited):
                self._unwanted.discard(event.tgid)
                self._origins.process_exited(event.tgid)

    @property
    def unwanted(self) -> set[int]:
        """The processes (tgid) that the filters leave out now."""
        return self._unwanted

    def _say_wanted(self, tgid: int, *, wanted: bool) -> None:
        if wanted:
            self._unwanted.discard(tgid)
        else:
            self._unwanted.add(tgid)
        if self._want is not None:
            self._want(tgid, wanted)

    def tick(self, ktime_ns: int) -> None:
        """Time has passed."""
        self.connections.tick(ktime_ns)

    def under_way(self, ktime_ns: int, older_than_ns: int) -> list[tuple[Exchange, Origin]]:
        """What has been open for that long and passes the filters as it is now, redacted."""
        seen = []
        for exchange in self.connections.under_way(ktime_ns, older_than_ns):
            origin = self._origins.origin(exchange.connection.tgid)
            if not self._filters or self._filter.matches(exchange, origin):
                seen.append((self._redactor.redact(exchange), origin))
        return seen

    def flush(self, ktime_ns: int) -> None:
        """The agent stops: what is open is emitted as it is."""
        self.connections.flush(ktime_ns)

    def _emit_turn(self, turn: Turn) -> None:
        origin = self._origins.origin(turn.connection.tgid)
        if origin is not self._judged:
            self._wanted = self._filter.matches_process(origin)
            self._judged = origin
        if not self._wanted:
            self.filtered_count += 1
            return
        self.exchange_count += 1
        if self._take_turn is not None:
            self._take_turn(turn, origin)

    def _emit(self, exchange: Exchange) -> None:
        origin = self._origins.origin(exchange.connection.tgid)
        if self._filters and not self._filter.matches(exchange, origin):
            self.filtered_count += 1
            return
        if exchange.websocket is None:
            self.exchange_count += 1
        for encode in self._encoders:
            encode(exchange, origin)
        if self._takers:
            redacted = self._redactor.redact(exchange)
            for take in self._takers:
                take(redacted, origin)
