"""What first bytes show that a connection speaks HTTP/2.

Owns the decision only, for `detection`. At the real beginning of a stream that is the preface of
the client, or the SETTINGS frame with which a server begins (RFC 9113 3.4). Midway it is the
payload of an event that consists of frames, with a field section that is a head for certain.
"""

from __future__ import annotations

from typing import Final

from otel_tap.protocols.http2.fields import FieldDecoder, Malformed
from otel_tap.protocols.http2.frames import (
    END_HEADERS,
    HEADERS,
    PREFACE,
    REQUESTS,
    RESPONSES,
    block_of,
    frames_at,
)

__all__ = ["PREFACE", "REQUESTS", "RESPONSES", "begins_server", "may_begin_server", "side_of"]

_SERVER_BEGIN = (0, 0, -1, 4, 0, 0, 0, 0, 0)  # length, SETTINGS, no flag, stream 0
_MAX_HIGH: Final = 0x10  # first byte of a length; midway no frame of 1 MiB or more is believed


def begins_server(data: bytes) -> bool:
    """Whether a stream begins as servers begin."""
    return len(data) >= len(_SERVER_BEGIN) and may_begin_server(data) and data[2] % 6 == 0


def may_begin_server(data: bytes) -> bool:
    """Whether what is there of a stream does not contradict that."""
    return all(
        expected < 0 or byte == expected
        for byte, expected in zip(data, _SERVER_BEGIN, strict=False)
    )


def side_of(payload: bytes) -> int | None:
    """REQUESTS or RESPONSES if `payload`, met midway, begins a piece of that side; else None."""
    if len(payload) < 10 or payload[0] >= _MAX_HIGH:
        return None
    frames = frames_at(payload)
    if frames is None or (len(frames) < 2 and frames[0].torn):
        return None
    for frame in frames:
        if frame.kind == HEADERS and frame.flags & END_HEADERS and not frame.torn:
            decoder = FieldDecoder()
            decoder.table.lose()
            try:
                fields = decoder.decode(block_of(frame)[0]).fields
            except Malformed:
                return None
            for name, _ in fields:
                if name == b":status":
                    return RESPONSES
                if name in (b":method", b":scheme", b":path", b":authority"):
                    return REQUESTS
            return None
    return None
