"""HTTP/1 conversations: any bytes, gaps, repetitions, pauses and ends give exchanges.

The invariant is that of `tests.fuzz.conversation`.
"""

from __future__ import annotations

from tests.fuzz.conversation import (
    AGAIN,
    CLIENT,
    CLOSES,
    LOST_BEFORE,
    LOST_BEHIND,
    MIDWAY,
    REQUESTS,
    SECONDS,
    STEP,
    check,
    script,
)

__all__ = ["SEEDS", "TOKENS", "check"]

_GET = b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
_CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n0\r\nX-T: t\r\n\r\n"
)
_UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SEEDS = (
    script(CLIENT, (REQUESTS, 0, _GET), (0, 0, _OK), (REQUESTS, 0, _GET), (0, 0, _CHUNKED)),
    script(0, (REQUESTS, 0, _POST), (REQUESTS, 0, b"cd"), (0, 0, _OK[:40]), (0, 0, _OK[40:])),
    script(CLIENT, (REQUESTS, 0, _GET * 3), (0, 0, _OK + _CHUNKED), (CLOSES, 0, b"HTTP/1.1 2")),
    script(CLIENT | MIDWAY, (0, 0, b"0\r\n\r\n"), (REQUESTS, 0, _GET), (0, 0, _OK)),
    script(
        CLIENT,
        (REQUESTS | LOST_BEHIND, 9, _GET),
        (LOST_BEFORE, 7, _OK),
        (REQUESTS | AGAIN, 5, _GET),
        (SECONDS, 40, b"HTTP/1.1 103 E\r\n\r\n" + _OK),
    ),
    script(0, (REQUESTS, 0, _UPGRADE), (0, 0, b"HTTP/1.1 101 S\r\n\r\n"), (REQUESTS, 0, b"x")),
    script(CLIENT, (REQUESTS, 0, b"CONNECT h:1 HTTP/1.1\r\n\r\n"), (0, 0, _OK), (0, 0, b"x")),
    script(0, (REQUESTS, 0, b"HEAD / HTTP/1.0\r\n\r\n"), (0, 0, b"HTTP/1.0 200 OK\r\n\r\n")),
)
TOKENS = (
    STEP,
    b"\r\n",
    b"\r\n\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0 ",
    b"GET / ",
    b"HEAD ",
    b"Content-Length: ",
    b"Transfer-Encoding: ",
    b"chunked",
    b"identity",
    b"gzip, ",
    b"Upgrade: h2c\r\n",
    b"HTTP/1.1 100 C\r\n\r\n",
    b"HTTP/1.1 204 N\r\n",
    b"0\r\n\r\n",
    b"\n ",
    b" :",
)
