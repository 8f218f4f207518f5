"""HTTP/2 frames: any pieces of any bytes give the same frames, or none from one place on."""

from __future__ import annotations

from typing import Any

from otel_tap.events import DataEvent, Direction
from otel_tap.protocols.counters import Counters
from otel_tap.protocols.http2.fields import Malformed
from otel_tap.protocols.http2.frames import (
    PREFACE,
    REQUESTS,
    Frame,
    FrameListener,
    FrameReader,
    block_of,
    frames_at,
)
from tests.fuzz.targets import http2
from tests.unit.http2_talk import frame

SEEDS = (
    PREFACE + frame(4, 0, 0) + frame(1, 4, 1, b"\x82") + frame(0, 9, 1, b"\x01abc\0"),
    PREFACE + frame(1, 0x2C, 1, b"\x01\0\0\0\0\x10\x82\0") + frame(9, 4, 1, b"\x84"),
)
TOKENS = http2.TOKENS


class _Heard(FrameListener):
    """All that was heard, contents joined."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def frame(self, side: int, frame: Frame) -> None:
        try:
            self.all.append((frame, block_of(frame)))
        except Malformed:
            self.all.append((frame, None))

    def section(self, side: int, *facts: Any, **more: Any) -> None:
        self.all.append(("section", facts, more))

    def content(self, side: int, *facts: Any, **more: Any) -> None:
        self.all.append(("content", facts, more))

    def content_lost(self, side: int, *facts: Any, **more: Any) -> None:
        self.all.append(("lost", facts, more))

    def framing_lost(self, side: int, length: int) -> None:
        self.all.append(("framing", length))

    def is_plausible(self, stream_id: int) -> bool:
        return True

    def malformed(self, side: int) -> None:
        self.all.append("malformed")


def _read(data: bytes, size: int) -> list[Any]:
    heard = _Heard()
    reader = FrameReader(heard, REQUESTS, Counters())
    for at in range(0, len(data), size):
        part = data[at : at + size]
        reader.data(DataEvent(1, 1, 1, 1, 1, Direction.EGRESS, at, len(part), part, -1), 1)
    return [one for one in heard.all if isinstance(one, tuple) and isinstance(one[0], Frame)]


def check(data: bytes) -> None:
    """Reads `data` whole and in pieces."""
    frames_at(data)
    whole = _read(data, len(data) + 1)
    assert _read(data, 1) == whole
    assert _read(data, 7) == whole
