"""Recordings that tests make: records, and the damage that is done to them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import zstandard

from otel_tap.capture import wire
from otel_tap.capture.recording import (
    BLOCK,
    BLOCK_MARK,
    FRAME,
    MAGIC,
    RecordingHeader,
    RecordingWriter,
    RecordTo,
)
from otel_tap.origin import Container, Host, Origin

HOST = Host("web-1", "0123", "abcd", "amd64", "linux", "6.1.0")


def origin_of(pid: int, name: str = "curl", start: int = 5) -> Origin:
    return Origin(
        pid, start, 6, 1, name, f"/usr/bin/{name}", name, None, "alice",
        Container("c" * 64, "docker", None), f"unknown_service:{name}", (("team", "a"),), HOST,
    )  # fmt: skip


def data_record(
    offset: int, payload: bytes = b"abc", *, ktime_ns: int = 100, tgid: int = 7, egress: int = 1
) -> bytes:
    length = len(payload)
    head = wire.DATA_RECORD.pack(
        wire.DATA, tgid, ktime_ns, ktime_ns - 10, 42, offset, -1, 8, length, length, egress, 0
    )
    return head + payload


def opened_record(tgid: int = 7, ktime_ns: int = 90) -> bytes:
    local, peer = (bytes(10) + b"\xff\xff" + bytes(four) for four in ((10, 0, 0, 1), (10, 0, 0, 2)))
    return wire.OPENED_RECORD.pack(
        wire.OPENED, tgid, ktime_ns, 42, 42, local, peer, 5000, 80, 1, 2, 3, 0, 1, 1, 1, 0, 0, 1
    )


def writer_to(path: Path, **options: object) -> RecordingWriter:
    limits = {name: options.pop(name) for name in ("replace", "max_bytes") if name in options}
    to = RecordTo(path, **limits)  # type: ignore[arg-type]
    return RecordingWriter(to, unix_offset_ns=1234, host=HOST, **options)  # type: ignore[arg-type]


def frame(kind: bytes, content: bytes) -> bytes:
    return FRAME.pack(kind, len(content)) + content


def block(plain: bytes, *, length: int | None = None, checksum: int | None = None) -> bytes:
    packed = zstandard.ZstdCompressor().compress(plain)
    return (
        BLOCK.pack(
            BLOCK_MARK,
            len(packed),
            len(plain) if length is None else length,
            zlib.crc32(packed) if checksum is None else checksum,
        )
        + packed
    )


def header(layout: str = wire.LAYOUT) -> bytes:
    said = RecordingHeader(unix_offset_ns=1234, host=HOST, layout=layout)
    return frame(b"H", said.model_dump_json().encode())


def write_file(path: Path, *blocks: bytes) -> Path:
    path.write_bytes(MAGIC + b"".join(blocks))
    return path


END = frame(b"E", struct.pack("<q", 500))
