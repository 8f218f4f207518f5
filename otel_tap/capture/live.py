"""The live source of events: the kernel's ring buffer, drained by a timer."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from otel_tap.capture.control import SHED_ALL
from otel_tap.capture.discovery import Discovery, DiscoveryCounters
from otel_tap.capture.loader import KernelSide
from otel_tap.capture.overload import Overload
from otel_tap.capture.plan import Placement
from otel_tap.capture.self_check import SelfChecks
from otel_tap.capture.taps import LibraryTaps
from otel_tap.capture.wire import DATA_RECORD, decode_at
from otel_tap.events import (
    DataEvent,
    Direction,
    Event,
    EventsLost,
    Intake,
    LossReason,
    ProcessStarted,
)

# No wake-up per event: the ring is looked at by a timer, besides when it fills. Each time the
# processor has to warm to the work again, so where nobody watches it is left for longer.
_WAIT_S = 0.25
_WATCHED_WAIT_S = 0.03  # while there is traffic
_IDLE_WAIT_S = 0.1
_IDLE_AFTER = 20  # empty looks in a row
_BATCH = 256  # what is decoded stays in the processor's cache until it is read: 10 % less work
_LOSS_INTERVAL_S = 1.0
_EARLY_WAIT_S = 0.003
_MAX_PIDS = 16  # each probe once for each of them


def _are_there(pids: Collection[int]) -> bool:
    return len(pids) <= _MAX_PIDS and all(Path(f"/proc/{pid}").exists() for pid in pids)


def _while_drained() -> None:
    """Wait for events that another thread drains."""
    time.sleep(_WATCHED_WAIT_S)


class LiveSource:
    """Loads, attaches and drains; the live `EventSource`.

    `tee` gets every event with the bytes of its record, for recordings. `watched`: somebody looks
    at what comes of the events, and shall not have to wait for it. `pids`: the only processes that
    are looked at, while there are such processes; empty: all.
    Raises what `KernelSide` raises.
    """

    def __init__(
        self,
        ring_bytes: int,
        report: Callable[[str], None],
        *,
        tee: Callable[[Event, bytes], None] | None = None,
        placement: Placement = "auto",
        watched: bool = False,
        pids: Collection[int] = (),
    ) -> None:
        pids = pids if _are_there(pids) else ()
        self._kernel = KernelSide(ring_bytes, only_chosen=bool(pids))
        self._watched = watched
        self._tee = tee
        self._batch: list[Event] = []
        self._taken = 0  # records at once: those of `_batch`, or what the intake took
        self._empty_looks = 0
        self._lost: dict[LossReason, tuple[int, int]] = {}
        self._next_loss_look = 0.0
        self._overload = Overload()
        self._fill = 0.0
        self._seen_ktime_ns = 0
        self._checks = SelfChecks()
        self.taps = LibraryTaps(self._kernel, self._checks, report, pids=pids)
        self._discovery = Discovery(
            self.taps.attach,
            report,
            placement=placement,
            settle=lambda stopped: self.taps.check(_while_drained, stopped),
            pids=pids,
        )
        self._early: list[Event] = []
        self._intake: Intake | None = None
        self._others = 0  # of what is taken from the ring: not by the intake
        try:
            self._discovery.scan_all()
            self._kernel.attach_kernel()
            self.taps.check(self._drain_early)
            # Processes that started meanwhile.
            self._discovery.scan_all()
            self._discovery.start()
        except BaseException:
            self.taps.close()
            self._kernel.close()
            raise

    def feed(self, intake: Intake) -> None:
        """From now on `intake` takes the records where they lie, and `read` gives the rest."""
        self._intake = intake

    def read(self) -> Iterable[Event]:
        """Events that are there now, at most a batch; waits up to 250 ms for the first.

        After a full batch it does not wait: more is there already.
        """
        kernel = self._kernel
        if self._taken < _BATCH:
            kernel.control.sleep()
            kernel.ring.wait(self._wait_s)
            kernel.control.awake()
        self._fill = kernel.ring.fill
        level = self._overload.update(self._fill, time.monotonic_ns())
        if level != kernel.control.shed:
            kernel.control.shed = level
        return self._read_now()

    @property
    def _wait_s(self) -> float:
        if not self._watched:
            return _WAIT_S
        return _WATCHED_WAIT_S if self._empty_looks < _IDLE_AFTER else _IDLE_WAIT_S

    def read_rest(self) -> Iterable[Iterable[Event]]:
        """Detach, then every event that is still there, in batches, and the last losses."""
        self._intake = None
        self._discovery.stop()
        self.taps.close()
        self._kernel.detach()
        yield self._early
        while self._drain():
            yield self._batch
        yield list(self._new_losses())

    def _drain(self) -> int:
        begun_ns = time.monotonic_ns()
        with self._checks.lock:
            if self._intake is None or self._early or self._checks.busy:
                last_ns = self._take_events()
            else:
                last_ns = self._feed(self._intake)
        if self._taken < _BATCH:
            last_ns = begun_ns
        self._seen_ktime_ns = max(self._seen_ktime_ns, last_ns)
        return self._taken

    def _take_events(self) -> int:
        """The next batch; the time of its last event."""
        decode = decode_at if self._tee is None else self._decode_and_tee
        self._batch = self._kernel.ring.drain(decode, _BATCH)
        self._taken = len(self._batch)
        if self._checks.busy:
            self._batch = self._checks.take(self._batch)
        for event in self._batch:
            self._look_at(event)
        return self._batch[-1].ktime_ns if self._batch else 0

    def _feed(self, intake: Intake) -> int:
        """The same where the records lie."""
        self._batch = []
        self._others = 0
        self._taken = self._kernel.ring.feed(intake.take, self._take_other, _BATCH)
        intake.count(self._taken - self._others)
        return intake.taken_ktime_ns

    def _take_other(self, ring: mmap.mmap | bytes, at: int, size: int) -> bool:
        """A record that is no data."""
        event = decode_at(ring, at, size)
        self._others += 1
        self._look_at(event)
        if self._intake is not None:
            self._intake.handle(event)
        return True

    def _look_at(self, event: Event) -> None:
        if type(event) is ProcessStarted and event.filename:
            self._discovery.process_started(event.tgid)

    def _drain_early(self) -> None:
        """What comes before anybody reads is kept."""
        time.sleep(_EARLY_WAIT_S)
        self._drain()
        self._early += self._batch

    def _read_now(self) -> list[Event]:
        taken = self._drain()
        if self._early:
            self._batch[:0] = self._early
            self._early.clear()
        self._empty_looks = 0 if taken else self._empty_looks + 1
        now = time.monotonic()
        if now >= self._next_loss_look:
            self._next_loss_look = now + _LOSS_INTERVAL_S
            self._batch.extend(self._new_losses())
        return self._batch

    def _decode_and_tee(self, ring: mmap.mmap | bytes, at: int, size: int) -> Event:
        event = decode_at(ring, at, size)
        if self._tee is not None and not (self._checks.busy and self._checks.owns(event)):
            if type(event) is DataEvent:
                # Behind the captured bytes a record holds what older ones left there.
                size = DATA_RECORD.size + len(event.payload)
            self._tee(event, ring[at : at + size])
        return event

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

    def skip(self, connection_id: int, direction: Direction, begin: int, end: int) -> None:
        """Stream offsets [begin, end) of one direction are not wanted."""
        self._kernel.skip(connection_id, direction, begin, end)

    def want(self, tgid: int, *, wanted: bool) -> None:
        """Whether bytes of this process are wanted; forgotten when it executes a program."""
        self._kernel.want(tgid, wanted=wanted)

    @property
    def seen_ktime_ns(self) -> int:
        """What happened before that was handed out: more may wait in the ring."""
        return self._seen_ktime_ns

    @property
    def captured(self) -> tuple[int, int]:
        """(events, bytes) that the kernel side put into the ring."""
        return self._kernel.captured()

    @property
    def ring_fill(self) -> float | None:
        """The part of the ring that waited at the last look, 0 to 1."""
        return self._fill

    @property
    def shed_share(self) -> float:
        """The part of all connections that is left out for overload, 0 to 1."""
        return self._overload.level / SHED_ALL

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
        self.taps.close()
        self._kernel.close()
