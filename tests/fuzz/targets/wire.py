"""Records of the kernel side: any bytes are one event, or `CaptureError`; never another event's."""

from __future__ import annotations

import struct

from otel_tap.capture.wire import (
    CLOSED,
    CLOSED_RECORD,
    DATA,
    DATA_RECORD,
    HEADER,
    OPENED,
    OPENED_RECORD,
    PROCESS_EXITED,
    PROCESS_STARTED,
    PROCESS_STARTED_RECORD,
    decode,
)
from otel_tap.errors import CaptureError
from otel_tap.events import DataEvent

_ADDRESS = bytes(10) + b"\xff\xff\x7f\0\0\x01"
SEEDS = (
    DATA_RECORD.pack(DATA, 10, 5, 4, 1, 0, -1, 11, 4, 3, 1, 1) + b"abc" + bytes(5),
    OPENED_RECORD.pack(
        OPENED, 10, 5, 1, 2, _ADDRESS, bytes(16), 80, 443, 7, 8, 3, 1, 2, 1, 1, 0, 0, 1
    ),
    CLOSED_RECORD.pack(CLOSED, 10, 5, 1, 2, 4, 0, 1, 2, 3, 4),
    PROCESS_STARTED_RECORD.pack(PROCESS_STARTED, 10, 5, 4, 1, 0, 9, 0, b"curl", b"/usr/bin/curl"),
    HEADER.pack(PROCESS_EXITED, 10, 5),
)
TOKENS = tuple(struct.pack("=I", number) for number in (*range(8), 0xFFFFFFFF))


def check(data: bytes) -> None:
    """Decodes `data` as one record."""
    try:
        event = decode(data)
    except CaptureError:
        return
    assert event.ktime_ns >= 0
    if isinstance(event, DataEvent):
        assert event.payload in data
        assert len(event.payload) <= event.length
