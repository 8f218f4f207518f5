"""Heads of HTTP/1: any lines are fields or `Malformed`, whatever was read before.

1. A parser with full tables reads a head as a fresh one does.
2. Its tables stay bounded, and hold no line of a sensitive name.
3. Names are tokens in lower case.
"""

from __future__ import annotations

from typing import Any

from otel_tap.protocols.http1.head import _LINES_PER_NAME, _TOKEN, HeadParser, Malformed

SEEDS = (
    b"Host: h\r\nContent-Length: 3\r\nX-A: a\r\n b\r\nX-A: a\r\n",
    b"Transfer-Encoding: gzip, chunked\r\nUpgrade: x\r\nCookie: a\r\nDate: x\n",
    b"Content-Length: 3, 3\r\nContent-Length: 3\r\nTransfer-Encoding: identity\r\n",
)
TOKENS = (
    b"\r\n",
    b"\n ",
    b": ",
    b" :",
    b"Content-Length",
    b"Transfer-Encoding",
    b"chunked",
    b"identity",
    b"X-Token: ",
)

_used = HeadParser()


def _read(heads: HeadParser, lines: list[bytes]) -> Any:
    try:
        return heads.section(lines, 0, len(lines))
    except Malformed:
        return None


def check(data: bytes) -> None:
    """Reads `data` as a section, twice with a parser that has read all inputs before."""
    lines = data.split(b"\n")
    fresh = HeadParser()
    section = _read(fresh, lines)
    assert section == _read(fresh, lines) == _read(_used, lines)
    assert len(_used._lines) <= 4096
    assert len(_used._names) <= 1024
    assert len(fresh._lines) <= _LINES_PER_NAME * max(1, len(fresh._names))
    for line in (*fresh._lines, *(name.line for name in fresh._names.values())):
        assert b"?" not in line
        assert b"cookie" not in line.partition(b":")[0].lower()
    if section is not None:
        for name, _ in section[0]:
            assert _TOKEN.fullmatch(name)
            assert name == name.lower()
