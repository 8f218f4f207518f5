"""Loads the kernel side and attaches it: the kernel's own hooks at once, libraries as they come."""

from __future__ import annotations

import contextlib
import os
import resource
import struct
from pathlib import Path

from otel_tap.capture import wire
from otel_tap.capture.libbpf import BpfMap, BpfObject, Link, possible_cpus
from otel_tap.capture.plan import FilePlan
from otel_tap.capture.probes import LIBRARIES, SOCKET_OBJECTS
from otel_tap.capture.ring import Ring
from otel_tap.errors import CaptureError, HostError
from otel_tap.events import LossReason

OBJECTS = Path(__file__).with_name("objects")


class KernelSide:
    """The loaded programs and their maps; `close` detaches everything.

    `ring_bytes`: size of the ring buffer, a power of two of at least one page.
    Raises `HostError` when the compiled objects or libbpf are missing, `CaptureError` when the
    kernel refuses a program.
    """

    def __init__(self, ring_bytes: int) -> None:
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
                *SOCKET_OBJECTS,
                *dict.fromkeys(library.object_name for library in LIBRARIES),
            ):
                self._load(name, ring_bytes)
            self._muted = self._maps["muted"]
            self._losses = self._maps["losses"]
            self._loss_bytes = possible_cpus() * wire.LOSS.size
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
        bpf_object.set_constants(struct.pack("=I", os.getpid()))
        if self._maps:
            bpf_object.share(self._maps)
        else:
            bpf_object.set_size("events", ring_bytes)
        bpf_object.load()
        for map_name, bpf_map in bpf_object.maps().items():
            self._maps.setdefault(map_name, bpf_map)

    def attach_kernel(self) -> None:
        """Attach to system calls, TCP state changes and process events."""
        # Ends before beginnings: a connection that opens now must not miss its end.
        for name in reversed(SOCKET_OBJECTS):
            self._links.extend(self._objects[name].attach_all())

    def attach_library(self, path: str, plan: FilePlan) -> None:
        """Attach every probe of one library file, or none of them."""
        bpf_object = self._objects[plan.object_name]
        links: list[Link] = []
        try:
            for point in plan.points:
                # The return first: an entry without it would leave a call that never ends.
                for program, at_return in (
                    (point.probe.return_program, True),
                    (point.probe.entry_program, False),
                ):
                    if program is not None:
                        links.append(
                            bpf_object.attach_uprobe(
                                program, path, point.file_offset, at_return=at_return
                            )
                        )
        except CaptureError:
            for link in links:
                link.close()
            raise
        self._links.extend(links)

    def mute(self, connection_id: int) -> None:
        """No more bytes of this connection are copied; they still count."""
        self._muted.update(struct.pack("=Q", connection_id), b"\1")

    def losses(self) -> dict[LossReason, tuple[int, int]]:
        """(events, bytes) lost since the start, by reason, over all CPUs."""
        totals = {}
        for index, reason in enumerate(wire.LOSS_REASONS):
            value = self._losses.lookup(struct.pack("=I", index), self._loss_bytes) or b""
            pairs = list(wire.LOSS.iter_unpack(value))
            totals[reason] = (sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs))
        return totals

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
