"""What delivery says to people: one line when something changes, never one per chunk.

Owns: the sentences, and when they are worth one. Promises: an outage is one line, its end is one
line, whatever the number of signals and attempts; a kind of loss is said again only after it had
stopped, and not within five minutes. Must not know: queues, protocols.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from otel_tap.telemetry.chunk import Signal

_LONG_PAUSE_S = 5.0
_QUIET_S = 300.0
_RECORDS = {Signal.TRACES: "spans", Signal.LOGS: "log records"}


@dataclass(slots=True)
class _Outage:
    since: float
    signals: set[Signal]
    lost: int


@dataclass(slots=True)
class _Loss:
    said_at: float = -math.inf
    untold: int = 0
    goes_on: bool = False


class Notices:
    """Turns outcomes into lines for `report`. Called by one thread; `now` in seconds."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._outages: dict[str, _Outage] = {}  # by destination
        self._losses: dict[tuple[Signal, str], _Loss] = {}  # by signal and cause: few

    def postponed(
        self, signal: Signal, destination: str, why: str, remedy: str,
        *, failures: int, pause_s: float, now: float,
    ) -> None:  # fmt: skip
        """An attempt must be repeated. A hiccup that the first retry mends is not worth a line."""
        outage = self._outages.get(destination)
        if outage is not None:
            outage.signals.add(signal)
        elif failures > 1 or pause_s > _LONG_PAUSE_S:
            self._outages[destination] = _Outage(now, {signal}, 0)
            self._say(
                f"cannot deliver to {destination}: {why}. "
                f"Telemetry is kept while there is room, and sent later; {remedy}"
            )

    def answered(self, signal: Signal, destination: str, now: float) -> None:
        """The receiver has taken or refused a chunk: it is there."""
        outage = self._outages.get(destination)
        if outage is None:
            return
        outage.signals.discard(signal)
        if not outage.signals:
            del self._outages[destination]
            lost = f"; {outage.lost} records were dropped meanwhile" if outage.lost else ""
            self._say(f"{destination} answers again after {now - outage.since:.0f} s{lost}")

    def accepted(self, signal: Signal) -> None:
        """A whole chunk was taken: whatever was refused before, this is not."""
        for (at, _), loss in self._losses.items():
            if at is signal:
                loss.goes_on = False

    def overflowed(self, signal: Signal, destination: str, count: int, now: float) -> None:
        """Records were dropped because the queue was full."""
        outage = self._outages.get(destination)
        if outage is not None:
            outage.lost += count
        else:
            text = f"{destination} takes {signal} too slowly: the queue is full"
            self.lost(signal, count, "queue full", text, "the oldest are dropped", now=now)

    def lost(
        self, signal: Signal, count: int, cause: str, what: str, remedy: str, *, now: float
    ) -> None:
        """Records are lost. `cause` is one of few words: losses of one cause are told together."""
        loss = self._losses.setdefault((signal, cause), _Loss())
        loss.untold += count
        is_news = not loss.goes_on and now - loss.said_at >= _QUIET_S
        loss.goes_on = True
        if is_news:
            untold, loss.untold, loss.said_at = loss.untold, 0, now
            lost = f"{untold} {_RECORDS[signal]} are lost" if untold else ""
            self._say("; ".join(part for part in (what, lost, remedy) if part))

    def ended(self, left: dict[Signal, int]) -> None:
        """The agent stops, and this many records could not be delivered in time."""
        counts = [f"{count} {_RECORDS[signal]}" for signal, count in left.items() if count]
        if counts:
            self._say(f"{' and '.join(counts)} could not be delivered in time and are lost")

    def _say(self, line: str) -> None:
        # A terminal that is gone must not end delivery; the counters tell the same.
        with contextlib.suppress(OSError, ValueError):
            self._report(line)
