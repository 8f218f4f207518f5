"""What a connection speaks: decided once, by its first bytes alone.

1. A verdict on the beginning of a stream stays the verdict on more of it.
2. HTTP that is whole is never taken for anything else.
"""

from __future__ import annotations

from otel_tap.protocols.detection import Verdict, classify
from otel_tap.protocols.http1.head import is_request_line
from tests.fuzz.conversation import STEP
from tests.unit.http2_talk import frame

SEEDS = (
    b"GET / HTTP/1.1\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    frame(4, 0, 0, b"\0\x03\0\0\0\x64"),
)
TOKENS = (b"HTTP/1.1", b"PRI * HTTP/2.0\r\n\r\n", b"\r\n", STEP)


def check(data: bytes) -> None:
    """Decides about every beginning of `data`."""
    decided = Verdict.UNDECIDED
    for size in range(1, min(len(data), 300) + 1):
        verdict = classify(data[:size])
        if decided is not Verdict.UNDECIDED:
            assert verdict is decided, (data[:size], verdict, decided)
        decided = verdict
    if is_request_line(data):
        assert classify(data) in (Verdict.REQUEST, Verdict.HTTP2)
