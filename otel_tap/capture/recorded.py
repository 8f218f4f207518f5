"""The recorded `EventSource`: a recording in place of the ring, and its pace.

Owns: reading of what `recording` describes. Promises: a file that ends early is read up to there,
and says so; one that is damaged or no recording is a `CaptureError`, whatever its bytes are; never
more than one block is in memory. Must not know: what events mean.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import BinaryIO, NoReturn

import zstandard
from pydantic import TypeAdapter, ValidationError

from otel_tap.capture.recording import (
    BLOCK,
    BLOCK_MARK,
    CLOCK,
    FRAME,
    LOST,
    MAGIC,
    MAX_BLOCK,
    UNRECORDED,
    RecordingHeader,
)
from otel_tap.capture.wire import LAYOUTS, decode
from otel_tap.errors import CaptureError
from otel_tap.events import DataEvent, Event, EventsLost, LossReason
from otel_tap.origin import Origin

_BATCH = 4096
_BATCH_BYTES = 4 << 20  # of payload: what is made of one batch waits for its sink together
_MAX_ORIGINS = 65536
_FAMILY = b"otel-tap recording "
_LONGEST_WAIT_S = 0.1
_TOO_MUCH = 1 << 63

_ORIGIN = TypeAdapter(Origin)
_NOTES = TypeAdapter(dict[str, str])

Frame = tuple[bytes, memoryview]
"""Its kind, and its content: valid until the next one is asked for."""


class RecordedSource:
    """Plays a recording, with what its recorder knew of host and processes.

    What is said of processes and clocks holds from its place in the file on, so a batch of events
    ends there. Raises `CaptureError` when the file is not a recording, also from `read`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._frames = self._open()
        kind, content = next(self._frames, (b"", memoryview(b"")))
        if kind != b"H":
            self._frames.close()
            raise CaptureError(f"{path} ends before its recording begins")
        try:
            self.header = RecordingHeader.model_validate_json(bytes(content))
        except ValidationError as error:
            self._damaged("its header cannot be read", error)
        if self.header.layout not in LAYOUTS:
            self._frames.close()
            raise CaptureError(
                f"{path} was recorded by a build with another layout of records",
                remedy="replay it with the version that recorded it, or record it again",
            )
        self.unix_offset_ns = self.header.unix_offset_ns
        self.ktime_ns = 0  # how far it was read, the latest time of any event
        self.records = 0
        self.whole = False  # the end that its recorder wrote was reached
        self._fact: Frame | None = None  # met behind the last batch
        self._origins: dict[int, Origin] = {}
        self._exhausted = False

    def frames(self) -> Iterable[Frame]:
        """Every frame from the beginning."""
        return self._open()

    def notes(self) -> dict[str, str]:
        """All notes; the whole file is read for them."""
        notes: dict[str, str] = {}
        for kind, content in self._open():
            if kind == b"N":
                try:
                    notes.update(_NOTES.validate_json(bytes(content)))
                except ValidationError as error:
                    self._damaged("a note cannot be read", error)
        return notes

    def origin(self, tgid: int) -> Origin | None:
        """What the recorder knew of this process at the time of the last batch."""
        return self._origins.get(tgid)

    def read(self) -> Iterable[Event]:
        """The next batch of events; none when the file is at its end."""
        events: list[Event] = []
        size = 0
        while True:
            frame = self._fact or next(self._frames, None)
            self._fact = None
            if frame is None:
                self._exhausted = True
                return events
            kind, content = frame
            if kind in (b"O", b"C") and events:
                self._fact = frame
                return events
            event = self._event(kind, content)
            if event is None:
                continue
            self.ktime_ns = max(self.ktime_ns, event.ktime_ns)
            events.append(event)
            if type(event) is DataEvent:
                size += len(event.payload)
            if len(events) == _BATCH or size >= _BATCH_BYTES:
                return events

    def _event(self, kind: bytes, content: memoryview) -> Event | None:
        """The event that a frame is; None if it is something else."""
        try:
            match kind:
                case b"R":
                    self.records += 1
                    return decode(content)
                case b"L":
                    return LOST.validate_json(bytes(content))
                case b"D":
                    count, payload = UNRECORDED.unpack(content)
                    return EventsLost(self.ktime_ns, LossReason.UNRECORDED, count, payload)
                case b"O":
                    self._remember(_ORIGIN.validate_json(bytes(content)))
                case b"C":
                    (self.unix_offset_ns,) = CLOCK.unpack(content)
                case b"E":
                    self.whole = True
                    self.ktime_ns = max(self.ktime_ns, CLOCK.unpack(content)[0])
                case b"N":
                    pass
                case _:
                    self._damaged(f"a frame of the unknown kind {kind!r}")
        except CaptureError as error:
            if kind != b"R":
                raise
            self._damaged("a record cannot be read", error)
        except (ValidationError, struct.error) as error:
            self._damaged(f"a frame of kind {kind.decode('ascii', 'replace')}", error)
        return None

    def _remember(self, origin: Origin) -> None:
        if not (
            0 <= origin.pid < _TOO_MUCH
            and 0 <= origin.start_boottime_ns < _TOO_MUCH
            and 0 <= origin.start_unix_ns < _TOO_MUCH
            and 0 <= (origin.parent_pid or 0) < _TOO_MUCH
        ):
            self._damaged("a process with numbers that no process has")
        self._origins.pop(origin.pid, None)
        self._origins[origin.pid] = origin
        if len(self._origins) > _MAX_ORIGINS:
            del self._origins[next(iter(self._origins))]

    @property
    def exhausted(self) -> bool:
        """Whether the file is at its end."""
        return self._exhausted

    def close(self) -> None:
        """Close the file."""
        self._frames.close()

    def _open(self) -> Generator[Frame, None, None]:
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise CaptureError(f"{self.path} cannot be read: {error.strerror}") from error
        with file:
            try:
                self._check_magic(file.read(len(MAGIC)))
                while (plain := self._block(file)) is not None:
                    yield from self._frames_of(plain)
            except OSError as error:
                raise CaptureError(f"{self.path} cannot be read: {error.strerror}") from error

    def _check_magic(self, found: bytes) -> None:
        if found == MAGIC:
            return
        if MAGIC.startswith(found):
            raise CaptureError(f"{self.path} ends before its recording begins")
        if found.startswith(_FAMILY):
            version = found.removeprefix(_FAMILY).strip().decode("ascii", "replace")
            raise CaptureError(
                f"{self.path} is a recording of format {version!r}; this version reads format 3",
                remedy="replay it with the version that recorded it, or record it again",
            )
        raise CaptureError(f"{self.path} is no recording of otel-tap")

    def _block(self, file: BinaryIO) -> bytes | None:
        """The next block, plain; None at the end, also where the last one is not whole."""
        head = file.read(BLOCK.size)
        # A file whose host went down may end in zeros that were never written.
        if len(head) < BLOCK.size or not any(head):
            return None
        mark, packed_length, length, checksum = BLOCK.unpack(head)
        if mark != BLOCK_MARK or not length <= MAX_BLOCK or packed_length > 2 * MAX_BLOCK:
            self._damaged(f"no block begins at byte {file.tell() - BLOCK.size}")
        packed = file.read(packed_length)
        if len(packed) < packed_length:
            return None
        if zlib.crc32(packed) != checksum:
            self._damaged(f"the block before byte {file.tell()} has a wrong checksum")
        try:
            # zstd makes as much room as the frame says, whatever it is asked for.
            if zstandard.frame_content_size(packed) != length:
                self._damaged(f"the block before byte {file.tell()} has a wrong length")
            return zstandard.ZstdDecompressor().decompress(packed)
        except zstandard.ZstdError as error:
            self._damaged(f"the block before byte {file.tell()}", error)

    def _frames_of(self, plain: bytes) -> Iterable[Frame]:
        view = memoryview(plain)
        at = 0
        while at < len(plain):
            if at + FRAME.size > len(plain):
                self._damaged("a frame is not whole")
            kind, length = FRAME.unpack_from(plain, at)
            at += FRAME.size
            if length > len(plain) - at:
                self._damaged(f"a frame of {length} bytes")
            yield kind, view[at : at + length]
            at += length

    def _damaged(self, what: str, cause: Exception | None = None) -> NoReturn:
        raise CaptureError(f"{self.path} is damaged: {what}", remedy="record it again") from cause


class PacedSource:
    """Plays a recording as slowly as it was recorded, or `speed` times as fast.

    `ktime_ns` is the time of the recording that it is now.
    """

    def __init__(self, source: RecordedSource, speed: float) -> None:
        self._source = source
        self._speed = speed
        self._waiting: list[Event] = []
        self._at = 0  # of those that wait, how many are given out
        self._began: tuple[float, int] | None = None  # our clock, the recording's

    @property
    def ktime_ns(self) -> int:
        """What the recording's clock shows now; 0 before its first event."""
        if self._began is None:
            return 0
        passed_s = time.monotonic() - self._began[0]
        return self._began[1] + int(passed_s * self._speed * 1e9)

    def read(self) -> Iterable[Event]:
        """The events whose time has come; waits 100 ms at most for the first."""
        if self._at == len(self._waiting):
            self._waiting = list(self._source.read())
            self._at = 0
            if not self._waiting:
                return []
        if self._began is None:
            self._began = (time.monotonic(), self._waiting[0].ktime_ns)
        until_s = (self._waiting[self._at].ktime_ns - self.ktime_ns) / 1e9 / self._speed
        if until_s > 0:
            time.sleep(min(until_s, _LONGEST_WAIT_S))
        now = self.ktime_ns
        end = self._at
        while end < len(self._waiting) and self._waiting[end].ktime_ns <= now:
            end += 1
        due = self._waiting[self._at : end]
        self._at = end
        return due

    @property
    def exhausted(self) -> bool:
        """Whether all events are given out."""
        return self._at == len(self._waiting) and self._source.exhausted

    def close(self) -> None:
        """Close the file."""
        self._source.close()
