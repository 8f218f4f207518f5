"""Recordings: any file is events, or `CaptureError` before or among them; nothing else, no hang."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import asdict
from pathlib import Path

from otel_tap.capture.recording import MAGIC, RecordedSource, RecordingHeader
from otel_tap.errors import CaptureError
from tests.fuzz.targets import wire
from tests.unit.test_cli_exchange_view import HOST, ORIGIN


def _frame(kind: bytes, content: bytes) -> bytes:
    return struct.pack("=cI", kind, len(content)) + content


_HEADER = _frame(b"H", RecordingHeader(unix_offset_ns=1, host=HOST).model_dump_json().encode())
_LOST = b'{"ktime_ns":1,"reason":"ring_full","event_count":1,"byte_count":2}'
SEEDS = (
    MAGIC + _HEADER + b"".join(_frame(b"R", seed) for seed in wire.SEEDS),
    MAGIC + _HEADER + _frame(b"O", json.dumps(asdict(ORIGIN)).encode()) + _frame(b"L", _LOST),
    MAGIC + _HEADER + _frame(b"N", b'{"a":"b"}'),
)
TOKENS = (MAGIC, _HEADER, *(struct.pack("=cI", kind, 16) for kind in (b"H", b"R", b"O", b"L")))

# A file without a place on any disk; libFuzzer calls from one thread.
_DESCRIPTOR = os.memfd_create("recording")
_PATH = Path(f"/proc/self/fd/{_DESCRIPTOR}")


def check(data: bytes) -> None:
    """Reads `data` as a recording, to its end."""
    os.ftruncate(_DESCRIPTOR, 0)
    os.pwrite(_DESCRIPTOR, data, 0)
    try:
        source = RecordedSource(_PATH)
    except CaptureError:
        return
    try:
        while not source.exhausted:
            for event in source.read():
                source.origin(getattr(event, "tgid", 0))
    except CaptureError:
        pass
    finally:
        source.close()
