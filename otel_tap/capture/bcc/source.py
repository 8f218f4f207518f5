"""The live source of events of the bcc loader.

The kernel side says what moved at which descriptor; this module adds what only user space can
know (is it a TCP socket, whose process, which peer), and holds back what turns out to be neither
TCP nor anybody else's. A descriptor's number may mean another socket a moment later: an answer
counts only if the kernel side still knows the same life of it afterwards.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable, Iterable

from otel_tap.capture.bcc.descriptors import Kind, Processes, completed, own_flows
from otel_tap.capture.bcc.installed import BccPackage, describe
from otel_tap.capture.bcc.program import BccKernel
from otel_tap.capture.bcc.records import encode
from otel_tap.capture.discovery import Discovery, DiscoveryCounters
from otel_tap.capture.plan import FilePlan
from otel_tap.capture.wire import decode_at
from otel_tap.errors import CaptureError
from otel_tap.events import (
    Address,
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Direction,
    Event,
    EventsLost,
    Intake,
    LossReason,
    ProcessExited,
    ProcessStarted,
    TlsLibrary,
)

_BUSY_WAIT_S = 0.01
_IDLE_WAIT_S = 0.05
_IDLE_AFTER = 20  # empty looks in a row
_BATCH = 4096
_LOSS_INTERVAL_S = 1.0
_REFUSED_LIMIT = 65_536
_OWN_FLOW_NS = 10_000_000_000  # for how long a connection of ours is remembered


_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared, nothing binds


def _listener(event: ConnectionOpened) -> int:
    """The descriptor that this one was accepted from, which stands in the local address; -1."""
    if event.local is None or event.local.port:
        return -1
    return int(ipaddress.ip_address(event.local.host)) - 1


class Completion:
    """Makes whole events of what the kernel side knows; the part that needs no BCC.

    `life_of(tgid, fd)` is the number of a descriptor's present life, `mute(connection_id)` stops
    the copying of a connection. `flows` says which connections are the agent's own.
    """

    def __init__(
        self,
        processes: Processes,
        life_of: Callable[[int, int], int],
        mute: Callable[[int], None],
        flows: Callable[[], set[tuple[Address, Address]]] = own_flows,
    ) -> None:
        self._processes = processes
        self._life_of = life_of
        self._mute = mute
        self._flows = flows
        self._own: dict[tuple[Address, Address], int] = {}
        self._own_looked_ns = 0
        self._refused: dict[int, None] = {}
        self.unconfirmed = 0  # closed before it could be seen whether they were TCP sockets

    def complete(self, events: Iterable[Event]) -> list[Event]:
        """The events, each as far as it can be known; without those that are nobody's business."""
        refused = self._refused
        whole: list[Event] = []
        for event in events:
            kind = type(event)
            if kind is DataEvent:
                if not refused or event.connection_id not in refused:  # type: ignore[union-attr]
                    whole.append(event)
            elif isinstance(event, ConnectionOpened):
                opened = self._opened(event)
                if opened is not None:
                    whole.append(opened)
            elif isinstance(event, ProcessStarted):
                if not event.filename:
                    self._processes.hold(event.tgid)
                whole.append(completed(event))
            elif not isinstance(event, ConnectionClosed) or (
                (event.connection_id or event.socket_id) not in refused
            ):
                whole.append(event)
        return whole

    def _opened(self, event: ConnectionOpened) -> ConnectionOpened | None:
        if event.connection_id in self._refused:
            return None
        plain = event.tls is TlsLibrary.NONE
        # Of what the kernel side read: connect and accept name the peer, nothing the local end.
        listener = _listener(event)
        local, peer = None, event.peer if event.peer is not None and event.peer.port else None
        if event.socket_id:
            look = self._processes.look(event.tgid, event.fd)
            # After the look: what was looked at is the same life of the descriptor.
            same = self._life_of(event.tgid, event.fd) == event.socket_id
            if same and look.kind is Kind.TCP:
                local, peer = look.local, look.peer or peer
            elif same and look.kind is Kind.OTHER and plain:
                self._refuse(event.connection_id)
                return None
            else:
                # Closed already. Who accepted it lives longer, and is what it was.
                look = self._processes.look(event.tgid, listener)
                if look.kind is Kind.TCP and look.peer is None and look.local is not None:
                    local = look.local if look.local.host not in _WILDCARDS else None
                elif plain and peer is None:
                    self.unconfirmed += 1
                    self._refuse(event.connection_id)
                    return None
        if local is not None and peer is not None and self._is_own(local, peer, event.ktime_ns):
            self._refuse(event.connection_id)
            return None
        return event._replace(local=local, peer=peer)

    def _refuse(self, connection_id: int) -> None:
        if len(self._refused) >= _REFUSED_LIMIT:
            del self._refused[next(iter(self._refused))]
        self._refused[connection_id] = None
        self._mute(connection_id)

    def _is_own(self, local: Address, peer: Address, ktime_ns: int) -> bool:
        """Whether the other end is the agent: it then had that connection before this event."""
        if ktime_ns >= self._own_looked_ns:
            self._own_looked_ns = now = time.monotonic_ns()
            for flow, seen_ns in list(self._own.items()):
                if now - seen_ns > _OWN_FLOW_NS:
                    del self._own[flow]
            self._own.update(dict.fromkeys(self._flows(), now))
        return (peer, local) in self._own


class BccSource:
    """Compiles, attaches and drains; the live `EventSource` of the bcc loader.

    `tee` gets every event with a record as the wire format has it, for recordings.
    Raises what `BccKernel` raises.
    """

    def __init__(
        self,
        ring_bytes: int,
        report: Callable[[str], None],
        *,
        tee: Callable[[Event, bytes], None] | None = None,
        package: BccPackage | None = None,
    ) -> None:
        self._kernel = BccKernel(ring_bytes, package=package)
        self._tee = tee
        self._processes = Processes()
        self._completion = Completion(self._processes, self._kernel.life_of, self._kernel.mute)
        self._report = report
        self._seen_ktime_ns = 0
        self._empty_looks = 0
        self._lost: dict[LossReason, tuple[int, int]] = {}
        self._next_loss_look = 0.0
        self._discovery = Discovery(self._attach, report)
        headers = self._kernel.headers
        if not headers.exact:
            report(f"loader bcc: {describe(headers, os.uname().release)}")
        try:
            self._discovery.scan_all()
            self._kernel.attach_kernel()
            # Processes that started during the first scan.
            self._discovery.scan_all()
            self._discovery.start()
        except BaseException:
            self.close()
            raise

    def _attach(self, path: str, _plan: FilePlan) -> None:
        if not self._kernel.attach_library(path):
            raise CaptureError("none of its functions is one that the bcc loader knows")

    def feed(self, intake: Intake) -> None:
        """Not by this loader: its records are completed in user space first."""

    def read(self) -> Iterable[Event]:
        """Events that are there now, at most a batch; waits up to 50 ms for the first."""
        self._kernel.ring.wait(_BUSY_WAIT_S if self._empty_looks < _IDLE_AFTER else _IDLE_WAIT_S)
        # Whoever ended before the ring is read wrote nothing behind what is read now.
        ended = list(self._processes.ended())
        taken, events = self._drain()
        while taken >= _BATCH and ended:
            taken, more = self._drain()
            events += more
        self._empty_looks = 0 if taken else self._empty_looks + 1
        now_ns = time.monotonic_ns()
        events += self._teed([ProcessExited(now_ns, tgid) for tgid in ended])
        now = time.monotonic()
        if now >= self._next_loss_look:
            self._next_loss_look = now + _LOSS_INTERVAL_S
            events += self._new_losses()
        return events

    def read_rest(self) -> Iterable[Iterable[Event]]:
        """Detach, then every event that is still there, in batches, and the last losses."""
        self._discovery.stop()
        self._kernel.detach()
        taken = 1
        while taken:
            taken, events = self._drain()
            yield events
        yield list(self._new_losses())
        if self.unconfirmed:
            self._report(
                f"loader bcc left out {self.unconfirmed} descriptors whose bytes looked like HTTP "
                "and that were closed before it could see whether they were sockets"
            )

    def _drain(self) -> tuple[int, list[Event]]:
        begun_ns = time.monotonic_ns()
        raw = self._kernel.ring.drain(decode_at, _BATCH)
        if len(raw) < _BATCH:
            self._seen_ktime_ns = begun_ns
        else:
            self._seen_ktime_ns = max(self._seen_ktime_ns, raw[-1].ktime_ns)
        events = self._completion.complete(raw)
        for event in events:
            if type(event) is ProcessStarted and event.filename:
                self._discovery.process_started(event.tgid)
        return len(raw), self._teed(events)

    def _teed(self, events: list[Event]) -> list[Event]:
        if self._tee is not None:
            for event in events:
                self._tee(event, encode(event))
        return events

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
        """Taken as advice: this kernel side copies all bytes of a connection, or none."""

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
        """Not known: BCC tells nothing of its ring."""
        return None

    @property
    def shed_share(self) -> float:
        """The part of all connections that is left out for overload: this loader leaves none."""
        return 0.0

    @property
    def unconfirmed(self) -> int:
        """Connections that closed before it could be seen whether they were TCP sockets."""
        return self._completion.unconfirmed

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
        self._processes.close()
