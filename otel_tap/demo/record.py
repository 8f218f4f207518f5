"""Makes the recording that the demo ships: `python -m otel_tap.demo.record`, as root.

Runs the demo, then keeps only what belongs to its own connections, and nothing that tells where it
was made: no other process, no path, no host.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from otel_tap.capture import wire
from otel_tap.capture.recording import RecordedSource, RecordingWriter
from otel_tap.demo.show import RECORDING, run_demo
from otel_tap.events import (
    ConnectionClosed,
    ConnectionOpened,
    DataEvent,
    EventsLost,
    ProcessExited,
    ProcessStarted,
)
from otel_tap.origin import Host, Origin

_HOST = Host("demo", None, "demo", "amd64", "linux", "recorded")


def _anonymous(origin: Origin) -> Origin:
    name = origin.executable_name
    return replace(
        origin, executable_path=f"/usr/bin/{name}", command=name, user=origin.user, host=_HOST
    )


def keep_own(source: RecordedSource, target: Path) -> None:
    """Copy what belongs to the demo's connections."""
    ports = {int(port) for port in source.notes["ports"].split()}
    connections: set[int] = set()
    sockets: set[int] = set()
    processes: set[int] = set()
    records = [content for kind, content in source.frames() if kind == b"R"]
    for content in records:
        event = wire.decode(memoryview(content))
        if (
            isinstance(event, ConnectionOpened)
            and event.local is not None
            and event.peer is not None
            and ports & {event.local.port, event.peer.port}
        ):
            connections.add(event.connection_id)
            sockets.add(event.socket_id)
            processes.add(event.tgid)
    writer = RecordingWriter(target, unix_offset_ns=source.header.unix_offset_ns, host=_HOST)
    for content in records:
        event = wire.decode(memoryview(content))
        match event:
            case DataEvent() | ConnectionOpened():
                wanted = event.connection_id in connections
            case ConnectionClosed():
                wanted = event.connection_id in connections or event.socket_id in sockets
            case ProcessStarted():
                # Only its path could tell anything that the origin does not.
                wanted = False
            case ProcessExited():
                wanted = event.tgid in processes
            case EventsLost():
                wanted = True
        if wanted:
            writer.record(memoryview(content))
    for tgid in sorted(processes):
        origin = source.origin(tgid)
        if origin is not None:
            writer.origin(_anonymous(origin))
    writer.note(source.notes)
    writer.close()


def main() -> int:
    """Run, keep, report."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.otr"
        code = run_demo(sys.stdout, sys.stderr, record=raw)
        if code == 0:
            keep_own(RecordedSource(raw), RECORDING)
            RECORDING.chmod(0o644)  # nothing in it is anybody's secret
    return code


if __name__ == "__main__":
    sys.exit(main())
