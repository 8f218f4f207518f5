"""A part of a recording as one of its own: the connections of some ports, and no trace of the rest.

For recordings that are passed on: what is left out is every other connection and process, the
names of the host, and the paths of programs. What the connections carried stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from otel_tap.capture import wire
from otel_tap.capture.recorded import RecordedSource
from otel_tap.capture.recording import RecordingWriter, RecordTo
from otel_tap.events import (
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    Event,
    ProcessExited,
)
from otel_tap.origin import Host, Origin


def extract(source: RecordedSource, to: RecordTo, ports: Collection[int], host: Host) -> None:
    """Write what belongs to connections with an end at one of `ports`, seen on `host`.

    `source` must not have been read yet.
    """
    events: list[tuple[Event, bytes]] = []
    for kind, content in source.frames():
        if kind == b"R":
            record = bytes(content)
            events.append((wire.decode(record), record))
    wanted = _Wanted(ports)
    for event, _ in events:
        if isinstance(event, ConnectionOpened):
            wanted.meet(event)
    for _ in iter(source.read, []):
        pass  # what it knows of processes in the end is what stands in the part
    writer = RecordingWriter(
        to, unix_offset_ns=source.header.unix_offset_ns, host=host, patient=True
    )
    for tgid in sorted(wanted.processes):
        origin = source.origin(tgid)
        if origin is not None:
            writer.origin(_anonymous(origin, host))
    last = 0
    for event, record in events:
        if wanted.has(event):
            last = max(last, event.ktime_ns)
            writer.record(record, len(event.payload) if isinstance(event, DataEvent) else 0)
    writer.note(source.notes())
    writer.close(last)


class _Wanted:
    """Connections, sockets and processes of some ports."""

    def __init__(self, ports: Collection[int]) -> None:
        self._ports = frozenset(ports)
        self._connections: set[int] = set()
        self._sockets: set[int] = set()
        self.processes: set[int] = set()

    def meet(self, event: ConnectionOpened) -> None:
        if event.local is None or event.peer is None:
            return
        if not self._ports.isdisjoint((event.local.port, event.peer.port)):
            self._connections.add(event.connection_id)
            self._sockets.add(event.socket_id)
            self.processes.add(event.tgid)

    def has(self, event: Event) -> bool:
        match event:
            case DataEvent() | ConnectionOpened():
                return event.connection_id in self._connections
            case ConnectionClosed():
                return event.connection_id in self._connections or event.socket_id in self._sockets
            case ProcessExited():
                return event.tgid in self.processes
        return False  # of a start only the path could tell anything that the origin does not


def _anonymous(origin: Origin, host: Host) -> Origin:
    name = origin.executable_name
    return replace(
        origin, executable_path=f"/usr/bin/{name}", command=name, command_line=None, host=host
    )
