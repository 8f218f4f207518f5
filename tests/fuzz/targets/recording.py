"""Recordings: any file is events, or `CaptureError` before or among them; nothing else, no hang.

What begins with the magic line is a file as it is. Other bytes are the frames behind the header of
a file whose blocks are whole, for no fuzzer finds checksums.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict
from pathlib import Path

import zstandard

from otel_tap.capture.recorded import RecordedSource
from otel_tap.capture.recording import (
    BLOCK,
    BLOCK_MARK,
    CLOCK,
    FRAME,
    MAGIC,
    UNRECORDED,
    RecordingHeader,
)
from otel_tap.capture.wire import LAYOUT
from otel_tap.errors import CaptureError
from tests.fuzz.targets import wire
from tests.unit.test_cli_exchange_view import HOST, ORIGIN


def _frame(kind: bytes, content: bytes) -> bytes:
    return FRAME.pack(kind, len(content)) + content


def _block(plain: bytes) -> bytes:
    packed = zstandard.ZstdCompressor(level=1).compress(plain)
    return BLOCK.pack(BLOCK_MARK, len(packed), len(plain), zlib.crc32(packed)) + packed


_HEADER = _frame(
    b"H", RecordingHeader(unix_offset_ns=1, host=HOST, layout=LAYOUT).model_dump_json().encode()
)
_BEGIN = MAGIC + _block(_HEADER)
_LOST = b'{"ktime_ns":1,"reason":"ring_full","event_count":1,"byte_count":2}'
SEEDS = (
    _BEGIN + _block(_frame(b"E", CLOCK.pack(9))),
    b"".join(_frame(b"R", seed) for seed in wire.SEEDS),
    _frame(b"O", json.dumps(asdict(ORIGIN)).encode()) + _frame(b"L", _LOST),
    _frame(b"N", b'{"a":"b"}') + _frame(b"D", UNRECORDED.pack(1, 2)) + _frame(b"C", CLOCK.pack(3)),
)
TOKENS = (MAGIC, BLOCK_MARK, _HEADER, *(FRAME.pack(kind, 16) for kind in (b"R", b"O", b"L", b"D")))

# A file without a place on any disk; libFuzzer calls from one thread.
_DESCRIPTOR = os.memfd_create("recording")
_PATH = Path(f"/proc/self/fd/{_DESCRIPTOR}")


def check(data: bytes) -> None:
    """Reads `data` as a recording, to its end."""
    os.ftruncate(_DESCRIPTOR, 0)
    os.pwrite(_DESCRIPTOR, data if data.startswith(MAGIC[:8]) else _BEGIN + _block(data), 0)
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
