"""Loads the kernel side and attaches it: the kernel's own hooks at once, libraries as they come."""

from __future__ import annotations

import contextlib
import os
import resource
import struct
from collections.abc import Sequence
from pathlib import Path

from otel_tap.capture import wire
from otel_tap.capture.control import Control
from otel_tap.capture.hooks import socket_objects, uprobe_links_here
from otel_tap.capture.libbpf import EVERYONE, BpfMap, BpfObject, Link, possible_cpus
from otel_tap.capture.plan import FilePlan
from otel_tap.capture.probes import KERNEL_OBJECTS, LIBRARIES
from otel_tap.capture.ring import Ring
from otel_tap.errors import CaptureError, HostError
from otel_tap.events import Direction, LossReason

OBJECTS = Path(__file__).with_name("objects")
_MAX_TLS_CALLS = 16384
_PROBES_IN_PROGRAMS = tuple(dict.fromkeys(library.object_name for library in LIBRARIES))


class KernelSide:
    """The loaded programs and their maps; `close` detaches everything.

    `ring_bytes`: size of the ring buffer, a power of two of at least one page. `only_chosen`:
    sockets of processes that were not chosen (`choose`) are not looked at.
    Raises `HostError` when the compiled objects or libbpf are missing, `CaptureError` when the
    kernel refuses a program.
    """

    def __init__(self, ring_bytes: int, *, only_chosen: bool = False) -> None:
        self._constants = struct.pack("=II", os.getpid(), only_chosen)
        self._objects: dict[str, BpfObject] = {}
        self._links: list[Link] = []
        self._maps: dict[str, BpfMap] = {}
        # Since 5.11 the memory of maps is charged to the control group; before, to this limit.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(
                resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )
        try:
            for name in (
                *KERNEL_OBJECTS,
                *_PROBES_IN_PROGRAMS,
            ):
                self._load(name, ring_bytes)
            self._socket_object = self._load_first(socket_objects(), ring_bytes)
            self._wishes = self._maps["wishes"]
            self._unwanted = self._maps["unwanted"]
            self._accounts = self._maps["accounts"]
            self._account_bytes = possible_cpus() * wire.ACCOUNT.size
            self.control = Control(self._maps["control"].fd, ring_bytes)
            self.ring = Ring(self._maps["events"].fd, ring_bytes)
        except BaseException:
            self.close()
            raise

    def _load(self, name: str, ring_bytes: int) -> None:
        path = OBJECTS / name
        if not path.exists():
            raise HostError(
                "objects", f"the compiled kernel side {name} is missing", remedy="make setup"
            )
        bpf_object = BpfObject(path)
        self._objects[name] = bpf_object
        bpf_object.set_constants(self._constants)
        if self._maps:
            bpf_object.share(self._maps)
        else:
            bpf_object.set_size("events", ring_bytes)
        if name in _PROBES_IN_PROGRAMS and uprobe_links_here():
            bpf_object.use_uprobe_links()
        bpf_object.load()
        for map_name, bpf_map in bpf_object.maps().items():
            self._maps.setdefault(map_name, bpf_map)

    def _load_first(self, names: list[str], ring_bytes: int) -> str:
        """Load the first of these objects that the kernel takes."""
        for name in names[:-1]:
            try:
                self._load(name, ring_bytes)
            except CaptureError:
                self._objects.pop(name).close()
            else:
                return name
        self._load(names[-1], ring_bytes)
        return names[-1]

    def attach_kernel(self) -> None:
        """Attach to sockets, TCP state changes and process events."""
        # Ends before beginnings: a connection that opens now must not miss its end.
        for name in (*KERNEL_OBJECTS, self._socket_object):
            self._links.extend(self._objects[name].attach_all())

    def attach_library(
        self, path: str, plan: FilePlan, pids: Sequence[int] = (EVERYONE,)
    ) -> list[Link]:
        """Attach every probe of one library file, or none of them; in these processes."""
        bpf_object = self._objects[plan.object_name]
        links: list[Link] = []
        # The return first: an entry without it would leave a call that never ends.
        probes = [
            (program, point.file_offset, at_return)
            for point in plan.points
            for program, at_return in ((point.return_program, True), (point.entry_program, False))
            if program is not None
        ]
        try:
            for pid in pids:
                for program, offset, at_return in probes:
                    links.append(
                        bpf_object.attach_uprobe(
                            program, path, offset, at_return=at_return, pid=pid
                        )
                    )
        except CaptureError:
            for link in links:
                link.close()
            raise
        self._links.extend(links)
        return links

    def detach_library(self, links: list[Link]) -> None:
        """Take the probes of one library file away; of calls in progress nothing is seen."""
        self.close_links(links)
        # Calls whose return is not seen any more would hide the calls after them.
        self._maps["tls_calls"].clear(8, _MAX_TLS_CALLS)

    def close_links(self, links: list[Link]) -> None:
        """Take probes away that nobody can be in. Each takes the kernel some 100 ms."""
        for link in links:
            self._links.remove(link)
            link.close()

    def mute(self, connection_id: int) -> None:
        """No more bytes of this connection are copied; they still count."""
        self._wish(connection_id, (0, 0, 0, 0), mute=True)

    def skip(self, connection_id: int, direction: Direction, begin: int, end: int) -> None:
        """Stream offsets [begin, end) of one direction need not be copied; they still count."""
        ranges = (begin, 0, end, 0) if direction is Direction.INGRESS else (0, begin, 0, end)
        self._wish(connection_id, ranges, mute=False)

    def _wish(self, connection_id: int, ranges: tuple[int, int, int, int], *, mute: bool) -> None:
        self._wishes.update(struct.pack("=Q", connection_id), wire.WISH.pack(*ranges, 0, mute))
        self.control.wishing = True

    def want(self, tgid: int, *, wanted: bool) -> None:
        """Whether bytes of this process are copied; forgotten when it executes a program."""
        key = struct.pack("=I", tgid)
        if wanted:
            self._unwanted.delete(key)
        else:
            self._unwanted.update(key, b"\1")
            self.control.filtering = True

    def choose(self, tgid: int, *, chosen: bool) -> None:
        """Whether sockets of this process are looked at, where only chosen ones are."""
        key = struct.pack("=I", tgid)
        if chosen:
            self._maps["chosen"].update(key, b"\1")
        else:
            self._maps["chosen"].delete(key)

    def _account(self, index: int) -> tuple[int, int]:
        value = self._accounts.lookup(struct.pack("=I", index), self._account_bytes) or b""
        pairs = list(wire.ACCOUNT.iter_unpack(value))
        return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)

    def captured(self) -> tuple[int, int]:
        """(events, bytes) put into the ring since the start, over all CPUs."""
        return self._account(0)

    def losses(self) -> dict[LossReason, tuple[int, int]]:
        """(events, bytes) that did not arrive since the start, by reason, over all CPUs."""
        return {
            reason: self._account(index) for index, reason in enumerate(wire.LOSS_REASONS, start=1)
        }

    def detach(self) -> None:
        """Detach every probe; what they wrote can still be read, and nothing is added to it."""
        while self._links:
            self._links.pop().close()

    def close(self) -> None:
        """Detach and unload everything; safe to call twice."""
        self.detach()
        for bpf_object in self._objects.values():
            bpf_object.close()
        self._objects.clear()
