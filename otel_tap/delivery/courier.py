"""One thread that carries chunks from bounded queues to their senders.

Owns: the thread, the lock, the order of attempts. Promises: `offer` never waits for a sender;
signals take turns, and one whose receiver is away does not hold up the other; `close` ends in
time; whatever happens to a chunk is counted. Must not know: protocols, environment variables.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from otel_tap.delivery.notices import Notices
from otel_tap.delivery.outbox import Outbox, SignalCounters
from otel_tap.delivery.outcome import (
    Accepted,
    Failed,
    Outcome,
    Refused,
    RetryLater,
    Sender,
    TooLarge,
    shown,
)
from otel_tap.telemetry.chunk import Chunk, Signal

MAX_QUEUED_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Route:
    """Where the chunks of one signal go."""

    signal: Signal
    sender: Sender
    destination: str  # as shown to people; routes of one receiver have the same
    remedy: str  # what to check when it cannot be reached


class Courier:
    """Takes chunks from any thread and hands them over in its own.

    Signals without a route are turned off: their chunks are neither kept nor counted. The bound
    is shared evenly, so that a signal that cannot be sent leaves the other its room.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        report: Callable[[str], None],
        max_queued_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        self._routes = list(routes)
        self._boxes = {
            route.signal: Outbox(max_queued_bytes // len(self._routes)) for route in self._routes
        }
        self._notices = Notices(report)
        self._changed = threading.Condition()
        self._closing_at: float | None = None  # when time is over, once it is counted
        self._ended = False
        self._turn = 0
        self._thread = threading.Thread(target=self._run, name="otel-tap-delivery", daemon=True)
        self._thread.start()

    @property
    def counters(self) -> dict[Signal, SignalCounters]:
        """What became of the records of each signal so far."""
        with self._changed:
            return {signal: box.counters for signal, box in self._boxes.items()}

    @property
    def sent_spans(self) -> int:
        """Spans that were accepted."""
        counters = self.counters.get(Signal.TRACES)
        return 0 if counters is None else counters.sent

    @property
    def dropped_records(self) -> int:
        """Spans and log records that were given up or rejected."""
        return sum(each.dropped + each.rejected for each in self.counters.values())

    @property
    def queued_bytes(self) -> int:
        """Payload that waits or is under way."""
        return sum(each.queued_bytes for each in self.counters.values())

    def offer(self, chunk: Chunk) -> bool:
        """Queue a chunk without waiting; False when it was dropped itself.

        A full queue drops its oldest chunks for it.
        """
        box = self._boxes.get(chunk.signal)
        if box is None:
            return True
        with self._changed:
            if self._closing_at is not None:
                box.drop(chunk)
                return False
            taken = box.put(chunk)
            self._changed.notify()
        return taken

    def close(self, timeout_s: float) -> None:
        """Send what is queued within `timeout_s` seconds; the rest is dropped and counted."""
        with self._changed:
            if self._closing_at is not None:
                return
            now = time.monotonic()
            self._closing_at = now + timeout_s
            for box in self._boxes.values():
                box.hurry(now)
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            self._ended = True
            left = {signal: box.give_up_all() for signal, box in self._boxes.items()}
        for route in self._routes:
            route.sender.close()
        self._notices.ended(left)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            route, chunk, at_most_s = work
            began = time.monotonic()
            outcome = _attempt(route.sender, chunk, at_most_s)
            self._conclude(route, chunk, outcome, time.monotonic() - began)

    def _next(self) -> tuple[Route, Chunk, float] | None:
        """Wait for the next chunk whose time has come; None when there will be none."""
        with self._changed:
            while not self._ended:
                now = time.monotonic()
                end = math.inf if self._closing_at is None else self._closing_at
                earliest = math.inf
                for step in range(len(self._routes)):
                    turn = (self._turn + step) % len(self._routes)
                    route = self._routes[turn]
                    box = self._boxes[route.signal]
                    if box.is_empty:
                        continue
                    if box.not_before <= now < end:
                        self._turn = turn + 1
                        return route, box.take(), end - now
                    earliest = min(earliest, box.not_before)
                if self._closing_at is not None and (earliest >= end or now >= end):
                    return None  # nothing is left, or nothing that may be tried in time
                self._changed.wait(None if earliest == math.inf else earliest - now)
        return None

    def _conclude(self, route: Route, chunk: Chunk, outcome: Outcome, took_s: float) -> None:
        parts = None
        if isinstance(outcome, TooLarge):
            # Imported when first needed: the codecs of protobuf are slow to load.
            from otel_tap.delivery.parts import halves  # noqa: PLC0415

            parts = halves(chunk)
        now = time.monotonic()
        box = self._boxes[route.signal]
        pause_s = 0.0
        with self._changed:
            if self._ended:  # counted as dropped already: nobody waited for this answer
                return
            if isinstance(outcome, RetryLater):
                pause_s = box.postpone(chunk, outcome, now, took_s)
            elif isinstance(outcome, Accepted | Refused):
                box.settle(chunk, outcome)
            elif parts is not None:
                box.divide(chunk, parts)
            else:
                box.give_up(chunk)
            failures = box.failures
            overflowed = box.take_overflowed()
        if isinstance(outcome, RetryLater):
            self._notices.postponed(
                route.signal, route.destination, outcome.reason, route.remedy,
                failures=failures, pause_s=pause_s, now=now,
            )  # fmt: skip
        else:
            self._notices.answered(route.signal, route.destination, now)
            self._tell(route, chunk, outcome, now, divided=parts is not None)
        if overflowed:
            self._notices.overflowed(route.signal, route.destination, overflowed, now)

    def _tell(
        self, route: Route, chunk: Chunk, outcome: Outcome, now: float, *, divided: bool
    ) -> None:
        """Say what was lost, if it is news."""
        count, remedy, cause = chunk.record_count, "", ""
        to = route.destination
        match outcome:
            case Accepted(rejected=0, message=""):
                self._notices.accepted(route.signal)
                return
            case Accepted(rejected=rejected, message=message):
                # Without rejected records the message is a warning (OTLP: partial success).
                count, cause = rejected, "partial success"
                verb = "rejected some" if rejected else "warns about"
                what = f"{to} {verb} {route.signal}: {message or 'it did not say why'}"
            case Refused(reason=reason, remedy=remedy):
                cause = reason.partition(":")[0]
                what = f"{to} refuses {route.signal}: {reason}"
            case Failed(reason=reason):
                cause = "failed"
                what = f"cannot deliver {route.signal} to {to}: {reason}"
            case TooLarge(reason=reason) if not divided:
                cause = "too large"
                what = f"{to} refuses a single record of {route.signal} for its size: {reason}"
            case _:
                return
        self._notices.lost(route.signal, count, cause, what, remedy, now=now)


def _attempt(sender: Sender, chunk: Chunk, at_most_s: float) -> Outcome:
    try:
        return sender.send(chunk, at_most_s)
    except Exception as error:  # noqa: BLE001 - a defect costs one chunk, not all that follow
        return Failed(shown(f"{type(error).__name__}: {error}"))
