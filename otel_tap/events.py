"""Facts from the kernel: what every source of events yields and every later stage reads.

Nothing changes an event once it is made. `DataEvent` is made for every system call of the watched
host, and read some twenty times: a slot is read in a fifth of the time of a named tuple's item,
and compiled in a hundredth. The others are rare, and named tuples.

All times are `ktime_ns`: integer nanoseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, Protocol


class Direction(IntEnum):
    """Which way bytes went, seen from the process."""

    INGRESS = 0
    EGRESS = 1


class TlsLibrary(StrEnum):
    """Where plaintext was taken; NONE is a plain TCP socket."""

    NONE = ""
    OPENSSL = "openssl"


class PeerEvidence(StrEnum):
    """What proved which socket a connection uses."""

    NONE = "unknown"
    SOCKET = "socket"  # the bytes were seen at this very socket
    NESTED_CALL = "nested_call"  # the TLS call moved TLS records through this socket
    CIPHERTEXT = "ciphertext"  # the session's ciphertext was met again at this socket


class LossReason(StrEnum):
    """Why bytes that moved did not arrive."""

    RING_FULL = "ring_full"  # the ring buffer had no room
    UNREADABLE = "unreadable"  # the process's memory could not be read
    TRUNCATED = "truncated"  # one call moved more than a probe may copy
    STATE_FULL = "state_full"  # a table of the kernel side had no room
    SENDFILE = "sendfile"  # moved inside the kernel: never in the process's memory
    UNSEEN = "unseen"  # moved by no call that can be read (io_uring)
    SHED = "shed"  # the agent cannot keep up: of a connection that it leaves out
    FILTERED = "filtered"  # of a process that is not wanted
    MUTED = "muted"  # of a connection that turned out not to be HTTP
    SKIPPED = "skipped"  # of a body, beyond what is kept of it
    UNRECORDED = "unrecorded"  # of a recording: its disk could not take them


NOT_WANTED: Final = frozenset({LossReason.FILTERED, LossReason.MUTED, LossReason.SKIPPED})
"""Reasons that are no loss: nobody asked for these bytes."""


class CloseReason(StrEnum):
    """How one direction or a whole connection ended."""

    INGRESS_END = "ingress_end"  # the process read the end of the stream
    EGRESS_END = "egress_end"  # the process closed or shut down its side
    CLOSED = "closed"  # both directions ended
    RESET = "reset"  # ended by a TCP reset
    SHED = "shed"  # nothing ended, but what follows is left out for overload


class Address(NamedTuple):
    """An IP address (v4-mapped addresses are given as IPv4) and a port."""

    host: str
    port: int


@dataclass(init=False, slots=True)
class DataEvent:
    """Bytes that one call moved.

    The range `[offset, offset + length)` of the stream moved; `payload` is its captured
    beginning, so `length - len(payload)` bytes are a gap. Calls that move much arrive as several
    events with the same times.
    """

    ktime_ns: Final[int]  # when the call returned
    begin_ktime_ns: Final[int]  # when the call was entered (egress), or the same as ktime_ns
    connection_id: Final[int]
    tgid: Final[int]
    tid: Final[int]
    direction: Final[Direction]
    offset: Final[int]  # absolute in the stream, bytes
    length: Final[int]  # bytes really moved
    payload: Final[bytes]
    tcp_position: Final[int]  # TCP stream offset at which the carrying record began; -1 unknown
    skipped: Final[bool]  # what is not in payload was not wanted, rather than lost

    def __init__(
        self,
        ktime_ns: int,
        begin_ktime_ns: int,
        connection_id: int,
        tgid: int,
        tid: int,
        direction: Direction,
        offset: int,
        length: int,
        payload: bytes,
        tcp_position: int,
        skipped: bool = False,
    ) -> None:
        self.ktime_ns = ktime_ns
        self.begin_ktime_ns = begin_ktime_ns
        self.connection_id = connection_id
        self.tgid = tgid
        self.tid = tid
        self.direction = direction
        self.offset = offset
        self.length = length
        self.payload = payload
        self.tcp_position = tcp_position
        self.skipped = skipped


class ConnectionOpened(NamedTuple):
    """A connection of interest was met, or more became known of it (same connection_id)."""

    ktime_ns: int
    connection_id: int
    socket_id: int  # inode number of the socket; 0 while unbound
    tgid: int
    fd: int  # -1 unknown
    tls: TlsLibrary
    evidence: PeerEvidence
    local: Address | None
    peer: Address | None
    # TCP initial sequence numbers; 0, 0 unknown. Both ends of one connection see the same pair
    # swapped, but that the active opener sees its own one lower (its SYN is counted).
    iss: int
    irs: int
    from_start: bool  # seen since its first byte: offsets count from the real beginning
    # The offsets of ingress and egress from which on events tell of it; None unknown.
    begins: tuple[int, int] | None = None


class ConnectionClosed(NamedTuple):
    """One direction or the whole of a connection ended.

    `connection_id` is 0 when the fact is about a socket (`socket_id`): it then ends every
    connection bound to that socket.
    """

    ktime_ns: int
    connection_id: int
    socket_id: int
    tgid: int
    reason: CloseReason
    # What became of the bytes of the connection that are in no event; its own, or when this is
    # about a socket, those of the plain connection on it.
    lost_bytes: int = 0
    shed_bytes: int = 0
    filtered_bytes: int = 0
    skipped_bytes: int = 0


class ProcessStarted(NamedTuple):
    """A process executed a program, or was met for the first time."""

    ktime_ns: int
    tgid: int
    ppid: int
    uid: int
    start_boottime_ns: int  # CLOCK_BOOTTIME, identifies the process together with tgid
    comm: str
    filename: str  # path given to execve, "" when the process was running before
    mount_namespace: int = 0  # inode number of its mount namespace; 0 unknown


class ProcessExited(NamedTuple):
    """The last thread of a process ended."""

    ktime_ns: int
    tgid: int


class EventsLost(NamedTuple):
    """What did not arrive for one reason since the last such event."""

    ktime_ns: int
    reason: LossReason
    event_count: int
    byte_count: int


Event = (
    DataEvent | ConnectionOpened | ConnectionClosed | ProcessStarted | ProcessExited | EventsLost
)


class Intake(Protocol):
    """What can take the records of a live ring as they lie there."""

    def take(self, memory: mmap.mmap | bytes, at: int, size: int) -> bool:
        """Take the record at `memory[at : at + size]`; False: it is to be given as an event."""
        ...

    def handle(self, event: Event) -> None:
        """Take an event, in its order among the records."""
        ...

    def count(self, taken: int) -> None:
        """So many records were taken."""
        ...

    @property
    def taken_ktime_ns(self) -> int:
        """The time of the record that was taken last."""
        ...


class EventSource(Protocol):
    """Where events come from: the live ring, or a file of recorded events."""

    def read(self) -> Iterable[Event]:
        """The events that are there now, oldest first; waits a bounded time for the first."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether no event will ever come again (the end of a recording)."""
        ...

    def close(self) -> None:
        """Let go of probes, maps and files."""
        ...
