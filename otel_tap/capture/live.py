"""The live source of events: the kernel's ring buffer, drained by a timer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from otel_tap.capture.discovery import Discovery, DiscoveryCounters
from otel_tap.capture.loader import KernelSide
from otel_tap.capture.wire import decode
from otel_tap.events import Event, EventsLost, LossReason, ProcessStarted

# No wake-up per event: while there is traffic the ring is looked at every 10 ms, else rarer.
_BUSY_WAIT_S = 0.01
_IDLE_WAIT_S = 0.05
_IDLE_AFTER = 20  # empty looks in a row
_BATCH = 4096
_LOSS_INTERVAL_S = 1.0


class LiveSource:
    """Loads, attaches and drains; the live `EventSource`.

    `tee` gets the bytes of every record before it is decoded, for recordings.
    Raises what `KernelSide` raises.
    """

    def __init__(
        self,
        ring_bytes: int,
        report: Callable[[str], None],
        *,
        tee: Callable[[memoryview], None] | None = None,
    ) -> None:
        self._kernel = KernelSide(ring_bytes)
        self._tee = tee
        self._batch: list[Event] = []
        self._empty_looks = 0
        self._lost: dict[LossReason, tuple[int, int]] = {}
        self._next_loss_look = 0.0
        self._discovery = Discovery(self._kernel.attach_library, report)
        try:
            self._discovery.scan_all()
            self._kernel.attach_kernel()
            # Processes that started during the first scan.
            self._discovery.scan_all()
            self._discovery.start()
        except BaseException:
            self._kernel.close()
            raise

    def read(self) -> Iterable[Event]:
        """Events that are there now, at most a batch; waits up to 50 ms for the first."""
        self._kernel.ring.wait(_BUSY_WAIT_S if self._empty_looks < _IDLE_AFTER else _IDLE_WAIT_S)
        return self._read_now()

    def read_rest(self) -> Iterable[Iterable[Event]]:
        """Detach, then every event that is still there, in batches, and the last losses."""
        self._discovery.stop()
        self._kernel.detach()
        while self._drain():
            yield self._batch
        yield list(self._new_losses())

    def _drain(self) -> int:
        self._batch = []
        return self._kernel.ring.drain(self._take, _BATCH)

    def _read_now(self) -> list[Event]:
        taken = self._drain()
        self._empty_looks = 0 if taken else self._empty_looks + 1
        now = time.monotonic()
        if now >= self._next_loss_look:
            self._next_loss_look = now + _LOSS_INTERVAL_S
            self._batch.extend(self._new_losses())
        return self._batch

    def _take(self, record: memoryview) -> None:
        if self._tee is not None:
            self._tee(record)
        event = decode(record)
        self._batch.append(event)
        if type(event) is ProcessStarted and event.filename:
            self._discovery.process_started(event.tgid)

    def _new_losses(self) -> Iterable[EventsLost]:
        now_ns = time.monotonic_ns()
        for reason, total in self._kernel.losses().items():
            before = self._lost.get(reason, (0, 0))
            if total != before:
                self._lost[reason] = total
                yield EventsLost(now_ns, reason, total[0] - before[0], total[1] - before[1])

    def mute(self, connection_id: int) -> None:
        """No more bytes of this connection are wanted."""
        self._kernel.mute(connection_id)

    @property
    def counters(self) -> DiscoveryCounters:
        """What discovery has met."""
        return self._discovery.counters

    @property
    def exhausted(self) -> bool:
        """Never: there may always be another event."""
        return False

    def close(self) -> None:
        """Detach everything."""
        self._discovery.stop()
        self._kernel.close()
