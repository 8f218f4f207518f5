"""Recorded events: a file that stands in for the ring.

A first, plain form. The file begins with a magic line, then frames of one kind byte, a 32-bit
length (native order) and that many bytes:

========  ====================================================================
kind      content
========  ====================================================================
``H``     JSON: host, and what to add to ktime_ns to get Unix nanoseconds
``R``     one ring record, as bpf/otel_tap.h lays it out
``O``     JSON: the origin of one process, as `otel_tap.origin.Origin`
``L``     JSON: events that were lost
``N``     JSON: notes of whoever made the recording, text by name
========  ====================================================================

A recording holds what programs really sent, secrets included: it is written with mode 0600.
A file that ends in the middle of a frame (the recorder was killed) is read up to there.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Generator, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from otel_tap.capture.wire import decode, trimmed
from otel_tap.errors import CaptureError
from otel_tap.events import Event, EventsLost
from otel_tap.origin import Host, Origin

MAGIC = b"otel-tap recording 2\n"
_FRAME = struct.Struct("=cI")
_MAX_FRAME = 1 << 20
_BATCH = 4096


class RecordingHeader(BaseModel):
    """Where and when a recording was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unix_offset_ns: int
    host: Host


_ORIGIN = TypeAdapter(Origin)
_LOST = TypeAdapter(EventsLost)
_NOTES = TypeAdapter(dict[str, str])


class RecordingWriter:
    """Writes a recording; `record` is the tee of the live source."""

    def __init__(self, path: Path, *, unix_offset_ns: int, host: Host) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self._file.write(MAGIC)
        header = RecordingHeader(unix_offset_ns=unix_offset_ns, host=host)
        self._frame(b"H", header.model_dump_json().encode())

    def _frame(self, kind: bytes, content: bytes | memoryview) -> None:
        self._file.write(_FRAME.pack(kind, len(content)))
        self._file.write(content)

    def record(self, record: memoryview) -> None:
        """One ring record."""
        self._frame(b"R", trimmed(record))

    def origin(self, origin: Origin) -> None:
        """What became known of one process."""
        self._frame(b"O", json.dumps(asdict(origin)).encode())

    def lost(self, event: EventsLost) -> None:
        """Events that are missing from here on."""
        self._frame(b"L", _LOST.dump_json(event))

    def note(self, notes: dict[str, str]) -> None:
        """Something to remember beside the events."""
        self._frame(b"N", json.dumps(notes).encode())

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class RecordedSource:
    """The recorded `EventSource`, with what the recorder knew of host and processes.

    Raises `CaptureError` when the file is not a recording.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames = self._open()
        kind, content = next(self._frames, (b"", b""))
        try:
            if kind != b"H":
                raise CaptureError(f"{path} has no recording header")
            self.header = RecordingHeader.model_validate_json(content)
            self._origins: dict[int, Origin] = {}
            self.notes: dict[str, str] = {}
            for kind, content in self._open():
                if kind == b"O":
                    origin = _ORIGIN.validate_json(content)
                    self._origins[origin.pid] = origin
                elif kind == b"N":
                    self.notes.update(_NOTES.validate_json(content))
        except ValidationError as error:
            raise CaptureError(f"{path} is damaged: {error.error_count()} wrong values") from error
        self._exhausted = False

    def frames(self) -> Iterable[tuple[bytes, bytes]]:
        """Every frame from the beginning: kind and content."""
        return self._open()

    def _open(self) -> Generator[tuple[bytes, bytes], None, None]:
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise CaptureError(f"{self._path} cannot be read: {error.strerror}") from error
        with file:
            if file.read(len(MAGIC)) != MAGIC:
                raise CaptureError(
                    f"{self._path} is not a recording of this version of otel-tap",
                    remedy="record it again",
                )
            while len(head := file.read(_FRAME.size)) == _FRAME.size:
                kind, length = _FRAME.unpack(head)
                if length > _MAX_FRAME:
                    raise CaptureError(f"{self._path} is damaged: a frame of {length} bytes")
                content = file.read(length)
                if len(content) < length:
                    return
                yield kind, content

    def origin(self, tgid: int) -> Origin | None:
        """What the recorder knew of this process."""
        return self._origins.get(tgid)

    def read(self) -> Iterable[Event]:
        """The next batch of events; none when the file is at its end."""
        events: list[Event] = []
        for kind, content in self._frames:
            if kind == b"R":
                events.append(decode(memoryview(content)))
            elif kind == b"L":
                events.append(_lost(content))
            if len(events) == _BATCH:
                return events
        self._exhausted = True
        return events

    @property
    def exhausted(self) -> bool:
        """Whether the file is at its end."""
        return self._exhausted

    def close(self) -> None:
        """Close the file."""
        self._frames.close()


def _lost(content: bytes) -> EventsLost:
    try:
        return _LOST.validate_json(content)
    except ValidationError as error:
        raise CaptureError("the recording is damaged: a loss that cannot be read") from error
