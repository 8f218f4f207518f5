"""Which events of the live source go into a recording, and with what knowledge of processes.

Owns: the records of one turn of the agent, which wait until the pipeline has seen them: only then
is it known whose they are. Promises: a process stands in the file before its first event, and
nothing stands there of processes that the filters leave out. Must not know: the file's format.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from otel_tap.capture.recording import RecordingWriter
from otel_tap.events import ConnectionOpened, DataEvent, Event, EventsLost
from otel_tap.origin import Origin

_MAX_ORIGINS = 8192


class Recorder:
    """Between a live source and a `RecordingWriter`; `take` is the tee of the source."""

    def __init__(self, writer: RecordingWriter) -> None:
        self.writer = writer
        self._pending: list[tuple[Event, bytes]] = []
        self._met: set[int] = set()
        self._written: dict[int, Origin] = {}  # by tgid, oldest first

    def take(self, event: Event, record: bytes) -> None:
        """One event as the pipeline gets it, and as it came."""
        self._pending.append((event, record))
        if type(event) is ConnectionOpened:
            self._met.add(event.tgid)

    def commit(
        self, events: Iterable[Event], unwanted: Collection[int], origin: Callable[[int], Origin]
    ) -> None:
        """The pipeline has handled everything that was taken; `events` are that and the losses."""
        writer = self.writer
        if self._met:
            for tgid in sorted(self._met.difference(unwanted)):
                self.known(origin(tgid))
            self._met.clear()
        write = writer.record
        for event, record in self._pending:
            if type(event) is DataEvent:
                if not unwanted or event.tgid not in unwanted:
                    write(record, len(event.payload))
            elif getattr(event, "tgid", 0) not in unwanted:
                write(record)
        self._pending.clear()
        for event in events:
            if type(event) is EventsLost:
                writer.lost(event)
        writer.turn()

    def known(self, origin: Origin) -> None:
        """This is what is known of a process now."""
        tgid = origin.pid
        if self._written.get(tgid) is not origin:
            self._written.pop(tgid, None)
            if len(self._written) >= _MAX_ORIGINS:
                del self._written[next(iter(self._written))]
            self._written[tgid] = origin
            self.writer.origin(origin)
