"""Which loader taps this host: `core`, `bcc`, or the first of them that can."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from otel_tap.capture.discovery import DiscoveryCounters
from otel_tap.capture.live import LiveSource
from otel_tap.capture.plan import Placement
from otel_tap.errors import CaptureError, HostError, RightsError
from otel_tap.events import Direction, Event, EventSource, Intake
from otel_tap.requirements import BCC_BLIND

CORE, BCC, AUTO = "core", "bcc", "auto"

Report = Callable[[str], None]
Tee = Callable[[Event, bytes], None]
"""Gets every event with the record that it came as, for recordings."""


class HostSource(EventSource, Protocol):
    """A source that taps this host: the same of every loader."""

    def feed(self, intake: Intake) -> None:
        """From now on records may go to `intake` as they lie in the ring, amid `read`.

        What it does not get, `read` gives as events.
        """
        ...

    def read_rest(self) -> Iterable[Iterable[Event]]:
        """Detach, then every event that is still there, in batches."""
        ...

    def mute(self, connection_id: int) -> None:
        """No more bytes of this connection are wanted."""
        ...

    def skip(self, connection_id: int, direction: Direction, begin: int, end: int) -> None:
        """Stream offsets [begin, end) of one direction are not wanted."""
        ...

    def want(self, tgid: int, *, wanted: bool) -> None:
        """Whether bytes of this process are wanted; forgotten when it executes a program."""
        ...

    @property
    def seen_ktime_ns(self) -> int:
        """What happened before that was handed out."""
        ...

    @property
    def captured(self) -> tuple[int, int]:
        """(events, bytes) that the kernel side sent."""
        ...

    @property
    def ring_fill(self) -> float | None:
        """The part of the ring that waited at the last look, 0 to 1; None where nothing tells."""
        ...

    @property
    def shed_share(self) -> float:
        """The part of all connections that is left out for overload, 0 to 1."""
        ...

    @property
    def counters(self) -> DiscoveryCounters:
        """What discovery has met."""
        ...


Loader = Callable[[int, Report, Tee | None], HostSource]


def load_core(
    ring_bytes: int,
    report: Report,
    tee: Tee | None,
    placement: Placement = "auto",
    *,
    watched: bool = False,
    pids: Collection[int] = (),
) -> HostSource:
    """Through libbpf, compiled beforehand; needs BTF."""
    return LiveSource(ring_bytes, report, tee=tee, placement=placement, watched=watched, pids=pids)


def load_bcc(ring_bytes: int, report: Report, tee: Tee | None) -> HostSource:
    """Compiled on this host by BCC; sees less, and says so."""
    from otel_tap.capture.bcc.source import BccSource  # noqa: PLC0415 - only where it is used

    source = BccSource(ring_bytes, report, tee=tee)
    report(f"loader bcc does not see: {BCC_BLIND}")
    return source


def open_source(
    loader: str,
    ring_bytes: int,
    report: Report,
    tee: Tee | None = None,
    *,
    core: Loader = load_core,
    bcc: Loader = load_bcc,
) -> HostSource:
    """Tap this host by `loader`; `auto` means core, and bcc where core cannot be loaded.

    Raises `HostError` or `CaptureError`; of `auto` those of core, with what kept bcc from it.
    """
    if loader == BCC:
        return bcc(ring_bytes, report, tee)
    try:
        return core(ring_bytes, report, tee)
    except RightsError:
        raise
    except (HostError, CaptureError) as error:
        if loader == CORE:
            raise
        try:
            source = bcc(ring_bytes, report, tee)
        except (HostError, CaptureError) as second:
            error.message += f"; nor can bcc be used: {second.message}"
            raise error from second
        report(f"loader: bcc, because core cannot be used: {error.message}")
        return source
