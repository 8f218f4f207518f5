"""Waiting for a sink: a recording can be read as slowly as its sink takes it.

Owns: how long is worth waiting. A live source cannot wait and does not use this.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

_LONGEST_S = 30.0  # without any progress: nobody takes it


class Queue(Protocol):
    """What has a queue that empties by itself."""

    @property
    def queued_bytes(self) -> int:
        """What waits or is under way."""
        ...


class Patience:
    """Whether to wait for `queue`, which nothing is added to meanwhile."""

    def __init__(self, queue: Queue, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._clock = clock
        self._seen = -1
        self._since = 0.0

    def waits(self, for_bytes: int) -> bool:
        """Whether more than `for_bytes` wait, and the queue has got shorter in the last 30 s."""
        queued = self._queue.queued_bytes
        now = self._clock()
        if queued != self._seen:
            self._seen, self._since = queued, now
        return queued > for_bytes and now - self._since < _LONGEST_S
