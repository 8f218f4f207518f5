"""HTTP/2 conversations: any frames, gaps, repetitions, pauses and ends give exchanges.

The invariant is that of `tests.fuzz.conversation`.
"""

from __future__ import annotations

import struct

from otel_tap.protocols.http2.frames import PREFACE
from tests.fuzz.conversation import (
    CLIENT,
    LOST_BEFORE,
    LOST_BEHIND,
    MIDWAY,
    REQUESTS,
    STEP,
    TLS,
    check,
    script,
)
from tests.unit.http2_talk import frame

__all__ = ["SEEDS", "TOKENS", "check"]

_GET = b"\x82\x84\x87\x41\x01h"
_POST = b"\x83\x84\x87\x41\x01h\x40\x0ccontent-type\x10application/grpc"
_OK = b"\x88\x40\x05x-any\x01v"
_BEGIN = PREFACE + frame(4, 0, 0) + frame(8, 0, 0, b"\0\0\x10\0")
_SERVER = frame(4, 0, 0) + frame(4, 1, 0)
_PADDED = frame(1, 0x2D, 3, b"\x02\0\0\0\0\x10" + _GET + b"\0\0")
_CALL = frame(1, 4, 5, _POST) + frame(0, 1, 5, struct.pack(">BI", 0, 3) + b"abc")
_SPLIT = frame(1, 0, 1, _GET[:3]) + frame(9, 4, 1, _GET[3:]) + frame(0, 1, 1, b"body")
_END = frame(3, 0, 3, b"\0\0\0\x08") + frame(7, 0, 0, b"\0\0\0\x03\0\0\0\0")
_ANSWER = frame(1, 4, 1, _OK) + frame(0, 1, 1, b"answer")
_TRAILERS = frame(1, 4, 5, b"\x88") + frame(1, 5, 5, b"\x40\x0bgrpc-status\x010")
_PROMISE = frame(5, 4, 1, b"\0\0\0\x02" + _GET) + frame(1, 5, 2, b"\x88")
_SETTINGS = frame(4, 0, 0, b"\0\x01\0\0\0\0")
SEEDS = (
    script(CLIENT, (REQUESTS, 0, _BEGIN + _SPLIT), (0, 0, _SERVER + _ANSWER)),
    script(0, (REQUESTS, 0, _BEGIN + _PADDED + _CALL), (0, 0, _SERVER + _TRAILERS)),
    script(CLIENT | TLS, (REQUESTS, 0, _BEGIN + _PADDED + _END), (0, 0, _SERVER + _PROMISE)),
    script(CLIENT | MIDWAY, (REQUESTS, 0, _SPLIT), (0, 0, _ANSWER), (REQUESTS, 0, _CALL)),
    script(
        CLIENT,
        (REQUESTS, 0, _BEGIN),
        (0, 0, _SETTINGS),
        (REQUESTS | LOST_BEHIND, 9, _SPLIT),
        (LOST_BEFORE, 9, _ANSWER),
        (REQUESTS, 0, _CALL),
    ),
)
TOKENS = (
    STEP,
    PREFACE,
    frame(0, 1, 1),
    frame(1, 4, 1),
    frame(1, 5, 3),
    frame(9, 4, 1),
    frame(3, 0, 1, b"\0\0\0\x08"),
    b"\x82\x84\x87",
    b"\x88",
    b"\x3f\xe1\x1f",
    b"\x20",
    b"\xbe",
    b"\x40\x01a\x01b",
)
