"""What waits to be sent of one signal, when it may be tried, and what became of the rest.

Owns: the queue with its bound in bytes, the backoff clock, the counters. Promises: every record
that was put is at each moment queued, under way, sent, rejected or dropped, and counted as exactly
one of them. Must not know: threads (its owner holds a lock), clocks (`now` is given, seconds of any
monotonic clock), how sending works.

When the queue is full the oldest chunks are dropped: what happens now explains an incident better
than what happened before it.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from otel_tap.delivery.outcome import Accepted, Refused, RetryLater
from otel_tap.telemetry.chunk import Chunk

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_LONGEST_ASKED_S = 3600.0
_JITTER = 0.2  # agents that lost the same collector must not come back all at once


@dataclass(frozen=True, slots=True)
class SignalCounters:
    """What became of the records of one signal so far."""

    sent: int  # records that were accepted
    rejected: int  # records that the receiver refused for good
    dropped: int  # records given up here: queue full, too large, not writable, out of time
    retries: int  # attempts that have to be repeated
    queued_bytes: int  # waiting or under way


class Outbox:
    """The queue of one signal, at most `max_bytes` of payload."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[Chunk] = deque()
        self._under_way: Chunk | None = None
        self._queued_bytes = 0
        self._not_before = 0.0
        self._was_asked = False  # _not_before is what the receiver asked for
        self._sent = 0
        self._rejected = 0
        self._dropped = 0
        self._overflowed = 0
        self._retries = 0
        self.failures = 0  # attempts in a row that must be repeated

    @property
    def counters(self) -> SignalCounters:
        """The counters now."""
        return SignalCounters(
            self._sent, self._rejected, self._dropped, self._retries, self._queued_bytes
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits; a chunk under way does not count."""
        return not self._waiting

    @property
    def not_before(self) -> float:
        """The earliest time of the next attempt."""
        return self._not_before

    def put(self, chunk: Chunk) -> bool:
        """Queue a chunk, dropping the oldest for it; False when it was dropped itself."""
        size = len(chunk.payload)
        under_way = 0 if self._under_way is None else len(self._under_way.payload)
        if size + under_way > self._max_bytes:
            self.drop(chunk)
            self._overflowed += chunk.record_count
            return False
        while self._queued_bytes + size > self._max_bytes:
            oldest = self._waiting.popleft()
            self._queued_bytes -= len(oldest.payload)
            self.drop(oldest)
            self._overflowed += oldest.record_count
        self._waiting.append(chunk)
        self._queued_bytes += size
        return True

    def take(self) -> Chunk:
        """The oldest chunk; it is under way until the caller says what became of it."""
        chunk = self._waiting.popleft()
        self._under_way = chunk
        return chunk

    def settle(self, chunk: Chunk, outcome: Accepted | Refused) -> None:
        """The receiver has answered for good."""
        self._end(chunk)
        count = chunk.record_count
        rejected = min(outcome.rejected, count) if isinstance(outcome, Accepted) else count
        self._sent += count - rejected
        self._rejected += rejected

    def postpone(self, chunk: Chunk, outcome: RetryLater, now: float, took_s: float) -> float:
        """The chunk goes back to its place in front; returns the pause, seconds."""
        self._under_way = None
        self._waiting.appendleft(chunk)
        self._retries += 1
        self.failures += 1
        self._was_asked = bool(outcome.after_s)
        if outcome.after_s:
            pause_s = min(outcome.after_s, _LONGEST_ASKED_S)
        else:
            doubled = _FIRST_PAUSE_S * 2.0 ** min(self.failures - 1, 16)
            pause_s = min(doubled, _LONGEST_PAUSE_S)
            pause_s *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not a secret
            # A receiver that hangs gets at most half of the thread: the rest is for other signals.
            pause_s = max(pause_s, min(took_s, _LONGEST_PAUSE_S))
        self._not_before = now + pause_s
        return pause_s

    def divide(self, chunk: Chunk, parts: tuple[Chunk, Chunk]) -> None:
        """The chunk is replaced by its parts, in its place."""
        self._end(chunk)
        for part in reversed(parts):
            self._waiting.appendleft(part)
            self._queued_bytes += len(part.payload)

    def give_up(self, chunk: Chunk) -> None:
        """The chunk is dropped."""
        self._end(chunk)
        self.drop(chunk)

    def give_up_all(self) -> int:
        """Everything queued is dropped; returns the number of its records."""
        chunks = list(self._waiting)
        if self._under_way is not None:
            chunks.append(self._under_way)
        self._waiting.clear()
        self._under_way = None
        self._queued_bytes = 0
        for chunk in chunks:
            self.drop(chunk)
        return sum(chunk.record_count for chunk in chunks)

    def drop(self, chunk: Chunk) -> None:
        """Count a chunk that is not (or no longer) queued as dropped."""
        self._dropped += chunk.record_count

    def take_overflowed(self) -> int:
        """Records dropped because the queue was full, since the last call."""
        count, self._overflowed = self._overflowed, 0
        return count

    def hurry(self, now: float) -> None:
        """There is no time left for a pause, but for one that the receiver asked for."""
        if not self._was_asked:
            self._not_before = min(self._not_before, now)

    def _end(self, chunk: Chunk) -> None:
        self._under_way = None
        self._queued_bytes -= len(chunk.payload)
        self.failures = 0
        self._was_asked = False
        self._not_before = 0.0
