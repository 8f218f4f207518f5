"""What the descriptors of other processes are, asked of the kernel from user space.

Owns a handle on every process that has a connection (a pidfd: it can never mean another process
that got the same number), looks at a descriptor by taking a copy of it for a moment, and says when
processes end. Never guesses: what is gone is gone.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path

from otel_tap.events import Address, ProcessStarted

_PIDFD_GETFD = 438  # the same number on every architecture
_TCP = (socket.IPPROTO_TCP, 262)  # 262: multipath TCP
_MAX_PROCESSES = 4096
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None, use_errno=True)


class Kind(Enum):
    """What a descriptor turned out to be."""

    TCP = auto()
    OTHER = auto()
    UNKNOWN = auto()  # closed, or its process gone, or looking at it is forbidden


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a descriptor; addresses only of TCP sockets."""

    kind: Kind
    local: Address | None = None
    peer: Address | None = None


_UNKNOWN = Look(Kind.UNKNOWN)
_OTHER = Look(Kind.OTHER)


@lru_cache(maxsize=4096)
def _host(text: str) -> str:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def look_at_socket(fd: int) -> Look:
    """What our own descriptor `fd` is; takes it over and closes it."""
    try:
        taken = socket.socket(fileno=fd)
    except OSError:  # no socket at all
        os.close(fd)
        return _OTHER
    with taken:
        if (
            taken.family not in (socket.AF_INET, socket.AF_INET6)
            or taken.type != socket.SOCK_STREAM
            or taken.proto not in _TCP
        ):
            return _OTHER
        ends: list[Address | None] = []
        for ask in (taken.getsockname, taken.getpeername):
            try:
                name = ask()
                ends.append(Address(_host(name[0]), name[1]))
            except OSError:  # not connected any more
                ends.append(None)
        return Look(Kind.TCP, *ends)


class Processes:
    """Handles on processes; at most `limit`, the oldest are let go first."""

    def __init__(self, limit: int = _MAX_PROCESSES) -> None:
        self._limit = limit
        self._handles: dict[int, int] = {}
        self._by_handle: dict[int, int] = {}
        self._poll = select.epoll()
        self._gone: list[int] = []

    def hold(self, tgid: int) -> int | None:
        """The handle on a process; None when it is gone, which `ended` then says."""
        handle = self._handles.get(tgid)
        if handle is not None:
            return handle
        try:
            handle = os.pidfd_open(tgid)
        except OSError as error:
            if error.errno == errno.ESRCH:
                self._gone.append(tgid)
            return None
        if len(self._handles) >= self._limit:
            self._release(next(iter(self._handles)))
        self._handles[tgid] = handle
        self._by_handle[handle] = tgid
        self._poll.register(handle, select.EPOLLIN)
        return handle

    def look(self, tgid: int, fd: int) -> Look:
        """What descriptor `fd` of that process is now."""
        handle = self.hold(tgid)
        if handle is None or fd < 0:
            return _UNKNOWN
        # The copy is closed at once: until then a connection that its owner closes lives on.
        copy = _libc.syscall(_PIDFD_GETFD, handle, fd, 0)
        return _UNKNOWN if copy < 0 else look_at_socket(copy)

    def ended(self) -> Iterator[int]:
        """Processes that ended since the last call; they are let go."""
        gone, self._gone = self._gone, []
        yield from gone
        for handle, _ in self._poll.poll(0):
            tgid = self._by_handle[handle]
            self._release(tgid)
            yield tgid

    def _release(self, tgid: int) -> None:
        handle = self._handles.pop(tgid)
        del self._by_handle[handle]
        self._poll.unregister(handle)
        os.close(handle)

    def close(self) -> None:
        """Let go of all."""
        for tgid in list(self._handles):
            self._release(tgid)
        self._poll.close()


def own_flows(proc: Path = Path("/proc/self/fd")) -> set[tuple[Address, Address]]:
    """(local, peer) of every TCP connection of this process."""
    flows: set[tuple[Address, Address]] = set()
    for name in os.listdir(proc):  # noqa: PTH208 - hot
        try:
            if not os.readlink(proc / name).startswith("socket:"):  # noqa: PTH115 - hot
                continue
            look = look_at_socket(os.dup(int(name)))
        except OSError:  # closed since the listing
            continue
        if look.local is not None and look.peer is not None:
            flows.add((look.local, look.peer))
    return flows


def completed(event: ProcessStarted, proc: Path = Path("/proc")) -> ProcessStarted:
    """The event with what /proc says of the process; what is gone stays unknown."""
    folder = proc / str(event.tgid)
    ppid, start = event.ppid, event.start_boottime_ns
    filename, namespace = event.filename, event.mount_namespace
    try:
        # The name may hold anything, so fields are counted from behind it.
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        ppid, start = int(fields[1]), int(fields[19]) * _TICK_NS
    except (OSError, IndexError, ValueError):
        pass
    try:
        link = os.readlink(folder / "ns" / "mnt")  # noqa: PTH115 - hot
        namespace = int(link.removeprefix("mnt:[").removesuffix("]"))
    except (OSError, ValueError):
        pass
    if filename:
        try:
            filename = os.readlink(folder / "exe")  # noqa: PTH115 - hot
        except OSError:
            filename = event.comm
    return event._replace(
        ppid=ppid, start_boottime_ns=start, filename=filename, mount_namespace=namespace
    )
