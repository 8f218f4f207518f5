"""Recorded events: a file that stands in for the ring. Its format, and who writes it.

The file begins with the line ``otel-tap recording 3``, followed by blocks. Numbers of blocks and
frames are little-endian. A block is ::

    "OTRB"  u32 packed length  u32 plain length  u32 CRC-32 of the packed bytes  packed bytes

where the packed bytes are one whole zstd frame: each block is unpacked by itself. A block is
written in one go, at latest half a second after its first event, so that whoever ends the recorder
(`kill -9`) takes with it what is younger than that, and nothing else. Plain, a block is a row of
frames, each a kind byte, a u32 length and that many bytes:

======  ======================================================================
kind    content
======  ======================================================================
``H``   JSON, the first frame of all: host, layout of the records, what makes
        Unix nanoseconds of ktime_ns
``R``   one ring record, as bpf/otel_tap.h lays it out
``O``   JSON: a process (`otel_tap.origin.Origin`), from here on
``C``   i64: what makes Unix nanoseconds of ktime_ns, from here on
``L``   JSON: events that the kernel side lost (`otel_tap.events.EventsLost`)
``D``   u64 count, u64 payload bytes: records that the disk could not take
``N``   JSON: notes of whoever made the recording, text by name
``E``   i64: ktime_ns at which the recording was ended; the last frame
======  ======================================================================

A file without ``E`` ends early: its recorder was killed, or the disk was full. Other kinds are of
a later version and are refused.

A recording holds what programs really sent, secrets included. It is made with mode 0600, never
through a link, and takes the place of another file only when asked to.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import threading
import time
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import zstandard
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from otel_tap.capture.wire import LAYOUT
from otel_tap.errors import CaptureError
from otel_tap.events import EventsLost
from otel_tap.origin import Host, Origin

MAGIC = b"otel-tap recording 3\n"
BLOCK = struct.Struct("<4sIII")
BLOCK_MARK = b"OTRB"
FRAME = struct.Struct("<cI")
CLOCK = struct.Struct("<q")
UNRECORDED = struct.Struct("<QQ")
MAX_BLOCK = 8 << 20  # bytes, plain; what a reader has to hold at most

_BLOCK_BYTES = 1 << 20  # a block is full, plain
_BLOCK_S = 0.5  # ... or due
_MAX_QUEUED = 32 << 20  # bytes that wait for the disk, plain
_MAX_KEPT = 4096  # facts of blocks that the disk could not take
_CLOSE_S = 10.0
# 1 packs 2 to 3 times as fast as the default and hardly worse: most bytes are heads that repeat.
_LEVEL = 1
_END_BYTES = 128  # that the last block takes, packed


class RecordingHeader(BaseModel):
    """Where, when and by which build a recording was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unix_offset_ns: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
    host: Host
    layout: str  # of the records


LOST = TypeAdapter(EventsLost)


@dataclass(frozen=True, slots=True)
class RecordTo:
    """Where to record. `replace`: also over a file that is there; `max_bytes` bounds the file."""

    path: Path
    replace: bool = False
    max_bytes: int | None = None


class _Block:
    """Frames that go to the disk together."""

    __slots__ = ("facts", "frames", "payload", "records", "size")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.size = 0
        self.records = 0
        self.payload = 0  # bytes that programs moved
        self.facts: list[bytes] = []  # frames that must not be lost with the records


class RecordingWriter:
    """Writes a recording; a thread of its own packs and writes.

    `record` never waits for the disk: what it cannot take is counted, and said in the file. With
    `patient` it waits instead. The file never grows beyond `max_bytes`; what comes then is not
    recorded, and `ended` says why. Raises `CaptureError` when the file cannot be made.
    """

    def __init__(
        self, to: RecordTo, *, unix_offset_ns: int, host: Host, patient: bool = False
    ) -> None:
        self._path = to.path
        self._fd = _create(to)
        self._max_bytes = to.max_bytes
        self._patient = patient
        self._block = _Block()
        self._begun = time.monotonic()
        self._changed = threading.Condition()
        self._queue: deque[_Block] = deque()
        self._queued = 0
        self._closing: int | None = None  # ktime_ns
        self._owed = (0, 0)  # records and payload that were dropped and not said yet
        self.unrecorded = 0  # records that the disk could not take
        self.written_bytes = 0
        self.full = False  # max_bytes are reached
        self.failure = ""  # why nothing can be written any more
        header = RecordingHeader(unix_offset_ns=unix_offset_ns, host=host, layout=LAYOUT)
        self._fact(b"H", header.model_dump_json().encode())
        self._thread = threading.Thread(target=self._run, name="otel-tap-recording", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether nothing that comes now is recorded any more."""
        return self.full or bool(self.failure)

    def record(self, record: bytes, payload: int = 0) -> None:
        """One ring record, of which `payload` bytes are what a program moved."""
        block = self._block
        block.frames += (FRAME.pack(b"R", len(record)), record)
        block.size += FRAME.size + len(record)
        block.records += 1
        block.payload += payload
        if block.size >= _BLOCK_BYTES:
            self._hand_over()

    def origin(self, origin: Origin) -> None:
        """What became known of one process."""
        self._fact(b"O", json.dumps(asdict(origin)).encode())

    def lost(self, event: EventsLost) -> None:
        """Events that are missing from here on."""
        self._fact(b"L", LOST.dump_json(event))

    def clock(self, unix_offset_ns: int) -> None:
        """The host's clock was set or has drifted."""
        self._fact(b"C", CLOCK.pack(unix_offset_ns))

    def note(self, notes: dict[str, str]) -> None:
        """Something to remember beside the events."""
        self._fact(b"N", json.dumps(notes).encode())

    def turn(self) -> None:
        """Time has passed: what has waited long enough goes to the disk."""
        if time.monotonic() - self._begun >= _BLOCK_S:
            self._hand_over()

    def close(self, ktime_ns: int = 0) -> None:
        """Write what is left and the end; waits 10 s at most for the disk."""
        self._hand_over()
        with self._changed:
            self._closing = ktime_ns
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            self.failure = "the disk does not answer"
        else:
            os.close(self._fd)

    def discard(self) -> None:
        """There is nothing to record: close the file and take it away."""
        self.close()
        with suppress(OSError):
            self._path.unlink()

    def _fact(self, kind: bytes, content: bytes) -> None:
        self._keep(FRAME.pack(kind, len(content)) + content)

    def _keep(self, fact: bytes) -> None:
        block = self._block
        block.frames.append(fact)
        block.facts.append(fact)
        block.size += len(fact)

    def _hand_over(self) -> None:
        self._begun = time.monotonic()
        block = self._block
        if not block.frames:
            return
        self._block = _Block()
        with self._changed:
            while self._patient and self._queued > _BLOCK_BYTES and not self.ended:
                self._changed.wait(1)
            if self.ended:
                self.unrecorded += block.records
            elif self._queued + block.size > _MAX_QUEUED:
                self._drop(block)
            else:
                self._owed = (0, 0)
                self._queue.append(block)
                self._queued += block.size
                self._changed.notify_all()

    def _drop(self, block: _Block) -> None:
        """Leave its records out; the block that is taken next says so, and has the facts."""
        self.unrecorded += block.records
        self._owed = (self._owed[0] + block.records, self._owed[1] + block.payload)
        # What was owed before is among the facts; it is said anew, with what came to it.
        for fact in [fact for fact in block.facts if fact[:1] != b"D"][-_MAX_KEPT:]:
            self._keep(fact)
        self._keep(FRAME.pack(b"D", UNRECORDED.size) + UNRECORDED.pack(*self._owed))

    def _run(self) -> None:
        compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._append(MAGIC)
        while (block := self._next()) is not None:
            plain = b"".join(block.frames)
            written = self._put(compressor.compress(plain), plain, _END_BYTES)
            with self._changed:
                self._queued -= block.size
                if not written:
                    self.unrecorded += block.records
                self._changed.notify_all()
        end = FRAME.pack(b"E", CLOCK.size) + CLOCK.pack(self._closing or 0)
        self._put(compressor.compress(end), end, 0)
        with suppress(OSError):
            os.fsync(self._fd)

    def _next(self) -> _Block | None:
        """Wait for the next block; None when there will be none."""
        with self._changed:
            while not self._queue:
                if self._closing is not None:
                    return None
                self._changed.wait()
            return self._queue.popleft()

    def _put(self, packed: bytes, plain: bytes, reserve: int) -> bool:
        """Write one block, if it leaves `reserve` bytes of what the file may take."""
        if self.failure or (self.full and reserve):
            return False
        size = BLOCK.size + len(packed)
        if self._max_bytes is not None and self.written_bytes + size + reserve > self._max_bytes:
            self.full = True
            return False
        head = BLOCK.pack(BLOCK_MARK, len(packed), len(plain), zlib.crc32(packed))
        return self._append(head + packed)

    def _append(self, content: bytes) -> bool:
        """Write all of it or nothing: what is torn off is taken back."""
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            self.failure = error.strerror or str(error)
            with suppress(OSError):
                os.ftruncate(self._fd, self.written_bytes)
            return False
        self.written_bytes += len(content)
        return True


def _create(to: RecordTo) -> int:
    path = to.path
    try:
        if to.replace:
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(path.lstat().st_mode):
                    raise CaptureError(
                        f"{path} is no regular file", remedy="name a file to record to"
                    )
                # Not opened and cut: somebody else may have it open already.
                path.unlink()
        # O_EXCL follows no link, not even one that leads nowhere.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND
        return os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise CaptureError(
            f"{path} is there already", remedy="name another file, or replace it with --force"
        ) from error
    except OSError as error:
        raise CaptureError(
            f"cannot write {path}: {error.strerror}",
            remedy="name a file in a directory that exists and may be written",
        ) from error
